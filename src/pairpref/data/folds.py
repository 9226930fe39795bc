"""The frozen folds: stratified by label, and no prompt group in two of them."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from pairpref.errors import UserError
from pairpref.pairs import LABELS


def assign(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row.

    Args:
        labels: 0 = A, 1 = B, 2 = tie; shape (rows,).
        groups: prompt groups; shape (rows,).

    Returns:
        int8, shape (rows,): 0 … folds - 1.

    Raises:
        UserError: a fold would lack a label that some votes have, or all votes have the same.
    """
    remedy = "Get more votes, or ask for fewer folds: -S data.folds=2 -S oof.folds=2 at least."
    voted = np.unique(labels)
    if len(voted) == 1:
        raise UserError(
            f"all {len(labels)} rows have the label {LABELS[voted[0]]}: nothing to learn. "
            "Votes need two labels or more."
        )
    for label in voted:
        of_label = groups[labels == label]
        if (distinct := len(np.unique(of_label))) < folds:
            raise UserError(
                f"{len(of_label)} rows with the label {LABELS[label]}, in {distinct} prompt "
                f"groups: too few for data.folds = {folds}. {remedy}"
            )
    fold = np.empty(len(labels), dtype=np.int8)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        fold[held_out] = number
        if len(missing := np.setdiff1d(voted, labels[held_out])):
            raise UserError(f"fold {number} has none with the label {LABELS[missing[0]]}. {remedy}")
    return fold


def check(frame: pd.DataFrame) -> None:
    """Refuse a frame (columns `group`, `fold`) in which a prompt group is spread over folds.

    Raises:
        UserError: naming the first such group.
    """
    spread = frame.groupby("group")["fold"].nunique()
    if len(leaking := spread[spread > 1]):
        raise UserError(
            f"prompt group {leaking.index[0]} is in {leaking.iloc[0]} folds ({len(leaking)} such "
            "groups): a model would be judged on prompts it was trained on. Run the clean stage "
            "again: dvc repro -f clean"
        )
