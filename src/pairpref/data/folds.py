"""The frozen folds: stratified by label, and no prompt group in two of them."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from pairpref.errors import UserError
from pairpref.pairs import LABELS


class _Splitter(StratifiedGroupKFold):
    """scikit-learn's, with the same folds in a fifth of the time."""

    def _find_best_fold(
        self, y_counts_per_fold: np.ndarray, y_cnt: np.ndarray, group_y_counts: np.ndarray
    ) -> int:
        # All folds at once: (the fold that gets the group, fold, class).
        added = np.eye(self.n_splits)[:, :, np.newaxis] * group_y_counts
        spreads = np.std((y_counts_per_fold + added) / y_cnt, axis=1).mean(axis=1).tolist()
        sizes = y_counts_per_fold.sum(axis=1).tolist()
        best, least, size = 0, np.inf, np.inf
        for fold, spread in enumerate(spreads):
            close = abs(spread - least) <= 1e-8 + 1e-5 * least
            if spread < least or (close and sizes[fold] < size):
                best, least, size = fold, spread, sizes[fold]
        return best


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
    splitter = _Splitter(folds, shuffle=True, random_state=seed)
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
