"""Reliability curves: of the votes given a probability of about x, how many turned out so?"""

import numpy as np
import pandas as pd

from pairpref.pairs import LABELS

CONFIDENCE = "CONFIDENCE"
CURVES = (*LABELS, CONFIDENCE)
COLUMNS = ["class", "bin", "predicted", "observed", "n"]


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
    curves = [(name, p[:, k], labels == k) for k, name in enumerate(LABELS)]
    curves.append((CONFIDENCE, p.max(axis=1), p.argmax(axis=1) == labels))
    rows = []
    for name, predicted, happened in curves:
        order = np.argsort(predicted, kind="stable")
        for number, rank in enumerate(np.array_split(order, min(bins, len(order)) or 1), 1):
            if len(rank):
                rows.append((name, number, predicted[rank].mean(), happened[rank].mean(), len(rank)))
    return pd.DataFrame(rows, columns=COLUMNS)
