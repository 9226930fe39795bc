"""One fold as a job of its own: train on all other folds, predict this one, save the classifier."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pairpref.data import folds as splits
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES
from pairpref.params import Params, refuse_swaps
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.training.fit import Fitted, fit

TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")
WORK = Path("work")


@dataclass(frozen=True)
class Fold:
    """What a fold's job leaves behind: its classifier's history, and its rows' predictions (id, fold, label, p_a, p_b, p_tie)."""

    fitted: Fitted
    predictions: pd.DataFrame


def train_fold(fold: int, seed: int, params: Params, log: Log, save_to: Path | None = None) -> Fold:
    """Train the classifier of one fold and predict the fold's rows.

    Args:
        fold: number of the fold that is held out.
        save_to: folder for the classifier; None keeps nothing but the predictions.

    Raises:
        UserError: the tokens' folds leak prompts (see `pairpref.data.folds.check`), or single texts are to be swapped.
    """
    tokens = token_files.load(TOKENS)
    if tokens.single:
        refuse_swaps(params)
    splits.check(pd.DataFrame({"group": tokens.groups, "fold": tokens.folds}))
    held_out = np.flatnonzero(tokens.folds == fold)
    train, validation = tokens.take(np.flatnonzero(tokens.folds != fold)), tokens.take(held_out)
    log.say(f"fold {fold}, seed {seed}: training on {len(train):,} votes, evaluating on {len(validation):,}")
    fitted = fit(train, validation, params, tokenizers.load(str(TOKENIZER)), seed, WORK, log)
    if save_to is not None:
        classifier.save(fitted.model, fitted.card, save_to)
    predictions = pd.DataFrame({"id": validation.ids, "fold": fold, "label": validation.labels})
    predictions[PROBABILITIES] = fitted.p
    return Fold(fitted, predictions)
