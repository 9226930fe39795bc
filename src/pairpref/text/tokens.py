"""data/tokens: each row's prompt, A and B as ids, beside its label, group and fold."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, disable_progress_bars, load_from_disk

from pairpref.files import naming
from pairpref.pairs import TEXTS
from pairpref.text import tokenizer as tokenizers

SHARD = 1_000  # rows
_PARTS = ("prompt", "a", "b")


@dataclass(frozen=True)
class Tokens:
    """Tokenised rows."""

    ids: np.ndarray  # the rows' own identifiers, strings, shape (n,)
    # Of prompt, A and B each (values, offsets): row i is values[offsets[i]:offsets[i + 1]].
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    single: bool  # single texts, without prompt and B
    labels: np.ndarray  # this and the others: int64, shape (n,)
    groups: np.ndarray
    folds: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(prompt, a, b) of one row; b is None where the rows are single texts."""
        prompt, a, b = (values[offsets[row] : offsets[row + 1]] for values, offsets in self.parts)
        return prompt, a, None if self.single else b

    def take(self, rows: np.ndarray) -> "Tokens":
        """The given rows (integers, shape (m,)), in that order."""
        parts = []
        for values, offsets in self.parts:
            lengths = np.diff(offsets)[rows]
            ends = np.concatenate([[0], np.cumsum(lengths)])
            at = np.repeat(offsets[rows] - ends[:-1], lengths) + np.arange(ends[-1])
            parts.append((values[at], ends))
        return replace(
            self,
            ids=self.ids[rows],
            parts=tuple(parts),
            labels=self.labels[rows],
            groups=self.groups[rows],
            folds=self.folds[rows],
        )

    def lengths(self) -> np.ndarray:
        """Tokens of each row's three parts together, uncut; shape (n,)."""
        prompt, a, b = (np.diff(offsets) for _, offsets in self.parts)
        return prompt + a + b


def tokenize(
    frame: pd.DataFrame,
    tokenizer: Path,
    run: Callable[[Callable, Iterable[tuple]], Iterable] = starmap,
) -> Tokens:
    """Encode the texts of a frame of pairs, by shards of `SHARD` rows as independent jobs.

    Args:
        frame: id, prompt, response_a, response_b; label, group and fold are −1 if missing.
        tokenizer: folder of a saved one.
        run: given a job and each shard's arguments, gives the results in order, as `starmap` does.
    """
    single = bool(len(frame)) and bool(frame["response_b"].isna().all())
    shards = (slice(begin, begin + SHARD) for begin in range(0, max(1, len(frame)), SHARD))
    texts = frame[TEXTS].fillna("")
    encoded = run(
        _encode,
        ((tokenizer, *(texts[name].iloc[rows].tolist() for name in TEXTS)) for rows in shards),
    )

    def number(name: str) -> np.ndarray:
        return frame[name].to_numpy(np.int64) if name in frame else np.full(len(frame), -1)

    parts = tuple(_joined(part) for part in zip(*encoded, strict=True))
    numbers = number("label"), number("group"), number("fold")
    return Tokens(frame["id"].to_numpy(object), parts, single, *numbers)


def save(tokens: Tokens, folder: Path) -> None:
    """Write as an Arrow data set; the same tokens give the same bytes."""
    columns = {"id": pa.array(tokens.ids, pa.string())}
    for name, (values, offsets) in zip(_PARTS, tokens.parts, strict=True):
        columns[name] = pa.LargeListArray.from_arrays(
            pa.array(offsets, pa.int64()), pa.array(values, pa.int32())
        )
    columns |= {
        "single": pa.array(np.full(len(tokens), tokens.single)),
        "label": pa.array(tokens.labels, pa.int64()),
        "group": pa.array(tokens.groups, pa.int64()),
        "fold": pa.array(tokens.folds, pa.int64()),
    }
    # A fixed fingerprint: by default datasets draws one at random and writes it into state.json.
    disable_progress_bars()
    with naming(folder):
        Dataset(pa.table(columns), fingerprint="pairpref").save_to_disk(folder)


def load(folder: Path) -> Tokens:
    """Read what `save` wrote."""
    table = load_from_disk(str(folder)).data.table.combine_chunks()

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        column = table[name].combine_chunks()
        return column.values.to_numpy(), column.offsets.to_numpy()

    single = bool(len(table)) and table["single"][0].as_py()
    numbers = (table[name].to_numpy() for name in ("label", "group", "fold"))
    return Tokens(table["id"].to_numpy(), tuple(map(part, _PARTS)), single, *numbers)


def _encode(tokenizer: Path, *columns: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """All ids of each column's texts, and how many each text has.

    Two arrays are sent between processes sooner than thousands.
    """
    ids = map(tokenizers.encoder(tokenizer), columns)
    return [
        (np.concatenate([np.zeros(0, np.int32), *rows]), np.array([*map(len, rows)], np.int64))
        for rows in ids
    ]


def _joined(shards: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    values, lengths = map(np.concatenate, zip(*shards, strict=True))
    return values, np.concatenate([[0], np.cumsum(lengths)])
