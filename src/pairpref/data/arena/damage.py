"""What happens to a text after its vote: encoding damage that clean undoes, and optional loss.

Without lossy damage, clean(damage(text)) == text for every text of the arena (tested).
"""

import html.entities
from collections.abc import Sequence
from random import Random

from pairpref.params import SimulateParams

# Windows-1252 with the five bytes it leaves undefined as in Latin-1: what browsers decode with.
_CP1252 = [bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256)]
_CONTROLS = "\x00\x01\x07\x08\x0b\x1b\x7f"


def stored(rng: Random, turns: Sequence[str | None], params: SimulateParams) -> list:
    """The turns of one cell as an export stores them: damaged, and sometimes in nested lists."""
    cell = [turn if turn is None else _damaged(rng, turn, params) for turn in turns]
    if rng.random() >= params.nested_lists:
        return cell
    return [[turn] for turn in cell] if rng.random() < 0.5 else [cell]


def mojibake(text: str, cp1252: bool) -> str:
    """UTF-8 bytes read as Windows-1252 or as Latin-1; ASCII stays as it is."""
    data = text.encode("utf-8", "surrogatepass")
    return "".join(_CP1252[b] for b in data) if cp1252 else data.decode("latin-1")


def _damaged(rng: Random, text: str, params: SimulateParams) -> str:
    if rng.random() < params.lossy:
        text = _lossy(rng, text)
    if rng.random() < params.html_entities:
        text = _entities(rng, text)
    if rng.random() < params.mojibake:
        text = mojibake(text, cp1252=rng.random() < 0.5)
    if rng.random() < params.control_characters:
        text = _controls(rng, text)
    return text


def _entities(rng: Random, text: str) -> str:
    names = html.entities.codepoint2name if rng.random() < 0.5 else {}
    return "".join(c if c.isascii() else f"&{names.get(ord(c), f'#{ord(c)}')};" for c in text)


def _controls(rng: Random, text: str) -> str:
    def control() -> str:
        return _CONTROLS[int(rng.random() * len(_CONTROLS))] if rng.random() < 0.08 else ""

    return "".join(control() + c for c in text)


def _lossy(rng: Random, text: str) -> str:
    if rng.random() < 0.5:
        return text[: len(text) // 2]
    words = (w if rng.random() < 0.7 else "\ud83d" * len(w) for w in text.split(" "))
    return " ".join(words)
