import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import drawn, predictions

from pairpref.errors import UserError
from pairpref.evaluation.metrics import probabilities, scores
from pairpref.pairs import ORDERS, PROBABILITIES
from pairpref.versions import evidence


@given(st.integers(1, 60), st.integers(1, 3), st.booleans(), st.floats(0.01, 30))
def test_what_is_kept_is_what_was_there(tmp_path_factory, n, seeds, calibrated, noise):
    path = tmp_path_factory.mktemp("kept") / "predictions.parquet"
    frame = predictions(n, seeds, noise, calibrated=calibrated)
    evidence.write(frame, path)
    pd.testing.assert_frame_equal(
        evidence.read(path), frame, check_dtype=False, check_column_type=False
    )
    pd.testing.assert_frame_equal(evidence.read(path.read_bytes()), evidence.read(path))


@given(st.floats(0.01, 100))
def test_rounding_costs_no_vote_the_earth(noise):
    """A probability of 1e-9 rounded to 0 would cost its vote 36 nats."""
    frame = predictions(50, 1, noise)
    assert (frame[PROBABILITIES] >= 1e-5).all(axis=None)
    assert evidence.figures(frame)["log_loss"] < np.log(1e5) + 1e-3


def test_the_default_run_fits_into_git(tmp_path):
    """3,002 votes, three seeds, calibrated: under 200 KB."""
    evidence.write(predictions(3002, 3, 0.5, calibrated=True), tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").stat().st_size < 200_000


def test_figures_are_those_of_the_metrics():
    frame = predictions(calibrated=True)
    found = evidence.figures(frame)
    each = [
        scores(part["label"].to_numpy(), probabilities(part)) for _, part in frame.groupby("seed")
    ]
    for name in ("log_loss", "accuracy", "f1_macro"):
        values = [row[name] for row in each]
        assert found[name] == pytest.approx(np.mean(values)) and found[
            f"{name}_std"
        ] == pytest.approx(np.std(values, ddof=1))
    assert found["log_loss_final"] < found["log_loss"] and found["seeds"] == 3 and found["n"] == 300
    assert "log_loss_std" not in evidence.figures(predictions(seeds=1))


def test_information_captured_needs_the_truth():
    p, _ = drawn(300, 0)
    assert "information_captured" not in evidence.figures(predictions())
    assert 0.9 < evidence.figures(predictions(), np.tile(p, (3, 1)))["information_captured"] < 1


def test_the_better_model_is_found_better_either_way_round():
    good, bad = predictions(2000, noise=0.1), predictions(2000, noise=1.5)
    assert (
        evidence.log_loss(good, bad).verdict == "better"
        and evidence.log_loss(bad, good).verdict == "worse"
    )
    change, low, high = evidence.f1_macro(good, bad)
    assert 0 < low < change < high
    back = evidence.f1_macro(bad, good)
    assert back == pytest.approx((-change, -high, -low))
    assert evidence.f1_macro(good, good) == (0, 0, 0)


def test_order_of_rows_and_lacking_seeds_do_not_matter():
    good, bad = predictions(noise=0.1), predictions(noise=1.5)
    shuffled = good.sample(frac=1, random_state=0, ignore_index=True)
    assert evidence.log_loss(shuffled, bad) == evidence.log_loss(good, bad)
    one = evidence.log_loss(good[good["seed"] == 0], bad)
    assert one.seeds == 1
    assert one.difference == pytest.approx(
        evidence.log_loss(good[good["seed"] == 0], bad[bad["seed"] == 0]).difference
    )


def test_the_last_word_is_the_calibrated_one():
    frame = predictions(calibrated=True)
    last = evidence.last_word(frame)
    assert evidence.CALIBRATED[0] not in last and evidence.final(last) == PROBABILITIES
    assert evidence.figures(last)["log_loss"] == evidence.figures(frame)["log_loss_final"]
    pd.testing.assert_frame_equal(evidence.last_word(last), last)


@pytest.mark.parametrize("column", ["id", "label", "group"])
def test_other_votes_do_not_compare(column):
    one, other = predictions(), predictions()
    other[column] = np.roll(other[column].to_numpy(), 7) if column != "id" else other["id"] + "x"
    assert evidence.same_votes(one, one) and not evidence.same_votes(one, other)
    with pytest.raises(UserError, match="different votes"):
        evidence.log_loss(one, other)


def test_no_seed_in_common():
    one, other = predictions(seeds=1), predictions(seeds=2)
    with pytest.raises(UserError, match="No seed is in both"):
        evidence.log_loss(one, other[other["seed"] == 1])


@pytest.mark.parametrize("dual_order", [True, False])
def test_a_run_is_judged_by_the_orders_it_answers_with(here, small_params, dual_order):
    frame = predictions(30)
    for path in (evidence.SEEDS, evidence.PAIRS):
        path.parent.mkdir(parents=True)
    votes = frame[["id", "label", "seed"]]
    for columns, p in zip(ORDERS, (0.5, 0.1), strict=True):
        votes = votes.assign(**dict(zip(columns, (p, 0.2, 0.8 - p), strict=True)))
    votes.to_parquet(evidence.SEEDS)
    frame[["id", "group"]].drop_duplicates("id").to_parquet(evidence.PAIRS)
    found = evidence.gather(
        small_params(inference__dual_order=dual_order, calibrate__method="none")
    )
    assert (found["p_a"] == (0.3 if dual_order else 0.5)).all()


def test_without_a_run_there_is_nothing_to_judge(here, small_params):
    with pytest.raises(UserError, match="dvc repro"):
        evidence.gather(small_params())
