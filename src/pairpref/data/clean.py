"""From a row as it was read to the texts that are learned from, as the `clean` switches say."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import pandas as pd

from pairpref.data import cells
from pairpref.data.cells import Cell
from pairpref.data.quarantine import RejectedRow
from pairpref.data.repair import repair, repair_and_explain
from pairpref.data.votes import Row
from pairpref.pairs import TEXTS
from pairpref.parallel import ALONE, each
from pairpref.params import CleanParams, ParallelParams

_SHARD = 100


@dataclass(frozen=True, slots=True)
class Clean:
    """A row ready to be stored."""

    line: int
    id: str
    prompt: str
    response_a: str
    response_b: str | None
    label: int | None
    turns: int
    key: str  # what it is grouped by: the prompt (or single text) as all switches make it
    found: tuple[str, ...]  # repaired_…, null_answers and empty_answers, once a text; ties_bothbad


def clean_row(row: Row, switches: CleanParams) -> Clean:
    """Repair texts where `utf8` is on and flatten them where `flatten` is on."""
    found = ["ties_bothbad"] if row.both_bad else []
    prompt = _text(row.prompt, switches, found) if row.prompt else ""
    a = _text(row.response_a, switches, found)
    b = _text(row.response_b, switches, found) if row.response_b else None
    for answer in filter(None, (row.response_a, row.response_b)):
        if None in answer.turns:
            found.append("null_answers")
        elif not any(turn and turn.strip() for turn in answer.turns):
            found.append("empty_answers")
    asked = (row.prompt or row.response_a).turns
    if switches.utf8 and switches.flatten:
        key = prompt if row.prompt else a
    else:
        key = cells.join([turn and repair(turn) for turn in asked])
    return Clean(row.line, row.id, prompt, a, b, row.label, len(asked), key, tuple(found))


def clean_rows(
    rows: Iterable[Row | RejectedRow], switches: CleanParams, parallel: ParallelParams = ALONE
) -> Iterator[Clean | RejectedRow]:
    """Clean many rows, by shards as independent jobs. Rejected rows pass through in their place."""
    rows = iter(rows)
    shards = iter(lambda: list(islice(rows, _SHARD)), [])
    for shard in each(_clean_shard, ((shard, switches) for shard in shards), parallel):
        yield from shard


def texts(rows: Iterable[Clean]) -> pd.DataFrame:
    """id, prompt, response_a, response_b; the last is None in files of single texts."""
    values = [(row.id, row.prompt, row.response_a, row.response_b) for row in rows]
    return pd.DataFrame(values, columns=["id", *TEXTS])


def _clean_shard(shard: list[Row | RejectedRow], switches: CleanParams) -> list:
    return [clean_row(row, switches) if isinstance(row, Row) else row for row in shard]


def _text(cell: Cell, switches: CleanParams, found: list[str]) -> str:
    turns = cell.turns if switches.flatten else (cell.source,)
    repaired = [
        repair_and_explain(turn, switches.utf8) if turn else (turn, set()) for turn in turns
    ]
    kinds = set().union(*(kinds for _, kinds in repaired))
    found.extend(f"repaired_{kind}" for kind in sorted(kinds))
    return cells.join([text for text, _ in repaired])
