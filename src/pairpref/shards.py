"""Finished parts of a prediction, kept until the whole file is written, so that a kill costs one.

They are in a folder of their own, named by a hash of all that the answers depend on: what was
finished for another input, other models, options or code is not used.
"""

import csv
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from pairpref.errors import UserError
from pairpref.files import naming, written_aside
from pairpref.pairs import PROBABILITIES, WINNERS

_PACKAGE = Path(__file__).parent
_EFFORT = b"effort"
_BYTES = 16  # of a digest in front of a shard
_SCHEMA = pa.schema([("id", pa.string()), *((name, pa.float64()) for name in PROBABILITIES)])


def key(files: Iterable[Path], options: object) -> str:
    """A hash of the bytes of some files, of options as they print, and of this package's code."""
    digest = hashlib.blake2b(repr(options).encode(), digest_size=12)
    for path in (*files, *sorted(_PACKAGE.rglob("*.py"))):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


class Shards:
    """Consecutive rows' predictions: id, p_a, p_b, p_tie; a file each, named by its first row."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, 0  # rows that are finished
        self.efforts: dict[str, int] = {}  # rows by how much was spent on each
        # One that is torn or damaged is written again, and those behind it.
        while (table := self._read(self.rows)) is not None:
            self._count(table)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, key: str) -> Iterator[Self]:
        """Those of a key, and of no other, in a folder that no other process uses meanwhile.

        Raises:
            UserError: another process does.
        """
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / "lock", timeout=0):
                for other in folder.iterdir():
                    if other.is_dir() and other.name != key:
                        shutil.rmtree(other)
                shards = cls(folder / key)
                try:
                    yield shards
                finally:
                    if not shards.rows:
                        shards.discard()
        except Timeout:
            raise UserError(
                f"{folder} is in use: another process predicts the same output. Wait for it, or "
                "name another output."
            ) from None

    def add(self, frame: pd.DataFrame, effort: object) -> None:
        """Write the next rows."""
        table = pa.Table.from_pandas(frame, _SCHEMA, preserve_index=False)
        table = table.replace_schema_metadata({_EFFORT: str(effort)})
        packed = pa.BufferOutputStream()
        pq.write_table(table, packed)
        content = packed.getvalue().to_pybytes()
        with written_aside(self._path(self.rows)) as (to,):
            to.write_bytes(_digest(content) + content)
        self._count(table)

    def frames(self) -> Iterator[pd.DataFrame]:
        """All finished rows in order: one frame without rows, and a frame a shard."""
        yield _SCHEMA.empty_table().to_pandas()
        row = 0
        while row < self.rows:
            table = self._read(row)
            if table is None:
                raise UserError(f"{self._path(row)} was changed. Run the same command again.")
            row += len(table)
            yield table.to_pandas()

    def write(self, path: Path) -> None:
        """Write all: a submission as .csv, or else probabilities as .parquet; whole or not at all.

        A shard at a time is in memory.
        """
        with written_aside(path) as (to,):
            if path.suffix.lower() == ".csv":
                for number, frame in enumerate(self.frames()):
                    write_csv(frame.set_axis(["id", *WINNERS], axis=1), to, further=number > 0)
                return
            with pq.ParquetWriter(to, _SCHEMA) as writer:
                for frame in self.frames():
                    writer.write_table(pa.Table.from_pandas(frame, _SCHEMA, preserve_index=False))

    def discard(self) -> None:
        """Remove all: the whole is written."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _path(self, row: int) -> Path:
        return self.folder / f"{row:012d}.shard"

    def _read(self, row: int) -> pa.Table | None:
        """The shard that begins with a row; None if there is none, or not as it was written."""
        try:
            whole = self._path(row).read_bytes()
        except OSError:
            return None
        digest, content = whole[:_BYTES], whole[_BYTES:]
        return pq.read_table(pa.BufferReader(content)) if _digest(content) == digest else None

    def _count(self, table: pa.Table) -> None:
        effort = table.schema.metadata[_EFFORT].decode()
        self.efforts[effort] = self.efforts.get(effort, 0) + len(table)
        self.rows += len(table)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_BYTES).digest()


def write_csv(submission: pd.DataFrame, path: Path, further: bool = False) -> None:
    """Write rows of a submission.

    Args:
        further: add them to the rows that are there.
    """
    mode, how = "a" if further else "w", {"lineterminator": "\n", "float_format": "%.9g"}
    # Python quotes a line feed in an id, but before 3.13 no carriage return.
    odd = submission["id"].str.contains("\r", regex=False).any()
    quoting = csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL
    submission.to_csv(path, index=False, mode=mode, header=not further, quoting=quoting, **how)
