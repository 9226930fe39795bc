"""JSON as the standard has it, and no more: Python's own reader also takes NaN, lets a repeated key win and runs out of stack."""

import json

from pairpref.data.row_error import RowError


def loads(text: str) -> object:
    """The value of a JSON text.

    Raises:
        RowError: `broken_json` (also NaN, Infinity and integers of thousands of digits), `duplicate_keys` or `too_deep`.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise RowError("too_deep", text) from None
    except ValueError:
        raise RowError("broken_json", text) from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise RowError("duplicate_keys", [key for key, _ in pairs])
    return values


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique_keys)
