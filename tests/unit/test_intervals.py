"""Intervals by resampling prompt groups: repeatable, narrower with more votes, with coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairpref.data import arena
from pairpref.evaluation import intervals, metrics, truth
from pairpref.evaluation import sufficient_statistics as sums_of
from tests.made_up import drawn, rows

COVERED = (0.92, 0.98)


@given(rows)
def test_figures_of_sums_are_those_of_the_votes(row):
    p, labels = row
    found = sums_of.figures(sums_of.per_vote(labels, p).sum(axis=0))
    assert dict(zip(sums_of.FIGURES, found, strict=True)) == pytest.approx(
        {name: metrics.scores(labels, p)[name] for name in sums_of.FIGURES}
    )


@given(rows)
def test_known_truth_of_sums_is_that_of_the_votes(row):
    p, _ = row
    q = p[::-1]
    found = dict(
        zip(
            truth.FROM_SUMS,
            truth.captured_from_sums(truth.sufficient_statistics(p, q).sum(axis=0)),
            strict=True,
        )
    )
    whole = truth.captured(p, q) | truth.distance(p, q)
    assert all(
        found[name] == pytest.approx(whole[name]) for name in truth.FROM_SUMS if name in whole
    )


@settings(max_examples=20)
@given(st.integers(5, 60), st.integers(0, 2**32 - 1))
def test_resamples_are_sums_of_whole_groups(n, seed):
    groups = np.random.default_rng(seed).integers(0, 5, n)
    columns = np.eye(5)[groups]
    sums = intervals.resampled(columns, groups, lambda sums: sums, count=20, seed=seed)
    present, sizes = np.unique(groups, return_counts=True)
    times = sums[:, present] / sizes
    assert np.array_equal(times, times.round()) and (times.sum(axis=1) == len(present)).all()


def test_the_same_arguments_give_the_same_interval():
    p, labels = drawn(200, 0)
    columns, groups = sums_of.per_vote(labels, p), np.arange(200) // 3
    first, again, other = (
        intervals.resampled(columns, groups, sums_of.figures, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def width(n: int, votes_a_group: int = 1) -> float:
    p, labels = drawn(n, 0)
    figures = intervals.resampled(
        sums_of.per_vote(labels, p), np.arange(n) // votes_a_group, sums_of.figures
    )
    low, high = intervals.bounds(figures)
    return float(high[0] - low[0])


def test_four_times_the_votes_halve_an_interval():
    assert width(4000) / width(1000) == pytest.approx(0.5, rel=0.15)


def test_votes_that_say_the_same_count_as_one():
    """Each vote five times over, in a group of its own kind, teaches no more than once."""
    p, labels = drawn(400, 0)
    once = intervals.resampled(sums_of.per_vote(labels, p), np.arange(400), sums_of.figures)
    often = np.repeat(np.arange(400), 5)
    repeated = intervals.resampled(
        sums_of.per_vote(labels[often], p[often]), often, sums_of.figures
    )
    np.testing.assert_allclose(intervals.bounds(repeated), intervals.bounds(once), rtol=0.02)


def test_a_resample_without_the_bucket_is_left_out():
    low, high = intervals.bounds(np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert low[1] == high[1] == 3 and 1 <= low[0] < high[0] <= 2


@pytest.mark.slow
def test_intervals_cover_what_they_claim_to(small_params):
    """A fixed predictor: intervals of 400 test sets, against its value on 50,000 fresh rows."""
    rows_a_set, sets, fresh = 250, 400, 50_000
    knobs = small_params(
        simulate__mojibake=0.0, simulate__html_entities=0.0, simulate__control_characters=0.0
    ).simulate
    votes = [arena.vote(row, knobs) for row in range(fresh + sets * rows_a_set)]
    lengths = np.array(
        [[sum(len(turn or "") for turn in text) for text in vote.shown] for vote in votes],
        dtype=float,
    )
    p, labels = np.array([vote.p for vote in votes]), np.array([vote.label for vote in votes])
    prompts = np.unique([" ".join(vote.shown[0]).lower() for vote in votes], return_inverse=True)[1]

    lead = 0.4 * (np.log1p(lengths[:, 1]) - np.log1p(lengths[:, 2]))
    q = np.exp(np.column_stack([lead, -lead, np.full(len(lead), -0.3)]))
    q /= q.sum(axis=1, keepdims=True)
    expected = [
        truth.captured(p[:fresh], q[:fresh])["expected_log_loss"],
        truth.captured(p[:fresh], q[:fresh])["information_captured"],
    ]
    hits = np.zeros(2)
    for begin in range(fresh, len(votes), rows_a_set):
        part = slice(begin, begin + rows_a_set)
        by_votes = intervals.resampled(
            sums_of.per_vote(labels[part], q[part]), prompts[part], sums_of.figures
        )[:, :1]
        by_truth = intervals.resampled(
            truth.sufficient_statistics(p[part], q[part]), prompts[part], truth.captured_from_sums
        )[:, 1:2]
        low, high = intervals.bounds(np.column_stack([by_votes, by_truth]))
        hits += (low <= expected) & (expected <= high)
    assert (COVERED[0] <= hits / sets).all() and (hits / sets <= COVERED[1]).all(), hits / sets
