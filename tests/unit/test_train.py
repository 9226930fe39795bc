"""The train stage: fold 0, held out."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from pairpref import paths
from pairpref.evaluation.metrics import answers, probabilities
from pairpref.monitor import Log
from stages import train as stage
from stages.backbone import backbone as backbones
from stages.clean import clean
from stages.simulate import simulate
from stages.tokenize import tokenize


@pytest.mark.parametrize(
    ("backbone", "pooling"),
    [("small", "spans"), ("small", "cls"), ("modernbert", "spans"), ("bert", "cls")],
)
def test_fold_0_is_judged_and_kept(small_params, here, tiny_backbone, backbone, pooling):
    changes = {} if backbone == "small" else {"model__backbone": str(tiny_backbone(backbone))}
    settings = small_params(model__pooling=pooling, train__epochs=2, **changes)
    for body in (simulate, clean, backbones, tokenize, stage.train):
        body(settings, Log("test"))
    pairs = pd.read_parquet("data/clean/pairs.parquet")
    judged = pd.read_parquet(paths.FOLD_0_ANSWERS)
    assert list(judged["id"]) == list(pairs.loc[pairs["fold"] == 0, "id"])
    figures = json.loads(paths.TRAIN_METRICS.read_text())
    labels, p = judged["label"], probabilities(answers(judged))
    assert figures == pytest.approx(
        {
            "log_loss": log_loss(labels, p),
            "accuracy": accuracy_score(labels, p.argmax(axis=1)),
            "f1_macro": f1_score(labels, p.argmax(axis=1), average="macro"),
        }
    )
    curves = pd.read_csv(paths.TRAINING_CURVES)
    assert list(curves["epoch"]) == [1, 2]
    assert list(curves.columns) == [
        "epoch",
        "train_loss",
        "validation_loss",
        "log_loss",
        "accuracy",
        "f1_macro",
    ]
    assert np.isclose(curves["log_loss"].iloc[-1], figures["log_loss"], atol=1e-6)
