"""The oof stage: every vote by a classifier that saw neither it nor its prompt."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pairpref import paths
from pairpref.evaluation.metrics import answers, losses, probabilities
from pairpref.monitor import Log
from stages import oof as stage
from stages.baselines import baselines
from stages.calibrate import calibrate
from stages.clean import clean
from stages.features import features
from stages.predict import predict
from stages.report import report
from stages.simulate import simulate
from stages.tokenize import tokenize
from stages.train import train

BEFORE = (simulate, clean, baselines, features, tokenize, train)
AFTER = (calibrate, predict, report)


@pytest.fixture(autouse=True)
def versions(here, params_yaml):
    """What the report tells of besides the run."""
    (here / "versions").mkdir()
    shutil.copy(params_yaml.with_name("versions") / "catalog.yaml", here / "versions")


def read(path):
    return json.loads(Path(path).read_text())


def test_every_fold_once(small_params, here):
    settings = small_params(data__folds=3, oof__folds=3, train__seeds=[3, 4])
    for body in (*BEFORE, stage.oof):
        body(settings, Log("test"))
    export, pairs = pd.read_parquet(paths.UNCALIBRATED), pd.read_parquet("data/clean/pairs.parquet")
    assert sorted(export["id"]) == sorted(pairs["id"])
    joined = export.merge(pairs, on="id", suffixes=("", "_frozen"))
    assert (joined["fold"] == joined["fold_frozen"]).all() and (
        joined["label"] == joined["label_frozen"]
    ).all()
    kept = pd.read_parquet(paths.FOLD_0_ANSWERS)
    pd.testing.assert_frame_equal(export[export["fold"] == 0].reset_index(drop=True), kept)
    by_model = pd.read_parquet(paths.BY_MODEL)
    assert by_model.groupby("id")["fold"].apply(list).tolist() == [[0, 1, 2]] * len(export)
    own = export.merge(by_model, on=["id", "fold"])
    assert (own["ab_a_x"] - own["ab_a_y"]).abs().max() < 1e-6 and (
        own["ba_tie_x"] - own["ba_tie_y"]
    ).abs().max() < 1e-6
    members = pd.read_parquet(paths.MEMBERS)
    assert set(members["member"]) == {"classifier"} and members["id"].tolist() == list(export["id"])
    seeds = pd.read_parquet(paths.SEEDS)
    assert list(seeds["seed"].unique()) == [3, 4]
    each = [
        losses(part["label"].to_numpy(), probabilities(answers(part))).mean()
        for _, part in seeds.groupby("seed")
    ]
    assert each[0] != each[1]
    spread = {"log_loss_mean": np.mean(each), "log_loss_std": np.std(each, ddof=1), "n": 2}
    assert read(paths.SEED_SCORES) == pytest.approx(spread)
    assert sorted(path.name for path in paths.FURTHER_FOLDS.iterdir()) == [
        "fold1",
        "fold2",
        "manifest.json",
    ]


def test_no_export(small_params, here):
    """oof.enabled off: nothing is exported or calibrated, and later stages report fold 0."""
    settings = small_params(oof__enabled=False)
    for body in (*BEFORE, stage.oof, *AFTER):
        body(settings, Log("test"))
    assert len(pd.read_parquet("data/oof/oof.parquet")) == len(pd.read_parquet(paths.BY_MODEL)) == 0
    assert read("data/oof/calibration.json") == {"n": 0}
    assert read(paths.SEED_SCORES).keys() == {"log_loss_mean", "n"}, "one seed has no spread"
    assert not list(paths.FURTHER_FOLDS.glob("fold[0-9]*"))
    reported, trained, final = (
        read(f"{name}.json") for name in ("report/headline", "metrics/train", "metrics/calibrate")
    )
    assert reported["figures"]["log_loss"] == pytest.approx(trained["log_loss"])
    assert final["temperature"] == 1 and {name: final[name] for name in trained} == trained
    assert len(pd.read_csv("submission.csv")) == 40


def test_one_fold_is_calibrated_inside_itself(small_params, here):
    settings = small_params(oof__folds=1)
    for body in (*BEFORE, stage.oof, *AFTER):
        body(settings, Log("test"))
    assert (
        read("data/oof/calibration.json")["log_loss_before"]
        == read("metrics/train.json")["log_loss"]
    )
    final = read("metrics/calibrate.json")
    assert (
        final["log_loss"]
        == final["all_folds_log_loss"]
        == read("data/oof/calibration.json")["log_loss"]
    )
