"""data/tokens: each row's prompt, A and B as ids, beside its label, group and fold."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pairpref.files import naming
from pairpref.pairs import TEXTS
from pairpref.text import tokenizer as tokenizers
from pairpref.text.features import Features

SHARD = 1_000  # rows
_PARTS = ("prompt", "a", "b")

Part = tuple[np.ndarray, np.ndarray]  # (values, offsets): row i is values[offsets[i]:offsets[i+1]]


@dataclass(frozen=True)
class Tokens:
    """Tokenised rows."""

    ids: np.ndarray  # the rows' own identifiers, strings, shape (n,)
    parts: tuple[Part, ...]  # of prompt, A and B
    single: bool  # single texts, without prompt and B
    labels: np.ndarray  # this and the others: int64, shape (n,)
    groups: np.ndarray
    folds: np.ndarray
    features: Features | None = None  # what is counted in the rows, for who reads and counts

    def __len__(self) -> int:
        return len(self.ids)

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(prompt, a, b) of one row; b is None where the rows are single texts."""
        prompt, a, b = (values[offsets[row] : offsets[row + 1]] for values, offsets in self.parts)
        return prompt, a, None if self.single else b

    def b_sorts_first(self, row: int) -> bool:
        """An order of two answers that does not depend on which of them is A."""
        _, a, b = self.pair(row)
        return b is not None and b.tobytes() < a.tobytes()

    def same(self) -> list[int]:
        """Rows whose two answers are the same."""
        pairs = ((row, *self.pair(row)[1:]) for row in range(len(self)))
        return [row for row, a, b in pairs if b is not None and np.array_equal(a, b)]

    def swapped(self) -> "Tokens":
        """With A and B exchanged."""
        prompt, a, b = self.parts
        features = None if self.features is None else self.features.swapped()
        return replace(self, parts=(prompt, b, a), features=features)

    def take(self, rows: np.ndarray) -> "Tokens":
        """The given rows (integers, shape (m,)), in that order."""
        parts = tuple(_unpacked(_packed(part).take(pa.array(rows))) for part in self.parts)
        columns = {name: getattr(self, name)[rows] for name in ("ids", "labels", "groups", "folds")}
        counted = None if self.features is None else self.features.take(rows)
        return replace(self, parts=parts, **columns, features=counted)

    def lengths(self) -> np.ndarray:
        """Tokens of each row's three parts together, uncut; shape (n,)."""
        prompt, a, b = (np.diff(offsets) for _, offsets in self.parts)
        return prompt + a + b

    def part_lengths(self) -> list[list[int]]:
        """Tokens of each row's parts, uncut: prompt, A and B, or the single text alone."""
        lengths = np.stack([np.diff(offsets) for _, offsets in self.parts], axis=1)
        return (lengths[:, 1:2] if self.single else lengths).tolist()


def tokenize(
    frame: pd.DataFrame,
    tokenizer: Path,
    run: Callable[[Callable, Iterable[tuple]], Iterable] = starmap,
) -> Tokens:
    """Encode the texts of a frame of pairs, by shards of `SHARD` rows as independent jobs.

    Args:
        frame: id, prompt, response_a, response_b; label, group and fold are −1 if missing.
        tokenizer: folder of a saved one.
        run: runs the jobs in order, as `starmap` does.
    """
    single = bool(len(frame)) and bool(frame["response_b"].isna().all())
    shards = (slice(begin, begin + SHARD) for begin in range(0, max(1, len(frame)), SHARD))
    texts = frame[TEXTS].fillna("")
    jobs = ((tokenizer, *(texts[name].iloc[rows].tolist() for name in TEXTS)) for rows in shards)
    parts = tuple(_joined(part) for part in zip(*run(_encode, jobs), strict=True))
    numbers = frame.reindex(columns=["label", "group", "fold"], fill_value=-1).astype(np.int64)
    return Tokens(frame["id"].to_numpy(object), parts, single, *numbers.to_numpy().T)


def save(tokens: Tokens, folder: Path) -> None:
    """Write as an Arrow data set; the same tokens give the same bytes."""
    from datasets import Dataset, disable_progress_bars  # seconds, also for who only reads

    columns = {
        "id": pa.array(tokens.ids, pa.string()),
        **dict(zip(_PARTS, map(_packed, tokens.parts), strict=True)),
        "single": pa.array(np.full(len(tokens), tokens.single)),
        "label": pa.array(tokens.labels, pa.int64()),
        "group": pa.array(tokens.groups, pa.int64()),
        "fold": pa.array(tokens.folds, pa.int64()),
    }
    # A fixed fingerprint: by default datasets draws one at random and writes it into state.json.
    disable_progress_bars()
    with naming(folder):
        Dataset(pa.table(columns), fingerprint="pairpref").save_to_disk(folder)


def load(folder: Path, features: Path | None = None) -> Tokens:
    """Read what `save` wrote, and the rows' features from a file of theirs."""
    shards = (pa.memory_map(str(path)) for path in sorted(folder.glob("*.arrow")))
    table = pa.concat_tables(pa.ipc.open_stream(shard).read_all() for shard in shards)
    table = table.combine_chunks()
    parts = tuple(_unpacked(table[name].combine_chunks()) for name in _PARTS)
    single = bool(len(table)) and table["single"][0].as_py()
    labels, groups, folds = (table[name].to_numpy() for name in ("label", "group", "fold"))
    counted = Features.load(features) if features else None
    return Tokens(table["id"].to_numpy(), parts, single, labels, groups, folds, counted)


def _packed(part: Part) -> pa.LargeListArray:
    values, offsets = part
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))


def _unpacked(column: pa.LargeListArray) -> Part:
    return column.values.to_numpy(), column.offsets.to_numpy()


def _encode(tokenizer: Path, *columns: list[str]) -> list[Part]:
    """All ids of each column's texts, and how many each text has: few arrays are sent sooner."""
    ids = map(tokenizers.encoder(tokenizer), columns)
    return [
        (np.concatenate([np.zeros(0, np.int32), *rows]), np.array([*map(len, rows)], np.int64))
        for rows in ids
    ]


def _joined(shards: Iterable[Part]) -> Part:
    values, lengths = map(np.concatenate, zip(*shards, strict=True))
    return values, np.concatenate([[0], np.cumsum(lengths)])
