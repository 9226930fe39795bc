"""python -m benchmarks.machines

How one training differs on other machines: fold 0 of params.yaml as it is, the same again, on two
threads, and with AVX2 alone. Prints by how much the losses of the first 200 steps differ, the log
loss, and how far its probabilities move. Runs in a copy of the working tree, for about 3 minutes.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from dvc.utils.hydra import apply_overrides

from benchmarks.copies import Repository, working_tree
from pairpref.evaluation.metrics import answers, probabilities

FIRST = 200
WAYS = {
    "as it is": ([], {}),
    "the same again": ([], {}),
    "two threads": (["train.threads=2"], {}),
    "AVX2": ([], {"ATEN_CPU_CAPABILITY": "avx2"}),
}


def train(
    copy: Repository, overrides: list[str], environment: dict[str, str]
) -> tuple[np.ndarray, float, np.ndarray]:
    """Losses by step, log loss and probabilities of a new training; restores the params."""
    shutil.rmtree(copy.path / "work", ignore_errors=True)
    apply_overrides(copy.path / "params.yaml", overrides)
    copy.environment.update(environment)
    copy.dvc("repro", "--force", "--single-item", "train")
    copy.git("checkout", "--quiet", "params.yaml")
    for name in environment:
        del copy.environment[name]
    lines = (copy.path / "logs/train.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [event["loss"] for event in map(json.loads, lines) if event["event"] == "step"]
    figures = json.loads((copy.path / "metrics/train.json").read_text(encoding="utf-8"))
    p = probabilities(answers(pd.read_parquet(copy.path / "models/train/validation.parquet")))
    return np.array(losses), figures["log_loss"], p


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m benchmarks.machines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = working_tree(Path(folder), [])
        copy.dvc("repro", "tokenize")
        before = None
        for name, (overrides, environment) in WAYS.items():
            losses, log_loss, p = train(copy, overrides, environment)
            before = before or (losses, p)
            apart = np.abs(losses - before[0])[:FIRST].max()
            moved = np.abs(p - before[1]).sum(axis=1).mean() / 2
            print(
                f"{name:15} first losses within {apart:.0e}, log loss {log_loss:.4f}, "
                f"probabilities move by {moved:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
