"""The rows of a CSV or JSON-lines file, one at a time and each with its line: how the file is written, not what it means.

Nothing here depends on the length of the file, and a damaged row never hides the next one.
"""

import codecs
import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pairpref.data import strict_json
from pairpref.data.refusal import Refused
from pairpref.errors import UserError

MAX_CELL = 1_000_000
"""Characters in a cell. An unclosed quote swallows no more than this before reading goes on with the next line."""

_MAX_LINE = 16 * MAX_CELL
_LOOK_AHEAD = 100
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Forms = Mapping[str, Iterable[str]]
"""Name of a form → the columns it needs. Further columns are allowed and their order is free."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its named cells and, where it can't be used, the reason. `line` is the physical line it begins on, from 1."""

    line: int
    cells: Mapping[str, object]
    reason: str = ""
    excerpt: str = ""


def read(path: Path | str, forms: Forms) -> tuple[str, Iterator[Record]]:
    """Open a file and find out its form; the rows are then read as they are asked for. Blank lines are no rows.

    Returns:
        the name of the first form whose columns are all there, and the rows in file order.

    Raises:
        UserError: no such file, an unknown ending, an empty file, wrong columns or encoding; while reading, a damaged .gz.
    """
    path = Path(path)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        return _read_csv(path, forms)
    if kind in ("jsonl", "ndjson"):
        return _read_jsonl(path, forms)
    raise UserError(f"{path}: a file of votes ends in .csv, .csv.gz, .jsonl or .jsonl.gz. Unpack or convert it.")


def count_lines(path: Path | str) -> int:
    """Lines in the file: about as many as rows, and quickly found.

    Raises:
        UserError: the file can't be read.
    """
    return sum(1 for _ in _lines(Path(path), "\n"))


def _lines(path: Path, newline: str) -> Iterator[str]:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            if file.read(2) in _UTF16:
                raise UserError(f"{path}: this is UTF-16; expected UTF-8. Save it again as UTF-8.")
        # Bytes that are not UTF-8 come through as lone surrogates: they cost their row, not the file.
        with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
            while line := file.readline(_MAX_LINE):
                yield line
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Check the path; it is relative to the folder you run in.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not a whole .gz file ({error}). Get or pack it again.") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}. Expected a readable file.") from None


def _read_csv(path: Path, forms: Forms) -> tuple[str, Iterator[Record]]:
    csv.field_size_limit(MAX_CELL)
    rows = csv.reader(_lines(path, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise UserError(f"{path}: the first line is no CSV header ({error}). {_expected(forms)}") from None
    if not header:
        raise UserError(f"{path}: the file is empty or begins with an empty line. {_expected(forms)}")
    form = _form(header, forms)
    if form is None or len(set(header)) < len(header):
        raise UserError(f"{path}: wrong columns: got {_listed(header)}. {_expected(forms)}")
    return form, _csv_records(rows, header)


def _csv_records(rows: "csv._reader", header: list[str]) -> Iterator[Record]:
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, {}, "too_long" if "field limit" in str(error) else "broken_row", f"{error}")
            continue
        if not row:
            continue
        cells = dict(zip(header, row, strict=False))
        if len(row) != len(header):
            yield Record(line, cells, "wrong_fields", f"{len(row)} fields, expected {len(header)}: {row[0]}")
        elif undecoded := next(filter(_undecoded, row), None):
            yield Record(line, cells, "not_utf8", undecoded)
        else:
            yield Record(line, cells)


def _read_jsonl(path: Path, forms: Forms) -> tuple[str, Iterator[Record]]:
    records = _jsonl_records(_lines(path, newline="\n"))
    head: list[Record] = []
    for record in records:
        head.append(record)
        if form := _form(record.cells, forms):
            return form, (_complete(r, forms[form]) for r in chain(head, records))
        if len(head) == _LOOK_AHEAD:
            break
    if not head:
        raise UserError(f"{path}: the file is empty. {_expected(forms)}")
    got = next((_listed(r.cells) for r in head if r.cells), "no JSON object in the first lines")
    raise UserError(f"{path}: wrong columns: got {got}. {_expected(forms)}")


def _jsonl_records(lines: Iterator[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        if _undecoded(line):
            yield Record(number, {}, "not_utf8", line)
            continue
        try:
            value = strict_json.loads(line)
        except Refused as refused:
            reason = "broken_row" if refused.reason == "broken_json" else refused.reason
            yield Record(number, {}, reason, refused.excerpt)
            continue
        yield Record(number, value) if isinstance(value, dict) else Record(number, {}, "broken_row", line)


def _complete(record: Record, columns: Iterable[str]) -> Record:
    missing = [name for name in columns if name not in record.cells]
    return (
        replace(record, reason="wrong_fields", excerpt=f"missing: {', '.join(missing)}")
        if missing and not record.reason
        else record
    )


def _undecoded(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _form(columns: Iterable[str], forms: Forms) -> str | None:
    return next((name for name, needed in forms.items() if set(needed) <= set(columns)), None)


def _listed(names: Iterable[str]) -> str:
    text = ", ".join(names)
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _expected(forms: Forms) -> str:
    return f"Expected {', or '.join(', '.join(columns) for columns in forms.values())}."
