"""One answer from several members: a log-odds pool that treats A and B alike.

Each member's p is two odds: of A against B, and of a tie against no tie. The pool adds up the
members' log-odds, weighted, for the winner without a bias, so that swapped answers give swapped
probabilities, and for the tie with one (Genest and Zidek 1986, "Combining Probability
Distributions", section 3: logarithmic pools). Weights are not negative; together they are the
temperature. Where little tells members apart, their weights stay near each other: a normal prior.

Weights are fitted to out-of-fold votes and, of members that have them, also to votes whose whole
cluster was held out. These stand for votes from elsewhere; a member without them is silent there.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from pairpref.pairs import TIE, A

_MOST = np.log(999)  # a member's log-odds: it is believed up to 999 to 1
_APART = 30.0  # votes' worth of the prior that weights are equal
_WHOLE = 10.0  # and of the prior that they add up to 1


@dataclass(frozen=True)
class Fusion:
    """Weights of members in each head."""

    members: tuple[str, ...]
    winner: tuple[float, ...]
    tie: tuple[float, ...]
    bias: float  # of a tie's log-odds

    @classmethod
    def fit(
        cls, members: tuple[str, ...], home: np.ndarray, away: np.ndarray | None, labels: np.ndarray
    ) -> Self:
        """Minimise the mean log loss at home and away under the priors.

        Args:
            home, away: p of the same votes by each member; shape (members, n, 3). What is not a
                number in `away` is silence.
            labels: 0 = A, 1 = B, 2 = tie; shape (n,).
        """
        kinds = [log_odds(p) for p in (home, away) if p is not None]
        decisive = labels != TIE
        winner = _weights([odds[0][:, decisive] for odds in kinds], labels[decisive] == A)
        tie = _weights([odds[1] for odds in kinds], ~decisive, biased=True)
        return cls(members, tuple(winner[:-1]), tuple(tie[:-1]), tie[-1])

    def apply(self, p: np.ndarray) -> np.ndarray:
        """The pool of the members' p, shape (members, n, 3), as shape (n, 3)."""
        winner, tie = log_odds(p)
        w, t = expit(self.winner @ winner), expit(self.tie @ tie + self.bias)
        return np.stack([(1 - t) * w, (1 - t) * (1 - w), t], axis=-1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def log_odds(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of A against B, and of a tie against none; 0 where p is no number. Shape (..., n) each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(p)
        odds = log[..., 0] - log[..., 1], log[..., TIE] - np.log1p(-p[..., TIE])
    return tuple(np.clip(np.nan_to_num(o, nan=0.0), -_MOST, _MOST) for o in odds)


def cross_fitted(
    members: tuple[str, ...],
    home: np.ndarray,
    away: np.ndarray | None,
    labels: np.ndarray,
    parts: np.ndarray,
    judged: np.ndarray,
) -> np.ndarray:
    """Each vote's pool of `judged`, shape (members, n, 3), by a fit to the other parts; (n, 3)."""
    p = np.empty(judged.shape[1:])
    for part in np.unique(parts):
        rest, held_out = parts != part, parts == part
        others = None if away is None else away[:, rest]
        fusion = Fusion.fit(members, home[:, rest], others, labels[rest])
        p[held_out] = fusion.apply(judged[:, held_out])
    return p


def _weights(kinds: list[np.ndarray], target: np.ndarray, biased: bool = False) -> list[float]:
    """A weight a member and the bias; `kinds`: log-odds of the target at home and away."""
    heard = kinds[0].any(axis=1)
    count, happened = int(heard.sum()), target.astype(np.float64)
    if not count or not len(target):
        return [0.0] * (len(heard) + 1)
    apart, whole = _APART / len(target), _WHOLE / len(target)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = x[:count], x[count] * biased
        from_mean, from_one = weights - weights.mean(), weights.sum() - 1
        value = apart * from_mean @ from_mean + whole * from_one**2
        slope = np.append(2 * (apart * from_mean + whole * from_one), 0.0)
        for odds in kinds:
            z = weights @ odds[heard] + bias
            value -= np.mean(happened * log_expit(z) + (1 - happened) * log_expit(-z))
            error = (expit(z) - happened) / len(target)
            slope += np.append(odds[heard] @ error, error.sum() * biased)
        return value, slope

    start = np.append(np.full(count, 1 / count), 0.0)
    bounds = [(0.0, None)] * count + [(-10.0, 10.0)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = np.zeros(len(heard))
    weights[heard] = found[:count]
    return [*weights.tolist(), float(found[count]) * biased]
