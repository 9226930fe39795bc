"""Folds as independent jobs: train on all other folds, predict this one, keep both."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from pairpref import monitor, parallel, paths, stopping
from pairpref.data import folds as splits
from pairpref.errors import UserError
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.pairs import ORDERS
from pairpref.params import POINTWISE, Member, Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.text.tokens import Tokens
from pairpref.training import determinism
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
from pairpref.training.fit import fit

_CLASSIFIER, _PREDICTIONS, _HISTORY = "classifier", "predictions.parquet", "history.json"


@dataclass(frozen=True)
class Fold:
    """What a fold's job leaves behind: a row an epoch, and its rows' `predictions`."""

    history: list[dict[str, float]]
    predictions: pd.DataFrame


class Job(NamedTuple):
    """What `train_fold` is asked for by `train_folds`."""

    fold: int
    seed: int
    save_to: Path | None
    member: Member = "classifier"


def train_fold(
    fold: int,
    seed: int,
    params: Params,
    log: Log,
    save_to: Path | None = None,
    member: Member = "classifier",
) -> Fold | None:
    """Train a member on all folds but one and predict that fold's rows.

    If the same training has already finished, its results are used again.

    Args:
        fold: number of the fold that is held out.
        save_to: folder for the model; None keeps nothing but the predictions.
        member: what is trained.

    Returns:
        None in all but the first of several processes of one `accelerate launch`.

    Raises:
        UserError: the tokens' folds leak prompts (see `pairpref.data.folds.check`), single texts
            are to be swapped or compared, another process is at the same training, or it broke
            down.
    """
    counted = (paths.FEATURES,) if params.model.features else ()
    tokens = token_files.load(paths.TOKENS, *counted)
    if tokens.single and params.augment.ab:
        raise UserError(
            "the votes are single texts, which have no A and B to swap. Switch augment.ab off: "
            "-S augment.ab=false"
        )
    if tokens.single and member in POINTWISE:
        raise UserError(
            f"the votes are single texts, but the member {member} compares two answers. Leave it "
            "out: -S fusion.members=[classifier]"
        )
    splits.check(pd.DataFrame({"group": tokens.groups, "fold": tokens.folds}))
    data = (paths.TOKENS, paths.TOKENIZER, *counted)
    manager = CheckpointManager(Fingerprint.of(fold, seed, params, data, member), log)
    processes = PartialState(cpu=not torch.cuda.is_available())
    lock = manager.open(params.train.resume) if processes.is_main_process else None
    try:
        # The others look only after the first has cleared up.
        processes.wait_for_everyone()
        determinism.fix(params.train.threads, seed, params.train.exact)
        if not manager.is_finished(determinism.machine(processes.num_processes)):
            job = Job(fold, seed, save_to, member)
            _train(tokens, job, params, manager, log, processes.is_main_process)
        elif params.train.arguments.get("report_to") not in (None, [], "none", ["none"]):
            log.say(
                "train.arguments.report_to: nothing is written, because nothing is trained; "
                "-S train.resume=false trains again"
            )
        processes.wait_for_everyone()
        return _fetch(manager.finished, save_to) if processes.is_main_process else None
    finally:
        if lock is not None:
            lock.release()


def train_folds(jobs: list[Job], params: Params) -> list[pd.DataFrame | None]:
    """The predictions of several folds, as independent jobs with a log each.

    Returns:
        A table a job; None where only its worker was told to stop, or as in `train_fold`.

    Raises:
        UserError: as in `train_fold`.
        Stopped: a signal ended them; everything is saved.
    """
    # One process a GPU, since two would fight over its memory, unless Ray shares out several. And
    # one under `accelerate launch`, whose processes train one fold after another together.
    together = "WORLD_SIZE" in os.environ or (
        torch.cuda.is_available() and params.parallel.backend == "loky"
    )
    most = 1 if together else None
    arguments = [(job, params, os.getpid()) for job in jobs]
    with stopping.deferred():
        return list(parallel.each(_job, arguments, params.parallel, at_most=most, gpu=True))


def _job(job: Job, params: Params, parent: int) -> pd.DataFrame | None:
    worker = os.getpid() != parent
    if worker:
        stopping.listen(worker=True)
        if stopping.requested():
            return None
    try:
        of = "" if job.member == "classifier" else f"-{job.member}"
        log = Log(f"oof{of}-fold{job.fold}-seed{job.seed}", quiet=bool(monitor.RANK))
        done = train_fold(job.fold, job.seed, params, log, job.save_to, job.member)
        log.end()
    except stopping.Stopped:
        if not worker:
            raise
        return None  # not an error, so that the other workers save their work, too
    return done.predictions if done else None


def predictions(tokens: Tokens, fold: int, orders: np.ndarray) -> pd.DataFrame:
    """A table of id, fold, label and each order's probabilities (see `pairpref.pairs.ORDERS`).

    Args:
        orders: as `by_order` gives them; shape (orders, n, 3).
    """
    table = pd.DataFrame({"id": tokens.ids, "fold": fold, "label": tokens.labels})
    for columns, p in zip(ORDERS, orders, strict=False):
        table[columns] = p
    return table


def _train(
    tokens: Tokens, job: Job, params: Params, manager: CheckpointManager, log: Log, keep: bool
) -> None:
    fold, seed, _, member = job
    train = tokens.take(np.flatnonzero(tokens.folds != fold))
    validation = tokens.take(np.flatnonzero(tokens.folds == fold))
    log.say(
        f"{member}, fold {fold}, seed {seed}: training on {len(train):,} votes, "
        f"evaluating on {len(validation):,}"
    )
    if params.inference.other_length:
        log.say(
            f"inputs of up to {params.model.max_length} tokens in training, of up to "
            f"{params.inference.other_length} when judged (inference.max_length)"
        )
    tokenizer = tokenizers.load(str(paths.TOKENIZER))
    fitted = fit(train, validation, params, tokenizer, seed, manager, log, member)

    def fill(folder: Path) -> None:
        adapted = params.model if params.model.lora.r else None
        classifier.save(fitted.model, fitted.config, folder / _CLASSIFIER, adapted)
        table = predictions(validation, fold, fitted.orders)
        table.to_parquet(folder / _PREDICTIONS, index=False)
        (folder / _HISTORY).write_text(json.dumps(fitted.history), encoding="utf-8")

    if keep:
        manager.finish(fill, fitted.machine)


def _fetch(finished: Path, save_to: Path | None) -> Fold:
    if save_to is not None:
        shutil.rmtree(save_to, ignore_errors=True)
        shutil.copytree(finished / _CLASSIFIER, save_to)
    history = json.loads((finished / _HISTORY).read_text(encoding="utf-8"))
    return Fold(history, pd.read_parquet(finished / _PREDICTIONS))
