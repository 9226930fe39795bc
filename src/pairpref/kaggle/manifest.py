"""manifest.json of a bundle: size and SHA-256 of every other file, and how it was made."""

import hashlib
import json
import os
from collections.abc import Iterator
from importlib.resources import files as resources
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from pairpref.errors import UserError
from pairpref.files import write_json

MANIFEST = "manifest.json"
PARAMS = "params.yaml"
LOCK = Path("dvc.lock")  # params and hashes as the stages ran
PROVENANCE = "provenance.json"
SAMPLE = "sample.json"
NOTEBOOK = "predict.ipynb"
MODELS = "models"
WHEELS = "wheels"

_TOP = {MANIFEST, PARAMS, str(LOCK), PROVENANCE, SAMPLE, NOTEBOOK}
# Data alone. No .py, .bin, .pt or .pkl: a pickle runs what it likes.
_DATA = {".json", ".safetensors", ".parquet", ".txt", ".model", ".jinja"}
ADAPTED = "adapted.json"  # of adapters alone: it names a backbone that is not in the bundle
_LARGEST = 10**7  # bytes of a manifest


def notebook() -> bytes:
    """The same in every bundle, so that one that somebody else wrote is known."""
    return (resources("pairpref.kaggle") / NOTEBOOK).read_bytes()


def belongs(name: str) -> bool:
    """Whether a bundle may have a file of this name, a relative POSIX path."""
    parts = name.split("/")
    if len(parts) == 1:
        return name in _TOP
    if not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        return False
    if parts[0] == WHEELS:
        return len(parts) == 2 and _is_wheel(parts[1])
    return parts[0] == MODELS and parts[-1] != ADAPTED and PurePosixPath(name).suffix in _DATA


def found(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The files of a folder by name, and the names of what is neither file nor folder.

    A link is neither: it is not followed.
    """
    files, others = {}, []
    for above, folders, names in os.walk(folder, followlinks=False):
        for name in (*folders, *names):
            path = Path(above) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                others.append(relative)
            elif path.is_file():
                files[relative] = path
    return files, sorted(others)


def entry(path: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    with path.open("rb") as opened:
        return {
            "sha256": hashlib.file_digest(opened, "sha256").hexdigest(),
            "size": path.stat().st_size,
        }


def write(folder: Path, about: dict[str, Any]) -> None:
    """Write the manifest of all files that are there now."""
    files, _ = found(folder)
    listed = {name: entry(files[name]) for name in sorted(files) if name != MANIFEST}
    write_json(folder / MANIFEST, about | {"files": listed})


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle; `files` is a dict.

    Raises:
        UserError: there is none, or it is none of ours.
    """
    path = folder / MANIFEST
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
            raise ValueError
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest["files"], dict):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(
            f"{folder} has no readable {MANIFEST}: not a bundle. `pairpref bundle make` makes one."
        ) from None
    return manifest


def faults(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """A line for each file that is not as the manifest says, or that no bundle has.

    Nothing is opened but regular files below the folder: a name in the manifest is only compared.
    """
    files, others = found(folder)
    listed = manifest["files"]
    yield from (f"{name!r} is a link or no regular file" for name in others)
    for name in sorted({*files, *listed} - {MANIFEST, *others}):
        if not belongs(name):
            yield f"{name!r} is no file of a bundle: data under {MODELS}/, wheels under {WHEELS}/"
        elif name not in files:
            yield f"{name!r} is missing"
        elif name not in listed:
            yield f"{name!r} is not in the manifest"
        elif entry(files[name]) != listed[name]:
            yield f"{name!r} is not the file that the manifest names: its bytes differ"


def _is_wheel(name: str) -> bool:
    try:
        return bool(parse_wheel_filename(name))
    except InvalidWheelFilename:
        return False
