import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pairpref.errors import UserError
from pairpref.evaluation import metrics, truth
from pairpref.evaluation.reliability import CURVES, calibration_error, reliability
from pairpref.pairs import swap_labels, swap_probabilities
from tests.made_up import drawn, rows

probabilities = (
    st.integers(1, 60)
    .flatmap(lambda n: arrays(float, (n, 3), elements=st.floats(1e-4, 1)))
    .map(lambda w: w / w.sum(axis=1, keepdims=True))
)


@given(rows)
def test_scores_by_hand(row):
    p, labels = row
    found = metrics.scores(labels, p)
    predicted = p.argmax(axis=1)
    f1 = []
    for k in range(3):
        hits, of = (
            np.sum((predicted == k) & (labels == k)),
            np.sum(predicted == k) + np.sum(labels == k),
        )
        f1 += [2 * hits / of] if of else []
    assert found["log_loss"] == pytest.approx(
        np.mean([-np.log(p[i, k]) for i, k in enumerate(labels)])
    )
    assert found["accuracy"] == pytest.approx(np.mean(predicted == labels))
    assert found["f1_macro"] == pytest.approx(np.mean(f1))
    assert found["brier"] == pytest.approx(np.mean(((p - np.eye(3)[labels]) ** 2).sum(axis=1)))
    assert found["n"] == len(labels)
    assert metrics.losses(labels, p).mean() == pytest.approx(found["log_loss"])


@pytest.mark.parametrize("score", ["log_loss", "brier"])
def test_no_answer_is_expected_to_score_better_than_the_truth(score):
    """Proper scoring: in expectation over all outcomes, any other answer costs more."""
    p, _ = drawn(4, 5)
    for name, q in {"bolder": p**1.3, "more careful": p**0.7, "tilted": p * [1.2, 1, 1]}.items():
        q = q / q.sum(axis=1, keepdims=True)
        for row in range(len(p)):
            said, truly = (
                sum(
                    p[row, k] * metrics.scores(np.array([k]), answer[row][None])[score]
                    for k in range(3)
                )
                for answer in (q, p)
            )
            assert said > truly, name


@given(rows)
def test_scores_are_the_same_for_swapped_votes(row):
    p, labels = row
    assert metrics.scores(swap_labels(labels), swap_probabilities(p)) == pytest.approx(
        metrics.scores(labels, p)
    )


def test_scores_survive_certainty_that_was_wrong():
    assert np.isfinite(metrics.scores(np.array([0]), np.array([[0.0, 1.0, 0.0]]))["log_loss"])


def test_probabilities_of_float32_sum_to_one():
    p = drawn(1000, 0)[0].astype(np.float32)
    read = metrics.probabilities(pd.DataFrame(p, columns=["p_a", "p_b", "p_tie"]))
    np.testing.assert_allclose(read.sum(axis=1), 1, rtol=1e-15)


def test_confusion_counts_every_vote():
    p, labels = drawn(500, 1)
    counts = metrics.confusion(labels, p)
    assert counts.sum() == 500
    assert counts.trace() / 500 == metrics.scores(labels, p)["accuracy"]


@given(probabilities)
def test_truth_captures_everything_and_its_mean_nothing(p):
    assume(np.ptp(p, axis=0).max() > 1e-2)
    constant = np.tile(p.mean(axis=0), (len(p), 1))
    assert truth.captured(p, p)["information_captured"] == pytest.approx(1)
    assert truth.captured(p, constant)["information_captured"] == pytest.approx(0, abs=1e-6)


def test_where_all_votes_are_alike_there_is_nothing_to_capture():
    p = np.array([[0.5, 0.3, 0.2]])
    assert "information_captured" not in truth.captured(p, p)


@given(probabilities, st.integers(0, 2**32 - 1))
def test_nothing_beats_the_truth(p, seed):
    q, _ = drawn(len(p), seed)
    found = truth.captured(p, q)
    assert found["floor"] <= found["expected_log_loss"] + 1e-12
    assert found["floor"] <= found["prior"] + 1e-12


def test_log_loss_of_drawn_votes_comes_near_the_expected():
    p, labels = drawn(50_000, 2)
    q, _ = drawn(50_000, 3)
    assert metrics.scores(labels, q)["log_loss"] == pytest.approx(
        truth.captured(p, q)["expected_log_loss"], abs=0.02
    )


def test_truth_is_read_in_the_votes_order(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("id,p_a,p_b,p_tie\n1,.1,.2,.7\n2,.3,.3,.4\n3,.5,.25,.25\n")
    np.testing.assert_allclose(
        truth.read(path, pd.Series([3, 1], name="id")), [[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]
    )
    with pytest.raises(UserError, match="lacks 1 of 2"):
        truth.read(path, pd.Series([3, 4], name="id"))
    path.write_text("id,a,b\n1,.1,.2\n")
    with pytest.raises(UserError, match="id, p_a, p_b, p_tie"):
        truth.read(path, pd.Series([1], name="id"))


@given(rows, st.integers(2, 20))
def test_reliability_bins_are_equal_and_lose_no_vote(row, bins):
    p, labels = row
    table = reliability(labels, p, bins)
    for name, part in table.groupby("class"):
        assert part["n"].sum() == len(labels) and np.ptp(part["n"]) <= 1, name
        assert part["predicted"].is_monotonic_increasing
    tie = table[table["class"] == "TIE"]
    assert np.average(tie["predicted"], weights=tie["n"]) == pytest.approx(p[:, 2].mean())
    assert np.average(tie["observed"], weights=tie["n"]) == pytest.approx(np.mean(labels == 2))
    assert set(table["class"]) == set(CURVES)


def test_reliability_of_the_truth_lies_on_the_diagonal():
    p, labels = drawn(60_000, 4)
    table = reliability(labels, p, 15)
    assert (table["predicted"] - table["observed"]).abs().max() < 0.04


def test_calibration_error_of_few_votes_that_are_all_wrong_is_not_nothing():
    labels = np.arange(15) % 3
    p = np.eye(3)[(labels + 1) % 3] * 0.97 + 0.01
    assert (
        calibration_error(labels, p, np.arange(15), 15)
        .set_index("class")
        .loc["CONFIDENCE", "error"]
        > 0.9
    )


def test_equal_probabilities_are_not_binned_by_the_order_of_the_file():
    labels = np.sort(drawn(3000, 0)[1])
    p = np.tile(np.bincount(labels) / 3000, (3000, 1))
    assert calibration_error(labels, p, np.arange(3000), 15)["error"].max() < 0.03


def test_calibration_error_of_the_truth_is_nothing_where_plain_error_would_not_be():
    """Of 24 perfect models nearly all intervals reach down to 0, and the estimates are small."""
    errors = []
    for seed in range(24):
        p, labels = drawn(600, seed)
        errors.append(calibration_error(labels, p, np.arange(600), 15).set_index("class").loc["A"])
    assert np.mean([error["low"] == 0 for error in errors]) >= 0.9
    plain = [
        np.sqrt(np.average((c["predicted"] - c["observed"]) ** 2, weights=c["n"]))
        for c in (
            reliability(labels, p, 15)[lambda t: t["class"] == "A"]
            for p, labels in (drawn(600, seed) for seed in range(24))
        )
    ]
    assert np.median([error["error"] for error in errors]) < 0.5 * np.median(plain)


@pytest.mark.parametrize(
    ("power", "samples"), [(1.6, 8), pytest.param(0.6, 30, marks=pytest.mark.slow)]
)
def test_calibration_error_of_a_known_fault_is_found(power, samples):
    """95 % intervals of several samples hold the error that 20,000 votes show."""

    def faulty(n: int, seed: int) -> pd.DataFrame:
        p, labels = drawn(n, seed)
        said = p**power / (p**power).sum(axis=1, keepdims=True)
        return calibration_error(labels, said, np.arange(n), 15).set_index("class")

    true = faulty(20_000, 1000)["error"]
    found = (faulty(1500, seed) for seed in range(samples))
    held = [(t["low"] <= true) & (true <= t["high"]) for t in found]
    assert np.mean(held, axis=0).min() >= 0.85
