"""Rows that can't be used: the reasons, and the file in which a person finds and mends them."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

REASONS = {
    "broken_row": 'a quote inside a quoted cell is not doubled (""), or a line is no JSON object',
    "wrong_fields": "more or fewer fields than there are columns",
    "not_utf8": "bytes that are not UTF-8; save the file as UTF-8",
    "too_long": "a cell of more than 1,000,000 characters or 1,000 turns",
    "bad_id": "the id is missing or not printable",
    "duplicate_id": "the id was used by an earlier row, which stays",
    "broken_json": 'not a JSON list such as ["turn 1", "turn 2"], unlike most cells of the column',
    "duplicate_keys": "a JSON object names a key twice",
    "too_deep": "JSON nested too deeply",
    "not_text": "a cell is no text and no list of texts and nulls, or of messages",
    "bad_role": "a message's role is none of user, assistant, system and their usual synonyms",
    "no_turns": "a cell is an empty list",
    "no_prompt": "there is no prompt: no such column, or null in it; an empty text is one",
    "prompts_differ": "the two conversations, or they and the prompt's column, do not ask the same",
    "same_answers": "chosen and rejected are the same: nobody can prefer one",
    "unequal_turns": "prompt, A and B differ in their number of turns",
    "bad_winner": "winner columns are not 0 or 1, or winner is not model_a, model_b or tie",
    "no_winner": "no winner column is 1",
    "several_winners": "more than one winner column is 1",
    "bad_label": "the label is none of 0, 1, 2, A, B, TIE",
}
_EXCERPT = 80
# A spreadsheet takes a cell that begins with one of these for a formula, and would run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class RowError(Exception):
    """A row can't be used, for a reason of `REASONS`."""

    def __init__(self, reason: str, excerpt: object = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.excerpt = excerpt if isinstance(excerpt, str) else repr(excerpt)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that can't be used, and the start of what was found."""

    line: int
    id: str
    reason: str
    excerpt: str


def write(path: Path, rejected: Iterable[RejectedRow]) -> None:
    """Write line, id, reason and excerpt of each row as CSV that a spreadsheet opens safely."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["line", "id", "reason", "excerpt"])
        rows.writerows([r.line, _safe(r.id), r.reason, _safe(r.excerpt)] for r in rejected)


@dataclass(frozen=True)
class Tally:
    """How many rows have each reason, and the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, RejectedRow] = field(default_factory=dict)

    def add(self, row: RejectedRow) -> None:
        self.counts[row.reason] += 1
        self.first.setdefault(row.reason, row)

    def summary(self) -> str:
        """One line per reason, the most frequent first, with the first row that has it."""
        return "\n".join(
            f"  {count:,} x {reason}, first on line {self.first[reason].line} "
            f"({printable(self.first[reason].excerpt)}): {REASONS[reason]}"
            for reason, count in self.counts.most_common()
        )


def summary(rejected: Iterable[RejectedRow]) -> str:
    """`Tally.summary` of these rows."""
    tally = Tally()
    for row in rejected:
        tally.add(row)
    return tally.summary()


def printable(text: str, most: int = _EXCERPT) -> str:
    """The start of a text, in one line that any terminal may show."""
    start = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[:most])
    return start if len(text) <= most else f"{start}…"


def _safe(text: str) -> str:
    return printable(f"'{text}" if text.startswith(_FORMULA) else text)
