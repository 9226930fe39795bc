"""Calibration that treats A and B alike: one temperature for all logits, and optionally a tie bias.

Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks". Dividing all
logits by one T changes no ranking. The tie bias is vector scaling (ibid., section 4.2) with the
same bias for A and B, so that swapped answers still give swapped probabilities.

log T and the bias have a normal prior around 0 with standard deviation log 2: it decides if there
are only a handful of votes, and moves T by about .001 if there are 3,000.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from pairpref.errors import UserError
from pairpref.files import write_json
from pairpref.pairs import TIE

CALIBRATED = ["c_a", "c_b", "c_tie"]
Method = Literal["none", "temperature", "temperature_tie"]

_PARTS = 5
_TINY = 1e-12
_PRIOR = np.log(2)
_WIDE = 2.0  # an interval that spans more than this factor is worth a warning
_Z = 1.96
_BOUNDS = [(-7.0, 7.0), (-10.0, 10.0)]  # of -log T and the bias, so that no step overflows


@dataclass(frozen=True)
class Calibrator:
    """q = softmax(log p / temperature + (0, 0, tie)). With method "none" p is left alone."""

    method: Method = "none"
    temperature: float = 1.0  # above 1: less confident; below 1: more confident
    tie: float = 0.0  # added to the logit of a tie; 0 unless the method is "temperature_tie"
    n: int = 0  # votes it was fitted on
    dual_order: bool = False  # p is the mean of both orders; otherwise A shown first alone
    temperature_error: float = 0.0  # standard error of log(temperature)
    tie_error: float = 0.0  # standard error of tie
    sharpening: float = 1.0  # factor on the logits of the folds' mean (see `sharpening`)

    @classmethod
    def fit(cls, p: np.ndarray, labels: np.ndarray, method: Method = "temperature") -> Self:
        """Minimise log loss under the prior; standard errors from the curvature of both.

        Raises:
            UserError: a probability is not finite.
        """
        if wrong := int((~np.isfinite(p)).any(axis=1).sum()):
            raise UserError(
                f"{wrong:,} of {len(p):,} out-of-fold rows have probabilities that are no "
                "numbers. Run dvc repro -f oof."
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
            value = -(happened * log_q).sum() + (x @ x) / (2 * _PRIOR**2)
            return value / len(labels), slope / len(labels)

        search = {"method": "L-BFGS-B", "options": {"ftol": 0, "gtol": 1e-9}}
        found = minimize(loss, np.zeros(free), jac=True, bounds=_BOUNDS[:free], **search)
        temperature, tie = float(np.exp(-found.x[0])), float(found.x[1]) if free > 1 else 0.0
        fitted = cls(method, temperature, tie, len(p))
        errors = [*_standard_errors(z / temperature, fitted.apply(p), free).tolist(), 0.0]
        return replace(fitted, temperature_error=errors[0], tie_error=errors[1])

    @property
    def interval(self) -> tuple[float, float]:
        """95% CI of the temperature."""
        factor = float(np.exp(_Z * self.temperature_error))
        return self.temperature / factor, self.temperature * factor

    @property
    def doubt(self) -> str:
        """A warning if the CI of temperature or tie odds spans more than a factor of 2, or ""."""
        if 2 * _Z * max(self.temperature_error, self.tie_error) <= np.log(_WIDE):
            return ""
        (low, high), margin = self.interval, _Z * self.tie_error
        ties = f", bias for ties {self.tie - margin:+.2f} to {self.tie + margin:+.2f}"
        ties = ties if self.method == "temperature_tie" else ""
        return (
            f"{self.n:,} votes leave the calibration open: temperature {low:.2f} to {high:.2f}"
            f"{ties} (95 % intervals)"
        )

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities; shape (n, 3), as p."""
        if self.method == "none":
            return p
        scaled = logits(p) / self.temperature
        scaled[..., TIE] += self.tie
        return softmax(scaled, axis=-1)

    def pool(self, p: np.ndarray) -> np.ndarray:
        """Calibrated mean of the folds' models; from shape (models, n, 3) to (n, 3)."""
        sharpening = self.sharpening if len(p) > 1 else 1.0
        return replace(self, temperature=self.temperature / sharpening).apply(p.mean(axis=0))

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
            figures = (loaded.temperature, loaded.sharpening, loaded.tie)
            if not all(map(np.isfinite, figures)) or min(figures[:2]) <= 0:
                raise ValueError("temperature, sharpening, tie: {}, {}, {}".format(*figures))
            return loaded
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}: not a saved calibrator ({error}). Run dvc repro -f calibrate."
            ) from None


def cross_fitted(
    p: np.ndarray, labels: np.ndarray, folds: np.ndarray, groups: np.ndarray, method: Method
) -> np.ndarray:
    """Each row calibrated by a fit without it: on the other folds; with one fold, on other prompts.

    Raises:
        UserError: there is one fold and it holds one prompt group only.
    """
    calibrated = np.empty_like(p)
    for rest, held_out in splits(folds, groups):
        calibrated[held_out] = Calibrator.fit(p[rest], labels[rest], method).apply(p[held_out])
    return calibrated


def splits(folds: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit to and rows to judge: each fold in turn; with one fold, prompts of it."""
    from sklearn.model_selection import GroupKFold, LeaveOneGroupOut  # predictions do without it

    if len(np.unique(folds)) > 1:
        return LeaveOneGroupOut().split(folds, groups=folds)
    count = len(np.unique(groups))
    if count < 2:
        raise UserError(
            "calibrate needs two different prompts at least; the one trained fold holds one. "
            "Give it more votes."
        )
    return GroupKFold(min(_PARTS, count)).split(folds, groups=groups)


def logits(p: np.ndarray) -> np.ndarray:
    """log p, and of 0 that of 1e-12; shape as p."""
    return np.log(np.clip(p, _TINY, 1))


def pooled(p: np.ndarray, factor: float) -> np.ndarray:
    """Mean of a member's models, its logits times a factor; from (models, n, 3) to (n, 3)."""
    return Calibrator("temperature", sharpening=factor).pool(p)


def sharpening(p: np.ndarray) -> float:
    """The factor for the logits of the models' mean; from 1 to the number of models.

    Errors average out, so the mean knows more than a model, and disagreements average to the
    middle, so it is too careful. No labels are needed. Let z_k be the centred logits of model k,
    q_k = softmax(z_k / T), and q the calibrated answer of all models. Then E[q · z_k] =
    E[q_k · z_k], as both are E[outcome · z_k] (tower law). With q = softmax(s · a / T), a the
    centred logits of the mean, this is, to first order in the logits, s = Σ z_k · z_k / Σ z_k · a.
    On rows that some models were trained on, s is slightly too small; see `benchmarks/pooling.py`.

    Args:
        p: each model's uncalibrated probabilities for the same rows; shape (models, n, 3).
    """
    if len(p) < 2 or not p.size:
        return 1.0
    z, of_mean = _centred(p), _centred(p.mean(axis=0))
    own, shared = (z * z).sum() / len(p), (z.mean(axis=0) * of_mean).sum()
    # Models that contradict each other share next to nothing; s never exceeds independent models'.
    return float(np.clip(own / shared, 1, len(p))) if shared > 0 else 1.0


def of_fewer(factor: float, trained: int, asked: int) -> float:
    """The `sharpening` of the first models' mean, from that of all models' mean.

    With v the share of a model's z · z that it shares with no other, the factor of k models is
    1 / (1 - v (1 - 1 / k)).
    """
    if asked == trained or trained < 2:
        return factor
    v = (1 - 1 / factor) / (1 - 1 / trained)
    return 1 / (1 - v * (1 - 1 / asked))


def _centred(p: np.ndarray) -> np.ndarray:
    z = logits(p)
    return z - z.mean(axis=-1, keepdims=True)


def _standard_errors(z: np.ndarray, q: np.ndarray, free: int) -> np.ndarray:
    """Of log(temperature) and, with free = 2, of the tie bias; q = softmax(z + bias)."""
    spread = z - (q * z).sum(axis=1, keepdims=True)
    tie = q[:, TIE]
    across = (tie * spread[:, TIE]).sum()
    curvature = np.array([[(q * spread**2).sum(), across], [across, (tie * (1 - tie)).sum()]])
    return np.sqrt(np.diag(np.linalg.inv(curvature[:free, :free] + np.eye(free) / _PRIOR**2)))
