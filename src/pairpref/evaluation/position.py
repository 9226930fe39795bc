"""Does it matter which answer is shown first? What a model says of (A, B) and of (B, A), and of both together."""

import numpy as np

from pairpref.evaluation.metrics import scores
from pairpref.pairs import A, B, swap_probabilities


def consistency(shown: np.ndarray, swapped: np.ndarray) -> dict[str, float]:
    """How far the answer for a pair is from the answer for the pair with A and B exchanged.

    Args:
        shown: probabilities for (A, B); shape (n, 3), columns A, B, tie.
        swapped: probabilities for (B, A) as they come, the columns still meaning first, second, tie; shape (n, 3).

    Returns:
        mean_distance: mean over rows and classes of |p(A, B) − swap p(B, A)|; largest_distance: the largest; flipped: share of pairs
        whose most likely outcome changes with the order; first_favoured: mean of what being shown first adds to an answer's
        probability of winning.
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
    """Consistency and scores of a model asked in one order only, and of the average of both.

    Args:
        labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        ab, ba: probabilities of A, B, tie where A, and where B was shown first; shape (n, 3).

    Returns:
        for "A first", "B first" and "average" what `consistency` and `pairpref.evaluation.metrics.scores` give.
    """

    # For the pair with A and B exchanged, what was shown B first comes first, and the columns change places.
    swapped_ab, swapped_ba = swap_probabilities(ab), swap_probabilities(ba)
    average = np.stack([ab, ba]).mean(axis=0)
    return {
        "A first": scores(labels, ab) | consistency(ab, swapped_ba),
        "B first": scores(labels, ba) | consistency(swapped_ba, ab),
        "average": scores(labels, average)
        | consistency(average, np.stack([swapped_ba, swapped_ab]).mean(axis=0)),
    }
