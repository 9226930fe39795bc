"""Ids, flags and labels by what they mean, the same in CSV, JSON lines and Parquet."""

import re

from pairpref.pairs import TIE, A, B

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_TRUTHS = {"true": 1, "false": 0}
_SIDES = ("", "model ", "response ", "answer ", "assistant ", "conversation ")
_BOTH_BAD = ("tie bothbad", "tie both bad", "bothbad", "both bad")
_LABELS = {f"{side}{letter}": label for side in _SIDES for letter, label in (("a", A), ("b", B))}
_LABELS |= dict.fromkeys(("tie", "draw", *_BOTH_BAD), TIE)
_EXACT = 2**53  # from here on a float no longer tells one integer from the next


def identifier(value: object) -> str:
    """An id as text: "007" as it is, 7 and 7.0 as "7". Empty where the value can be no id."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def flag(value: object) -> int | None:
    """0 or 1 of 1, 1.0, "1", "1e0", true, "TRUE" and the like; None of anything else."""
    if isinstance(value, str) and (truth := _TRUTHS.get(value.strip().lower())) is not None:
        return truth
    number = _number(value)
    return int(number) if number in (0, 1) else None


def label(value: object) -> int | None:
    """The label of 0 = A, 1 = B, 2 = tie as a number ("2.0" too), or of a word; otherwise None."""
    if isinstance(value, bool):
        return None
    number = _number(value)
    return int(number) if number in (A, B, TIE) else word(value)


def word(value: object) -> int | None:
    """The label of a word such as "A", "model_b", "TIE" or "tie (bothbad)"; otherwise None."""
    return _LABELS.get(_simplified(value))


def both_bad(value: object) -> bool:
    """Whether a word is a tie of two bad answers."""
    return _simplified(value) in _BOTH_BAD


def _number(value: object) -> float | None:
    if isinstance(value, int | float):
        return value
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else None


def _simplified(value: object) -> str:
    return re.sub(r"[\W_]+", " ", value.casefold()).strip() if isinstance(value, str) else ""
