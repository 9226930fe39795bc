"""Strengths of several answers to one prompt, from the probabilities of every pair of them.

Bradley and Terry 1952, "Rank Analysis of Incomplete Block Designs": i beats j with the odds
exp(s_i - s_j). Ties count as half a win for either.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

_WEAK = 3.0  # standard deviation of the prior of a strength: odds of 20 to 1 are nothing unusual


@dataclass(frozen=True)
class Ranking:
    """Of k answers."""

    order: tuple[int, ...]  # their numbers from 0, the best first
    strengths: np.ndarray  # log-odds, mean 0; shape (k,)
    errors: np.ndarray  # standard errors of the strengths, if each pair were one vote; shape (k,)
    beats: np.ndarray  # p that i is preferred to j, half of a tie included; shape (k, k)


def bradley_terry(beats: np.ndarray) -> Ranking:
    """The most likely strengths under a weak normal prior.

    Args:
        beats: share of (i, j) that i wins; beats + beats.T is 1 off the diagonal, shape (k, k).
    """
    k = len(beats)
    won = np.where(np.eye(k, dtype=bool), 0.0, beats)

    def loss(s: np.ndarray) -> tuple[float, np.ndarray]:
        apart = s[:, None] - s
        value = -(won * log_expit(apart)).sum() + s @ s / (2 * _WEAK**2)
        error = won * expit(-apart)
        return value, error.sum(axis=0) - error.sum(axis=1) + s / _WEAK**2

    s = minimize(loss, np.zeros(k), jac=True, method="L-BFGS-B", options={"gtol": 1e-10}).x
    # Fisher information of one vote a pair. The mean of all strengths is known to be 0.
    p = expit(s[:, None] - s)
    spread = p * (1 - p) * ~np.eye(k, dtype=bool)
    information = np.diag(spread.sum(axis=1)) - spread + np.eye(k) / _WEAK**2
    centre = np.eye(k) - 1 / k
    errors = np.sqrt(np.maximum(np.diag(centre @ np.linalg.inv(information) @ centre), 0))
    s = s - s.mean()
    return Ranking(tuple(np.argsort(-s, kind="stable").tolist()), s, errors, beats)
