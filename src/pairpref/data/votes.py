"""Votes, and pairs to predict, from a file: each row is a `Row`, or a `RejectedRow` with a reason.

`readers` knows how the rows are written, `forms` what their columns mean.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from pairpref.data import forms, readers
from pairpref.data.cells import Cell
from pairpref.data.forms import Layout
from pairpref.data.quarantine import RejectedRow, RowError
from pairpref.data.readers import Record, Source

_HEAD = 100  # rows by which plain text and JSON lists are told apart


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row. A single text is `response_a`; then prompt and response_b are None."""

    line: int
    id: str
    prompt: Cell | None
    response_a: Cell
    response_b: Cell | None
    label: int | None  # 0 = A, 1 = B, 2 = tie; None where it is to be predicted
    both_bad: bool = False  # a tie of two bad answers, by the vote itself

    @property
    def characters(self) -> int:
        """Of its texts, as they are written."""
        cells = (self.prompt, self.response_a, self.response_b)
        return sum(len(cell.source) for cell in cells if cell)


@dataclass(frozen=True)
class Votes:
    """An opened file, whose rows are read as they are asked for."""

    form: str
    plain: Mapping[str, bool]  # of each column of texts: whether its strings are plain text
    rows: Iterator[Row | RejectedRow]


def read_votes(path: Path | str) -> Votes:
    """Rows with their label; of several rows with one id the first usable one stays.

    Raises:
        UserError: the file as a whole can't be read (see `readers.read` and `forms`).
    """
    votes = of_source(path, readers.read(path), judged=True)
    return replace(votes, rows=_first_of_each_id(votes.rows))


def read_unjudged(path: Path | str, usual: Mapping[str, bool] | None = None) -> Votes:
    """Rows without label. Ids may repeat, since each row needs its prediction.

    Args:
        usual: `Votes.plain` of the training votes, for columns whose own strings are too few.

    Raises:
        UserError: the file as a whole can't be read (see `readers.read` and `forms`).
    """
    return of_source(path, readers.read(path), judged=False, usual=usual)


def of_source(
    name: Path | str, source: Source, judged: bool, usual: Mapping[str, bool] | None = None
) -> Votes:
    """Rows of what is read already; `name` is for messages, the others are as above."""
    layout = forms.find(name, source.columns, judged)
    records = source.records(layout.columns)
    head = list(islice(records, _HEAD))
    plain = forms.plain_columns(name, layout, [row.cells for row in head if not row.error], usual)
    rows = (_row(record, layout, plain) for record in chain(head, records))
    return Votes(layout.name, plain, rows)


def _row(record: Record, layout: Layout, plain: Mapping[str, bool]) -> Row | RejectedRow:
    identifier = "" if record.unsure else layout.identifier(record.cells, record.line)
    try:
        if record.error:
            raise record.error
        if missing := [name for name in layout.needed if name not in record.cells]:
            raise RowError("wrong_fields", f"missing: {', '.join(missing)}")
        if not identifier.strip() or not identifier.isprintable():
            raise RowError("bad_id", layout.id and record.cells.get(layout.id))
        return Row(record.line, identifier, *layout.read(record.cells, plain, identifier))
    except RowError as error:
        return RejectedRow(record.line, identifier, error.reason, error.excerpt[:200])


def _first_of_each_id(rows: Iterator[Row | RejectedRow]) -> Iterator[Row | RejectedRow]:
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, Row) and row.id in seen:
            row = RejectedRow(row.line, row.id, "duplicate_id", row.id)
        elif isinstance(row, Row):
            seen.add(row.id)
        yield row
