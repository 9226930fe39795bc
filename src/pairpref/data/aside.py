"""Files that appear all together or not at all: written aside, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(*paths: Path) -> Iterator[list[Path]]:
    """Give a path beside each of `paths` to write to; they take the names of `paths` when the block ends well."""
    beside = [path.with_name(f"{path.name}.aside") for path in paths]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        for written, path in zip(beside, paths, strict=True):
            os.replace(written, path)
    finally:
        for written in beside:
            written.unlink(missing_ok=True)
