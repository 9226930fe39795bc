"""Pairs given in Python, as the rows that a file of them would have: texts, messages, DataFrames.

A string is plain text, whatever it looks like; messages and lists of turns are read by `forms`, as
in a file. In a DataFrame a column is read as in a file too: it may hold JSON lists.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pairpref.data import readers
from pairpref.data.forms import FORMS, Layout
from pairpref.data.quarantine import REASONS, RejectedRow, RowError, printable
from pairpref.data.readers import Record, Source
from pairpref.data.votes import Row, of_source
from pairpref.errors import UserError
from pairpref.pairs import TEXTS

Messages = Sequence[Mapping[str, Any]]
Text = str | Messages

_LAYOUT = Layout("pairs", FORMS["pairs"], None, tuple(TEXTS), None)
_PLAIN = dict.fromkeys(TEXTS, True)
_FRAME = "the DataFrame"


_ARRAYS = (np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)


def is_many(value: object) -> bool:
    """Whether a value is a sequence of texts, and not one text or one conversation."""
    if isinstance(value, _ARRAYS):
        return not (isinstance(value, np.ndarray) and value.ndim == 0)
    return isinstance(value, (list, tuple)) and not (value and isinstance(value[0], Mapping))


def pair(prompt: Text | None, a: Text, b: Text, number: int = 1) -> Row:
    """One pair.

    Args:
        prompt: None where a and b are whole conversations.
        number: of the pair, from 1, for messages.

    Raises:
        UserError: it can't be used.
    """
    given = (prompt, a, b)
    cells = dict(zip(TEXTS, map(_plain, given), strict=True))
    try:
        return Row(number, str(number), *_LAYOUT.read(cells, _PLAIN, str(number)))
    except RowError as error:
        raise _unusable(f"pair {number}", error.reason, error.excerpt) from None


def of_item(item: object, number: int) -> Row:
    """One item of an iterator, a (prompt, a, b); see `pair`."""
    if not isinstance(item, (tuple, list)) or len(item) != 3:
        raise UserError(f"item {number}: expected (prompt, a, b); got {item!r:.80}.")
    prompt, a, b = item
    return pair(prompt, a, b, number)


def of_frame(frame: pd.DataFrame, usual: Mapping[str, bool] | None = None) -> Iterator[Row]:
    """The pairs of a DataFrame in any form of docs/votes.md; ids may be missing.

    Args:
        usual: as in `votes.read_unjudged`.

    Raises:
        UserError: the columns are those of no form, or a row can't be used.
    """
    names = list(map(str, frame.columns))
    readers.check_names(_FRAME, names)

    def records(needed: Collection[str]) -> Iterator[Record]:
        kept = [name for name in names if name in needed and name != "id"]
        columns = (frame.iloc[:, names.index(name)] for name in kept)
        for number, values in enumerate(zip(*columns, strict=True), 1):
            cells = dict(zip(kept, map(_plain, values), strict=True))
            yield Record(number, cells | {"id": str(number)})

    source = Source([[*(name for name in names if name != "id"), "id"]], records)
    for row in of_source(_FRAME, source, judged=False, usual=usual).rows:
        if isinstance(row, RejectedRow):
            raise _unusable(f"{_FRAME}, row {row.line}", row.reason, row.excerpt)
        yield row


def _plain(value: object) -> object:
    """A cell without what pandas and numpy put around it."""
    if isinstance(value, _ARRAYS):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return None if value is pd.NA or value is pd.NaT or value != value else value


def _unusable(where: str, reason: str, excerpt: str) -> UserError:
    found = f" ({printable(excerpt)})" if excerpt else ""
    return UserError(f"{where}: {reason}{found}: {REASONS[reason]}.")
