"""The rows of a file of votes, each with its line: CSV, JSON lines or Parquet, read in a stream.

This is how a file is written; what its columns mean is in `forms`. A damaged row never hides the
next one.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairpref.data import cells
from pairpref.data.quarantine import RowError, printable
from pairpref.errors import UserError

if TYPE_CHECKING:
    from _csv import Reader

_FOREIGN = {  # by the first bytes
    b"PK\x03\x04": "a .zip or .xlsx file. Unpack it, or save the sheet as CSV in UTF-8",
    b"PAR1": "a Parquet file. Give it a name that ends in .parquet",
    b"\x1f\x8b": "packed with gzip. Give it a name that ends in .gz",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself. Get it: git lfs pull",
}
# What packed files and Arrow raise, the latter almost anything.
_ARROW = (pa.ArrowException, ValueError, KeyError, OverflowError, MemoryError)
_DAMAGE = (OSError, EOFError, zlib.error, *_ARROW)
_JSON_HEAD = 100  # rows whose keys say which columns a file of JSON lines has
_PARQUET_BATCH = 500  # rows
_UNDECODED = re.compile("[\udc80-\udcff]")  # what stands for a byte that is not UTF-8
# A whole field: quoted, with quotes inside doubled, or without any quote at its beginning.
_FIELD = re.compile(r'"[^"]*+(?:""[^"]*+)*+"(?=[,\r\n]|\Z)|(?!")[^,\r\n]*+')


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its named cells and, if it can't be used, why."""

    line: int  # the physical line it begins on, from 1; in Parquet the row
    cells: Mapping[str, object]
    error: RowError | None = None
    unsure: bool = False  # it may hold further rows, or be the rest of one


@dataclass(frozen=True)
class Source:
    """An opened file, whose rows are read as they are asked for."""

    columns: Sequence[Sequence[str]]  # names; of JSON lines, those of each of the first objects
    records: Callable[[Collection[str]], Iterator[Record]]  # given the names that are needed


def read(path: Path | str) -> Source:
    """Open a file.

    Raises:
        UserError: the file as a whole can't be read, at once or while its rows are read.
    """
    path = Path(path)
    kind = _kind(path)
    with _explained(path):
        with _open(path, "rb") as file:
            begins = file.read(30)
        for magic, what in _FOREIGN.items():
            if begins.startswith(magic) and (magic, kind) != (b"PAR1", ".parquet"):
                raise UserError(f"{path}: by its first bytes this is {what}.")
        if b"\0" in begins and kind != ".parquet":
            raise UserError(f"{path}: this is UTF-16, or no text. Save it again as UTF-8.")
        source = _READERS[kind](path)
    check_names(path, source.columns[0])
    return source


def check_names(path: Path | str, names: Sequence[str]) -> None:
    """Refuse another separator than the comma, and a column that is there twice; UserError."""
    if len(names) == 1 and (separator := re.search(r"[;\t|]", names[0])):
        raise UserError(
            f"{path}: fields are separated by {separator[0]!r}; expected commas. "
            "docs/votes.md shows how to convert it."
        )
    if twice := {name: None for name in names if name and names.count(name) > 1}:
        listed = printable(", ".join(twice), 200)
        raise UserError(f"{path}: the column {listed} is there twice. Remove or rename one.")


def count_rows(path: Path | str) -> int:
    """About how many rows a file has: its lines, or what Parquet says."""
    path = Path(path)
    if _kind(path) == ".parquet":
        return pq.read_metadata(path).num_rows
    return sum(1 for _ in _lines(path, newline="\n"))


def _kind(path: Path) -> str:
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind not in _READERS or path.name.lower().endswith(".parquet.gz"):
        raise UserError(
            f"{path}: a file of votes ends in .csv, .jsonl (either may be packed: .gz) or "
            ".parquet. Unpack an archive; save a spreadsheet as CSV with commas in UTF-8; "
            "docs/votes.md shows how to convert a JSON document."
        )
    return kind


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what missing and damaged files raise into a UserError."""
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:  # none there, a folder, a link in a loop
            where = "expected a file. Check the path; it is relative to the folder you run in"
            raise UserError(f"{path}: {error.strerror.lower()}; {where}.") from None
        reason = printable(str(error), 200)
        raise UserError(f"{path}: not a whole, readable file ({reason}). Get it again.") from None


def _open(path: Path, mode: str, **options: str) -> IO[Any]:
    opened: Callable[..., IO[Any]] = gzip.open if path.suffix.lower() == ".gz" else open
    return opened(path, mode, **options)


def _lines(path: Path, newline: str) -> Iterator[str]:
    """Bytes that are not UTF-8 come as lone surrogates: they cost their row, not the file."""
    how = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": newline}
    with _explained(path), _open(path, "rt", **how) as file:
        yield from file


def _read_json(path: Path) -> Source:
    lines = enumerate(_lines(path, newline="\n"), 1)
    records = (_json_record(number, line) for number, line in lines if not line.isspace())
    head = list(islice(records, _JSON_HEAD))
    columns = [tuple(record.cells) for record in head if record.cells]
    if not columns:
        raise UserError(
            f"{path}: the file is empty, or no JSON object is in its first lines. Expected one a "
            "line; docs/votes.md shows how to convert a JSON document."
        )
    return Source(columns, lambda columns: chain(head, records))


def _json_record(number: int, line: str) -> Record:
    try:
        if _UNDECODED.search(line):
            raise RowError("not_utf8", line)
        value = cells.loads(line, "broken_row")
        if not isinstance(value, dict):
            raise RowError("broken_row", line)
    except RowError as error:
        return Record(number, {}, error)
    return Record(number, value)


def _read_parquet(path: Path) -> Source:
    # By default a whole row group is read at once, and a file may have but one.
    file = pq.ParquetFile(
        path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )
    names = file.schema_arrow.names

    def records(needed: Collection[str]) -> Iterator[Record]:
        number = 0
        columns = [name for name in names if name in needed]
        with _explained(path):
            for batch in file.iter_batches(_PARQUET_BATCH, columns=columns):
                for i in range(len(batch)):
                    number += 1
                    try:
                        record = Record(number, batch.slice(i, 1).to_pylist()[0])
                    except UnicodeDecodeError:
                        record = Record(number, {}, RowError("not_utf8"))
                    yield record

    return Source([names], records)


def _read_csv(path: Path) -> Source:
    """Blank lines are no rows; empty columns without a name at the end are ignored."""
    csv.field_size_limit(cells.MAX_CELL)
    raw: list[str] = []  # the lines of the present row, to look at if it can't be parsed

    def kept() -> Iterator[str]:
        for line in _lines(path, newline=""):
            raw.append(line)
            yield line

    rows = csv.reader(kept(), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise UserError(
            f"{path}: the first line is no CSV header ({error}). Expected the names of the columns."
        ) from None
    if not any(header):
        raise UserError(
            f"{path}: the file is empty or begins with an empty line. "
            "Expected the names of the columns."
        )
    return Source([header], lambda needed: _csv_records(rows, raw, header, needed))


def _csv_records(
    rows: "Reader", raw: list[str], header: list[str], needed: Collection[str]
) -> Iterator[Record]:
    columns = [name for name in header if name in needed]
    width = max(i for i, name in enumerate(header, 1) if name)
    after_damage = False
    while True:
        line = rows.line_num + 1
        raw.clear()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            after_damage = True
            reason = "too_long" if "field limit" in str(error) else "broken_row"
            yield _damaged(line, "".join(raw), header[:width], reason)
            continue
        if not row:
            continue
        named: dict[str, object] = dict(zip(header, row, strict=False))
        if not width <= len(row) <= len(header) or any(row[width:]):
            # What follows a damaged row may be the rest of it: its first field is no id.
            found = f"{len(row)} fields, expected {width}: {row[0]}"
            if width < len(row) <= len(header):
                found = f"a column without a name is not empty: {next(filter(None, row[width:]))}"
            kept = {} if after_damage else named
            yield Record(line, kept, RowError("wrong_fields", found), after_damage)
            continue
        after_damage = False
        texts = (f"{name}: {named[name]}" for name in columns)
        undecoded = next(filter(_UNDECODED.search, texts), None)
        yield Record(line, named, RowError("not_utf8", undecoded) if undecoded else None)


def _damaged(line: int, raw: str, names: Sequence[str], reason: str) -> Record:
    """Name the cell beyond which the row can't be read. Its id is kept unless the cell may have
    swallowed further rows."""
    named, at, name = {}, 0, names[0]
    for name in names:
        field = _FIELD.match(raw, at)
        if not field or len(field[0]) > cells.MAX_CELL:
            break
        quoted = field[0].startswith('"')
        named[name] = field[0][1:-1].replace('""', '"') if quoted else field[0]
        at = field.end() + 1
    swallowed = not {"\n", "\r"}.isdisjoint(raw[at:].rstrip("\r\n"))
    error = RowError(reason, f"{name}: {raw[at : at + 200].rstrip()}")
    return Record(line, {} if swallowed else named, error, swallowed)


_READERS = {
    ".csv": _read_csv,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
}
