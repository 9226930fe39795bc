"""Shortcuts are named, and what helps everywhere or nowhere is not."""

import numpy as np
import pytest

from pairpref.evaluation import shortcuts
from pairpref.evaluation.shortcuts import Question

N, NOISE = 3_000, 40
RATES = np.array([0.6, 0.2, 0.25, 0.15, 0.2])  # of ties, by cluster


@pytest.fixture(scope="module")
def votes() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns of noise, ties, folds, clusters and groups of three votes."""
    rng = np.random.default_rng(0)
    groups = np.arange(N) // 3
    folds, clusters = (rng.integers(5, size=N // 3)[groups] for _ in range(2))
    tie = rng.random(N) < RATES[clusters]
    return rng.normal(size=(N, NOISE)), tie, folds, clusters, groups


def named(x: np.ndarray, y: np.ndarray, *parts: np.ndarray) -> list[str]:
    """Names of features, by their place in x."""
    question = Question("tie", [*map(str, range(x.shape[1]))], x, y, *parts)
    return [row["feature"] for row in shortcuts.find([question])["named"]]


PLANTED = {
    "the cluster": lambda cluster, rng: cluster,
    "white space in one cluster": lambda cluster, rng: cluster == 0,
    "white space, mostly in two": lambda cluster, rng: (cluster < 2) ^ (rng.random(N) < 0.05),
}


@pytest.mark.parametrize("column", PLANTED.values(), ids=PLANTED)
def test_a_column_that_tells_the_cluster_is_named(votes, column):
    x, tie, *parts = votes
    x = np.column_stack([x, column(parts[1], np.random.default_rng(1))]).astype(np.float32)
    assert named(x, tie, *parts) == [str(NOISE)]
    for seed in range(3):
        assert not named(x, np.random.default_rng(seed).permutation(tie), *parts)


def test_what_helps_in_every_cluster_is_not_named_and_what_turns_round_is(votes):
    x, _, *parts = votes
    rng, turned = np.random.default_rng(1), np.where(parts[1] == 0, -4, 1)
    for slope, expected in ((np.ones(N), []), (turned, ["0"])):
        y = rng.random(N) < 1 / (1 + np.exp(-slope * x[:, 0]))
        assert named(x, y, *parts) == expected


def test_effects_of_any_size_that_are_alike_in_all_clusters_are_rarely_named(votes):
    x, _, *parts = votes
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sizes = rng.uniform(0, 0.3, NOISE)
        found += len(named(x, x @ sizes + 1.5 * rng.normal(size=N), *parts))
    assert found <= 4  # of 400


def test_shares_are_those_of_lines_fitted_one_by_one(votes):
    x, y, folds, _, groups = votes
    x = x[:, :3] + 0.5 * y[:, None]
    share, error = shortcuts.explained(x, y, folds, groups)
    for i in range(3):
        gain, around = np.zeros(N), np.zeros(N)
        for fold in range(5):
            out = folds == fold
            slope = np.polyfit(x[~out, i], y[~out], 1)[0]
            around[out] = y[out] - y[out].mean()
            left = around[out] - slope * (x[out, i] - x[out, i].mean())
            gain[out] = around[out] ** 2 - left**2
        assert share[i] == pytest.approx(gain.sum() / (around**2).sum())
        of_groups = gain.reshape(-1, 3).sum(axis=1)
        assert error[i] == pytest.approx(of_groups.std(ddof=1) * (N / 3) ** 0.5 / (around**2).sum())


def test_votes_of_one_cluster_or_none_tell_nothing(votes):
    x, tie, folds, _, groups = votes
    for rows in (slice(None), slice(0)):
        parts = folds[rows], np.zeros_like(folds)[rows], groups[rows]
        question = Question("tie", ["x"] * NOISE, x[rows], tie[rows], *parts)
        assert shortcuts.find([question])["comparisons"] == 0
