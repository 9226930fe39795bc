"""Figures of `metrics` from sums over votes: resampling them takes one weighted sum."""

import numpy as np

from pairpref.evaluation.metrics import losses

FIGURES = ("log_loss", "brier", "accuracy", "f1_macro")


def per_vote(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Loss, Brier score and confusion cell (see `cells`) of each row; shape (n, 11)."""
    brier = ((p - np.eye(3)[labels]) ** 2).sum(axis=1)
    return np.column_stack([losses(labels, p), brier, cells(labels, p)])


def cells(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """A 1 in the cell of the flattened confusion matrix that counts the row; shape (n, 9)."""
    return np.eye(9)[3 * labels + p.argmax(axis=1)]


def figures(sums: np.ndarray) -> np.ndarray:
    """`FIGURES` from sums of the statistics; from shape (..., 11) to (..., 4)."""
    counts = sums[..., 2:].reshape(*sums.shape[:-1], 3, 3)
    n = counts.sum(axis=(-2, -1))
    hits = np.trace(counts, axis1=-2, axis2=-1)
    return np.stack([sums[..., 0] / n, sums[..., 1] / n, hits / n, macro_f1(counts)], axis=-1)


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur, voted or predicted; from shape (..., 3, 3) to (...)."""
    occur = (counts.sum(axis=-1) + counts.sum(axis=-2) > 0).sum(axis=-1)
    return f1(counts).sum(axis=-1) / np.maximum(occur, 1)


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each class, 0 if it never occurs; from shape (..., 3, 3) to (..., 3)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    of = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.divide(2 * hits, of, out=np.zeros_like(of, dtype=np.float64), where=of > 0)
