"""data/tokens: each row's prompt, A and B as ids, beside its label, group and fold, as one Arrow data set."""

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

PARTS = ("prompt", "a", "b")
SHARD = 1_000


@dataclass(frozen=True)
class Tokens:
    """Tokenised rows.

    Attributes:
        ids: the rows' own identifiers, strings, shape (n,).
        parts: for each of prompt, A and B a pair (values, offsets): row i is values[offsets[i]:offsets[i + 1]].
        single: the rows are single texts without prompt and B.
        labels, groups, folds: shape (n,).
    """

    ids: np.ndarray
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    single: bool
    labels: np.ndarray
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
            ends = np.cumsum(lengths)
            at = np.repeat(offsets[rows] - (ends - lengths), lengths) + np.arange(
                ends[-1] if len(ends) else 0
            )
            parts.append((values[at], np.concatenate([[0], ends])))
        return replace(
            self,
            ids=self.ids[rows],
            parts=tuple(parts),
            labels=self.labels[rows],
            groups=self.groups[rows],
            folds=self.folds[rows],
        )

    def lengths(self) -> np.ndarray:
        """Tokens of each row's three parts together, untruncated; shape (n,)."""
        return sum(np.diff(offsets) for _, offsets in self.parts)


def tokenize(
    frame: pd.DataFrame,
    tokenizer: Path,
    run: Callable[[Callable, Iterable[tuple]], Iterable] = starmap,
) -> Tokens:
    """Encode the texts of a frame of pairs (see `pairpref.data`), by shards of `SHARD` rows as independent jobs.

    Columns label, group and fold may be missing (pairs to predict): they are then filled with −1.

    Args:
        tokenizer: folder of a saved one.
        run: given a job and each shard's arguments, gives the results in their order, as `starmap` does in this process.
    """
    single = bool(len(frame)) and bool(frame["response_b"].isna().all())
    shards = (slice(begin, begin + SHARD) for begin in range(0, max(1, len(frame)), SHARD))
    arguments = (
        (tokenizer, *(frame[column].iloc[rows].fillna("").tolist() for column in TEXTS))
        for rows in shards
    )
    encoded = run(_encode, arguments)

    def number(name: str) -> np.ndarray:
        return frame[name].to_numpy(np.int64) if name in frame else np.full(len(frame), -1)

    parts = tuple(_joined(part) for part in zip(*encoded, strict=True))
    return Tokens(
        frame["id"].to_numpy(object),
        parts,
        single,
        number("label"),
        number("group"),
        number("fold"),
    )


def save(tokens: Tokens, folder: Path) -> None:
    """Write as an Arrow data set; the same tokens give the same bytes."""
    lists = {
        name: pa.LargeListArray.from_arrays(
            pa.array(offsets, pa.int64()), pa.array(values, pa.int32())
        )
        for name, (values, offsets) in zip(PARTS, tokens.parts, strict=True)
    }
    columns = {
        "id": pa.array(tokens.ids, pa.string()),
        **lists,
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

    def ragged(name: str) -> tuple[np.ndarray, np.ndarray]:
        column = (
            table[name].combine_chunks()
            if isinstance(table[name], pa.ChunkedArray)
            else table[name]
        )
        return column.values.to_numpy(), column.offsets.to_numpy()

    def number(name: str) -> np.ndarray:
        return table[name].to_numpy()

    return Tokens(
        table["id"].to_numpy(),
        tuple(ragged(name) for name in PARTS),
        bool(len(table)) and table["single"][0].as_py(),
        number("label"),
        number("group"),
        number("fold"),
    )


def _encode(tokenizer: Path, *columns: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """All ids of each column's texts, and how many each text has: two arrays are sent between processes sooner than thousands."""
    ids = map(tokenizers.encoder(tokenizer), columns)
    return [
        (np.concatenate([np.zeros(0, np.int32), *rows]), np.array([*map(len, rows)], np.int64))
        for rows in ids
    ]


def _joined(shards: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    values, lengths = map(np.concatenate, zip(*shards, strict=True))
    return values, np.concatenate([[0], np.cumsum(lengths)])
