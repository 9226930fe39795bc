import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import drawn, predictions

from pairpref.errors import UserError
from pairpref.evaluation.calibration import CALIBRATED
from pairpref.evaluation.metrics import probabilities, scores
from pairpref.pairs import ORDERS, PROBABILITIES
from pairpref.paths import PAIRS, SEEDS
from pairpref.versions import predictions as kept


@given(st.integers(1, 60), st.integers(1, 3), st.booleans(), st.floats(0.01, 30))
def test_kept_predictions_are_read_as_they_were(tmp_path_factory, n, seeds, calibrated, noise):
    path = tmp_path_factory.mktemp("kept") / "predictions.parquet"
    frame = predictions(n, seeds, noise, calibrated=calibrated)
    kept.write(frame, path)
    pd.testing.assert_frame_equal(
        kept.read(path), frame, check_dtype=False, check_column_type=False
    )
    pd.testing.assert_frame_equal(kept.read(path.read_bytes()), kept.read(path))


@given(st.floats(0.01, 100))
def test_rounding_leaves_no_probability_of_zero(noise):
    frame = predictions(50, 1, noise)
    assert (frame[PROBABILITIES] >= 1e-5).all(axis=None)
    assert kept.measure(frame)["log_loss"] < np.log(1e5) + 1e-3


def test_the_default_run_fits_into_git(tmp_path):
    """3,002 votes, three seeds, calibrated: under 200 KB."""
    kept.write(predictions(3002, 3, 0.5, calibrated=True), tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").stat().st_size < 200_000


def test_figures_are_those_of_the_metrics():
    frame = predictions(calibrated=True)
    found = kept.measure(frame)
    each = [
        scores(part["label"].to_numpy(), probabilities(part)) for _, part in frame.groupby("seed")
    ]
    for name in ("log_loss", "accuracy", "f1_macro"):
        values = [row[name] for row in each]
        assert found[name] == pytest.approx(np.mean(values)) and found[
            f"{name}_std"
        ] == pytest.approx(np.std(values, ddof=1))
    assert found["log_loss_final"] < found["log_loss"] and found["seeds"] == 3 and found["n"] == 300
    assert "log_loss_std" not in kept.measure(predictions(seeds=1))


def test_information_captured_needs_the_truth(tmp_path):
    frame = predictions()
    assert "information_captured" not in kept.measure(frame)
    true = frame[["id"]].drop_duplicates().reset_index(drop=True)
    true[PROBABILITIES] = drawn(300, 0)[0]
    true.sample(frac=1, random_state=0).to_csv(tmp_path / "truth.csv", index=False)
    assert 0.9 < kept.measure(frame, tmp_path / "truth.csv")["information_captured"] < 1


def test_the_better_model_is_found_better_either_way_round():
    good, bad = predictions(2000, noise=0.1), predictions(2000, noise=1.5)
    assert (
        kept.difference(good, bad).verdict == "better"
        and kept.difference(bad, good).verdict == "worse"
    )
    change, low, high = kept.f1_difference(good, bad)
    assert 0 < low < change < high
    back = kept.f1_difference(bad, good)
    assert back == pytest.approx((-change, -high, -low))
    assert kept.f1_difference(good, good) == (0, 0, 0)


def test_order_of_rows_and_lacking_seeds_do_not_matter():
    good, bad = predictions(noise=0.1), predictions(noise=1.5)
    shuffled = good.sample(frac=1, random_state=0, ignore_index=True)
    assert kept.difference(shuffled, bad) == kept.difference(good, bad)
    one = kept.difference(good[good["seed"] == 0], bad)
    assert one.seeds == 1
    assert one.difference == pytest.approx(
        kept.difference(good[good["seed"] == 0], bad[bad["seed"] == 0]).difference
    )


def test_final_probabilities_are_the_calibrated_ones():
    frame = predictions(calibrated=True)
    last = kept.final_probabilities(frame)
    assert CALIBRATED[0] not in last
    assert kept.measure(last)["log_loss"] == kept.measure(frame)["log_loss_final"]
    pd.testing.assert_frame_equal(kept.final_probabilities(last), last)


@pytest.mark.parametrize("column", ["id", "label", "group"])
def test_other_votes_do_not_compare(column):
    one, other = predictions(), predictions()
    other[column] = np.roll(other[column].to_numpy(), 7) if column != "id" else other["id"] + "x"
    assert kept.same_votes(one, one) and not kept.same_votes(one, other)
    with pytest.raises(UserError, match="different votes"):
        kept.difference(one, other)


def test_no_seed_in_common():
    one, other = predictions(seeds=1), predictions(seeds=2)
    with pytest.raises(UserError, match="No seed is in both"):
        kept.difference(one, other[other["seed"] == 1])


@pytest.mark.parametrize("dual_order", [True, False])
def test_a_run_is_judged_by_the_orders_it_answers_with(here, small_params, dual_order):
    frame = predictions(30)
    for path in (SEEDS, PAIRS):
        path.parent.mkdir(parents=True)
    votes = frame[["id", "label", "seed"]]
    for columns, p in zip(ORDERS, (0.5, 0.1), strict=True):
        votes = votes.assign(**dict(zip(columns, (p, 0.2, 0.8 - p), strict=True)))
    votes.to_parquet(SEEDS)
    frame[["id", "group"]].drop_duplicates("id").to_parquet(PAIRS)
    found = kept.collect_predictions(
        small_params(inference__dual_order=dual_order, calibrate__method="none")
    )
    assert (found["p_a"] == (0.3 if dual_order else 0.5)).all()


def test_without_a_run_there_is_nothing_to_judge(here, small_params):
    with pytest.raises(UserError, match="dvc repro"):
        kept.collect_predictions(small_params())
