"""Writing files whole or not at all, with errors that name the file."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pairpref.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError that names no file, such as that of a full disk, name `path`."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def written_aside(*paths: Path) -> Iterator[list[Path]]:
    """Give a path beside each of `paths` to write to; they are renamed when the block ends well."""
    beside = [path.with_name(f"{path.name}.aside") for path in paths]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        for written, path in zip(beside, paths, strict=True):
            os.replace(written, path)
    except OSError as error:
        # A full disk does not say what was being written: the last file that was begun.
        begun = [path for written, path in zip(beside, paths, strict=True) if written.exists()]
        error.filename = error.filename or str((begun or paths[:1])[-1])
        raise
    finally:
        for written in beside:
            written.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside a new one, which takes its place when the block ends well.

    Raises:
        UserError: it exists.
    """
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} exists: name a new folder, or remove it.")
    beside = folder.with_name(f"{folder.name}.aside")
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
    try:
        with naming(beside):
            beside.mkdir(parents=True)
            yield beside
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8 with the line ends it has."""
    with written_aside(path) as (to,):
        to.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, figures: Mapping[str, object]) -> None:
    """Write figures as JSON, one a line."""
    write_text(path, json.dumps(figures, indent=2) + "\n")


def write_parquet(path: Path, frame: "pd.DataFrame") -> None:
    """Write a frame without its index."""
    with written_aside(path) as (to,):
        frame.to_parquet(to, index=False)
