"""models/ as parts of one run; manifest.json has the hash of each part.

Parts are tokenizer/, train/, oof/fold1 …, oof/<member>/fold0 …, features.safetensors and, of JSON,
calibrator, fusion and votes. The oof stage records the models that made its export; the calibrate
stage adds the others.
"""

import hashlib
import json
from pathlib import Path

from pairpref.errors import UserError
from pairpref.files import write_json

MANIFEST = "manifest.json"
CALIBRATOR = "calibrator.json"
FUSION = "fusion.json"
VOTES = "votes.json"
EXPERTS = "features.safetensors"
_OOF = Path("oof") / MANIFEST
_FITTED = (CALIBRATOR, FUSION, VOTES, EXPERTS)
_ADVICE = "Run `dvc repro` (or `dvc checkout` after a failed run), or name another --bundle."


def record_models(bundle: Path) -> None:
    """Write oof/manifest.json: the tokenizer, fold 0, further folds and further members' folds."""
    parts = _parts(bundle)
    write_json(bundle / _OOF, {name: parts[name] for name in parts if name not in _FITTED})


def record_calibrator(bundle: Path) -> None:
    """Write manifest.json: the parts of oof/manifest.json and all others."""
    models = json.loads((bundle / _OOF).read_text(encoding="utf-8"))
    parts = _parts(bundle)
    write_json(bundle / MANIFEST, models | {name: parts[name] for name in parts if name in _FITTED})


def models_of(folder: Path | str) -> Path:
    """The folder of models: itself, or `models` in a bundle's folder."""
    folder = Path(folder)
    inside = folder / "models"
    return inside if (inside / MANIFEST).exists() else folder


def check(bundle: Path) -> dict[str, list[Path]]:
    """Called before anything of a bundle is loaded; gives each member's folds, fold 0 first.

    Raises:
        UserError: there is no manifest, or parts are missing, extra or changed; all are named.
    """
    try:
        named = {**json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, RecursionError):
        raise UserError(
            f"{bundle} has no readable {MANIFEST}: not the models of a finished pipeline. {_ADVICE}"
        ) from None
    found = _parts(bundle)
    faults = [
        f"{name} {'missing' if name not in found else 'extra' if name not in named else 'changed'}"
        for name in sorted(named | found)
        if named.get(name) != found.get(name)
    ]
    if faults or not found:
        raise UserError(f"{bundle} holds parts of different runs ({', '.join(faults)}). {_ADVICE}")
    return models(bundle)


def models(bundle: Path) -> dict[str, list[Path]]:
    """The folders of each trained member's models, fold 0 first."""
    members = {"classifier": [bundle / "train"]}
    found = [*(bundle / "oof").glob("fold[0-9]*"), *(bundle / "oof").glob("*/fold[0-9]*")]
    for path in sorted(found, key=lambda path: (len(path.name), path)):
        above = path.parent.name
        members.setdefault("classifier" if above == "oof" else above, []).append(path)
    return members


def plain(bundle: Path) -> dict[str, bool]:
    """Whether each text column of the training votes was plain text; empty in an older bundle."""
    path = bundle / VOTES
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))["plain"]} if path.exists() else {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{path} is damaged. {_ADVICE}") from None


def _parts(bundle: Path) -> dict[str, str]:
    """The hash of each part: of a file's bytes, or of the names and bytes of a folder's files."""
    folders = [folder for folders in models(bundle).values() for folder in folders]
    paths = [bundle / "tokenizer", *folders, *(bundle / name for name in _FITTED)]
    hashes = {}
    for path in (path for path in paths if path.exists()):
        digest = hashlib.blake2b(digest_size=16)
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "blake2b").hexdigest()
            digest.update(f"{file.relative_to(path).as_posix()}:{content}\n".encode())
        hashes[path.relative_to(bundle).as_posix()] = digest.hexdigest()
    return hashes
