"""Where a model is weak: the same figures for short and long pairs, for A, B and ties, and for both at once."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pairpref.evaluation import intervals
from pairpref.evaluation.metrics import losses
from pairpref.evaluation.sufficient_statistics import cells, f1, macro_f1
from pairpref.pairs import LABELS

ALL = "all"
COLUMNS = [
    "kind",
    "bucket",
    "label",
    "n",
    "groups",
    "log_loss",
    "log_loss_low",
    "log_loss_high",
    "f1",
    "f1_low",
    "f1_high",
]
LENGTHS = ("short", "medium", "long")
FEW = 30
"""Fewer prompt groups than this, and an interval is no more than a hint."""


def length_cuts(lengths: np.ndarray) -> tuple[float, float]:
    """The lengths that part some pairs into three of equal number."""
    return tuple(np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf").tolist())


def by_length(lengths: np.ndarray, cuts: Sequence[float]) -> np.ndarray:
    """short, medium or long for each length: short up to the first cut, long above the second; shape (n,)."""
    return np.asarray(LENGTHS)[np.searchsorted(cuts, lengths, side="left")]


def table(
    labels: np.ndarray, p: np.ndarray, groups: np.ndarray, kinds: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Log loss and F1 of every bucket of every kind, and within it of the votes for A, for B and for a tie.

    Args:
        labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        p: shape (n, 3).
        groups: prompt group of each row; shape (n,).
        kinds: for each way of dividing the votes the name of each vote's bucket; shape (n,).

    Returns:
        a row a bucket and label, first of all votes (kind and bucket "all"): COLUMNS. label is A, B, TIE, or "all", where f1 is macro F1;
        for a label it is that of this class against the rest, over the bucket's votes of every label. Buckets keep the order of first
        mention in `LENGTHS`, others the alphabet's; a bucket and label without votes has no row.
    """
    # Twelve sums a bucket: the confusion's nine cells, and the loss of A's, B's and ties' votes.
    summands = np.column_stack(
        [cells(labels, p), losses(labels, p)[:, None] * np.eye(len(LABELS))[labels]]
    )
    buckets = [(ALL, ALL, np.ones(len(labels), dtype=bool))]
    for kind, names in kinds.items():
        order = sorted(
            set(names), key=lambda name: (LENGTHS.index(name) if name in LENGTHS else 0, name)
        )
        buckets += [(kind, name, names == name) for name in order]
    columns = np.column_stack([summands * rows[:, None] for *_, rows in buckets])
    value = _figures(columns.sum(axis=0))
    low, high = intervals.bounds(intervals.resampled(columns, groups, _figures))

    rows, at = [], 0
    for kind, name, of_bucket in buckets:
        for label, of_label in (
            (ALL, of_bucket),
            *((label, of_bucket & (labels == k)) for k, label in enumerate(LABELS)),
        ):
            if of_label.any():
                ends = (figure for i in (at, at + 1) for figure in (value[i], low[i], high[i]))
                rows.append(
                    (
                        kind,
                        name,
                        label,
                        int(of_label.sum()),
                        len(np.unique(groups[of_label])),
                        *ends,
                    )
                )
            at += 2
    return pd.DataFrame(rows, columns=COLUMNS)


def _figures(sums: np.ndarray) -> np.ndarray:
    """Log loss and F1 of all, A, B and tie of each bucket: from (..., 12 · buckets) to (..., 8 · buckets). nan where no rows are."""
    by_bucket = sums.reshape(*sums.shape[:-1], -1, 12)
    counts, loss = by_bucket[..., :9].reshape(*by_bucket.shape[:-1], 3, 3), by_bucket[..., 9:]
    of_label = counts.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.concatenate(
            [
                loss.sum(axis=-1, keepdims=True) / of_label.sum(axis=-1, keepdims=True),
                loss / of_label,
            ],
            axis=-1,
        )
    score = np.concatenate([macro_f1(counts)[..., None], f1(counts)], axis=-1)
    return np.stack([mean, score], axis=-1).reshape(*sums.shape[:-1], -1)
