"""Paired comparison of two models on the same votes, with confidence interval and verdict.

Two sources of chance are told apart: which votes there were, and which seed a training began with.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from pairpref.evaluation.intervals import LEVEL, RESAMPLES, group_sums


@dataclass(frozen=True)
class Comparison:
    """Mean difference in loss, new − old, in nats: below 0 the new model is better."""

    difference: float
    rows_error: float  # its standard error over prompt groups
    ci: tuple[float, float]  # 95% confidence interval
    favour: float  # share of resamples of groups and seeds in which the new model is better
    votes: int
    groups: int
    seeds: int

    @property
    def verdict(self) -> str:
        """better, worse, or not shown: the interval holds 0."""
        low, high = self.ci
        return "better" if high < 0 else "worse" if low > 0 else "not shown"

    def __str__(self) -> str:
        low, high = self.ci
        if self.difference == low == high == 0:
            return f"{self.verdict}: the same probabilities on all {self.votes:,} votes"
        one = "one seed: the luck of training is not in the interval"
        seeds = f"{self.seeds} seeds" if self.seeds > 1 else one
        return (
            f"{self.verdict}: log loss {self.difference:+.4f} (95 % interval {low:+.4f} to "
            f"{high:+.4f}; {self.votes:,} votes on {self.groups:,} prompts; {seeds})"
        )


def compare(
    new: np.ndarray, old: np.ndarray, groups: np.ndarray, count: int = RESAMPLES
) -> Comparison:
    """Compare two models on the same votes; see `margin_of` for the interval.

    Standard errors are clustered by prompt group (Miller 2024, "Adding Error Bars to Evals",
    sections 2.2 and 4).

    Args:
        new, old: loss of each vote from each seed; shape (seeds, n), row s of both from one seed.
        count: of the resamples behind `favour`.
    """
    d = new - old
    seeds, n = d.shape
    mean, by_seed = d.mean(), d.mean(axis=1)
    by_group = group_sums(np.column_stack([np.ones(n), d.T]), groups)
    sizes, sums = by_group[:, 0], by_group[:, 1:]
    rows_error = np.nan
    if (k := len(by_group)) > 1:
        rows_error = np.sqrt(k / (k - 1) * ((sums.mean(axis=1) - mean * sizes) ** 2).sum()) / n
    margin = margin_of(rows_error, effective_groups(sizes), by_seed)
    return Comparison(
        difference=float(mean),
        rows_error=float(rows_error),
        ci=(float(mean - margin), float(mean + margin)),
        favour=_favour(sums, count),
        votes=n,
        groups=len(by_group),
        seeds=seeds,
    )


def by_luck(count: int) -> float:
    """Expected number of `count` comparisons called better (or worse) if no model differs.

    Expected numbers add up, so this holds although the comparisons share votes and models.
    """
    return count * (1 - LEVEL) / 2


def margin_of(rows_error: float, groups: float, by_seed: np.ndarray) -> float:
    """Half width of the 95% CI of a mean: √((t_rows · se_rows)² + (t_seeds · se_seeds)²).

    Each t has its own degrees of freedom, effective groups − 1 and seeds − 1. Margins are added in
    squares as in Howe 1974, "Approximate Confidence Limits on the Mean of X + Y Where X and Y Are
    Two Tabled Independent Random Variables".

    Args:
        rows_error: standard error over prompt groups; nan if there is one group.
        groups: effective number of groups.
        by_seed: the figure from each seed; shape (seeds,).
    """
    margins = [np.inf if np.isnan(rows_error) else _t(max(1.0, groups - 1)) * rows_error]
    if (seeds := len(by_seed)) > 1:
        margins.append(_t(seeds - 1) * by_seed.std(ddof=1) / np.sqrt(seeds))
    return float(np.hypot.reduce(margins))


def effective_groups(sizes: np.ndarray) -> float:
    """Number of equal groups that would weigh as evenly: (Σ size)² / Σ size²."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _t(degrees: float) -> float:
    return float(student.ppf((1 + LEVEL) / 2, degrees))


def _favour(sums: np.ndarray, count: int) -> float:
    rng = np.random.default_rng(0)
    groups, seeds = sums.shape
    better = 0.0
    for _ in range(count):
        of_seed = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        total = np.bincount(rng.integers(groups, size=groups), minlength=groups) @ (sums @ of_seed)
        better += 1.0 if total < 0 else 0.5 if total == 0 else 0.0
    return better / count
