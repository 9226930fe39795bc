import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pairpref import bundle, params
from pairpref.evaluation.calibration import Calibrator
from pairpref.monitor import Log
from stages.calibrate import calibrate

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return params.load(PARAMS)


def exported(n: int, folds: int) -> None:
    """An overconfident model's out-of-fold probabilities, and the prompt groups they belong to."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 3))
    p, bold = (np.exp(s * logits) / np.exp(s * logits).sum(axis=1, keepdims=True) for s in (1, 2))
    ids = rng.permutation(10 * n)[:n]
    fold = np.arange(n) % max(folds, 1)
    label = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    oof = pd.DataFrame({"id": ids, "fold": fold, "label": label})
    for k, name in enumerate(("p_a", "p_b", "p_tie")):
        oof[name] = bold[:, k].astype(np.float32)
    for folder in ("data/oof", "data/clean"):
        Path(folder).mkdir(parents=True)
    oof.to_parquet("data/oof/uncalibrated.parquet", index=False)
    bundle.record_models(Path("models"))
    pd.DataFrame({"id": ids, "group": np.arange(n) // 2}).iloc[::-1].to_parquet("data/clean/pairs.parquet", index=False)


def results() -> tuple[dict, pd.DataFrame, Calibrator]:
    metrics = json.loads(Path("metrics/calibrate.json").read_text())
    return metrics, pd.read_parquet("data/oof/oof.parquet"), Calibrator.load(Path("models/calibrator.json"))


@pytest.mark.parametrize("folds", [1, 5])
def test_overconfidence_is_cured_whether_one_fold_is_trained_or_all(settings, folds):
    exported(1500, folds)
    calibrate(settings, Log("calibrate"))
    metrics, table, calibrator = results()
    assert metrics["temperature"] == calibrator.temperature == pytest.approx(2, rel=0.15)
    assert metrics["log_loss_in_sample"] <= metrics["log_loss"] < metrics["log_loss_before"]
    assert list(table) == ["id", "fold", "label", "p_a", "p_b", "p_tie", "c_a", "c_b", "c_tie"]
    pd.testing.assert_frame_equal(table.iloc[:, :6], pd.read_parquet("data/oof/uncalibrated.parquet"))
    np.testing.assert_allclose(table[["c_a", "c_b", "c_tie"]].sum(axis=1), 1)


def test_none_changes_nothing(settings):
    exported(300, 5)
    none = settings.model_copy(update={"calibrate": settings.calibrate.model_copy(update={"method": "none"})})
    calibrate(none, Log("calibrate"))
    metrics, table, calibrator = results()
    assert calibrator.method == "none" and metrics["temperature"] == 1
    assert metrics["log_loss_before"] == metrics["log_loss"] == metrics["log_loss_in_sample"]
    np.testing.assert_allclose(table[["c_a", "c_b", "c_tie"]], table[["p_a", "p_b", "p_tie"]], rtol=1e-6)


def test_nothing_exported_is_nothing_calibrated(settings):
    exported(0, 5)
    calibrate(settings, Log("calibrate"))
    metrics, table, calibrator = results()
    assert metrics == {"n": 0} and calibrator == Calibrator() and table.empty and "c_tie" in table


def test_two_runs_write_the_same_bytes(settings):
    exported(300, 5)
    written = []
    for _ in range(2):
        calibrate(settings, Log("calibrate"))
        written.append([Path(p).read_bytes() for p in ("models/calibrator.json", "data/oof/oof.parquet")])
    assert written[0] == written[1]
