"""A vote on a pair of answers: labels, column names, and what swapping the answers does to them."""

import numpy as np

LABELS = ("A", "B", "TIE")
A, B, TIE = range(3)

PROBABILITIES = ["p_a", "p_b", "p_tie"]
# The same from a model that is shown A first, and B first.
ORDERS = (["ab_a", "ab_b", "ab_tie"], ["ba_a", "ba_b", "ba_tie"])
WINNERS = ["winner_model_a", "winner_model_b", "winner_tie"]
TEXTS = ["prompt", "response_a", "response_b"]

_SWAPPED = [B, A, TIE]


def swap_labels(labels: np.ndarray) -> np.ndarray:
    """Labels of the same votes with A and B exchanged: 0 = A, 1 = B, 2 = tie, any shape."""
    return np.asarray(_SWAPPED)[labels]


def swap_probabilities(p: np.ndarray) -> np.ndarray:
    """Probabilities or logits with A and B exchanged: columns A, B, tie, shape (..., 3)."""
    return p[..., _SWAPPED]
