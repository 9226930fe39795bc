"""python -m stages.oof: each vote's probabilities by a model that saw neither it nor its prompt.

Reads data/tokens/, models/tokenizer/ and models/train/, which is fold 0. Trains the other folds,
all folds of further members, and fold 0 again for each further seed, as independent jobs. Writes
models/oof/ and, in data/oof/, uncalibrated.parquet and seeds.parquet (each order's probabilities),
members.parquet (those of every member, the mean of both orders), by_model.parquet (some votes by
every fold's model, from which calibrate learns how far models agree) and seeds.json (the log loss
over seeds). With oof.enabled off the exports are empty.
"""

import shutil
import signal

import numpy as np
import pandas as pd

from pairpref import bundle, monitor, paths, stopping
from pairpref.evaluation.metrics import answers, probabilities, scores
from pairpref.files import write_json, write_parquet
from pairpref.model import attention, classifier
from pairpref.model.precision import best_device
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES
from pairpref.params import Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.training import determinism
from pairpref.training.folds import Job, predictions, train_folds
from pairpref.training.inference import by_order, evaluation_batch

_SHARED = 500  # votes for by_model: the calibrator's sharpening then moves by .01 at most


def oof(params: Params, log: Log) -> None:
    first, *others = params.train.seeds
    folds = range(params.oof.folds) if params.oof.enabled else range(0)
    own = [Job(fold, first, paths.FURTHER_FOLDS / f"fold{fold}") for fold in folds[1:]]
    trained = [m for m in params.fusion.members if m not in ("classifier", "features")]
    further = [
        *(
            Job(fold, first, paths.FURTHER_FOLDS / member / f"fold{fold}", member)
            for member in trained
            for fold in folds
        ),
        *(Job(0, seed, None, member) for member in trained for seed in others),
    ]
    jobs = [*own, *further, *(Job(0, seed, None) for seed in others)]
    # A run with fewer folds than the last leaves none of the old ones for predict to find.
    if not monitor.RANK:
        shutil.rmtree(paths.FURTHER_FOLDS, ignore_errors=True)
    results = train_folds(jobs, params)
    if monitor.RANK:
        return
    if any(result is None for result in results):
        # Only a worker was told to stop. It saved its work, but its fold is missing.
        raise stopping.Stopped(signal.SIGTERM)

    bundle.record_models(paths.MODELS)
    fold_0 = pd.read_parquet(paths.FOLD_0_ANSWERS)
    export = pd.concat([fold_0, *results[: len(own)]])
    export = export.sort_values("fold", kind="stable", ignore_index=True)
    if params.oof.enabled:
        count = export["fold"].nunique()
        log.say(f"{len(export):,} votes in {count} folds: log loss {_log_loss(export):.4f}")
    else:
        export = export.iloc[:0]
        log.say("oof.enabled is off: nothing is exported")
    write_parquet(paths.UNCALIBRATED, export)
    of_members = dict(zip(further, results[len(own) :], strict=False))
    write_parquet(paths.MEMBERS, _members(export, of_members, first))
    write_parquet(paths.BY_MODEL, _by_model(export, params))

    of_seeds = zip(params.train.seeds, [fold_0, *results[len(own + further) :]], strict=True)
    by_seed = [frame.assign(seed=seed) for seed, frame in of_seeds]
    write_parquet(paths.SEEDS, pd.concat(by_seed, ignore_index=True))
    losses = [_log_loss(frame) for frame in by_seed]
    # One seed says nothing of their spread: no figure, rather than 0.
    spread = {"log_loss_std": float(np.std(losses, ddof=1))} if others else {}
    mean = float(np.mean(losses))
    write_json(paths.SEED_SCORES, {"log_loss_mean": mean, **spread, "n": len(losses)})


def _log_loss(frame: pd.DataFrame) -> float:
    """Of both orders' mean."""
    return scores(frame["label"].to_numpy(), probabilities(answers(frame)))["log_loss"]


def _members(export: pd.DataFrame, further: dict[Job, pd.DataFrame], seed: int) -> pd.DataFrame:
    """id, fold, seed, member, label and probabilities of each vote by each member."""
    tables = [answers(export).assign(member="classifier", seed=seed)]
    tables += [
        answers(predicted).assign(member=job.member, seed=job.seed)
        for job, predicted in further.items()
    ]
    columns = ["id", "fold", "seed", "member", "label", *PROBABILITIES]
    return pd.concat(tables, ignore_index=True)[columns]


def _by_model(export: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Some of the exported votes by the model of every fold; no rows where there is one model."""
    empty = export.drop(columns="label").iloc[:0].assign(member="")
    members = bundle.models(paths.MODELS)
    if len(members["classifier"]) < 2:
        return empty
    determinism.fix(params.train.threads, params.train.seeds[0])
    tokens = token_files.load(paths.TOKENS, paths.FEATURES if params.model.features else None)
    template = tokenizers.Template.of(tokenizers.load(str(paths.TOKENIZER)))
    some = export["id"].sample(min(_SHARED, len(export)), random_state=0)
    tokens = tokens.take(np.flatnonzero(np.isin(tokens.ids, some)))
    tables = []
    for member, folders in members.items():
        for fold, folder in enumerate(folders):
            model, config = classifier.load(folder)
            batch_size = evaluation_batch(config.longest)
            attention.fuse(model.to(best_device()), config.attention)
            precision = params.train.precision
            orders = by_order(model, config, tokens, template, batch_size, precision=precision)
            tables.append(predictions(tokens, fold, orders).assign(member=member))
    return pd.concat(tables, ignore_index=True)[list(empty)]


if __name__ == "__main__":
    monitor.run("oof", oof)
