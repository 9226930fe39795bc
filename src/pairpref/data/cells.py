"""The texts in a cell: plain text, a list with a text or null a turn, or a list of messages."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from pairpref.data.quarantine import RowError

NO_TEXT = "[no text]"  # a null turn: the model was silent, which is not the same as an empty answer
MAX_CELL = 1_000_000  # characters; in a CSV an unclosed quote swallows no more than this
_MAX_TURNS = 1_000
_MAX_DEPTH = 32
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}

Turns = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """The turns of a cell, and the JSON they were read from (or the text itself if it is plain)."""

    turns: Turns
    source: str


@dataclass(frozen=True, slots=True)
class Talk:
    """The turns of messages: what the user asks, system messages in front, and what is answered."""

    asks: Turns
    answers: Turns


def parse(value: object) -> Cell | Talk:
    """A list, or JSON of one. Lists in lists are flattened; a list of messages is a `Talk`.

    Raises:
        RowError: with any reason that is about one cell.
    """
    content = loads(value) if isinstance(value, str) else value
    if not isinstance(content, list):
        raise RowError("not_text", value)
    if content and isinstance(content[0], dict):
        talk = _talk(content)
        _refuse_too_long((*talk.asks, *talk.answers))
        return talk
    turns = tuple(_flat(content))
    _refuse_too_long(turns)
    if not turns:
        raise RowError("no_turns", value)
    return Cell(turns, value if isinstance(value, str) else json.dumps(value))


def plain(value: object) -> Cell:
    """A text as it is, whatever it looks like; raises RowError."""
    if not isinstance(value, str):
        raise RowError("not_text", value)
    _refuse_too_long((value,))
    return Cell((value,), value)


def join(turns: Sequence[str | None]) -> str:
    """One text of all turns: a single turn as it is, several under a mark each."""
    texts = [NO_TEXT if turn is None else turn for turn in turns]
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"Turn {number}:\n{text}" for number, text in enumerate(texts, 1))


def loads(text: str, reason: str = "broken_json") -> object:
    """The value of standard JSON, or RowError. Python's own reader takes NaN and repeated keys."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise RowError("too_deep", text) from None
    except ValueError:
        raise RowError(reason, text) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise RowError("duplicate_keys", [key for key, _ in pairs])
    return values


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique_keys)


def _refuse_too_long(turns: Turns) -> None:
    if len(turns) > _MAX_TURNS or sum(len(turn or "") for turn in turns) > MAX_CELL:
        raise RowError("too_long", next(filter(None, turns), ""))


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


def _talk(messages: Sequence[object]) -> Talk:
    turns: dict[str, list[str | None]] = {"user": [], "assistant": []}
    system: list[str] = []  # belongs to what the user asks next
    for message in messages:
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise RowError("not_text", message)
        role, text = _ROLES.get(str(message["role"]).strip().lower()), _content(message["content"])
        if role is None:
            raise RowError("bad_role", message["role"])
        if role == "system":
            system.append(text or "")
            continue
        if role == "user" and system:
            text, system = "\n\n".join([*system, text or ""]), []
        turns[role].append(text)
    return Talk((*turns["user"], *system), tuple(turns["assistant"]))


def _content(content: object) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RowError("not_text", content)
    return "\n".join(map(_part, content))


def _part(part: object) -> str:
    """The text of a part; of another part than text its kind, such as [image]."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        kind, text = part.get("type") or "text", part.get("text")
        if kind == "text" and isinstance(text, str):
            return text
        if isinstance(kind, str) and kind != "text":
            return f"[{kind}]"
    raise RowError("not_text", part)
