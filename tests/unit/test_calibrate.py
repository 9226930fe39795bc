"""The calibrate stage: what is said of each vote in the end, and how good that is."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pairpref import bundle, params
from pairpref.evaluation import truth
from pairpref.evaluation.calibration import CALIBRATED, Calibrator
from pairpref.evaluation.metrics import answers, scores
from pairpref.monitor import Log
from pairpref.pairs import ORDERS, PROBABILITIES
from stages.calibrate import calibrate

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return changed(params.load(PARAMS), fusion__members=["classifier"])


def changed(settings, **values):
    """Params with other values, such as calibrate__method="none"."""
    raw = settings.model_dump(mode="json")
    for path, value in values.items():
        section, name = path.split("__")
        raw[section][name] = value
    return params.Params.model_validate(raw)


def exported(n: int, folds: int) -> None:
    """An overconfident model's exports, its fold 0, prompt groups, and the truth."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 3))
    p, bold = (np.exp(s * logits) / np.exp(s * logits).sum(axis=1, keepdims=True) for s in (1, 2))
    ids = rng.permutation(10 * n)[:n]
    fold = np.arange(n) % max(folds, 1)
    label = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    oof = pd.DataFrame({"id": ids, "fold": fold, "label": label})
    # What is shown first is favoured, and both orders together are right.
    for columns, sign in zip(ORDERS, (1, -1), strict=True):
        oof[columns] = bold + sign * 0.1 * bold.min(axis=1, keepdims=True) * [1, -1, 0]
    for folder in ("data/oof", "data/clean", "data/raw/simulated", "models/train"):
        Path(folder).mkdir(parents=True)
    oof.to_parquet("data/oof/uncalibrated.parquet", index=False)
    bundle.record_models(Path("models"))
    oof[fold == 0].to_parquet("models/train/validation.parquet", index=False)
    pd.DataFrame({"id": ids}).join(pd.DataFrame(p, columns=PROBABILITIES)).to_csv(
        "data/raw/simulated/truth.csv", index=False
    )
    # Of two models the second says in half of the rows what the first said of another.
    first = oof.drop(columns="label").iloc[: 100 * (folds > 1)].assign(fold=0)
    second = first.assign(fold=1)
    second.iloc[:50, 2:] = first.iloc[50:100, 2:].to_numpy()
    pd.concat([first, second]).assign(member="classifier").to_parquet(
        "data/oof/by_model.parquet", index=False
    )
    pd.DataFrame({"id": ids, "group": np.arange(n) // 2}).iloc[::-1].to_parquet(
        "data/clean/pairs.parquet", index=False
    )


def results() -> tuple[dict, pd.DataFrame, Calibrator]:
    figures = json.loads(Path("data/oof/calibration.json").read_text())
    return (
        figures,
        pd.read_parquet("data/oof/oof.parquet"),
        Calibrator.load(Path("models/calibrator.json")),
    )


def metrics() -> dict:
    return json.loads(Path("metrics/calibrate.json").read_text())


@pytest.mark.parametrize("folds", [1, 5])
def test_overconfidence_is_cured_whether_one_fold_is_trained_or_all(settings, folds):
    exported(1500, folds)
    calibrate(settings, Log("calibrate"))
    figures, table, calibrator = results()
    assert figures["temperature"] == calibrator.temperature == pytest.approx(2, rel=0.15)
    assert figures["log_loss_in_sample"] <= figures["log_loss"] < figures["log_loss_before"]
    assert 1.1 < calibrator.sharpening < 2 if folds > 1 else calibrator.sharpening == 1
    assert list(table) == ["id", "fold", "label", *PROBABILITIES, *CALIBRATED]
    assert table.iloc[:, :3].equals(pd.read_parquet("data/oof/uncalibrated.parquet").iloc[:, :3])
    np.testing.assert_allclose(table[CALIBRATED].sum(axis=1), 1)


def test_calibration_that_does_not_help_across_folds_is_left_out(settings, monkeypatch, capsys):
    exported(300, 5)
    monkeypatch.setattr("stages.calibrate.cross_fitted", lambda p, *_: np.full_like(p, 1 / 3))
    calibrate(settings, Log("calibrate"))
    figures, table, calibrator = results()
    assert (
        figures["temperature"] == calibrator.temperature == 1
        and figures["log_loss"] == figures["log_loss_before"]
    )
    np.testing.assert_allclose(table[CALIBRATED], table[PROBABILITIES], rtol=1e-12)
    assert calibrator.sharpening > 1
    assert "does not help across folds" in capsys.readouterr().out


def test_none_changes_nothing(settings):
    exported(300, 5)
    calibrate(changed(settings, calibrate__method="none"), Log("calibrate"))
    figures, table, calibrator = results()
    assert calibrator == Calibrator(n=300, dual_order=True) and figures["temperature"] == 1
    assert figures["log_loss_before"] == figures["log_loss"] == figures["log_loss_in_sample"]
    np.testing.assert_allclose(table[CALIBRATED], table[PROBABILITIES], rtol=1e-6)


@pytest.mark.fault(25)
@pytest.mark.parametrize("dual_order", [True, False])
def test_the_answer_is_made_of_one_order_or_both(settings, dual_order):
    """From what training has exported: nothing is trained again. The calibrator tells predict."""
    exported(300, 5)
    calibrate(changed(settings, inference__dual_order=dual_order), Log("calibrate"))
    _, table, calibrator = results()
    ab, ba = (
        pd.read_parquet("data/oof/uncalibrated.parquet")[columns].to_numpy() for columns in ORDERS
    )
    assert np.array_equal(
        table[PROBABILITIES], np.stack([ab, ba]).mean(axis=0) if dual_order else ab
    )
    assert calibrator.dual_order == dual_order


def test_metrics_are_of_the_same_votes_in_every_version(settings):
    """Those of fold 0, however many folds are trained; the others are named so."""
    exported(1500, 5)
    calibrate(settings, Log("calibrate"))
    figures, table, calibrator = results()
    fold_0 = table[table["fold"] == 0]
    true = truth.read(settings.data.truth, fold_0["id"])
    p, c = (fold_0[columns].to_numpy() for columns in (PROBABILITIES, CALIBRATED))
    expected = (
        scores(fold_0["label"].to_numpy(), c)
        | truth.captured(true, c)
        | {"temperature": calibrator.temperature}
    )
    expected["information_captured_before"] = truth.captured(true, p)["information_captured"]
    expected["all_folds_log_loss"] = figures["log_loss"]
    expected["all_folds_information_captured"] = pytest.approx(
        expected["information_captured"], abs=0.1
    )
    found = metrics()
    assert len(found) == 8 and found == pytest.approx({name: expected[name] for name in found})
    assert found["all_folds_log_loss"] != found["log_loss"]


def test_without_the_truth_nothing_is_said_of_it(settings):
    exported(300, 5)
    calibrate(changed(settings, data__train="votes.csv"), Log("calibrate"))
    assert metrics().keys() == {
        "log_loss",
        "accuracy",
        "f1_macro",
        "temperature",
        "all_folds_log_loss",
    }


def test_nothing_exported_is_nothing_calibrated(settings):
    exported(300, 5)
    pd.read_parquet("data/oof/uncalibrated.parquet").iloc[:0].to_parquet(
        "data/oof/uncalibrated.parquet", index=False
    )
    calibrate(settings, Log("calibrate"))
    figures, table, calibrator = results()
    assert (
        figures == {"n": 0}
        and calibrator == Calibrator(dual_order=True)
        and table.empty
        and "c_tie" in table
    )
    fold_0 = answers(pd.read_parquet("models/train/validation.parquet"))
    assert (
        metrics()["log_loss"]
        == scores(fold_0["label"].to_numpy(), fold_0[PROBABILITIES].to_numpy())["log_loss"]
    )
    assert metrics()["temperature"] == 1


@pytest.mark.parametrize(("n", "said"), [(10, True), (3000, False)])
def test_few_votes_leave_the_calibration_open(settings, n, said, capsys):
    exported(n, 1)
    calibrate(settings, Log("calibrate"))
    assert (f"{n:,} votes leave the calibration open" in capsys.readouterr().out) is said


def test_two_runs_write_the_same_bytes(settings):
    exported(300, 5)
    written = []
    for _ in range(2):
        calibrate(settings, Log("calibrate"))
        written.append(
            [Path(p).read_bytes() for p in ("models/calibrator.json", "data/oof/oof.parquet")]
        )
    assert written[0] == written[1]
