"""Reliability: of the votes given a probability of about x, how many turned out so?"""

import numpy as np
import pandas as pd

from pairpref.evaluation import intervals
from pairpref.pairs import LABELS

CONFIDENCE = "CONFIDENCE"
CURVES = (*LABELS, CONFIDENCE)
COLUMNS = ["class", "bin", "predicted", "observed", "n"]

_FEWEST = 10  # votes a bin, where there are so many: of one vote nothing can be debiased


def reliability(labels: np.ndarray, p: np.ndarray, bins: int) -> pd.DataFrame:
    """Mean predicted probability and observed share in equal-mass bins, for each class and for the most likely class.

    Equal mass, because with equal width a perfect model looks miscalibrated wherever a bin holds few rows (Nixon et al. 2019,
    "Measuring Calibration in Deep Learning").

    Args:
        labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        p: shape (n, 3).
        bins: number of bins a curve; fewer where there are fewer rows.

    Returns:
        columns class (A, B, TIE or CONFIDENCE), bin (1 is the lowest), predicted, observed, n.
    """
    rows = []
    for name, predicted, happened in _curves(labels, p):
        for number, rank in enumerate(_bins(predicted, bins), 1):
            rows.append((name, number, predicted[rank].mean(), happened[rank].mean(), len(rank)))
    return pd.DataFrame(rows, columns=COLUMNS)


def calibration_error(
    labels: np.ndarray, p: np.ndarray, groups: np.ndarray, bins: int
) -> pd.DataFrame:
    """How far the points of each curve are from the diagonal: root mean square over equal-mass bins, debiased, with interval.

    Plain calibration error is never 0: a perfect model's points scatter, too. Their expected scatter is taken off (Kumar, Liang, Ma
    2019, "Verified Uncertainty Calibration", section 5), and what then falls below 0 is reported as 0. Resampling adds the scatter a
    second time, so the resampled squares are moved back to the estimate before their quantiles are taken.

    Args:
        labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        p: shape (n, 3).
        groups: prompt group of each row; shape (n,).
        bins: number of bins a curve.

    Returns:
        columns class, error, low, high; all as probabilities.
    """
    rows = []
    for name, predicted, happened in _curves(labels, p):
        ranks = _bins(predicted, bins)
        cells = np.zeros((len(labels), 3, len(ranks)))
        for number, rank in enumerate(ranks):
            cells[rank, :, number] = np.column_stack(
                [np.ones(len(rank)), predicted[rank], happened[rank]]
            )
        columns = cells.reshape(len(labels), -1)
        square = _square(columns.sum(axis=0))
        again = intervals.resampled(columns, groups, _square)
        low, high = intervals.bounds(again - again.mean() + square)
        rows.append((name, *(float(np.sqrt(max(0.0, end.item()))) for end in (square, low, high))))
    return pd.DataFrame(rows, columns=["class", "error", "low", "high"])


def _curves(labels: np.ndarray, p: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    of_classes = [(name, p[:, k], labels == k) for k, name in enumerate(LABELS)]
    return [*of_classes, (CONFIDENCE, p.max(axis=1), p.argmax(axis=1) == labels)]


def _bins(predicted: np.ndarray, bins: int) -> list[np.ndarray]:
    # Equal probabilities in an order of their own, not the file's, which may be sorted by label.
    order = np.random.default_rng(0).permutation(len(predicted))
    order = order[np.argsort(predicted[order], kind="stable")]
    return np.array_split(order, max(1, min(bins, len(order) // _FEWEST)))


def _square(sums: np.ndarray) -> np.ndarray:
    """Debiased squared calibration error of each bin's sums of 1, predicted and happened; from (..., 3 · bins) to (..., 1)."""
    n, predicted, happened = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = happened / n
        square = (predicted / n - observed) ** 2 - observed * (1 - observed) / (n - 1)
    # A bin of one vote, or of none, says nothing that could be debiased.
    share = np.where(n > 1, n, 0) / np.maximum(np.where(n > 1, n, 0).sum(axis=-1, keepdims=True), 1)
    return np.sum(share * np.where(n > 1, square, 0), axis=-1, keepdims=True)
