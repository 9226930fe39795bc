"""Rows that can't be used, written down so that a person can find and mend them."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pairpref.data.row_error import REASONS
from pairpref.data.votes import RejectedRow

_EXCERPT = 80
# A spreadsheet takes a cell that begins with one of these for a formula, and would run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(path: Path, bad: Sequence[RejectedRow]) -> None:
    """Write line, id, reason and excerpt of each row as CSV that is safe to open in a spreadsheet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["line", "id", "reason", "excerpt"])
        rows.writerows([row.line, _safe(row.id), row.reason, _safe(row.excerpt)] for row in bad)


def summary(bad: Sequence[RejectedRow]) -> str:
    """One line per reason, the most frequent first, with the first row it befell."""
    counts = Counter(row.reason for row in bad)
    first = {row.reason: row for row in reversed(bad)}
    return "\n".join(
        f"  {count:,} x {reason}, first on line {first[reason].line} ({printable(first[reason].excerpt)}): {REASONS[reason]}"
        for reason, count in counts.most_common()
    )


def printable(text: str) -> str:
    """The start of a text, in one line that any terminal may show."""
    text = "".join(
        c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[: _EXCERPT + 1]
    )
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def _safe(text: str) -> str:
    return printable(f"'{text}" if text.startswith(_FORMULA) else text)
