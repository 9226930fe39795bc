"""Calibration that treats A and B alike: one temperature makes all answers bolder or more careful; a bias makes ties more likely or less.

Temperature scaling: Guo et al. (2017), "On Calibration of Modern Neural Networks". Dividing all logits by one T changes no ranking.
The bias is vector scaling (ibid., section 4.2) under the condition that A and B have the same: swapped answers still give swapped
probabilities.

A handful of votes bears no temperature far from 1. So log T and the bias have a normal prior around 0 with a
standard deviation of log 2: it decides where the votes say nothing, and moves T by about .001 where
there are 3,000.
"""

import json
from dataclasses import asdict, dataclass, replace
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
_PRIOR = np.log(2)  # standard deviation of log T and of the bias before any vote
_WIDE = 2.0  # an interval whose ends are further apart than this factor is worth a warning
_Z = 1.96
_BOUNDS = [(-7.0, 7.0), (-10.0, 10.0)]  # of -log T and the bias, so that no step overflows


@dataclass(frozen=True)
class Calibrator:
    """q = softmax(log p / temperature + (0, 0, tie)). With the method "none" p is left alone.

    Attributes:
        method: how the two came about.
        temperature: above 1 the answers become more careful, below 1 bolder.
        tie: added to the logit of a tie; 0 unless the method is "temperature_tie".
        n: how many votes they were fitted on.
        dual_order: p is the mean of both orders, where there are two; otherwise of A shown first alone.
        temperature_error, tie_error: standard errors of log(temperature) and of tie.
        sharpening: what `pool` multiplies the logits of the folds' mean by (see `pairpref.evaluation.pooling`).
    """

    method: Method = "none"
    temperature: float = 1.0
    tie: float = 0.0
    n: int = 0
    dual_order: bool = False
    temperature_error: float = 0.0
    tie_error: float = 0.0
    sharpening: float = 1.0

    @classmethod
    def fit(cls, p: np.ndarray, labels: np.ndarray, method: Method = "temperature") -> Self:
        """The temperature, and for "temperature_tie" the bias, of least log loss under the prior.

        Their standard errors are from the curvature of both.

        Args:
            p: probabilities; shape (n, 3).
            labels: integers 0 = A, 1 = B, 2 = tie; shape (n,).

        Raises:
            UserError: a probability is not finite.
        """
        if wrong := int((~np.isfinite(p)).any(axis=1).sum()):
            raise UserError(
                f"{wrong:,} of {len(p):,} out-of-fold rows have probabilities that are no numbers. Run dvc repro -f oof."
            )
        if method == "none" or len(labels) == 0:
            return cls(n=len(labels))
        z, happened = logits(p), np.eye(3)[labels]
        free = 2 if method == "temperature_tie" else 1

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = np.exp(x[0]) * z
            slope_of = [scaled.copy(), np.eye(3)[TIE]]
            scaled[:, TIE] += x[1] if free > 1 else 0.0
            log_q = log_softmax(scaled, axis=1)
            error = np.exp(log_q) - happened
            slope = np.array([(error * of).sum() for of in slope_of[:free]]) + x / _PRIOR**2
            return (-(happened * log_q).sum() + (x @ x) / (2 * _PRIOR**2)) / len(
                labels
            ), slope / len(labels)

        options = {"ftol": 0, "gtol": 1e-9}
        found = minimize(
            loss,
            np.zeros(free),
            jac=True,
            method="L-BFGS-B",
            bounds=_BOUNDS[:free],
            options=options,
        )
        fitted = cls(
            method, float(np.exp(-found.x[0])), float(found.x[1]) if free > 1 else 0.0, len(p)
        )
        errors = map(float, _standard_errors(z / fitted.temperature, fitted.apply(p), free))
        return replace(
            fitted, **dict(zip(("temperature_error", "tie_error"), errors, strict=False))
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the temperature."""
        factor = float(np.exp(_Z * self.temperature_error))
        return self.temperature / factor, self.temperature * factor

    @property
    def doubt(self) -> str:
        """A line where an interval of the temperature, or of a tie's odds, spans more than a factor of 2; otherwise empty."""
        if 2 * _Z * max(self.temperature_error, self.tie_error) <= np.log(_WIDE):
            return ""
        (low, high), margin = self.interval, _Z * self.tie_error
        ties = (
            f", bias for ties {self.tie - margin:+.2f} to {self.tie + margin:+.2f}"
            if self.method == "temperature_tie"
            else ""
        )
        return f"{self.n:,} votes leave the calibration open: temperature {low:.2f} to {high:.2f}{ties} (95 % intervals)"

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities; shape (n, 3), as p."""
        if self.method == "none":
            return p
        scaled = logits(p) / self.temperature
        scaled[..., TIE] += self.tie
        return softmax(scaled, axis=-1)

    def pool(self, p: np.ndarray) -> np.ndarray:
        """One calibrated answer from the models of all folds; shape (n, 3).

        Of one model it is what `apply` gives. Neither the order of the models nor any other row matters.

        Args:
            p: each model's probabilities; shape (models, n, 3).
        """
        of_all = (
            replace(self, temperature=self.temperature / self.sharpening) if len(p) > 1 else self
        )
        return of_all.apply(p.mean(axis=0))

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
            if not (
                0 < loaded.temperature < np.inf
                and np.isfinite(loaded.tie)
                and 0 < loaded.sharpening < np.inf
            ):
                raise ValueError(
                    f"temperature {loaded.temperature}, tie {loaded.tie}, sharpening {loaded.sharpening}"
                )
            return loaded
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}: not a saved calibrator ({error}). Run dvc repro -f calibrate."
            ) from None


def cross_fitted(
    p: np.ndarray, labels: np.ndarray, folds: np.ndarray, groups: np.ndarray, method: Method
) -> np.ndarray:
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
        raise UserError(
            "calibrate needs two different prompts at least; the one trained fold holds one. Give it more votes."
        )
    return GroupKFold(min(_SPLITS, count)).split(folds, groups=groups)


def logits(p: np.ndarray) -> np.ndarray:
    """log p, and of 0 that of 1e-12; shape as p."""
    return np.log(np.clip(p, _TINY, 1))


def _standard_errors(z: np.ndarray, q: np.ndarray, free: int) -> np.ndarray:
    """Of log(temperature) and, with free = 2, of a tie's bias, from the curvature of log loss and prior; q = softmax(z + bias)."""
    spread = z - (q * z).sum(axis=1, keepdims=True)
    tie = q[:, TIE]
    across = (tie * spread[:, TIE]).sum()
    curvature = np.array([[(q * spread**2).sum(), across], [across, (tie * (1 - tie)).sum()]])
    return np.sqrt(np.diag(np.linalg.inv(curvature[:free, :free] + np.eye(free) / _PRIOR**2)))
