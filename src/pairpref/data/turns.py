"""The cell of a vote: one text, or null, per turn of the conversation."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pairpref.data import messages, strict_json
from pairpref.data.lines import MAX_CELL
from pairpref.data.messages import Talk
from pairpref.data.row_error import RowError

NO_TEXT = "[no text]"
"""What stands for a null turn: the model was silent, which is not the same as an empty answer."""

MAX_TURNS = 1_000
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Cell:
    """The turns of a cell, flattened, and the JSON source it was read from (or the text itself, where it is plain)."""

    turns: tuple[str | None, ...]
    source: str


def parse(value: object) -> Cell | Talk:
    """A cell of a CSV (JSON in a string), or of JSON lines or Parquet (that, or the list itself).

    Lists in lists give their turns in order. A list of messages is a `Talk`.

    Raises:
        RowError: `broken_json`, `too_deep`, `duplicate_keys`, `not_text`, `bad_role`, `no_turns` or `too_long`.
    """
    content = strict_json.loads(value) if isinstance(value, str) else value
    if not isinstance(content, list):
        raise RowError("not_text", value)
    if content and isinstance(content[0], dict):
        talk = messages.parse(content)
        _sized((*talk.asks, *talk.answers))
        return talk
    turns = _sized(tuple(_flat(content)))
    if not turns:
        raise RowError("no_turns", value)
    return Cell(turns, value if isinstance(value, str) else json.dumps(value))


def plain(value: object) -> Cell:
    """A cell that is one text as it is, whatever it looks like.

    Raises:
        RowError: `not_text` or `too_long`.
    """
    if not isinstance(value, str):
        raise RowError("not_text", value)
    return Cell(_sized((value,)), value)


def join(turns: Sequence[str | None]) -> str:
    """One text of all turns: a single turn as it is, several under a mark each."""
    texts = [NO_TEXT if turn is None else turn for turn in turns]
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"Turn {number}:\n{text}" for number, text in enumerate(texts, 1))


def _sized(turns: tuple[str | None, ...]) -> tuple[str | None, ...]:
    if len(turns) > MAX_TURNS or sum(len(turn or "") for turn in turns) > MAX_CELL:
        raise RowError("too_long", next(filter(None, turns), ""))
    return turns


def _flat(items: list, depth: int = 1) -> Iterator[str | None]:
    if depth > _MAX_DEPTH:
        raise RowError("too_deep", "[" * depth)
    for item in items:
        if isinstance(item, list):
            yield from _flat(item, depth + 1)
        elif item is None or isinstance(item, str):
            yield item
        else:
            raise RowError("not_text", item)
