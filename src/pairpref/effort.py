"""How much is spent on a pair: orders, folds and length. What is not asked for is as trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

Orders = Literal["one", "both", "uncertain"]

# Between the two most likely answers, when A is shown first. Above SURE the second order is not
# asked; below UNSURE it counts as much as the first; between, its weight falls from one half to 0,
# so that no last bit decides about an order (`python -m benchmarks.predict --margins`).
SURE, UNSURE = 0.35, 0.3
_SHORTEST = 32  # tokens of an input


@dataclass(frozen=True)
class Effort:
    """None: what the calibrator and the fusion were fitted to."""

    orders: Orders | None = None
    folds: int | None = None  # the first ones of each trained member
    length: int | None = None  # tokens of an input at most

    def __str__(self) -> str:
        said = {None: "", "both": "both orders", "one": "one order"}
        parts = [said.get(self.orders, "the second order where the first is unsure")]
        parts += [f"{self.folds} fold{'s' * (self.folds > 1)}"] if self.folds else []
        parts += [f"up to {self.length} tokens"] if self.length else []
        return ", ".join(filter(None, parts)) or "as trained"


WHOLE = Effort()


def second_weight(p: np.ndarray) -> np.ndarray:
    """Weight of the second order, from 0 to one half, by the first order's p; (n, 3) to (n,)."""
    third, second, first = np.sort(p, axis=1).T
    return 0.5 * np.clip((SURE - (first - second)) / (SURE - UNSURE), 0, 1)


def fewer(asked: Effort, orders: Orders, folds: int, longest: int) -> Iterator[Effort]:
    """Ever less than what is asked for: fewer orders, then folds, then length.

    Args:
        orders, folds, longest: what is spent on a pair as asked.
    """
    steps: tuple[Orders, ...] = ("both", "uncertain", "one")
    for fewer in steps[steps.index(orders) + 1 :]:
        yield Effort(fewer, asked.folds, asked.length)
    count = min(asked.folds or folds, folds)
    for few in range(count - 1, 0, -1):
        yield Effort("one", few, asked.length)
    length = min(asked.length or longest, longest) // 2
    while length >= _SHORTEST:
        yield Effort("one", 1, length)
        length //= 2
