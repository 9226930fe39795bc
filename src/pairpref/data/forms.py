"""Every public form of votes, told apart by its columns; of those whose columns are all there, the first in this table:

| form          | texts                                                        | votes have                       | id           |
|---------------|--------------------------------------------------------------|----------------------------------|--------------|
| conversations | conversation_a, conversation_b: messages                     | winner, or winner_model_a,       | needed       |
|               |                                                              | winner_model_b, winner_tie       |              |
| pairs         | prompt, response_a, response_b: texts, lists or messages     | the same                         | needed       |
| preference    | chosen, rejected, and prompt where they are not messages     | nothing: chosen has won          | or the line  |
|               | that hold it                                                 |                                  |              |
| text          | text: a whole comparison, without an A and a B to swap       | label                            | or the line  |

The id is in the column id or question_id. Pairs to predict have the same columns without the vote.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pairpref.data import lines, turns, values
from pairpref.data.messages import Talk
from pairpref.data.row_error import RowError
from pairpref.data.turns import Cell
from pairpref.errors import UserError
from pairpref.pairs import TEXTS, WINNERS, A, B

Name = Literal["conversations", "pairs", "preference", "text"]
Texts = tuple[Cell | None, Cell, Cell | None]
"""Prompt, A and B; of single texts the text in the middle."""

_FLAGS, _WINNER = tuple(WINNERS), ("winner",)
_TEXTS: dict[Name, tuple[str, ...]] = {
    "conversations": ("conversation_a", "conversation_b"),
    "pairs": tuple(TEXTS),
    "preference": ("chosen", "rejected"),
    "text": ("text",),
}
_VOTES: dict[Name, tuple[tuple[str, ...], ...]] = {
    "conversations": (_FLAGS, _WINNER),
    "pairs": (_FLAGS, _WINNER),
    "preference": ((),),
    "text": (("label",),),
}
_IDS = ("id", "question_id")
_BY_LINE = ("preference", "text")
# How a JSON list begins, a damaged one or one of Python's included: ["…, [[…, [{…, [null, [].
_LIST = re.compile(r"""\s*\[\s*(?:["'\[{\]]|null\b|None\b)""")
_MIXED = 0.1
_FEW = 5
"""Strings of a column that hold text, below which they may not tell how the column is written."""


@dataclass(frozen=True)
class Form:
    """What a file's columns mean.

    Attributes:
        name: see the table.
        id: the column of the id; None where the line stands in for it.
        texts: columns of prompt (if there is one), A and B; or of the single text.
        vote: columns that say who has won; none where pairs are to be predicted, or where the form says it by itself.
        judged: whether rows have a vote.
    """

    name: Name
    id: str | None
    texts: tuple[str, ...]
    vote: tuple[str, ...]
    judged: bool

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that every row must have."""
        return (
            *((self.id,) if self.id and self.name not in _BY_LINE else ()),
            *_TEXTS[self.name],
            *self.vote,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*((self.id,) if self.id else ()), *self.texts, *self.vote)

    def identifier(self, cells: Mapping[str, object], line: int) -> str:
        """The id of a row; empty where it has none."""
        given = cells.get(self.id) if self.id else None
        return str(line) if given is None and self.name in _BY_LINE else values.identifier(given)

    def read(
        self, cells: Mapping[str, object], plain: Collection[str], identifier: str
    ) -> tuple[Texts, int | None, bool]:
        """Texts and label of a row, and whether it is a tie of two bad answers.

        Of a preference, the id draws the side on which the chosen answer is shown, so that the label says nothing by itself. Where
        nothing is voted, chosen is A.

        Args:
            plain: columns that hold plain text.
        """
        if self.name == "text":
            return (None, turns.plain(cells["text"]), None), self._label(cells), False
        prompt, a, b = _pair(self.texts, cells, plain)
        if len({len(prompt.turns), len(a.turns), len(b.turns)}) > 1:
            raise RowError(
                "unequal_turns",
                f"prompt: {len(prompt.turns)}, A: {len(a.turns)}, B: {len(b.turns)}",
            )
        if self.name == "preference" and self.judged:
            if a.turns == b.turns:
                raise RowError("same_answers", next(filter(None, a.turns), ""))
            return (
                ((prompt, b, a), B, False)
                if _chosen_is_b(identifier)
                else ((prompt, a, b), A, False)
            )
        return (
            (prompt, a, b),
            self._label(cells),
            self.vote == _WINNER and values.both_bad(cells["winner"]),
        )

    def _label(self, cells: Mapping[str, object]) -> int | None:
        if self.vote == _FLAGS:
            return _flagged([cells[name] for name in _FLAGS])
        if not self.vote:
            return None
        value = cells[self.vote[0]]
        found = values.word(value) if self.vote == _WINNER else values.label(value)
        if found is None:
            raise RowError("bad_winner" if self.vote == _WINNER else "bad_label", value)
        return found


def find(columns: Collection[str], judged: bool) -> Form | None:
    """The form of a file with these columns, if it is one.

    Raises:
        UserError: the winner is given twice.
    """
    for name, texts in _TEXTS.items():
        votes = [vote for vote in _VOTES[name] if set(vote) <= set(columns)] if judged else [()]
        identifier = next((column for column in _IDS if column in columns), None)
        if not set(texts) <= set(columns) or not votes or not (identifier or name in _BY_LINE):
            continue
        if len(votes) > 1:
            raise UserError(
                f"the winner is there twice: as {' and as '.join(map(', '.join, votes))}. Remove one of them."
            )
        asked = ("prompt",) if name == "preference" and "prompt" in columns else ()
        return Form(name, identifier, (*asked, *texts), votes[0], judged)
    return None


def unknown(columns: Sequence[str], judged: bool) -> str:
    """What to say of columns that are no form."""
    got = f"wrong columns: got {lines.listed(columns)}."
    if find([name.lower() for name in columns], judged):
        return f"{got} Expected their names in lower case."
    needed = [
        (*(() if name in _BY_LINE else ("id",)), *texts, *vote)
        for name, texts in _TEXTS.items()
        for vote in (_VOTES[name] if judged else ((),))
    ]
    nearest = max(needed, key=lambda names: len(set(names) & set(columns)) / len(names))
    missing = [name for name in nearest if name not in columns]
    if len(missing) == len(nearest):
        return f"{got} None is a column of votes: docs/votes.md shows every form."
    return f"{got} Nearest of the forms in docs/votes.md: {', '.join(nearest)}; missing: {', '.join(missing)}."


def plain_columns(
    form: Form, head: Sequence[Mapping[str, object]], usual: Mapping[str, bool] | None = None
) -> frozenset[str]:
    """Columns whose strings are plain text; the others' are JSON lists. Whole columns are told apart by the first rows, never cells.

    Blank strings are as those of the other columns.

    Args:
        usual: whether a column of the training votes was plain. It decides where there are few strings: a text that begins like a
            list is one where the votes had lists, and a text where they had plain text.

    Raises:
        UserError: a column of plain text has JSON lists, too.
    """
    if form.name == "text":
        return frozenset(form.texts)
    plain, blank, usual = set(), set(), usual or {}
    for name in form.texts:
        given = [value for cells in head if isinstance(value := cells.get(name), str)]
        strings = [value for value in given if value.strip()]
        like_lists = sum(map(bool, map(_LIST.match, strings)))
        if len(strings) < _FEW and name in usual and (usual[name] or like_lists or not strings):
            plain |= {name} if usual[name] else set()
            continue
        if given and not strings:
            blank.add(name)
        if 2 * like_lists >= len(strings):
            continue
        plain.add(name)
        if (lists := sum(map(_is_list, strings))) >= _MIXED * len(strings):
            raise UserError(
                f"{name} holds JSON lists in {lists} of the first {len(strings)} rows and plain text in the others; "
                'expected one of both. Write all as JSON lists, such as ["the text"].'
            )
    return frozenset(plain | blank if plain else plain)


def _is_list(text: str) -> bool:
    if not _LIST.match(text):
        return False
    try:
        turns.parse(text)
    except (RowError, RecursionError):
        return False
    return True


def _pair(
    names: Sequence[str], cells: Mapping[str, object], plain: Collection[str]
) -> tuple[Cell, Cell, Cell]:
    *asked, of_a, of_b = names
    a, b = _cell(cells, of_a, plain), _cell(cells, of_b, plain)
    asks = [cell.asks if isinstance(cell, Talk) else () for cell in (a, b)]
    if any(asks):
        if asks[0] != asks[1]:
            raise RowError(
                "prompts_differ",
                next((str(x) for x, y in zip(*asks, strict=False) if x != y), f"{of_a}, {of_b}"),
            )
        if (
            asked
            and cells.get(asked[0]) is not None
            and not _asks(_cell(cells, asked[0], plain), asks[0])
        ):
            raise RowError("prompts_differ", f"{asked[0]}: {cells[asked[0]]}")
        return _of(asks[0], of_a), _answer(a, of_a), _answer(b, of_b)
    if not asked or cells.get(asked[0]) is None:
        raise RowError("no_prompt", ", ".join(names))
    prompt = _cell(cells, asked[0], plain)
    if isinstance(prompt, Cell):
        return prompt, _answer(a, of_a), _answer(b, of_b)
    # Messages that end in a question: what was answered before it belongs to both answers.
    before = prompt.answers
    return _of(prompt.asks, asked[0]), _answer(a, of_a, before), _answer(b, of_b, before)


def _asks(prompt: Cell | Talk, asks: Sequence[str | None]) -> bool:
    """Whether a prompt is asked in a conversation, which may put a system message before it, or ask more."""
    given = prompt.turns if isinstance(prompt, Cell) else prompt.asks
    return all(
        any((ask or "").strip().endswith((turn or "").strip()) for ask in asks) for turn in given
    )


def _cell(cells: Mapping[str, object], name: str, plain: Collection[str]) -> Cell | Talk:
    value = cells[name]
    try:
        return (
            turns.plain(value) if name in plain and isinstance(value, str) else turns.parse(value)
        )
    except RowError as refused:
        raise RowError(refused.reason, f"{name}: {refused.excerpt}") from None


def _answer(cell: Cell | Talk, name: str, before: tuple[str | None, ...] = ()) -> Cell:
    if isinstance(cell, Cell):
        return _of(before + cell.turns, name) if before else cell
    return _of(before + cell.answers, name)


def _of(of: tuple[str | None, ...], name: str) -> Cell:
    if not of:
        raise RowError("no_turns", name)
    return Cell(of, json.dumps(of))


def _flagged(given: Sequence[object]) -> int:
    flags = [values.flag(value) for value in given]
    got = ", ".join(str(value)[:40] for value in given)
    if None in flags:
        raise RowError("bad_winner", got)
    if sum(flags) != 1:
        raise RowError("several_winners" if any(flags) else "no_winner", got)
    return flags.index(1)


def _chosen_is_b(identifier: str) -> bool:
    return bool(hashlib.blake2b(f"side {identifier}".encode(), digest_size=1).digest()[0] & 1)
