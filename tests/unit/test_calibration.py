import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from pairpref.errors import UserError
from pairpref.evaluation.calibration import Calibrator, cross_fitted
from pairpref.evaluation.metrics import scores
from pairpref.pairs import swap_labels, swap_probabilities


def spoken(n: int, seed: int, boldness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """What a model says that is `boldness` times too sure of itself, and the votes."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, 3))
    p = softmax(logits, axis=1)
    labels = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return softmax(boldness * logits, axis=1), labels


cases = st.builds(spoken, st.integers(1, 200), st.integers(0, 2**32 - 1), st.floats(0.05, 20))


@settings(deadline=None, max_examples=50)
@given(cases)
def test_temperature_never_worsens_the_loss_it_was_fitted_on(case):
    p, labels = case
    calibrator = Calibrator.fit(p, labels)
    assert scores(labels, calibrator.apply(p))["log_loss"] <= scores(labels, p)["log_loss"] + 1e-9
    assert calibrator.n == len(labels)


@settings(deadline=None)
@given(cases, st.floats(0.05, 20))
def test_swapping_the_answers_swaps_the_calibrated_probabilities(case, temperature):
    p, _ = case
    calibrator = Calibrator("temperature", temperature, 1)
    np.testing.assert_allclose(calibrator.apply(swap_probabilities(p)), swap_probabilities(calibrator.apply(p)), rtol=1e-12)


@settings(deadline=None, max_examples=25)
@given(cases)
def test_swapped_votes_give_the_same_temperature(case):
    p, labels = case
    mirrored = Calibrator.fit(swap_probabilities(p), swap_labels(labels))
    before, after = Calibrator.fit(p, labels).apply(p), mirrored.apply(p)
    assert scores(labels, before)["log_loss"] == pytest.approx(scores(labels, after)["log_loss"], abs=1e-6)


@settings(deadline=None)
@given(cases, st.floats(0.2, 5))
def test_the_ranking_of_the_three_stays(case, temperature):
    p, _ = case
    q = Calibrator("temperature", temperature, 1).apply(p)
    order = np.argsort(p, axis=1)
    assert (np.diff(np.take_along_axis(q, order, axis=1), axis=1) >= 0).all()
    np.testing.assert_allclose(q.sum(axis=1), 1)


@pytest.mark.parametrize("boldness", [0.5, 1.0, 2.0])
def test_a_known_temperature_is_found(boldness):
    assert Calibrator.fit(*spoken(20_000, 0, boldness)).temperature == pytest.approx(boldness, rel=0.03)


def test_a_class_nobody_voted_for_and_probabilities_of_zero_do_no_harm():
    p = np.array([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    calibrator = Calibrator.fit(p, np.array([0, 1, 1]))
    assert np.isfinite(calibrator.temperature) and np.isfinite(calibrator.apply(p)).all()


def test_none_leaves_probabilities_alone():
    p, labels = spoken(50, 0, 3)
    calibrator = Calibrator.fit(p, labels, "none")
    assert calibrator == Calibrator("none", 1.0, 50)
    np.testing.assert_array_equal(calibrator.apply(p), p)


def test_saved_and_loaded_is_the_same(tmp_path):
    calibrator = Calibrator.fit(*spoken(300, 0, 2))
    calibrator.save(tmp_path / "calibrator.json")
    assert Calibrator.load(tmp_path / "calibrator.json") == calibrator


def test_each_fold_is_calibrated_by_the_others():
    p, labels = spoken(500, 0, 2)
    folds = np.arange(500) % 5
    crossed = cross_fitted(p, labels, folds, np.arange(500), "temperature")
    rest = folds != 3
    np.testing.assert_array_equal(crossed[~rest], Calibrator.fit(p[rest], labels[rest]).apply(p[~rest]))


def test_within_one_fold_a_prompt_group_never_calibrates_itself():
    p, labels = spoken(300, 0, 2)
    folds, groups = np.zeros(300, int), np.arange(300) // 3
    crossed = cross_fitted(p, labels, folds, groups, "temperature")
    changed = labels.copy()
    changed[groups == 7] = (labels[groups == 7] + 1) % 3
    np.testing.assert_array_equal(cross_fitted(p, changed, folds, groups, "temperature")[groups == 7], crossed[groups == 7])


def test_one_prompt_alone_cannot_be_cross_fitted():
    p, labels = spoken(10, 0)
    with pytest.raises(UserError, match="two different prompts"):
        cross_fitted(p, labels, np.zeros(10, int), np.zeros(10, int), "temperature")
