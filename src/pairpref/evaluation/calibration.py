"""Calibration that treats A and B alike: one temperature makes all answers bolder or more careful; a bias makes ties more likely or less.

Temperature scaling: Guo et al. (2017), "On Calibration of Modern Neural Networks". Dividing all logits by one T changes no ranking.
The bias is vector scaling (ibid., section 4.2) under the condition that A and B have the same: swapped answers still give swapped
probabilities.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from pairpref.errors import UserError
from pairpref.files import write_json
from pairpref.pairs import TIE

CALIBRATED = ["c_a", "c_b", "c_tie"]
Method = Literal["none", "temperature", "temperature_tie"]

_SPLITS = 5
_TINY = 1e-12
_SHARPEST, _BLUNTEST = 1e-3, 1e3  # of 1 / temperature: votes that a model always or never got right have no best one


@dataclass(frozen=True)
class Calibrator:
    """q = softmax(log p / temperature + (0, 0, tie)). With the method "none" p is left alone.

    Attributes:
        method: how the two came about.
        temperature: above 1 the answers become more careful, below 1 bolder.
        tie: added to the logit of a tie; 0 unless the method is "temperature_tie".
        n: how many votes they were fitted on.
        dual_order: p is the mean of both orders, where there are two; otherwise of A shown first alone.
    """

    method: Method = "none"
    temperature: float = 1.0
    tie: float = 0.0
    n: int = 0
    dual_order: bool = False

    @classmethod
    def fit(cls, p: np.ndarray, labels: np.ndarray, method: Method = "temperature") -> Self:
        """The temperature, and for "temperature_tie" the bias, of least log loss. (It is convex in 1 / temperature and bias.)

        Args:
            p: probabilities; shape (n, 3).
            labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).
        """
        if method == "none" or len(labels) == 0:
            return cls(n=len(labels))
        logits, happened = _logits(p), np.eye(3)[labels]
        free = 2 if method == "temperature_tie" else 1

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = x[0] * logits
            scaled[:, TIE] += x[1] if free > 1 else 0.0
            log_q = log_softmax(scaled, axis=1)
            error = np.exp(log_q) - happened
            slope = [(error * logits).sum(), error[:, TIE].sum()]
            return -log_q[happened == 1].mean(), np.array(slope[:free]) / len(labels)

        begin, bounds = [1.0, 0.0], [(_SHARPEST, _BLUNTEST), (-10, 10)]
        found = minimize(loss, begin[:free], jac=True, method="L-BFGS-B", bounds=bounds[:free], options={"ftol": 0, "gtol": 1e-9})
        return cls(method, float(1 / found.x[0]), float(found.x[1]) if free > 1 else 0.0, len(p))

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities; shape (n, 3), as p."""
        if self.method == "none":
            return p
        scaled = _logits(p) / self.temperature
        scaled[..., TIE] += self.tie
        return softmax(scaled, axis=-1)

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
            if not (0 < loaded.temperature < np.inf and np.isfinite(loaded.tie)):
                raise ValueError(f"temperature {loaded.temperature}, tie {loaded.tie}")
            return loaded
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not a saved calibrator ({error}). Run dvc repro -f calibrate.") from None


def cross_fitted(p: np.ndarray, labels: np.ndarray, folds: np.ndarray, groups: np.ndarray, method: Method) -> np.ndarray:
    """Every row calibrated by what was fitted without it: what calibration is worth on votes it has not seen.

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
