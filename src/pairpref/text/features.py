"""Features of pairs as arrays, for models that count instead of reading (see `counts`)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from itertools import starmap
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from pairpref.files import write_parquet
from pairpref.pairs import TEXTS
from pairpref.text import counts

SHARD = 500  # rows
WIDTH = sum(map(len, counts.names()))  # numbers of an answer, with those of the pair and the prompt


@dataclass(frozen=True)
class Features:
    """Of n pairs, float32."""

    a: np.ndarray  # of A, given the prompt and B; shape (n, len(counts.names()[0]))
    b: np.ndarray  # of B, given the prompt and A; as a
    pair: np.ndarray  # of both together
    prompt: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame, run: Callable[..., Iterable] = starmap) -> Self:
        """Those of a frame's pairs, by shards of `SHARD` rows as independent jobs.

        Args:
            frame: has prompt, response_a and response_b.
            run: runs the jobs in order, as `starmap` does.
        """
        texts = frame[TEXTS].fillna("")
        starts = range(0, max(1, len(frame)), SHARD)
        jobs = ([texts[name].iloc[at : at + SHARD].tolist() for name in TEXTS] for at in starts)
        return cls(*(np.concatenate(part) for part in zip(*run(counts.measure, jobs), strict=True)))

    def __len__(self) -> int:
        return len(self.a)

    def take(self, rows: np.ndarray) -> Self:
        """The given rows (integers or a mask)."""
        return type(self)(self.a[rows], self.b[rows], self.pair[rows], self.prompt[rows])

    def swapped(self) -> Self:
        """With A and B exchanged."""
        return replace(self, a=self.b, b=self.a)

    def shown(self, row: int, swapped: bool) -> np.ndarray:
        """Of the first and of the second answer shown, each with those of the pair and the prompt.

        Returns:
            float32 of shape (2, WIDTH).
        """
        answers = (self.b, self.a) if swapped else (self.a, self.b)
        both = self.pair[row], self.prompt[row]
        return np.stack([np.concatenate([answer[row], *both]) for answer in answers])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of all that `shown` gives; float64, shape (WIDTH,) each."""
        parts = np.concatenate([self.a, self.b]), self.pair, self.prompt
        mean, deviation = (
            np.concatenate([figure(part, axis=0, dtype=np.float64) for part in parts])
            for figure in (np.mean, np.std)
        )
        return mean, deviation

    def save(self, path: Path) -> None:
        """Write a column a feature: a.words, b.words, pair.equal, prompt.words, …"""
        answer, *others = counts.names()
        parts = zip(fields(self), (answer, answer, *others), strict=True)
        tables = (
            pd.DataFrame(getattr(self, field.name), columns=names).add_prefix(f"{field.name}.")
            for field, names in parts
        )
        write_parquet(path, pd.concat(tables, axis=1))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        table = pd.read_parquet(path)
        return cls(
            *(table.filter(regex=rf"^{field.name}\.").to_numpy(np.float32) for field in fields(cls))
        )
