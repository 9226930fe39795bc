"""Temperature scaling: one number that makes all answers bolder or more careful, and changes nothing else.

Guo et al. (2017), "On Calibration of Modern Neural Networks". Dividing all logits by one T treats A and B alike, so swapped
answers still give swapped probabilities, and the order of the three probabilities stays.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from pairpref.errors import UserError
from pairpref.files import write_json

CALIBRATED = ["c_a", "c_b", "c_tie"]
Method = Literal["none", "temperature"]

_SPLITS = 5
_TINY = 1e-12


@dataclass(frozen=True)
class Calibrator:
    """q = softmax(log p / temperature). With the method "none" the temperature is 1 and p is left alone.

    Attributes:
        method: how the temperature came about.
        temperature: above 1 the answers become more careful, below 1 bolder.
        n: how many votes it was fitted on.
    """

    method: Method = "none"
    temperature: float = 1.0
    n: int = 0

    @classmethod
    def fit(cls, p: np.ndarray, labels: np.ndarray, method: Method = "temperature") -> Self:
        """The temperature of least log loss.

        Args:
            p: probabilities; shape (n, 3).
            labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        """
        if method == "none" or len(labels) == 0:
            return cls(n=len(labels))
        # scikit-learn asks for every class among the labels. Three rows of equal logits, one of each class, see to that; their
        # loss is log 3 at any temperature, so they don't move the optimum.
        logits = np.vstack([_logits(p), np.zeros((3, 3))])
        labels = np.append(labels, [0, 1, 2])
        every = np.arange(len(labels))
        model = FrozenEstimator(_Logits().fit(logits, labels))
        fitted = CalibratedClassifierCV(model, method="temperature", cv=[(every, every)]).fit(logits, labels)
        return cls(method, float(1 / fitted.calibrated_classifiers_[0].calibrators[0].beta_), len(p))

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities; shape (n, 3), as p."""
        return p if self.method == "none" else softmax(_logits(p) / self.temperature, axis=-1)

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        try:
            loaded = cls(**json.loads(path.read_text(encoding="utf-8")))
            if not 0 < loaded.temperature < np.inf:
                raise ValueError(f"temperature {loaded.temperature}")
            return loaded
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not a saved calibrator ({error}). Run dvc repro -f calibrate.") from None


def cross_fitted(p: np.ndarray, labels: np.ndarray, folds: np.ndarray, groups: np.ndarray, method: Method) -> np.ndarray:
    """Every row calibrated by a temperature that was fitted without it: what calibration is worth on votes it has not seen.

    Fitted on the other folds; where there is only one fold, on the other prompt groups inside it (in five parts).

    Args:
        p: probabilities; shape (n, 3).
        labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        folds: fold of each row; shape (n,).
        groups: prompt group of each row; shape (n,).

    Raises:
        UserError: there is one fold and it holds one prompt group only.
    """
    calibrated = np.empty_like(p)
    for rest, held_out in _splits(folds, groups):
        calibrated[held_out] = Calibrator.fit(p[rest], labels[rest], method).apply(p[held_out])
    return calibrated


def _splits(folds: np.ndarray, groups: np.ndarray):
    if len(np.unique(folds)) > 1:
        return LeaveOneGroupOut().split(folds, groups=folds)
    count = len(np.unique(groups))
    if count < 2:
        raise UserError("calibrate needs two different prompts at least; the one trained fold holds one. Give it more votes.")
    return GroupKFold(min(_SPLITS, count)).split(folds, groups=groups)


def _logits(p: np.ndarray) -> np.ndarray:
    return np.log(np.clip(p, _TINY, 1))


class _Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose input is its decision function: the model has spoken already."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return x.argmax(axis=1)
