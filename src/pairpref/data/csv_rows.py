"""The rows of a CSV. A damaged cell is named, with its line, and never hides the next row."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pairpref.data import lines
from pairpref.data.lines import MAX_CELL, Record, Source
from pairpref.errors import UserError

if TYPE_CHECKING:
    from _csv import Reader

# A whole field: quoted, with quotes inside doubled, or without any quote at its beginning.
_FIELD = re.compile(r'"[^"]*+(?:""[^"]*+)*+"(?=[,\r\n]|\Z)|(?!")[^,\r\n]*+')
_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}
_CONVERT = (
    'python -c "import csv, sys; csv.writer(sys.stdout).writerows('
    'csv.reader(sys.stdin, delimiter={!r}))" < old.csv > new.csv'
)


def read(path: Path) -> Source:
    """Open a CSV. Blank lines are no rows; empty columns without a name at the end are ignored.

    Raises:
        UserError: the first line is no header; another separator than the comma; a repeated column.
    """
    csv.field_size_limit(MAX_CELL)
    raw: list[str] = []
    rows = csv.reader(_kept(lines.read(path, newline=""), raw), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise UserError(
            f"{path}: the first line is no CSV header ({error}). Expected the names of the columns."
        ) from None
    _refuse(header, path)
    return Source([header], lambda columns: _records(rows, raw, header, columns))


def _kept(source: Iterator[str], raw: list[str]) -> Iterator[str]:
    """Passes lines on, and keeps them to look at again if their row can't be parsed."""
    for line in source:
        raw.append(line)
        yield line


def _refuse(header: list[str], path: Path) -> None:
    if not any(header):
        raise UserError(
            f"{path}: the file is empty or begins with an empty line. "
            "Expected the names of the columns."
        )
    if "\0" in "".join(header):
        raise UserError(
            f"{path}: the first line holds NUL characters: UTF-16, or no text. "
            "Save it again as UTF-8."
        )
    for separator, name in _SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise UserError(
                f"{path}: fields are separated by {name}; expected commas. "
                f"Convert it: {_CONVERT.format(separator)}"
            )
    lines.refuse_repeated(path, header)


def _records(
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
        cells = dict(zip(header, row, strict=False))
        if len(row) != len(header) or any(row[width:]):
            # What follows a damaged row may be the rest of it: its first field is no id.
            excerpt = f"{len(row)} fields, expected {width}: {row[0]}"
            yield Record(line, {} if after_damage else cells, "wrong_fields", excerpt)
            continue
        after_damage = False
        if damaged := next((name for name in columns if lines.undecoded(cells[name])), None):
            yield Record(line, cells, "not_utf8", f"{damaged}: {cells[damaged]}")
        else:
            yield Record(line, cells)


def _damaged(line: int, raw: str, names: Sequence[str], reason: str) -> Record:
    """Name the cell beyond which the row can't be read. Its id is kept unless the cell may have
    swallowed further rows."""
    cells, at, name = {}, 0, names[0]
    for name in names:
        field = _FIELD.match(raw, at)
        if not field or len(field[0]) > MAX_CELL:
            break
        quoted = field[0].startswith('"')
        cells[name] = field[0][1:-1].replace('""', '"') if quoted else field[0]
        at = field.end() + 1
    swallowed = "\n" in raw[at:].rstrip("\r\n")
    excerpt = f"{name}: {raw[at : at + 200].rstrip()}"
    return Record(line, {} if swallowed else cells, reason, excerpt)
