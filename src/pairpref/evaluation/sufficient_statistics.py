"""The figures of `metrics` as functions of sums over votes, so that resampling them is a weighted sum (see `intervals`)."""

import numpy as np

from pairpref.evaluation.metrics import losses

FIGURES = ("log_loss", "brier", "accuracy", "f1_macro")


def summands(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """What `figures` needs of each row: the loss, the Brier score, and a 1 in one of the nine cells of the confusion; shape (n, 11).

    Args:
        labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        p: shape (n, 3).
    """
    return np.column_stack(
        [losses(labels, p), ((p - np.eye(3)[labels]) ** 2).sum(axis=1), cells(labels, p)]
    )


def cells(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """For each row a 1 in the cell of the confusion, row by row, that it is counted in; shape (n, 9)."""
    return np.eye(9)[3 * labels + p.argmax(axis=1)]


def figures(sums: np.ndarray) -> np.ndarray:
    """What `metrics.scores` gives under the names of `FIGURES` for the rows summed over; from shape (..., 11) to (..., 4)."""
    counts = sums[..., 2:].reshape(*sums.shape[:-1], 3, 3)
    n = counts.sum(axis=(-2, -1))
    hits = np.trace(counts, axis1=-2, axis2=-1)
    return np.stack([sums[..., 0] / n, sums[..., 1] / n, hits / n, macro_f1(counts)], axis=-1)


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur, voted or predicted: from confusions of shape (..., 3, 3) to (...)."""
    occur = (counts.sum(axis=-1) + counts.sum(axis=-2) > 0).sum(axis=-1)
    return f1(counts).sum(axis=-1) / np.maximum(occur, 1)


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each class, one against the rest: from confusions of shape (..., 3, 3) to (..., 3); 0 where a class never occurs."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    of = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.divide(2 * hits, of, out=np.zeros_like(of, dtype=np.float64), where=of > 0)
