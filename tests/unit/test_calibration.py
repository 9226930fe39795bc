import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from pairpref.errors import UserError
from pairpref.evaluation import calibration
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


METHODS = st.sampled_from(["temperature", "temperature_tie"])


@settings(max_examples=50)
@given(cases, METHODS)
def test_calibration_never_worsens_the_loss_it_was_fitted_on(case, method):
    p, labels = case
    calibrator = Calibrator.fit(p, labels, method)
    assert scores(labels, calibrator.apply(p))["log_loss"] <= scores(labels, p)["log_loss"] + 1e-9
    assert calibrator.n == len(labels)


@given(cases, st.floats(0.05, 20), st.floats(-3, 3))
def test_swapping_the_answers_swaps_the_calibrated_probabilities(case, temperature, tie):
    p, _ = case
    calibrator = Calibrator("temperature_tie", temperature, tie)
    np.testing.assert_allclose(
        calibrator.apply(swap_probabilities(p)), swap_probabilities(calibrator.apply(p)), rtol=1e-12
    )


@settings(max_examples=25)
@given(cases, METHODS)
def test_swapped_votes_give_the_same_calibrator(case, method):
    p, labels = case
    mirrored = Calibrator.fit(swap_probabilities(p), swap_labels(labels), method)
    before, after = Calibrator.fit(p, labels, method).apply(p), mirrored.apply(p)
    assert scores(labels, before)["log_loss"] == pytest.approx(
        scores(labels, after)["log_loss"], abs=1e-6
    )


@given(cases, st.floats(0.2, 5))
def test_the_ranking_of_the_three_stays(case, temperature):
    p, _ = case
    q = Calibrator("temperature", temperature).apply(p)
    order = np.argsort(p, axis=1)
    assert (np.diff(np.take_along_axis(q, order, axis=1), axis=1) >= 0).all()
    np.testing.assert_allclose(q.sum(axis=1), 1)


@pytest.mark.parametrize("boldness", [0.5, 1.0, 2.0])
def test_a_known_temperature_is_found(boldness):
    assert Calibrator.fit(*spoken(20_000, 0, boldness)).temperature == pytest.approx(
        boldness, rel=0.03
    )


def test_a_known_bias_for_ties_is_found():
    p, labels = spoken(20_000, 0, 2.0)
    tilted = p * [1, 1, np.exp(0.8)]
    calibrator = Calibrator.fit(
        tilted / tilted.sum(axis=1, keepdims=True), labels, "temperature_tie"
    )
    assert calibrator.temperature == pytest.approx(2, rel=0.03) and calibrator.tie == pytest.approx(
        -0.4, abs=0.03
    )


def test_without_a_prior_the_temperature_is_scikit_learns(monkeypatch):
    """Its calibrator takes logits as the decision function of a classifier."""

    class Logits(ClassifierMixin, BaseEstimator):
        def fit(self, x, y):
            self.classes_ = np.unique(y)
            return self

        def decision_function(self, x):
            return x

        def predict(self, x):
            return x.argmax(axis=1)

    p, labels = spoken(500, 0, 1.7)
    every, logits = np.arange(500), np.log(p)
    model = FrozenEstimator(Logits().fit(logits, labels))
    theirs = CalibratedClassifierCV(model, method="temperature", cv=[(every, every)]).fit(
        logits, labels
    )
    monkeypatch.setattr(calibration, "_PRIOR", np.inf)
    assert Calibrator.fit(p, labels).temperature == pytest.approx(
        1 / theirs.calibrated_classifiers_[0].calibrators[0].beta_, rel=1e-5
    )


@pytest.mark.parametrize("method", ["temperature", "temperature_tie"])
@pytest.mark.parametrize("hit", [True, False], ids=["perfect", "hopeless"])
@pytest.mark.parametrize("n", [10, 100, 10_000])
def test_however_right_or_wrong_a_model_is_its_temperature_is_one_that_the_votes_bear(
    method, hit, n
):
    """Right answers make it bold, wrong ones careful, by as much as their number bears."""
    p, _ = spoken(n, 1)
    fitted = Calibrator.fit(p, p.argmax(axis=1) if hit else p.argmin(axis=1), method)
    assert abs(fitted.tie) < 6 and np.isfinite(fitted.apply(p)).all()
    assert (
        {10: 1 / 8, 100: 1 / 40, 10_000: 1 / 400}[n] < fitted.temperature < 1
        if hit
        else 1.5 < fitted.temperature < 1000
    )
    assert (fitted.temperature < 1) == hit


def test_folds_of_few_votes_agree():
    """Without the prior these temperatures go from below .1 to above 4."""
    few = [Calibrator.fit(*spoken(8, seed)) for seed in range(40)]
    assert min(c.temperature for c in few) > 0.3 and max(c.temperature for c in few) < 3
    assert all(c.doubt and c.interval[0] < 1 < c.interval[1] for c in few)


def test_many_votes_outweigh_the_prior(monkeypatch):
    p, labels = spoken(3000, 0, 1.4)
    fitted = Calibrator.fit(p, labels)
    monkeypatch.setattr(calibration, "_PRIOR", np.inf)
    assert fitted.temperature == pytest.approx(Calibrator.fit(p, labels).temperature, abs=1e-3)


@pytest.mark.parametrize("method", ["temperature", "temperature_tie"])
def test_the_interval_holds_the_temperature_as_often_as_it_says(method):
    fitted = [Calibrator.fit(*spoken(300, seed, 1.4), method) for seed in range(100)]
    assert np.mean(
        [low < 1.4 < high for low, high in (c.interval for c in fitted)]
    ) == pytest.approx(0.95, abs=0.05)
    assert np.mean([abs(c.tie) <= 1.96 * c.tie_error for c in fitted]) > 0.9


@pytest.mark.parametrize(("n", "few"), [(10, True), (60, True), (1000, False), (10_000, False)])
def test_few_votes_leave_the_calibration_open(n, few):
    assert (
        Calibrator.fit(*spoken(n, 0)).doubt.startswith(f"{n:,} votes leave the calibration open")
        is few
    )
    assert (
        "bias for ties" in Calibrator("temperature_tie", 1.2, tie_error=0.2).doubt
        and not Calibrator(n=3).doubt
    )


@pytest.mark.parametrize(
    "p", [[1 / 3] * 3, [1, 0, 0], [0, 0, 1]], ids=["knows nothing", "always A", "always a tie"]
)
@given(n=st.integers(1, 20), label=st.integers(0, 2), method=METHODS)
def test_votes_that_say_nothing_of_the_temperature_leave_it_alone_or_finite(p, n, label, method):
    fitted = Calibrator.fit(np.tile(np.array(p, float), (n, 1)), np.full(n, label), method)
    assert (
        np.isfinite(fitted.interval).all()
        and np.isfinite(fitted.apply(np.eye(3))).all()
        and fitted.doubt
    )
    if len(set(p)) == 1:
        assert fitted.temperature == pytest.approx(1) and fitted.interval[1] > 3


def test_a_class_nobody_voted_for_and_probabilities_of_zero_do_no_harm():
    p = np.array([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    calibrator = Calibrator.fit(p, np.array([0, 1, 1]))
    assert np.isfinite(calibrator.temperature) and np.isfinite(calibrator.apply(p)).all()


def test_none_leaves_probabilities_alone():
    p, labels = spoken(50, 0, 3)
    calibrator = Calibrator.fit(p, labels, "none")
    assert calibrator == Calibrator("none", n=50)
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
    np.testing.assert_array_equal(
        crossed[~rest], Calibrator.fit(p[rest], labels[rest]).apply(p[~rest])
    )


def test_within_one_fold_a_prompt_group_never_calibrates_itself():
    p, labels = spoken(300, 0, 2)
    folds, groups = np.zeros(300, int), np.arange(300) // 3
    crossed = cross_fitted(p, labels, folds, groups, "temperature")
    changed = labels.copy()
    changed[groups == 7] = (labels[groups == 7] + 1) % 3
    np.testing.assert_array_equal(
        cross_fitted(p, changed, folds, groups, "temperature")[groups == 7], crossed[groups == 7]
    )


def test_one_prompt_alone_cannot_be_cross_fitted():
    p, labels = spoken(10, 0)
    with pytest.raises(UserError, match="two different prompts"):
        cross_fitted(p, labels, np.zeros(10, int), np.zeros(10, int), "temperature")


@pytest.mark.parametrize("method", ["temperature", "temperature_tie"])
def test_what_is_no_number_is_refused(method):
    p = np.full((10, 3), 1 / 3)
    p[4, 1] = np.nan
    with pytest.raises(UserError, match="1 of 10 out-of-fold rows .* dvc repro -f oof"):
        Calibrator.fit(p, np.zeros(10, dtype=int), method)
