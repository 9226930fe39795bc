"""Position bias: what a model says of (A, B), of (B, A), and of both orders averaged."""

import numpy as np
import pandas as pd

from pairpref.evaluation.metrics import probabilities, scores
from pairpref.pairs import ORDERS, A, B, swap_probabilities


def orders_of(predictions: pd.DataFrame) -> np.ndarray | None:
    """Probabilities with A, and with B shown first; shape (2, n, 3). None for single texts."""
    if ORDERS[1][0] not in predictions:
        return None
    return np.stack([probabilities(predictions, columns) for columns in ORDERS])


def consistency(shown: np.ndarray, swapped: np.ndarray) -> dict[str, float]:
    """How far the answer for (A, B) is from the answer for (B, A).

    Args:
        shown: probabilities for (A, B); shape (n, 3), columns first, second, tie.
        swapped: probabilities for (B, A) in the same columns; shape (n, 3).

    Returns:
        mean_distance, largest_distance: of |p(A, B) − swap p(B, A)|; flipped: share of pairs whose
        most likely outcome changes; first_favoured: mean gain in probability of being shown first.
    """
    back = swap_probabilities(swapped)
    distance = np.abs(shown - back)
    return {
        "mean_distance": float(distance.mean()),
        "largest_distance": float(distance.max(initial=0.0)),
        "flipped": float(np.mean(shown.argmax(axis=1) != back.argmax(axis=1))),
        "first_favoured": float(np.mean(shown[:, A] - back[:, A] + back[:, B] - shown[:, B]) / 2),
    }


def by_order(labels: np.ndarray, ab: np.ndarray, ba: np.ndarray) -> dict[str, dict[str, float]]:
    """`scores` and `consistency` for "A first", "B first" and "average"; ab: p with A first."""
    # If A and B are exchanged, the pair shown B first comes first, and the columns change places.
    swapped_ab, swapped_ba = swap_probabilities(ab), swap_probabilities(ba)
    average, swapped = np.stack([ab, ba]).mean(axis=0), np.stack([swapped_ba, swapped_ab])
    return {
        "A first": scores(labels, ab) | consistency(ab, swapped_ba),
        "B first": scores(labels, ba) | consistency(swapped_ba, ab),
        "average": scores(labels, average) | consistency(average, swapped.mean(axis=0)),
    }
