"""One answer from the models of several folds: as bold as what they know together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import drawn
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from pairpref.evaluation.calibration import Calibrator, sharpening
from pairpref.evaluation.truth import cross_entropy
from pairpref.pairs import swap_probabilities


def models(
    count: int, n: int, seed: int, noise: float = 0.6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True probabilities, votes, and models that know the truth but for errors, too bold."""
    p, labels = drawn(n, seed)
    errors = noise * np.random.default_rng(seed).normal(size=(count, n, 3))
    return p, labels, softmax(1.4 * (np.log(p) + errors), axis=-1)


said = st.builds(
    lambda *a: models(*a)[2],
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.floats(0, 5),
)
calibrators = st.builds(
    Calibrator,
    st.just("temperature_tie"),
    st.floats(0.2, 5),
    st.floats(-1, 1),
    sharpening=st.floats(1, 3),
)

FEW = settings(max_examples=30)


@FEW
@given(said)
def test_between_one_model_and_as_many_as_there_are(p):
    assert 1 <= sharpening(p) <= len(p)


@FEW
@given(said, calibrators)
def test_one_model_is_pooled_to_itself(p, calibrator):
    assert sharpening(p[:1]) == 1
    np.testing.assert_array_equal(calibrator.pool(p[:1]), calibrator.apply(p[0]))


@FEW
@given(said)
def test_models_that_agree_are_not_sharpened(p):
    assert sharpening(np.repeat(p[:1], 3, axis=0)) == pytest.approx(1)


@FEW
@given(said, calibrators, st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(p, calibrator, random):
    order = random.sample(range(len(p)), len(p))
    assert sharpening(p[order]) == pytest.approx(sharpening(p), abs=1e-12)
    np.testing.assert_allclose(calibrator.pool(p[order]), calibrator.pool(p), atol=1e-12)


@FEW
@given(said, calibrators)
def test_swapping_the_answers_swaps_what_is_pooled(p, calibrator):
    assert sharpening(swap_probabilities(p)) == pytest.approx(sharpening(p), abs=1e-12)
    np.testing.assert_allclose(
        calibrator.pool(swap_probabilities(p)), swap_probabilities(calibrator.pool(p)), atol=1e-12
    )


@FEW
@given(said, calibrators)
def test_a_row_is_pooled_alone(p, calibrator):
    np.testing.assert_allclose(calibrator.pool(p[:, :1]), calibrator.pool(p)[:1], atol=1e-15)


def test_models_that_know_nothing_or_contradict_each_other_are_no_division_by_zero():
    contrary = np.array([[[0.8, 0.1, 0.1]], [[0.1, 0.8, 0.1]]])
    contrary[1] = softmax(-np.log(contrary[0]), axis=-1)
    for p in (np.full((4, 7, 3), 1 / 3), contrary, np.zeros((3, 0, 3))):
        assert 1 <= sharpening(p) <= len(p)


@pytest.mark.parametrize("count", [2, 5])
def test_pooled_models_are_calibrated_by_a_temperature_fitted_on_single_ones(count):
    """Compared with the best possible sharpening; without any, the mean is far too careful."""
    _, labels, p = models(count, 10_000, 0, 0.5)
    truth, _, new = models(count, 10_000, 1, 0.5)
    calibrator = Calibrator.fit(p.reshape(-1, 3), np.tile(labels, count))

    def loss(factor: float) -> float:
        return float(
            cross_entropy(
                truth,
                Calibrator("temperature", calibrator.temperature, sharpening=factor).pool(new),
            ).mean()
        )

    found, best = sharpening(p[:, :500]), minimize_scalar(loss, bounds=(0.5, 3), method="bounded")
    assert found == pytest.approx(best.x, rel=0.05)
    assert loss(found) - best.fun < 0.1 * (loss(1) - best.fun)
