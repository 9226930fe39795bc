"""Reliability: of the votes given a probability of about x, how many turned out so?"""

import numpy as np
import pandas as pd

from pairpref.evaluation import intervals
from pairpref.pairs import LABELS

CONFIDENCE = "CONFIDENCE"
CURVES = (*LABELS, CONFIDENCE)
COLUMNS = ["class", "bin", "predicted", "observed", "n"]

_FEWEST = 10  # votes a bin, if there are so many: a bin of one vote cannot be debiased


def reliability(labels: np.ndarray, p: np.ndarray, bins: int) -> pd.DataFrame:
    """Mean predicted probability and observed share in equal-mass bins, for each of `CURVES`.

    Equal mass, because bins of equal width may hold few rows, and then a perfect model looks
    miscalibrated (Nixon et al. 2019, "Measuring Calibration in Deep Learning").

    Args:
        bins: number of bins a curve; fewer if there are fewer rows. Bin 1 is the lowest.
    """
    rows = []
    for name, predicted, happened in _curves(labels, p):
        for number, rank in enumerate(_bins(predicted, bins), 1):
            rows.append((name, number, predicted[rank].mean(), happened[rank].mean(), len(rank)))
    return pd.DataFrame(rows, columns=COLUMNS)


def calibration_error(
    labels: np.ndarray, p: np.ndarray, groups: np.ndarray, bins: int
) -> pd.DataFrame:
    """Debiased root mean square distance of each curve from the diagonal, with 95% CI.

    A perfect model's points scatter too. Their expected scatter is subtracted (Kumar, Liang, Ma
    2019, "Verified Uncertainty Calibration", section 5); a negative rest is reported as 0.
    Resampling adds the scatter again, so resampled squares are recentred on the estimate.

    Returns:
        class, error, low, high; said and happened: mean predicted probability and observed share.
    """
    rows = []
    for name, predicted, happened in _curves(labels, p):
        ranks = _bins(predicted, bins)
        cells = np.zeros((len(labels), 3, len(ranks)))
        for number, rank in enumerate(ranks):
            cells[rank, 0, number] = 1
            cells[rank, 1, number], cells[rank, 2, number] = predicted[rank], happened[rank]
        columns = cells.reshape(len(labels), -1)
        square = _square(columns.sum(axis=0))
        again = intervals.resampled(columns, groups, _square)
        ends = intervals.bounds(again - again.mean() + square)
        error = (float(np.sqrt(max(0.0, x.item()))) for x in (square, *ends))
        rows.append((name, *error, predicted.mean(), happened.mean()))
    return pd.DataFrame(rows, columns=["class", "error", "low", "high", "said", "happened"])


def _curves(labels: np.ndarray, p: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    of_classes = [(name, p[:, k], labels == k) for k, name in enumerate(LABELS)]
    return [*of_classes, (CONFIDENCE, p.max(axis=1), p.argmax(axis=1) == labels)]


def _bins(predicted: np.ndarray, bins: int) -> list[np.ndarray]:
    # Equal probabilities are shuffled first: the file may be sorted by label.
    order = np.random.default_rng(0).permutation(len(predicted))
    order = order[np.argsort(predicted[order], kind="stable")]
    return np.array_split(order, max(1, min(bins, len(order) // _FEWEST)))


def _square(sums: np.ndarray) -> np.ndarray:
    """Debiased squared error from sums of (1, predicted, happened) by bin; shape (..., 1)."""
    n, predicted, happened = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = happened / n
        square = (predicted / n - observed) ** 2 - observed * (1 - observed) / (n - 1)
    weight = np.where(n > 1, n, 0)  # a bin of one vote cannot be debiased
    share = weight / np.maximum(weight.sum(axis=-1, keepdims=True), 1)
    return np.sum(share * np.where(n > 1, square, 0), axis=-1, keepdims=True)
