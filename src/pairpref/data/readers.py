"""The rows of a file of votes, each with its line: CSV, JSON lines or Parquet, read in a stream.

This is how a file is written; what its columns mean is in `forms`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairpref.data import cells, csv_rows, lines
from pairpref.data.lines import Record, Source
from pairpref.data.quarantine import RowError
from pairpref.errors import UserError

_CONVERT = (
    'python -c "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]"'
    " < old.json > new.jsonl"
)
_NOT_VOTES = {
    "xlsx xls ods": "a spreadsheet. Save the sheet as CSV in UTF-8",
    "zip 7z tar tgz bz2 xz zst": "packed. Unpack it",
    "json": f"one JSON document. Convert it: {_CONVERT}",
    "arrow feather orc": "a table of another kind. Write it as Parquet",
    "pkl pickle pt": "a pickle, which could run anything. Write it as Parquet, where you trust it",
    "tsv tab": "separated by tabs. Write it with commas, and call it .csv",
}
_JSON_HEAD = 100  # rows whose keys say which columns a file of JSON lines has
_PARQUET_BATCH = 500  # rows


def read(path: Path | str) -> Source:
    """Open a file. A damaged row never hides the next one.

    Raises:
        UserError: no such file, an unknown ending, an empty file, another separator or encoding;
            while reading, damage to the file as a whole.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: this is a folder. Expected a readable file: name one in it.")
    return _READERS[_kind(path)](path)


def count_rows(path: Path | str) -> int:
    """Rows of a Parquet file, lines below the header of another: about as many, quickly found."""
    path = Path(path)
    kind = _kind(path)
    if kind == "parquet":
        with _explained(path):
            return pq.read_metadata(path).num_rows
    return sum(1 for _ in lines.read(path, "\n")) - (kind == "csv")


def _kind(path: Path) -> str:
    name = path.name.lower()
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet" and name.endswith(".gz"):
        raise UserError(f"{path}: a Parquet file that is packed. Unpack it: gunzip -k {path}")
    if kind not in _READERS:
        known = [f"this is {what}. " for kinds, what in _NOT_VOTES.items() if kind in kinds.split()]
        got = "".join(known)
        raise UserError(
            f"{path}: {got}A file of votes ends in .csv, .jsonl (either may be packed: .gz) "
            "or .parquet."
        )
    return kind


def _read_json(path: Path) -> Source:
    records = _json_records(lines.read(path, newline="\n"))
    head = list(islice(records, _JSON_HEAD))
    if not head:
        raise UserError(f"{path}: the file is empty. Expected a JSON object a line.")
    columns = [tuple(record.cells) for record in head if record.cells]
    if not columns:
        raise UserError(
            f"{path}: no JSON object in the first lines: "
            f"got {lines.listed([head[0].excerpt[:60].strip()])}. Expected one a line. "
            f"If the file is one JSON list, convert it: {_CONVERT}"
        )
    return Source(columns, lambda columns: chain(head, records))


def _json_records(source: Iterator[str]) -> Iterator[Record]:
    number, whole = 0, True
    for line in source:
        rest_of_a_line, whole = not whole, line.endswith("\n")
        if rest_of_a_line:
            continue
        number += 1
        if not line.isspace():
            yield _json_record(number, line, whole)


def _json_record(number: int, line: str, whole: bool) -> Record:
    if not whole and len(line) == lines.MAX_LINE:
        return Record(number, {}, "too_long", line[:200])
    if lines.undecoded(line):
        return Record(number, {}, "not_utf8", line)
    try:
        value = cells.loads(line)
    except RowError as error:
        reason = "broken_row" if error.reason == "broken_json" else error.reason
        return Record(number, {}, reason, error.excerpt)
    if not isinstance(value, dict):
        return Record(number, {}, "broken_row", line)
    return Record(number, value)


def _read_parquet(path: Path) -> Source:
    with _explained(path):
        with open(path, "rb") as file:
            begins = file.read(30)
        if not begins.startswith(b"PAR1"):
            lines.refuse_by_first_bytes(path, begins)
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
    lines.refuse_repeated(path, names)
    return Source(
        [names],
        lambda columns: _parquet_records(path, file, [name for name in names if name in columns]),
    )


def _parquet_records(path: Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[Record]:
    """A row's line is its number, from 1."""
    batches, done = file.iter_batches(_PARQUET_BATCH, columns=columns), 0
    while True:
        with _explained(path):
            batch = next(batches, None)
            if batch is None:
                return
            rows = list(_parquet_rows(batch))
        for line, row in enumerate(rows, done + 1):
            yield Record(line, {}, "not_utf8") if row is None else Record(line, row)
        done += len(rows)


def _parquet_rows(batch: pa.RecordBatch) -> Iterator[dict | None]:
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
    """Turn what Arrow raises into a UserError. It raises OSError, too, for damaged data."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno:
            raise lines.unreadable(path, error) from None
        reason = lines.listed(str(error).strip().splitlines()[:1])
        raise UserError(
            f"{path}: not a whole Parquet file ({reason}). Get or write it again."
        ) from None


_READERS = {
    "csv": csv_rows.read,
    "jsonl": _read_json,
    "ndjson": _read_json,
    "parquet": _read_parquet,
}
