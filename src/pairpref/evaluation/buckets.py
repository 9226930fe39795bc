"""Log loss and F1 of parts of the votes: short and long pairs, votes for A, B and ties."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pairpref.evaluation import intervals
from pairpref.evaluation.metrics import losses
from pairpref.evaluation.sufficient_statistics import cells, f1, macro_f1
from pairpref.pairs import LABELS

ALL = "all"
LENGTHS = ("short", "medium", "long")
FEW = 30  # prompt groups; with fewer an interval is no more than a hint
COLUMNS = "kind bucket label n groups log_loss log_loss_low log_loss_high f1 f1_low f1_high".split()


def length_cuts(lengths: np.ndarray) -> tuple[float, float]:
    """The two lengths that split pairs into three parts of equal number."""
    return tuple(np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf").tolist())


def by_length(lengths: np.ndarray, cuts: Sequence[float]) -> np.ndarray:
    """short (up to the first cut), medium or long (above the second) for each; shape (n,)."""
    return np.asarray(LENGTHS)[np.searchsorted(cuts, lengths, side="left")]


def table(
    labels: np.ndarray, p: np.ndarray, groups: np.ndarray, kinds: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Log loss and F1 of every bucket of every kind, of all its votes and of those of each label.

    Args:
        kinds: name of each vote's bucket, for every way of dividing the votes; shape (n,).

    Returns:
        COLUMNS, a row a bucket and label that has votes; kind and bucket "all" first. f1 is macro
        F1 for label "all"; for a label its F1 against the rest, over all votes of the bucket.
    """
    # Twelve sums a bucket: nine cells of the confusion, and the loss of A's, B's and ties' votes.
    loss = losses(labels, p)[:, None] * np.eye(len(LABELS))[labels]
    statistics = np.column_stack([cells(labels, p), loss])
    buckets = [(ALL, ALL, np.ones(len(labels), dtype=bool))]
    for kind, names in kinds.items():
        order = sorted(set(names), key=lambda x: (LENGTHS.index(x) if x in LENGTHS else 0, x))
        buckets += [(kind, name, names == name) for name in order]
    columns = np.column_stack([statistics * inside[:, None] for *_, inside in buckets])
    value = _figures(columns.sum(axis=0))
    low, high = intervals.bounds(intervals.resampled(columns, groups, _figures))
    # Eight figures a bucket: log loss and F1 of all, A, B and tie.
    figures = iter(np.stack([value, low, high], axis=1).reshape(-1, 6).tolist())

    rows = []
    for kind, name, in_bucket in buckets:
        for k, label in enumerate((ALL, *LABELS), -1):
            inside, found = in_bucket & ((labels == k) | (label == ALL)), next(figures)
            if inside.any():
                count = int(inside.sum()), len(np.unique(groups[inside]))
                rows.append((kind, name, label, *count, *found))
    return pd.DataFrame(rows, columns=COLUMNS)


def _figures(sums: np.ndarray) -> np.ndarray:
    """Log loss and F1 of all, A, B, tie; from (..., 12 · buckets) to (..., 8 · buckets)."""
    by_bucket = sums.reshape(*sums.shape[:-1], -1, 12)
    counts, loss = by_bucket[..., :9].reshape(*by_bucket.shape[:-1], 3, 3), by_bucket[..., 9:]
    of_label = counts.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_all = loss.sum(axis=-1, keepdims=True) / of_label.sum(axis=-1, keepdims=True)
        mean = np.concatenate([of_all, loss / of_label], axis=-1)
    score = np.concatenate([macro_f1(counts)[..., None], f1(counts)], axis=-1)
    return np.stack([mean, score], axis=-1).reshape(*sums.shape[:-1], -1)
