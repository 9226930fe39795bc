"""The folder of trained models as parts of one run; manifest.json holds the hash of each part.

Parts are tokenizer/, train/, oof/fold1 …, calibrator.json and votes.json, which says how the texts of
the votes are written. The oof stage writes down what its export was made by; the calibrate stage adds
what it has fitted to that export.
"""

import hashlib
import json
from pathlib import Path

from pairpref.errors import UserError
from pairpref.files import write_json

MANIFEST = "manifest.json"
CALIBRATOR = "calibrator.json"
VOTES = "votes.json"
_OOF = Path("oof") / MANIFEST


def record_models(bundle: Path) -> None:
    """Write oof/manifest.json: the tokenizer, fold 0 and the other folds that are there now."""
    # A calibrator would be that of an earlier run.
    write_json(
        bundle / _OOF,
        {name: part for name, part in _parts(bundle).items() if name not in (CALIBRATOR, VOTES)},
    )


def record_calibrator(bundle: Path) -> None:
    """Write manifest.json: what oof/manifest.json names, the calibrator and the form of the votes."""
    models = json.loads((bundle / _OOF).read_text(encoding="utf-8"))
    write_json(
        bundle / MANIFEST,
        models
        | {name: part for name, part in _parts(bundle).items() if name in (CALIBRATOR, VOTES)},
    )


def check(bundle: Path) -> None:
    """Called before anything of a bundle is loaded.

    Raises:
        UserError: there is no manifest, or parts are missing, extra or changed; all are named.
    """
    advice = "Run `dvc repro` (or `dvc checkout` after a failed run), or name another --bundle."
    try:
        named = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(named, dict) or not all(
            isinstance(value, str) for value in named.values()
        ):
            raise TypeError
    except (OSError, ValueError, TypeError):
        problem = f"{bundle} has no readable {MANIFEST}: not the models of a finished pipeline."
        raise UserError(f"{problem} {advice}") from None
    found = _parts(bundle)
    faults = [
        f"{name} {'missing' if name not in found else 'extra' if name not in named else 'changed'}"
        for name in sorted({*named, *found})
        if named.get(name) != found.get(name)
    ]
    if faults:
        raise UserError(f"{bundle} holds parts of different runs ({', '.join(faults)}). {advice}")


def plain(bundle: Path) -> dict[str, bool]:
    """Whether each column of the training votes' texts was plain text; empty in a bundle that does not say so.

    Raises:
        UserError: votes.json is damaged.
    """
    path = bundle / VOTES
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["plain"]) if path.exists() else {}
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"{path}: damaged ({error}). Run dvc repro -f clean.") from None


def _parts(bundle: Path) -> dict[str, str]:
    folds = sorted((bundle / "oof").glob("fold[0-9]*"))
    paths = [bundle / "tokenizer", bundle / "train", *folds, bundle / CALIBRATOR, bundle / VOTES]
    return {path.relative_to(bundle).as_posix(): _hash(path) for path in paths if path.exists()}


def _hash(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of all files in a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "blake2b").hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}:{content}\n".encode())
    return digest.hexdigest()
