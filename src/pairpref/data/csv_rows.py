"""The rows of a CSV. A damaged cell is named, with its line, and never hides the next row."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pairpref.data import lines
from pairpref.data.lines import MAX_CELL, Record, Source
from pairpref.errors import UserError

# A whole field: quoted, with quotes inside doubled, or without any quote at its beginning.
_FIELD = re.compile(r'"[^"]*+(?:""[^"]*+)*+"(?=[,\r\n]|\Z)|(?!")[^,\r\n]*+')
_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}
_CONVERT = 'python -c "import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter={!r}))" < old.csv > new.csv'


def read(path: Path) -> Source:
    """Open a CSV: its columns, and its rows as they are asked for. Blank lines are no rows.

    Columns without a name behind the last named one are none, as long as they are empty.

    Raises:
        UserError: the first line is no header; another separator than the comma; a column named twice.
    """
    csv.field_size_limit(MAX_CELL)
    raw = _Raw(lines.read(path, newline=""))
    rows = csv.reader(raw, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise UserError(
            f"{path}: the first line is no CSV header ({error}). Expected the names of the columns."
        ) from None
    _refuse(header, path)
    return Source([header], lambda columns: _records(rows, raw, header, columns))


class _Raw:
    """Passes lines on, and keeps those of the present row: where it can't be parsed, it is looked at again."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        self.row.append(line)
        return line


def _refuse(header: list[str], path: Path) -> None:
    if not any(header):
        raise UserError(
            f"{path}: the file is empty or begins with an empty line. Expected the names of the columns."
        )
    if "\0" in "".join(header):
        raise UserError(
            f"{path}: the first line holds NUL characters: UTF-16, or no text. Save it again as UTF-8."
        )
    for separator, name in _SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise UserError(
                f"{path}: fields are separated by {name}; expected commas. Convert it: {_CONVERT.format(separator)}"
            )
    if twice := [name for name in dict.fromkeys(header) if name and header.count(name) > 1]:
        raise UserError(
            f"{path}: the column {lines.listed(twice)} is there twice. Remove or rename one."
        )


def _records(
    rows: "csv._reader", raw: _Raw, header: list[str], needed: Collection[str]
) -> Iterator[Record]:
    columns = [name for name in header if name in needed]
    width = max(i for i, name in enumerate(header, 1) if name)
    whole = True
    while True:
        line = rows.line_num + 1
        raw.row.clear()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            whole = False
            yield _damaged(
                line,
                "".join(raw.row),
                header[:width],
                "too_long" if "field limit" in str(error) else "broken_row",
            )
            continue
        if not row:
            continue
        cells = dict(zip(header, row, strict=False))
        if len(row) != len(header) or any(row[width:]):
            # What follows a damaged row may be the rest of it: its first field is no id.
            excerpt = f"{len(row)} fields, expected {width}: {row[0]}"
            yield Record(line, cells if whole else {}, "wrong_fields", excerpt)
            continue
        whole = True
        if damaged := next((name for name in columns if lines.undecoded(cells[name])), None):
            yield Record(line, cells, "not_utf8", f"{damaged}: {cells[damaged]}")
        else:
            yield Record(line, cells)


def _damaged(line: int, raw: str, names: Sequence[str], reason: str) -> Record:
    """Name the cell that the row can't be read beyond. Its id is known unless the cell may have swallowed further rows."""
    cells, at, name = {}, 0, names[0]
    for name in names:
        field = _FIELD.match(raw, at)
        if not field or len(field[0]) > MAX_CELL:
            break
        quoted = field[0].startswith('"')
        cells[name] = field[0][1:-1].replace('""', '"') if quoted else field[0]
        at = field.end() + 1
    swallowed = "\n" in raw[at:].rstrip("\r\n")
    return Record(
        line, {} if swallowed else cells, reason, f"{name}: {raw[at : at + 200].rstrip()}"
    )
