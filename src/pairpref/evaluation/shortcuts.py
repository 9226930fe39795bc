"""Features that help at home and not elsewhere: perhaps they tell where a vote comes from.

Each feature by itself explains a share of a target's variance: that of a least-squares line fitted
to the other folds ("home") or to the other clusters of prompts ("away"). Both are judged within the
part that is held out, around its own means, as the mean of new votes is another anyway. So what
only tells clusters apart gains at home, where every fold has all of them, and nothing away.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

AT_HOME, AWAY = 3.0, 1.0  # standard errors above 0: at least so many at home, fewer away
MOST = 5  # features that are listed
SHUFFLES = 5  # of the targets, to count what is named by chance
_LIMIT = 4.0  # standard deviations from the mean, so that no odd text decides alone
_LEAST = 1e-6
_ROW = ("target", "feature", "home", "home_error", "away", "away_error")


@dataclass(frozen=True)
class Question:
    """A target of n votes, and m features that may explain it."""

    target: str
    names: list[str]
    x: np.ndarray  # shape (n, m)
    y: np.ndarray  # shape (n,), as all below
    folds: np.ndarray
    clusters: np.ndarray
    groups: np.ndarray  # prompt groups; each is in one fold and in one cluster


def find(questions: list[Question]) -> dict[str, Any]:
    """The features that clearly help at home and not away.

    Returns:
        comparisons (features of all questions), by_chance (mean number named on shuffled targets),
        count (named) and named: of those `MOST` that explain most, target, feature, home,
        home_error, away and away_error (shares of variance and their standard errors).
    """
    questions = [q for q in questions if len(np.unique(q.clusters)) > 1]
    rows: list[dict[str, Any]] = []
    rng, by_chance = np.random.default_rng(0), 0
    for q in questions:
        x = q.x - q.x.mean(axis=0, dtype=np.float64)
        spread = x.std(axis=0)
        x = np.clip(x / np.where(spread > _LEAST, spread, np.inf), -_LIMIT, _LIMIT)
        for y in (*(rng.permutation(q.y) for _ in range(SHUFFLES)), q.y):
            home, home_error = explained(x, y, q.folds, q.groups)
            away, away_error = explained(x, y, q.clusters, q.groups)
            named = (home > AT_HOME * home_error) & (away < AWAY * away_error + _LEAST)
            by_chance += int(named.sum()) * (y is not q.y)
        shares = np.stack([home, home_error, away, away_error], axis=1)[named].tolist()
        names = zip(np.compress(named, q.names).tolist(), shares, strict=True)
        rows += [dict(zip(_ROW, (q.target, name, *of), strict=True)) for name, of in names]
    return {
        "comparisons": sum(len(q.names) for q in questions),
        "by_chance": by_chance / SHUFFLES,
        "count": len(rows),
        "named": sorted(rows, key=lambda row: -row["home"])[:MOST],
    }


def explained(
    x: np.ndarray, y: np.ndarray, part: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share of y's variance that each feature explains in parts that its line was not fitted to.

    Args:
        x: standardised features, shape (n, m).
        part, groups: shape (n,); a group is in one part.

    Returns:
        The shares, and their standard errors over groups; shape (m,) each.
    """
    y = y[:, None].astype(np.float64)
    at, group = (np.unique(of, return_inverse=True)[1] for of in (part, groups))
    of_part = [_sums(columns, at) for columns in (np.ones_like(y), x, y, x * x, x * y)]
    n, sum_x, sum_y = of_part[:3]
    rest, rest_x, rest_y, squares, products = (of.sum(axis=0) - of for of in of_part)
    rest = np.maximum(rest, 1)
    spread = squares / rest - (rest_x / rest) ** 2
    slope = (products / rest - rest_x * rest_y / rest**2) / np.maximum(spread, _LEAST)
    around = y - (sum_y / n)[at]
    line = (x - (sum_x / n)[at]) * np.where(spread > _LEAST, slope, 0)[at]
    gain = _sums(line * (2 * around - line), group)
    share = gain.mean(axis=0) * len(gain) / len(y)
    apart = gain - share * _sums(np.ones_like(y), group)
    error = np.sqrt((apart**2).sum(axis=0) * len(gain) / max(len(gain) - 1, 1)) / len(y)
    variance = max((around**2).mean(), _LEAST)
    return share / variance, error / variance


def _sums(columns: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Over the rows of each number 0, 1, …, none of them missing; the same on any thread count."""
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(number.max() + 1))
    return np.add.reduceat(columns[order], starts, axis=0)
