"""One fold as a job of its own: train on all other folds, predict this one, keep both until they are fetched."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from pairpref.data import folds as splits
from pairpref.errors import UserError
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.pairs import ORDERS
from pairpref.params import Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.text.tokens import Tokens
from pairpref.training import determinism
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
from pairpref.training.fit import fit

TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")

_CLASSIFIER, _PREDICTIONS, _HISTORY = "classifier", "predictions.parquet", "history.json"


@dataclass(frozen=True)
class Fold:
    """What a fold's job leaves behind: a row an epoch, and its rows' predictions.

    Attributes:
        predictions: id, fold, label and each order's probabilities (see `pairpref.pairs.ORDERS`).
    """

    history: list[dict[str, float]]
    predictions: pd.DataFrame


def train_fold(
    fold: int, seed: int, params: Params, log: Log, save_to: Path | None = None
) -> Fold | None:
    """Train the classifier of one fold and predict the fold's rows, or fetch both where the same training has already finished.

    Args:
        fold: number of the fold that is held out.
        save_to: folder for the classifier; None keeps nothing but the predictions.

    Returns:
        None in all but the first of several processes of one `accelerate launch`.

    Raises:
        UserError: the tokens' folds leak prompts (see `pairpref.data.folds.check`), single texts are to be swapped, another process is
            at the same training, or it broke down.
    """
    tokens = token_files.load(TOKENS)
    if tokens.single and params.augment.ab:
        raise UserError(
            "the votes are single texts, which have no A and B to swap. Switch augment.ab off: -S augment.ab=false"
        )
    splits.check(pd.DataFrame({"group": tokens.groups, "fold": tokens.folds}))
    manager = CheckpointManager(Fingerprint.of(fold, seed, params, (TOKENS, TOKENIZER)), log)
    processes = PartialState(cpu=not torch.cuda.is_available())
    lock = manager.open(params.train.resume) if processes.is_main_process else None
    try:
        # The others look only after the first has cleared up.
        processes.wait_for_everyone()
        determinism.fix(params.train.threads, seed)
        if not manager.is_finished({**determinism.machine(), "processes": processes.num_processes}):
            _train(tokens, fold, seed, params, manager, log, processes.is_main_process)
        processes.wait_for_everyone()
        return _fetch(manager.finished, save_to) if processes.is_main_process else None
    finally:
        if lock is not None:
            lock.release()


def _train(
    tokens: Tokens,
    fold: int,
    seed: int,
    params: Params,
    manager: CheckpointManager,
    log: Log,
    keep: bool,
) -> None:
    train, validation = (
        tokens.take(np.flatnonzero(tokens.folds != fold)),
        tokens.take(np.flatnonzero(tokens.folds == fold)),
    )
    log.say(
        f"fold {fold}, seed {seed}: training on {len(train):,} votes, evaluating on {len(validation):,}"
    )
    fitted = fit(train, validation, params, tokenizers.load(str(TOKENIZER)), seed, manager, log)
    predictions = pd.DataFrame({"id": validation.ids, "fold": fold, "label": validation.labels})
    for columns, p in zip(ORDERS, fitted.orders, strict=False):
        predictions[columns] = p

    def fill(folder: Path) -> None:
        classifier.save(fitted.model, fitted.config, folder / _CLASSIFIER)
        predictions.to_parquet(folder / _PREDICTIONS, index=False)
        (folder / _HISTORY).write_text(json.dumps(fitted.history), encoding="utf-8")

    if keep:
        manager.finish(fill, fitted.machine)


def _fetch(finished: Path, save_to: Path | None) -> Fold:
    if save_to is not None:
        shutil.rmtree(save_to, ignore_errors=True)
        shutil.copytree(finished / _CLASSIFIER, save_to)
    history = json.loads((finished / _HISTORY).read_text(encoding="utf-8"))
    return Fold(history, pd.read_parquet(finished / _PREDICTIONS))
