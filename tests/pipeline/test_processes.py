"""One model over two processes."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from dvc.utils.hydra import apply_overrides

pytestmark = pytest.mark.slow

# What it would be with GPUs; on CPUs the processes speak through gloo.
TWO = [
    "accelerate",
    "launch",
    "--multi_gpu",
    "--num_processes=2",
    "--num_machines=1",
    "--mixed_precision=no",
    "--dynamo_backend=no",
]


def events(repository, log: str, name: str) -> list[dict]:
    lines = (repository.path / "logs" / f"{log}.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def losses(repository, log: str) -> np.ndarray:
    return np.array([event["loss"] for event in events(repository, log, "step")])


@pytest.mark.parametrize("parts, stages", [(1, ["train", "oof"]), (3, ["train"])])
def test_one_model_over_two_processes_takes_the_steps_of_one(clean_tree, parts, stages):
    """The same global batch, the last of an epoch not full: the first 50 losses agree to 1e-4."""
    overrides = [
        "train.epochs=2",
        f"train.gradient_accumulation_steps={parts}",
        "train.batch_size=7",
        "train.patience=null",
        "model.dropout=0.0",  # each process draws its own
    ]
    apply_overrides(clean_tree.path / "params.yaml", overrides)
    done = clean_tree.run(sys.executable, "-m", "stages.train")
    assert done.returncode == 0, done.stdout
    alone, judged = (
        losses(clean_tree, "train"),
        len(pd.read_parquet(clean_tree.path / "models/train/validation.parquet")),
    )
    shutil.rmtree(clean_tree.path / "work")

    for stage in stages:
        done = clean_tree.run(*TWO, "-m", f"stages.{stage}")
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout
    together = losses(clean_tree, "train")
    assert len(alone) == len(together) >= 50
    assert np.abs(alone - together)[:50].max() < 1e-4
    assert len(pd.read_parquet(clean_tree.path / "models/train/validation.parquet")) == judged
    (machine,) = events(clean_tree, "train-rank1", "training")
    assert machine["processes"] == 2

    printed = clean_tree.dvc("repro", *stages)
    assert (
        printed.count("already trained") == (6 if "oof" in stages else 1)
        and "training on" not in printed
    )
