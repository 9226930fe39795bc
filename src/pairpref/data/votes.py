"""Votes, and pairs still to be judged, from a file: each row is either usable (`Row`) or set aside with its reason (`RejectedRow`).

What a file's columns mean is in `forms`, how its rows are written in `records`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from pairpref.data import forms, records
from pairpref.data.forms import Form
from pairpref.data.lines import Record
from pairpref.data.row_error import RowError
from pairpref.data.turns import Cell
from pairpref.errors import UserError

_HEAD = 100
"""Rows by which plain text and JSON lists are told apart."""


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row. In the form `text`, `response_a` is the whole text and the other two cells are None.

    `label` is 0 = A, 1 = B, 2 = tie, and None where unjudged. `both_bad`: a tie of two bad answers, by the vote itself.
    """

    line: int
    id: str
    prompt: Cell | None
    response_a: Cell
    response_b: Cell | None
    label: int | None
    both_bad: bool = False


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that can't be used: `reason` is a key of `refusal.REASONS`, `excerpt` the start of what was found instead."""

    line: int
    id: str
    reason: str
    excerpt: str


@dataclass(frozen=True)
class Votes:
    """An opened file: its form, whether each column of texts is plain, and its rows in file order, read as they are asked for."""

    form: forms.Name
    plain: Mapping[str, bool]
    rows: Iterator[Row | RejectedRow]

    @property
    def written(self) -> str:
        """How the texts are written, in words."""
        kinds = {
            "plain text": [n for n, plain in self.plain.items() if plain],
            "lists": [n for n, plain in self.plain.items() if not plain],
        }
        return "; ".join(f"{kind} in {', '.join(names)}" for kind, names in kinds.items() if names)


def read_votes(path: Path | str) -> Votes:
    """Rows with their label; of several rows with one id the first usable one stays.

    Raises:
        UserError: the file as a whole can't be read (see `records.read` and `forms`).
    """
    votes = _read(path, judged=True)
    return replace(votes, rows=_first_of_each_id(votes.rows))


def read_unjudged(path: Path | str, usual: Mapping[str, bool] | None = None) -> Votes:
    """Rows without label: nothing is held against repeated ids, since each row needs its prediction.

    Args:
        usual: `Votes.plain` of the training votes, for columns whose own strings are too few to tell.

    Raises:
        UserError: the file as a whole can't be read (see `records.read` and `forms`).
    """
    return _read(path, judged=False, usual=usual)


def _read(path: Path | str, judged: bool, usual: Mapping[str, bool] | None = None) -> Votes:
    source = records.read(path)
    try:
        form = next(filter(None, (forms.find(columns, judged) for columns in source.columns)), None)
        if form is None:
            raise UserError(forms.unknown(source.columns[0], judged))
        found = source.records(form.columns)
        head = list(islice(found, _HEAD))
        plain = forms.plain_columns(
            form, [record.cells for record in head if not record.reason], usual
        )
    except UserError as error:
        named = str(error).startswith(str(path))
        raise error if named else UserError(f"{path}: {error}") from None
    return Votes(
        form.name,
        {n: n in plain for n in form.texts},
        (_row(record, form, plain) for record in chain(head, found)),
    )


def _row(record: Record, form: Form, plain: Collection[str]) -> Row | RejectedRow:
    cells = record.cells
    identifier = form.identifier(cells, record.line)
    try:
        if record.reason:
            raise RowError(record.reason, record.excerpt)
        if missing := [name for name in form.needed if name not in cells]:
            raise RowError("wrong_fields", f"missing: {', '.join(missing)}")
        if not identifier.strip() or not identifier.isprintable():
            raise RowError("bad_id", cells.get(form.id))
        texts, label, both_bad = form.read(cells, plain, identifier)
    except RowError as refused:
        return RejectedRow(record.line, identifier, refused.reason, refused.excerpt[:200])
    except RecursionError:
        return RejectedRow(record.line, identifier, "too_deep", "")
    return Row(record.line, identifier, *texts, label, both_bad)


def _first_of_each_id(rows: Iterator[Row | RejectedRow]) -> Iterator[Row | RejectedRow]:
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, Row) and row.id in seen:
            row = RejectedRow(row.line, row.id, "duplicate_id", row.id)
        elif isinstance(row, Row):
            seen.add(row.id)
        yield row
