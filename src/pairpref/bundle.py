"""The folder of trained models as parts of one run: tokenizer/, train/, oof/fold1 … and calibrator.json; manifest.json has their hashes.

The oof stage writes down what its export was made by; the calibrate stage adds what it has fitted to that export.
"""

import hashlib
import json
from pathlib import Path

from pairpref.errors import UserError
from pairpref.files import write_json

MANIFEST = "manifest.json"
CALIBRATOR = "calibrator.json"
_OOF = Path("oof") / MANIFEST


def record_models(bundle: Path) -> None:
    """Write oof/manifest.json: the tokenizer, fold 0 and the other folds that are there now."""
    write_json(bundle / _OOF, {name: digest for name, digest in _parts(bundle).items() if name != CALIBRATOR})


def record_calibrator(bundle: Path) -> None:
    """Write manifest.json: what oof/manifest.json names, and the calibrator."""
    models = json.loads((bundle / _OOF).read_text(encoding="utf-8"))
    write_json(bundle / MANIFEST, models | {CALIBRATOR: _hash(bundle / CALIBRATOR)})


def check(bundle: Path) -> None:
    """Called before anything of a bundle is loaded.

    Raises:
        UserError: there is no manifest, or a part is missing, extra or not that of the manifest's run; all are named.
    """
    advice = "Run `dvc repro` (or `dvc checkout` after a failed run), or name another --bundle."
    try:
        named = dict(json.loads((bundle / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{bundle} has no readable {MANIFEST}: not the models of a finished pipeline. {advice}") from None
    found = _parts(bundle)
    faults = [
        f"{name} {'missing' if name not in found else 'extra' if name not in named else 'changed'}"
        for name in sorted({*named, *found})
        if named.get(name) != found.get(name)
    ]
    if faults:
        raise UserError(f"{bundle} holds parts of different runs ({', '.join(faults)}). {advice}")


def _parts(bundle: Path) -> dict[str, str]:
    paths = [bundle / "tokenizer", bundle / "train", *sorted((bundle / "oof").glob("fold[0-9]*")), bundle / CALIBRATOR]
    return {path.relative_to(bundle).as_posix(): _hash(path) for path in paths if path.exists()}


def _hash(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of all files in a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}:{content}\n".encode())
    return digest.hexdigest()
