"""Metrics of all stages, by scikit-learn. Probabilities are float64 of shape (n, 3): A, B, tie.

scikit-learn is imported where it is used: predictions do without it.
"""

import numpy as np
import pandas as pd

from pairpref.pairs import LABELS, ORDERS, PROBABILITIES

CLASSES = range(len(LABELS))


def probabilities(frame: pd.DataFrame, columns: list[str] = PROBABILITIES) -> np.ndarray:
    """Three columns of a frame as float64 rows that sum to 1; shape (n, 3)."""
    p = frame[columns].to_numpy(dtype=np.float64)
    return p / p.sum(axis=1, keepdims=True)  # float32 columns sum to 1 only to 1e-7


def answers(predictions: pd.DataFrame, dual_order: bool = True) -> pd.DataFrame:
    """Predictions with p_a, p_b and p_tie in place of each order's probabilities.

    Args:
        predictions: has ab_a, ab_b, ab_tie and, of pairs, ba_a, ba_b, ba_tie, among other columns.
        dual_order: average both orders if there are two; otherwise take the order A, B alone.
    """
    orders = ORDERS if ORDERS[1][0] in predictions else ORDERS[:1]
    p = np.mean([predictions[columns].to_numpy() for columns in orders[: 1 + dual_order]], axis=0)
    others = predictions.drop(columns=[name for columns in orders for name in columns])
    return others.assign(**dict(zip(PROBABILITIES, p.T, strict=True)))


def scores(labels: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Log loss (nats), Brier score (0 to 2), accuracy, macro F1 (labels that occur), and n ≥ 1."""
    from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

    predicted = p.argmax(axis=1)
    macro_f1 = f1_score(labels, predicted, labels=CLASSES, average="macro", zero_division=np.nan)
    return {
        "log_loss": float(log_loss(labels, p, labels=CLASSES)),
        "brier": float(brier_score_loss(labels, p, labels=CLASSES, scale_by_half=False)),
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1_macro": float(macro_f1),
        "n": len(labels),
    }


def losses(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats, clipped as scikit-learn clips; shape (n,)."""
    return -np.log(np.clip(p[np.arange(len(labels)), labels], np.finfo(np.float64).eps, 1))


def confusion(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Number of votes by label (row) and most likely label (column); shape (3, 3)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, p.argmax(axis=1), labels=CLASSES)
