"""What a model must beat to have learned anything: answers that don't read the texts, cross-fitted over the model's own folds."""

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pairpref.pairs import TEXTS


def class_prior(pairs: pd.DataFrame) -> np.ndarray:
    """The shares of A, B and tie among the votes of the other folds; shape (n, 3).

    Args:
        pairs: columns label and fold, all rows of all folds.
    """
    return _cross_fitted(DummyClassifier(strategy="prior"), np.zeros((len(pairs), 1)), pairs)


def length_only(pairs: pd.DataFrame) -> np.ndarray:
    """Multinomial logistic regression on the lengths alone, fitted on the other folds; shape (n, 3).

    Args:
        pairs: columns prompt, response_a, response_b, label and fold, all rows of all folds.
    """
    return _cross_fitted(make_pipeline(StandardScaler(), LogisticRegression()), length_features(pairs), pairs)


def length_features(pairs: pd.DataFrame) -> np.ndarray:
    """log(1 + characters) of prompt, A and B, and |log A − log B|, which is what a tie depends on; shape (n, 4)."""
    prompt, a, b = (np.log1p(pairs[name].str.len().fillna(0).to_numpy(dtype=np.float64)) for name in TEXTS)
    return np.column_stack([prompt, a, b, np.abs(a - b)])


def _cross_fitted(estimator, x: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    return cross_val_predict(estimator, x, pairs["label"], groups=pairs["fold"], cv=LeaveOneGroupOut(), method="predict_proba")
