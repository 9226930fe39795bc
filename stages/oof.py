"""python -m stages.oof: out-of-fold probabilities: each vote's, by a classifier that saw neither it nor its prompt.

Reads data/tokens/, models/tokenizer/ and models/train/, which is fold 0. Trains folds 1 … oof.folds - 1, and fold 0 again for each further
seed of train.seeds, as independent jobs. Writes data/oof/uncalibrated.parquet and data/oof/seeds.parquet (each order's probabilities),
data/oof/by_model.parquet (some of these votes by every fold's model, from which calibrate learns how far models agree),
data/oof/seeds.json (the log loss over seeds) and models/oof/. With oof.enabled off the exports are empty.
"""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pairpref import bundle, monitor, parallel, stopping
from pairpref.evaluation.metrics import answers, probabilities, scores
from pairpref.files import write_json, write_parquet
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.pairs import ORDERS
from pairpref.params import Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.training import determinism
from pairpref.training.folds import TOKENIZER, TOKENS, train_fold
from pairpref.training.inference import best_device, by_order, evaluation_batch

FOLD_0 = Path("models/train/validation.parquet")
OOF, SEEDS = Path("data/oof/uncalibrated.parquet"), Path("data/oof/seeds.parquet")
SPREAD, BY_MODEL = Path("data/oof/seeds.json"), Path("data/oof/by_model.parquet")
FIRST_MODEL, MODELS = Path("models/train"), Path("models/oof")

_SHARED = 500  # votes that every model answers: enough for the calibrator's sharpening to move by .01 at most


def oof(params: Params, log: Log) -> None:
    first, *others = params.train.seeds
    folds = range(1, params.oof.folds) if params.oof.enabled else ()
    jobs = [(fold, first, MODELS / f"fold{fold}") for fold in folds] + [
        (0, seed, None) for seed in others
    ]
    # A run with fewer folds than the last may leave none of the old ones for predict to find.
    if not monitor.RANK:
        shutil.rmtree(MODELS, ignore_errors=True)
    results = _run_all(jobs, params)
    if monitor.RANK:
        return
    if any(result is None for result in results):
        # Only a worker was told to stop. It has saved its work; without its fold there is nothing to export.
        raise stopping.Stopped(signal.SIGTERM)

    bundle.record_models(MODELS.parent)
    fold_0 = pd.read_parquet(FOLD_0)
    export = pd.concat([fold_0, *results[: len(folds)]]).sort_values(
        "fold", kind="stable", ignore_index=True
    )
    if params.oof.enabled:
        log.say(
            f"{len(export):,} votes in {export['fold'].nunique()} folds: log loss {_log_loss(export):.4f}"
        )
    else:
        export = export.iloc[:0]
        log.say("oof.enabled is off: nothing is exported")
    write_parquet(OOF, export)
    write_parquet(
        BY_MODEL,
        _by_model(export, [FIRST_MODEL, *(MODELS / f"fold{fold}" for fold in folds)], params),
    )

    by_seed = [
        frame.assign(seed=seed)
        for seed, frame in zip(params.train.seeds, [fold_0, *results[len(folds) :]], strict=True)
    ]
    write_parquet(SEEDS, pd.concat(by_seed, ignore_index=True))
    losses = [_log_loss(frame) for frame in by_seed]
    # One seed says nothing of their spread: no figure, rather than 0.
    spread = {"log_loss_std": float(np.std(losses, ddof=1))} if others else {}
    write_json(SPREAD, {"log_loss_mean": float(np.mean(losses)), **spread, "n": len(losses)})


def _run_all(jobs: list[tuple[int, int, Path | None]], params: Params) -> list[pd.DataFrame]:
    # One process a GPU, unless Ray shares out several: two would fight over its memory. And one where `accelerate launch` has already
    # started as many as are wanted: they train one fold after another together.
    together = "WORLD_SIZE" in os.environ or (
        torch.cuda.is_available() and params.parallel.backend == "loky"
    )
    arguments = [(*job, params, os.getpid()) for job in jobs]
    with stopping.deferred():
        return list(
            parallel.each(
                _job, arguments, params.parallel, at_most=1 if together else None, gpu=True
            )
        )


def _job(
    fold: int, seed: int, save_to: Path | None, params: Params, stage: int
) -> pd.DataFrame | None:
    """One fold, in a process and with a log of its own. None when it was told to stop: the others are to save their work, too."""
    worker = os.getpid() != stage
    if worker:
        stopping.listen(worker=True)
        if stopping.requested():
            return None
    try:
        log = Log(f"oof-fold{fold}-seed{seed}", quiet=bool(monitor.RANK))
        done = train_fold(fold, seed, params, log, save_to)
        log.end()
    except stopping.Stopped:
        if not worker:
            raise
        return None
    return done.predictions if done else None


def _log_loss(frame: pd.DataFrame) -> float:
    """Of both orders' mean."""
    return scores(frame["label"].to_numpy(), probabilities(answers(frame)))["log_loss"]


def _by_model(export: pd.DataFrame, folders: list[Path], params: Params) -> pd.DataFrame:
    """The export's columns but label, of some of its votes, by the model of every fold; no rows where there is one model."""
    empty = export.drop(columns="label").iloc[:0]
    if len(folders) < 2:
        return empty
    determinism.fix(params.train.threads, params.train.seeds[0])
    tokens, template = (
        token_files.load(TOKENS),
        tokenizers.Template.of(tokenizers.load(str(TOKENIZER))),
    )
    some = export["id"].sample(min(_SHARED, len(export)), random_state=0)
    tokens = tokens.take(np.flatnonzero(np.isin(tokens.ids, some)))
    tables = []
    for fold, folder in enumerate(folders):
        model, config = classifier.load(folder)
        orders = by_order(
            model.to(best_device()), config, tokens, template, evaluation_batch(config.max_length)
        )
        table = pd.DataFrame({"id": tokens.ids, "fold": fold})
        for columns, p in zip(ORDERS, orders, strict=False):
            table[columns] = p
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[list(empty)]


if __name__ == "__main__":
    monitor.run("oof", oof)
