"""Every public form of votes: what its columns are called, and how they say who has won.

docs/architecture.md says how to add one. A file has the first form of which it has all the columns.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairpref.data import cells, values
from pairpref.data.cells import Cell, Talk, Turns
from pairpref.data.quarantine import RowError, printable
from pairpref.errors import UserError
from pairpref.pairs import TEXTS, WINNERS, A, B


@dataclass(frozen=True)
class Vote:
    """One way to say who has won: the columns, and what their values mean."""

    columns: tuple[str, ...]
    label: Callable[..., int | None]  # of the values: 0 = A, 1 = B, 2 = tie; None if it is none
    reason: str = ""  # of a row whose values are no label (see quarantine.REASONS)


def _of_flags(*given: object) -> int | None:
    flags = [values.flag(value) for value in given]
    if None in flags:
        return None
    if flags.count(1) != 1:
        named = dict(zip(WINNERS, given, strict=True))
        raise RowError("several_winners" if any(flags) else "no_winner", _listed(named))
    return flags.index(1)


FLAGS = Vote(tuple(WINNERS), _of_flags, "bad_winner")
WINNER = Vote(("winner",), values.word, "bad_winner")
LABEL = Vote(("label",), values.label, "bad_label")
FIRST_WINS = Vote((), lambda: A)  # the winner is always in the same column


@dataclass(frozen=True)
class Form:
    """Columns of a published form."""

    texts: tuple[str, ...]  # of prompt (unless the others hold it), A and B; or of a single text
    votes: tuple[Vote, ...]  # a file has one of them
    needs_id: bool = True  # otherwise the line is the id of a row without one
    prompt: str | None = None  # a column of the prompt that may be missing


FORMS = {
    "conversations": Form(("conversation_a", "conversation_b"), (FLAGS, WINNER)),
    "pairs": Form(tuple(TEXTS), (FLAGS, WINNER)),
    "preference": Form(("chosen", "rejected"), (FIRST_WINS,), needs_id=False, prompt="prompt"),
    "text": Form(("text",), (LABEL,), needs_id=False),
}
_IDS = ("id", "question_id")

# How a JSON list begins, also a damaged one or one of Python's: ["…, [[…, [{…, [null, [].
_LIST = re.compile(r"""\s*\[\s*(?:["'\[{\]]|null\b|None\b)""")
_MIXED = 0.1  # share of JSON lists from which a column of plain text is refused
_FEW = 5  # strings below which a column may not tell how it is written


@dataclass(frozen=True)
class Layout:
    """What the columns of one file mean."""

    name: str  # of the form
    form: Form
    id: str | None  # column of the id
    texts: tuple[str, ...]
    vote: Vote | None  # None where pairs are to be predicted

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that every row must have."""
        identifier = (self.id,) if self.id and self.form.needs_id else ()
        return (*identifier, *self.form.texts, *(self.vote.columns if self.vote else ()))

    @property
    def columns(self) -> set[str]:
        """Columns that are read."""
        return {*self.needed, *self.texts, *filter(None, [self.id])}

    def identifier(self, row: Mapping[str, object], line: int) -> str:
        """The id of a row; empty where it has none."""
        given = row.get(self.id) if self.id else None
        if given is None and not self.form.needs_id:
            return str(line)
        return values.identifier(given)

    def read(
        self, row: Mapping[str, object], plain: Mapping[str, bool], identifier: str
    ) -> tuple[Cell | None, Cell, Cell | None, int | None, bool]:
        """Prompt, A, B, label, and whether the vote is a tie of two bad answers.

        A single text is in the place of A. If the winner is always in the same column, a hash of
        the id draws whether it is shown as A or B, so that the label says nothing by itself.

        Args:
            plain: as `plain_columns` gives it.
        """
        if len(self.texts) == 1:
            return None, cells.plain(row[self.texts[0]]), None, self._label(row), False
        prompt, a, b = _pair(self.texts, row, plain)
        turns = [len(cell.turns) for cell in (prompt, a, b)]
        if len(set(turns)) > 1:
            raise RowError("unequal_turns", "prompt: {}, A: {}, B: {}".format(*turns))
        label = self._label(row)
        if self.vote is FIRST_WINS:
            if a.turns == b.turns:
                raise RowError("same_answers", next(filter(None, a.turns), ""))
            side = hashlib.blake2b(f"side {identifier}".encode(), digest_size=1).digest()[0]
            if side & 1:
                a, b, label = b, a, B
        both_bad = self.vote is WINNER and values.both_bad(row["winner"])
        return prompt, a, b, label, both_bad

    def _label(self, row: Mapping[str, object]) -> int | None:
        if self.vote is None:
            return None
        given = {name: row[name] for name in self.vote.columns}
        label = self.vote.label(*given.values())
        if label is None:
            raise RowError(self.vote.reason, _listed(given))
        return label


def find(path: Path | str, heads: Sequence[Collection[str]], judged: bool) -> Layout:
    """The layout of the first of these sets of columns that has one of the forms.

    Args:
        path: of their file, for messages.
        judged: whether the rows have a vote.

    Raises:
        UserError: none has; or the winner is given twice.
    """
    for columns in heads:
        for name, form in FORMS.items():
            votes = [vote for vote in form.votes if judged and set(vote.columns) <= set(columns)]
            identifier = next((column for column in _IDS if column in columns), None)
            if not set(form.texts) <= set(columns) or (form.needs_id and not identifier):
                continue
            if votes == [FIRST_WINS]:
                votes += [vote for vote in (FLAGS, WINNER) if set(vote.columns) <= set(columns)]
            if len(votes) > 1:
                twice = " and as ".join(", ".join(v.columns or form.texts) for v in votes)
                raise UserError(f"{path}: the winner is there twice: as {twice}. Remove one.")
            if votes or not judged:
                prompt = (form.prompt,) if form.prompt in columns else ()
                vote = votes[0] if votes else None
                return Layout(name, form, identifier, (*prompt, *form.texts), vote)
    columns = heads[0]
    needed = [
        (*(("id",) if form.needs_id else ()), *form.texts, *(vote.columns if judged else ()))
        for form in FORMS.values()
        for vote in form.votes
    ]
    lower = {name.lower() for name in columns}
    nearest = max(needed, key=lambda names: len(lower.intersection(names)) / len(names))
    missing = ", ".join(name for name in nearest if name not in columns)
    case = " Column names are in lower case." if lower.intersection(nearest) - {*columns} else ""
    raise UserError(
        f"{path}: wrong columns: got {printable(', '.join(columns), 200)}. Nearest of the forms in "
        f"docs/votes.md: {', '.join(nearest)}; missing: {missing}.{case}"
    )


def plain_columns(
    path: Path | str,
    layout: Layout,
    head: Sequence[Mapping[str, object]],
    usual: Mapping[str, bool] | None = None,
) -> dict[str, bool]:
    """Of each column of texts whether its strings are plain text; otherwise they are JSON lists.

    The first rows decide for the whole column. A column of blank strings is as the others.

    Args:
        usual: whether a column of the training votes was plain. It decides where there are few
            strings, unless none of them begins like a list and the votes had lists.

    Raises:
        UserError: a column of plain text has JSON lists, too.
    """
    if len(layout.texts) == 1:
        return {layout.texts[0]: True}
    plain, usual = {}, usual or {}
    for name in layout.texts:
        given = [value for row in head if isinstance(value := row.get(name), str)]
        strings = [value for value in given if value.strip()]
        like_lists = sum(1 for value in strings if _LIST.match(value))
        if len(strings) < _FEW and name in usual and (usual[name] or like_lists or not strings):
            plain[name] = usual[name]
        elif strings or not given:
            plain[name] = 2 * like_lists < len(strings)
            lists = sum(map(_is_list, strings)) if plain[name] else 0
            if plain[name] and lists >= _MIXED * len(strings):
                raise UserError(
                    f"{path}: {name} holds JSON lists in {lists} of the first {len(strings)} rows "
                    "and plain text in the others; expected one of both. Write all as JSON lists, "
                    'such as ["the text"].'
                )
    return {name: plain.get(name, any(plain.values())) for name in layout.texts}


def _is_list(text: str) -> bool:
    try:
        return bool(_LIST.match(text) and cells.parse(text))
    except RowError:
        return False


def _listed(given: Mapping[str, object]) -> str:
    """The columns of a vote with what they hold."""
    return ", ".join(f"{name}: {str(value)[:40]}" for name, value in given.items())


def _pair(
    names: Sequence[str], row: Mapping[str, object], plain: Mapping[str, bool]
) -> tuple[Cell, Cell, Cell]:
    """Prompt, A and B of the columns `names`, which may lack the prompt's."""
    asked, of_a, of_b = names if len(names) == 3 else ("", *names)
    a, b = _cell(row, of_a, plain), _cell(row, of_b, plain)
    asks_a, asks_b = (cell.asks if isinstance(cell, Talk) else () for cell in (a, b))
    if asks_a != asks_b:
        differ = (str(x) for x, y in zip(asks_a, asks_b, strict=False) if x != y)
        raise RowError("prompts_differ", next(differ, f"{of_a}, {of_b}"))
    prompt = _cell(row, asked, plain) if asked and row.get(asked) is not None else None
    before: Turns = ()
    if asks_a:
        if prompt and not _is_asked(prompt, asks_a):
            raise RowError("prompts_differ", f"{asked}: {row[asked]}")
        prompt = _joined(of_a, asks_a)
    elif prompt is None:
        raise RowError("no_prompt", ", ".join(names))
    elif isinstance(prompt, Talk):
        # Messages that end in a question: what was answered before it belongs to both answers.
        before = prompt.answers
        prompt = _joined(asked, prompt.asks)
    return prompt, _answers(of_a, a, before), _answers(of_b, b, before)


def _is_asked(prompt: Cell | Talk, asks: Turns) -> bool:
    """Whether a conversation, which may have a system message or more turns, asks a prompt."""
    turns = prompt.turns if isinstance(prompt, Cell) else prompt.asks
    asked = [(ask or "").strip() for ask in asks]
    return all(any(ask.endswith((turn or "").strip()) for ask in asked) for turn in turns)


def _cell(row: Mapping[str, object], name: str, plain: Mapping[str, bool]) -> Cell | Talk:
    value = row[name]
    try:
        return cells.plain(value) if plain[name] and isinstance(value, str) else cells.parse(value)
    except RowError as error:
        raise RowError(error.reason, f"{name}: {error.excerpt}") from None


def _answers(name: str, cell: Cell | Talk, before: Turns) -> Cell:
    if isinstance(cell, Talk):
        return _joined(name, before + cell.answers)
    return _joined(name, before + cell.turns) if before else cell


def _joined(name: str, turns: Turns) -> Cell:
    if not turns:
        raise RowError("no_turns", name)
    return Cell(turns, json.dumps(turns))
