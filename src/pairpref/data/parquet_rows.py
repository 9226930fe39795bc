"""The rows of a Parquet file, a batch at a time and only the columns that are needed. A row's line is its number, from 1."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairpref.data import lines
from pairpref.data.lines import Record, Source
from pairpref.errors import UserError

_ROWS = 500


def read(path: Path) -> Source:
    """Open a Parquet file: its columns, and its rows as they are asked for.

    Raises:
        UserError: no such file, or not a whole Parquet file; while reading, damaged data.
    """
    with _explained(path):
        with open(path, "rb") as file:
            begins = file.read(30)
        if not begins.startswith(b"PAR1"):
            lines.refuse_by_first_bytes(path, begins)
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(
            f"{path}: the column {lines.listed(twice)} is there twice. Remove or rename one."
        )
    return Source(
        [names], lambda columns: _records(path, file, [name for name in names if name in columns])
    )


def count(path: Path) -> int:
    """Rows, as the file itself says.

    Raises:
        UserError: as `read`.
    """
    with _explained(path):
        return pq.read_metadata(path).num_rows


def _records(path: Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[Record]:
    line = 0
    batches = file.iter_batches(_ROWS, columns=columns)
    while True:
        with _explained(path):
            batch = next(batches, None)
            if batch is None:
                return
            rows = list(_rows(batch))
        for row in rows:
            line += 1
            yield Record(line, row) if row is not None else Record(line, {}, "not_utf8")


def _rows(batch: pa.RecordBatch) -> Iterator[dict | None]:
    """Each row as plain values; None where it holds bytes that are not UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(len(batch)):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        # Arrow also raises OSError, without a number, for data that it can't make sense of.
        raise (lines.unreadable(path, error) if error.errno else _damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> UserError:
    said = lines.listed(str(error).strip().splitlines()[:1])
    return UserError(f"{path}: not a whole Parquet file ({said}). Get or write it again.")
