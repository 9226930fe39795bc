"""Lists of messages with a role and a content, as chat models take them."""

from collections.abc import Sequence
from dataclasses import dataclass

from pairpref.data.row_error import RowError

_ASKS = ("user", "human", "prompter")
_ANSWERS = ("assistant", "gpt", "model", "bot")
_SETS_UP = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Talk:
    """What was asked and what was answered, a text or null a turn. What sets the model up belongs to what is asked next."""

    asks: tuple[str | None, ...]
    answers: tuple[str | None, ...]


def parse(items: Sequence[object]) -> Talk:
    """The turns of messages: objects with a role and a content, which is a text, null or a list of parts.

    Raises:
        RowError: `not_text` or `bad_role`.
    """
    asks: list[str | None] = []
    answers: list[str | None] = []
    before: list[str] = []
    for item in items:
        if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
            raise RowError("not_text", item)
        role, text = str(item["role"]).strip().lower(), _text(item["content"])
        if role in _SETS_UP:
            before.append(text or "")
        elif role in _ASKS:
            asks.append("\n\n".join([*before, text or ""]) if before else text)
            before = []
        elif role in _ANSWERS:
            answers.append(text)
        else:
            raise RowError("bad_role", item["role"])
    return Talk((*asks, *before), tuple(answers))


def _text(content: object) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RowError("not_text", content)
    return "\n".join(map(_part, content))


def _part(part: object) -> str:
    """The text of a part; of another part than text its kind, such as [image]."""
    if isinstance(part, str):
        return part
    kind = (part.get("type") or "text") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if isinstance(kind, str) and kind != "text":
        return f"[{kind}]"
    raise RowError("not_text", part)
