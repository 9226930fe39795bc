"""Folders that are whole or don't count.

A folder is written aside, every file hashed into its manifest and synced, and then renamed. A kill,
a full disk or a flipped bit leaves either a whole folder or one whose `fault` is named.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

ASIDE = "aside"
_MANIFEST = "manifest.json"


def write(folder: Path, fill: Callable[[Path], None], owner: str) -> None:
    """Make a folder out of what `fill` writes into the path it is given, all of it or nothing.

    Args:
        owner: whose it is; `fault` rejects any other.

    Raises:
        OSError: naming the file; what was there before is untouched.
    """
    with filled(folder) as aside:
        aside.mkdir(parents=True)
        fill(aside)
    seal(folder, owner)


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """The path to fill for a folder, in which nothing is yet; `seal` puts it where it belongs.

    Raises:
        OSError: naming the file; nothing is left.
    """
    aside = aside_of(folder)
    remove(aside)
    try:
        yield aside
    except BaseException as error:
        full = isinstance(error, (SafetensorError, RuntimeError)) and _is_full(aside)
        _clear(aside)
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
        raise


def seal(folder: Path, owner: str) -> None:
    """Hash and sync what was filled, and put it where it belongs; raises as `filled`."""
    aside = aside_of(folder)
    try:
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        hashes = {path.relative_to(aside).as_posix(): hash_of(path) for path in files}
        manifest = json.dumps({"owner": owner, "files": hashes}, indent=2) + "\n"
        (aside / _MANIFEST).write_text(manifest, encoding="utf-8")
        for path in (*aside.rglob("*"), aside):
            _sync(path)
        remove(folder)
        os.rename(aside, folder)
        _sync(folder.parent)
    finally:
        _clear(aside)


def fault(folder: Path, owner: str) -> str | None:
    """What is wrong with a folder that was sealed for `owner`; None when it is whole."""
    try:
        if link := next((path for path in (folder, *folder.rglob("*")) if path.is_symlink()), None):
            return f"{link.name} is a link"
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["owner"] != owner:
            return f"it belongs to {manifest['owner']}"
        files = (path for path in folder.rglob("*") if not path.is_dir())
        there = {path.relative_to(folder).as_posix() for path in files}
        if unknown := sorted(there - {*manifest["files"], _MANIFEST}):
            return f"{unknown[0]} is not in its manifest"
        for name, expected in manifest["files"].items():
            if hash_of(folder / name) != expected:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"{_MANIFEST} is not readable ({error})"
    return None


def remove(path: Path) -> None:
    """A folder, or the link or file that is in its place; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def aside_of(folder: Path) -> Path:
    """Where a folder is written."""
    return folder.parent / ASIDE / folder.name


def _is_full(folder: Path) -> bool:
    """Whether its disk takes no more, which writers of tensors don't say."""
    try:
        (folder / "probe").write_bytes(bytes(2**20))
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def _clear(aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):  # another folder is being written
        aside.parent.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
