"""Two models on the same votes: better, worse or not shown, as often as the interval promises."""

import math

import numpy as np
import pytest

from pairpref.evaluation.comparison import by_luck, compare


def differences(
    rng, seeds: int, of_seed: float, prompts: int = 150
) -> tuple[np.ndarray, np.ndarray]:
    """Differences around 0 with luck of prompt, vote and seed; and the prompt of each vote."""
    groups = np.repeat(np.arange(prompts), rng.integers(1, 4, prompts))
    luck = 0.3 * rng.normal(size=prompts)[groups] + 0.3 * rng.normal(size=(seeds, len(groups)))
    return luck + of_seed * rng.normal(size=(seeds, 1)), groups


@pytest.mark.parametrize(("seeds", "of_seed"), [(1, 0.0), (3, 0.0), (3, 0.02), (3, 0.1), (5, 0.05)])
def test_no_difference_is_rarely_taken_for_one(seeds, of_seed):
    rng, trials = np.random.default_rng(0), 400
    found = [
        compare(d, np.zeros_like(d), groups, count=1)
        for d, groups in (differences(rng, seeds, of_seed) for _ in range(trials))
    ]
    wrong = np.mean([c.verdict != "not shown" for c in found])
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


def test_one_seed_does_not_know_the_luck_of_training_and_says_so():
    rng = np.random.default_rng(0)
    d, groups = differences(rng, 1, 0.0)
    one = compare(d, np.zeros_like(d), groups)
    assert "the luck of training is not in the interval" in str(one)
    d, groups = differences(rng, 3, 0.1)
    assert "; 3 seeds)" in str(compare(d, np.zeros_like(d), groups))


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-0.2, "better"), (0.2, "worse"), (0.0, "not shown")]
)
def test_verdicts(shift, verdict):
    d, groups = differences(np.random.default_rng(1), 3, 0.01)
    found = compare(d - d.mean() + shift, np.zeros_like(d), groups)
    assert found.verdict == verdict and found.difference == pytest.approx(shift)
    assert found.ci[0] < shift < found.ci[1]
    assert found.favour == pytest.approx(
        {"better": 1, "worse": 0, "not shown": 0.5}[verdict], abs=0.1
    )


def test_exchanging_the_models_turns_everything_round():
    rng = np.random.default_rng(2)
    d, groups = differences(rng, 2, 0.05)
    old = rng.random(d.shape)
    one, other = compare(old + d, old, groups), compare(old, old + d, groups)
    assert one.difference == pytest.approx(-other.difference) and one.ci[0] == pytest.approx(
        -other.ci[1]
    )
    assert one.favour == pytest.approx(1 - other.favour)


def test_luck_that_both_have_cancels_out():
    """Losses that vary wildly, and a difference that hardly does."""
    rng = np.random.default_rng(3)
    old = 5 * rng.random((1, 300))
    assert (
        compare(old - 0.01 - 0.001 * rng.random((1, 300)), old, np.arange(300)).verdict == "better"
    )


def test_repeating_every_vote_teaches_nothing():
    d, _ = differences(np.random.default_rng(4), 1, 0.0)
    n = d.shape[1]
    once = compare(d, np.zeros_like(d), np.arange(n))
    often = np.repeat(d, 4, axis=1)
    again = compare(often, np.zeros_like(often), np.repeat(np.arange(n), 4))
    assert again.ci == pytest.approx(once.ci)


def test_the_same_model_twice():
    loss = np.random.default_rng(5).random((1, 50))
    found = compare(loss, loss, np.arange(50))
    assert found.difference == 0 and found.verdict == "not shown" and found.favour == 0.5


def test_a_prompt_that_holds_most_votes_is_hardly_more_than_one():
    rng = np.random.default_rng(6)
    groups = np.concatenate([np.zeros(600), np.arange(1, 101)])
    d = (0.3 * rng.normal(size=101))[groups.astype(int)][None]
    even = compare(d[:, 600:], np.zeros((1, 100)), np.arange(100))
    found = compare(d, np.zeros_like(d), groups)
    assert (found.ci[1] - found.ci[0]) / found.rows_error > 2 * (
        even.ci[1] - even.ci[0]
    ) / even.rows_error


def test_one_prompt_shows_nothing():
    found = compare(np.zeros((1, 5)), np.ones((1, 5)), np.zeros(5))
    assert found.verdict == "not shown" and found.ci == (-math.inf, math.inf)


def test_a_table_of_comparisons_is_called_better_by_luck_as_often_as_it_says():
    """Nine equal models against one anchor: verdicts are correlated, their number holds."""
    rng, better, worse = np.random.default_rng(7), [], []
    for _ in range(150):
        anchor = rng.normal(size=(1, 300))
        found = [
            compare(rng.normal(size=(1, 300)), anchor, np.arange(300), count=1).verdict
            for _ in range(9)
        ]
        better.append(found.count("better"))
        worse.append(found.count("worse"))
    assert by_luck(9) == pytest.approx(0.225)
    for counted in (better, worse):
        assert np.mean(counted) == pytest.approx(
            by_luck(9), abs=3 * np.std(counted) / math.sqrt(len(counted))
        )
