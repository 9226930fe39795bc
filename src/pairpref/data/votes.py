"""Votes, and pairs still to be judged, from a file: each row is either usable (`Row`) or set aside with its reason (`Bad`).

Two forms, found by their columns, whether in CSV or in JSON lines:

    pairs   id, prompt, response_a, response_b and, in votes, winner_model_a, winner_model_b, winner_tie
    text    text and, in votes, label: a whole comparison in one text, without an A and a B that could be swapped
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pairpref.data import records, turns
from pairpref.data.refusal import Refused
from pairpref.data.turns import Cell
from pairpref.pairs import LABELS, TEXTS, WINNERS

Form = Literal["pairs", "text"]

_VOTES = {"pairs": ("id", *TEXTS, *WINNERS), "text": ("text", "label")}
_UNJUDGED = {"pairs": ("id", *TEXTS), "text": ("text",)}
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1}
_LABELS = {name: i for i, label in enumerate(LABELS) for name in (label, str(i))}


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row. In the form `text`, `response_a` is the whole text and the other two cells are None.

    `label` is 0 = A, 1 = B, 2 = tie, and None where unjudged.
    """

    line: int
    id: str
    prompt: Cell | None
    response_a: Cell
    response_b: Cell | None
    label: int | None


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that can't be used: `reason` is a key of `refusal.REASONS`, `excerpt` the start of what was found instead."""

    line: int
    id: str
    reason: str
    excerpt: str


@dataclass(frozen=True)
class Votes:
    """An opened file: its form, and its rows in file order, read as they are asked for."""

    form: Form
    rows: Iterator[Row | Bad]


def read_votes(path: Path | str) -> Votes:
    """Rows with their label; of several rows with one id the first usable one stays.

    Raises:
        UserError: the file as a whole can't be read (see `records.read`).
    """
    form, found = records.read(path, _VOTES)
    return Votes(form, _first_of_each_id(_row(record, form, judged=True) for record in found))


def read_unjudged(path: Path | str) -> Votes:
    """Rows without label: nothing is held against repeated ids, since each row needs its prediction.

    Raises:
        UserError: the file as a whole can't be read (see `records.read`).
    """
    form, found = records.read(path, _UNJUDGED)
    return Votes(form, (_row(record, form, judged=False) for record in found))


def _row(record: records.Record, form: Form, judged: bool) -> Row | Bad:
    cells = record.cells
    # Text files need no ids of their own: there, the line is as good a name.
    given = cells.get("id", record.line if form == "text" else "")
    identifier = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    try:
        if record.reason:
            raise Refused(record.reason, record.excerpt)
        if not identifier.strip() or not identifier.isprintable():
            raise Refused("bad_id", given)
        if form == "text":
            texts = None, _whole(cells["text"]), None
            label = _label(cells["label"]) if judged else None
        else:
            texts = tuple(turns.parse(cells[name]) for name in TEXTS)
            if len({len(cell.turns) for cell in texts}) > 1:
                raise Refused("unequal_turns", ", ".join(f"{n}: {len(cell.turns)}" for n, cell in zip(TEXTS, texts, strict=True)))
            label = _winner(cells) if judged else None
    except Refused as refused:
        return Bad(record.line, identifier, refused.reason, refused.excerpt[:200])
    except RecursionError:
        return Bad(record.line, identifier, "too_deep", "")
    return Row(record.line, identifier, *texts, label)


def _whole(text: object) -> Cell:
    if not isinstance(text, str):
        raise Refused("not_text", text)
    if len(text) > records.MAX_CELL:
        raise Refused("too_long", text)
    return Cell((text,), text)


def _winner(cells: Mapping[str, object]) -> int:
    flags = [_FLAGS.get(str(cells[name]).strip()) for name in WINNERS]
    got = ", ".join(str(cells[name])[:40] for name in WINNERS)
    if None in flags:
        raise Refused("bad_winner", got)
    if sum(flags) != 1:
        raise Refused("several_winners" if any(flags) else "no_winner", got)
    return flags.index(1)


def _label(value: object) -> int:
    try:
        return _LABELS[str(value).strip().upper()]
    except KeyError:
        raise Refused("bad_label", value) from None


def _first_of_each_id(rows: Iterator[Row | Bad]) -> Iterator[Row | Bad]:
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, Row) and row.id in seen:
            row = Bad(row.line, row.id, "duplicate_id", row.id)
        elif isinstance(row, Row):
            seen.add(row.id)
        yield row
