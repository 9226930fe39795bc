"""Text as it was before an export damaged it: ftfy, kept to what is damage for certain.

Answers carry code, so quotes are not straightened, `&lt;` stays `&lt;`, and ligatures and
full-width forms stay as they are. Undamaged text is not changed, and repairing twice is repairing
once (both tested).
"""

import html
import re
from collections.abc import Callable
from html.entities import html5

import ftfy
from ftfy import fixes
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS

_PLAIN = re.compile(r"[\t\n -%'-~]*")
_C0 = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_C1 = re.compile(r"[\x80-\x9f]")
_FTFY_CONTROLS = re.compile(f"[{''.join(map(chr, CONTROL_CHARS))}]")  # faster than str.translate
# ASCII with three ASCII characters on either side, where `is_bad` finds nothing: its patterns need
# a letter beyond ASCII, and reach at most two characters further.
_HARMLESS = re.compile(r"(?<=[\0-\x7f]{3})[\0-\t\x0b-\x7f]+(?=[\0-\x7f]{3})")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def repair(text: str) -> str:
    """Remove lone surrogates, controls (but newline and tab), mojibake, non-ASCII entities."""
    return repair_and_explain(text)[0]


def repair_and_explain(text: str, utf8: bool = True) -> tuple[str, set[str]]:
    """The repaired text, and what was repaired: names of `_STEPS`.

    Args:
        utf8: if False, only surrogates are joined or replaced, since no UTF-8 file can hold them.
    """
    kinds: set[str] = set()
    if _PLAIN.fullmatch(text):
        return text, kinds
    while True:
        before = text
        for kind, step in _STEPS if utf8 else _STEPS[:1]:
            repaired = step(text)
            if repaired != text:
                kinds.add(kind)
                text = repaired
        # Damage may hide further damage (an entity inside mojibake). No step makes a text longer,
        # so this ends.
        if text == before:
            return text, kinds


def _decoded(text: str) -> str:
    if text.isascii():
        return text
    # Line by line: ftfy gives up on a text with any character that does not fit the wrong code page
    # `is_bad` is what ftfy asks first, and slow: asked here, it sees little of a line.
    seen = _HARMLESS.sub("", text).split("\n")
    lines = zip(text.split("\n"), seen, strict=True)
    return "\n".join(ftfy.fix_encoding(line) if is_bad(part) else line for line, part in lines)


def _without_c1(text: str) -> str:
    return _C1.sub("", _FTFY_CONTROLS.sub("", fixes.fix_c1_controls(text)))


def _unescaped(entity: re.Match[str]) -> str:
    # Names are looked up whole: html.unescape makes `¬ation;` of `&notation;`.
    numbered = entity[0].startswith("&#")
    character = html.unescape(entity[0]) if numbered else html5.get(entity[0][1:], "")
    return entity[0] if character.isascii() or "\ufffd" in character else character


# C0 controls go first, since they tear mojibake apart; C1 controls last, since half of mojibake is
# made of them.
_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("surrogates", fixes.fix_surrogates),
    ("controls", lambda text: _C0.sub("", text)),
    ("mojibake", _decoded),
    ("controls", _without_c1),
    ("newlines", fixes.fix_line_breaks),
    ("entities", lambda text: _ENTITY.sub(_unescaped, text)),
)
