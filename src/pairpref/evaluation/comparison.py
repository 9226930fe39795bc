"""Is one model better than another, or was it luck? Both answer the same votes, so only the differences vote by vote count.

Two kinds of luck are told apart: which votes there were, and which seed a training began with.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from pairpref.evaluation.intervals import LEVEL, RESAMPLES, group_sums


@dataclass(frozen=True)
class Comparison:
    """Mean difference in loss, new − old, in nats: below 0 the new model is better.

    Attributes:
        difference: mean over votes and seeds.
        rows_error: its standard error over prompt groups.
        seeds_error: its standard error over seeds; nan where there is one.
        ci: 95 % interval.
        favour: share of resamples of groups and seeds in which the new model is better.
        votes, groups, seeds: how many there were.
    """

    difference: float
    rows_error: float
    seeds_error: float
    ci: tuple[float, float]
    favour: float
    votes: int
    groups: int
    seeds: int

    @property
    def verdict(self) -> str:
        """better, worse, or not shown: the interval holds 0."""
        return "better" if self.ci[1] < 0 else "worse" if self.ci[0] > 0 else "not shown"

    def __str__(self) -> str:
        luck = (
            "one seed: the luck of training is not in the interval"
            if self.seeds == 1
            else f"{self.seeds} seeds, whose t has {self.seeds - 1} degree{'s' * (self.seeds > 2)} of freedom"
        )
        return (
            f"{self.verdict}: log loss {self.difference:+.4f} (95 % interval {self.ci[0]:+.4f} to {self.ci[1]:+.4f}; in favour "
            f"{self.favour:.1%} of resamples; {self.votes:,} votes on {self.groups:,} prompts; {luck})"
        )


def compare(
    new: np.ndarray, old: np.ndarray, groups: np.ndarray, count: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two models on the same votes.

    The interval's half width is √((t_rows · se_rows)² + (t_seeds · se_seeds)²), each t with its own degrees of freedom: effective
    groups − 1 and seeds − 1 (margins added in squares, as in Howe 1974, "Approximate Confidence Limits on the Mean of X + Y Where X and
    Y Are Two Tabled Independent Random Variables"). se_rows is clustered by prompt group (Miller 2024, "Adding Error Bars to Evals",
    sections 2.2 and 4).

    Args:
        new, old: loss of each vote under each of the seeds; shape (seeds, n), row s of both from the same seed.
        groups: prompt group of each vote; shape (n,).
    """
    d = new - old
    seeds, n = d.shape
    mean = d.mean()
    by_group = group_sums(np.column_stack([np.ones(n), d.T]), groups)
    sizes, sums = by_group[:, 0], by_group[:, 1:]
    scatter = ((sums.mean(axis=1) - mean * sizes) ** 2).sum()
    rows_error = (
        np.sqrt(len(by_group) / (len(by_group) - 1) * scatter) / n if len(by_group) > 1 else np.nan
    )
    seeds_error = _standard_error(d.mean(axis=1))
    margin = margin_of(rows_error, effective_groups(sizes), d.mean(axis=1))
    return Comparison(
        difference=float(mean),
        rows_error=float(rows_error),
        seeds_error=float(seeds_error),
        ci=(float(mean - margin), float(mean + margin)),
        favour=_favour(sums, count, seed),
        votes=n,
        groups=len(by_group),
        seeds=seeds,
    )


def by_luck(count: int) -> float:
    """How many of `count` comparisons are expected to be called better, and as many worse, where no model differs.

    Expected numbers add up, so this holds although the comparisons share votes and models.
    """
    return count * (1 - LEVEL) / 2


def margin_of(rows_error: float, groups: float, by_seed: np.ndarray) -> float:
    """Half width of the 95 % interval of a mean over rows and seeds, as `compare` says.

    Args:
        rows_error: standard error over prompt groups; nan where there is one group.
        groups: how many groups there are, effectively.
        by_seed: the figure from each seed; shape (seeds,).
    """
    margins = [np.inf if np.isnan(rows_error) else _t(max(1.0, groups - 1)) * rows_error]
    if len(by_seed) > 1:
        margins.append(_t(len(by_seed) - 1) * _standard_error(by_seed))
    return float(np.hypot.reduce(margins))


def effective_groups(sizes: np.ndarray) -> float:
    """As many groups of equal size would weigh as evenly: one that holds most votes is hardly more than one."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _standard_error(by_seed: np.ndarray) -> float:
    return by_seed.std(ddof=1) / np.sqrt(len(by_seed)) if len(by_seed) > 1 else np.nan


def _t(degrees: float) -> float:
    return float(student.ppf((1 + LEVEL) / 2, degrees))


def _favour(sums: np.ndarray, count: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    groups, seeds = sums.shape
    better = 0.0
    for _ in range(count):
        of_seed = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        total = np.bincount(rng.integers(groups, size=groups), minlength=groups) @ (sums @ of_seed)
        better += 1.0 if total < 0 else 0.5 if total == 0 else 0.0
    return better / count
