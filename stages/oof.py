"""python -m stages.oof: out-of-fold probabilities: each vote's, by a classifier that saw neither it nor its prompt.

Reads data/tokens/, models/tokenizer/ and models/train/, which is fold 0. Trains folds 1 … oof.folds - 1, and fold 0 again for each further
seed of train.seeds, as independent jobs. Writes data/oof/uncalibrated.parquet, data/oof/seeds.parquet, models/oof/, metrics/oof.json and
metrics/seeds.json. With oof.enabled off the export is empty.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from pairpref import monitor
from pairpref.evaluation.metrics import probabilities, scores
from pairpref.monitor import Log
from pairpref.params import Params
from pairpref.training.folds import train_fold

FOLD_0 = Path("models/train/validation.parquet")
OOF, SEEDS = Path("data/oof/uncalibrated.parquet"), Path("data/oof/seeds.parquet")
MODELS = Path("models/oof")


def oof(params: Params, log: Log) -> None:
    first, *others = params.train.seeds
    folds = range(1, params.oof.folds) if params.oof.enabled else ()
    jobs = [(fold, first, MODELS / f"fold{fold}") for fold in folds] + [(0, seed, None) for seed in others]
    # A run with fewer folds than the last may leave none of the old ones for predict to find.
    shutil.rmtree(MODELS, ignore_errors=True)
    # One process a GPU: several would fight over its memory.
    workers = 1 if torch.cuda.is_available() else min(params.parallel.jobs, max(1, len(jobs)))
    results = Parallel(n_jobs=workers)(delayed(_job)(*job, params) for job in jobs)

    for folder in (MODELS, OOF.parent, Path("metrics")):
        folder.mkdir(parents=True, exist_ok=True)
    fold_0 = pd.read_parquet(FOLD_0)
    export = pd.concat([fold_0, *results[: len(folds)]]).sort_values("fold", kind="stable", ignore_index=True)
    _write(export if params.oof.enabled else export.iloc[:0], OOF, Path("metrics/oof.json"), log)

    by_seed = [frame.assign(seed=seed) for seed, frame in zip(params.train.seeds, [fold_0, *results[len(folds) :]], strict=True)]
    pd.concat(by_seed, ignore_index=True).to_parquet(SEEDS, index=False)
    losses = [_scores(frame)["log_loss"] for frame in by_seed]
    spread = {
        "log_loss_mean": float(np.mean(losses)),
        "log_loss_std": float(np.std(losses, ddof=1)) if others else 0.0,
        "n": len(losses),
    }
    _dump(spread, Path("metrics/seeds.json"))


def _job(fold: int, seed: int, save_to: Path | None, params: Params) -> pd.DataFrame:
    """Runs in a process of its own, with a log of its own."""
    return train_fold(fold, seed, params, Log(f"oof-fold{fold}-seed{seed}"), save_to).predictions


def _write(export: pd.DataFrame, path: Path, metrics: Path, log: Log) -> None:
    export.to_parquet(path, index=False)
    figures = _scores(export) if len(export) else {"n": 0}
    _dump(figures, metrics)
    if len(export):
        log.say(f"{len(export):,} votes in {export['fold'].nunique()} folds: log loss {figures['log_loss']:.4f}")
    else:
        log.say("oof.enabled is off: nothing is exported")


def _scores(frame: pd.DataFrame) -> dict[str, float]:
    return scores(frame["label"].to_numpy(), probabilities(frame))


def _dump(figures: dict[str, float], path: Path) -> None:
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    monitor.run("oof", oof)
