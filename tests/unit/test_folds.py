"""Frozen folds: every row in one, no group in two, every label in each."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from pairpref.data import folds
from pairpref.errors import UserError


@pytest.mark.fault(16)
@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_folds_are_stratified_and_share_no_group(seed, number):
    rng = np.random.default_rng(seed)
    labels, groups = rng.choice(3, 600, p=[0.4, 0.35, 0.25]), rng.integers(0, 300, 600)
    fold = folds.assign(labels, groups, number, seed=1)
    assert fold.dtype == np.int8 and set(fold) == set(range(number))
    folds.check(pd.DataFrame({"group": groups, "fold": fold}))
    shares = [
        np.bincount(labels[fold == i], minlength=3) / np.sum(fold == i) for i in range(number)
    ]
    assert np.ptp(shares, axis=0).max() < 0.06
    as_scikit_learn = StratifiedGroupKFold(number, shuffle=True, random_state=1)
    for i, (_, held_out) in enumerate(as_scikit_learn.split(labels, labels, groups)):
        assert set(held_out) == set(np.flatnonzero(fold == i))


def test_the_seed_decides():
    labels, groups = np.arange(300) % 3, np.arange(300)
    assert np.array_equal(folds.assign(labels, groups, 5, 0), folds.assign(labels, groups, 5, 0))
    assert not np.array_equal(
        folds.assign(labels, groups, 5, 0), folds.assign(labels, groups, 5, 1)
    )


def test_too_few_rows_of_a_label():
    with pytest.raises(
        UserError,
        match=r"3 rows with the label TIE, in 3 prompt groups: too few for data\.folds = 5",
    ):
        folds.assign(np.array([0, 1] * 50 + [2] * 3), np.arange(103), 5, 0)
    with pytest.raises(UserError, match="10 rows with the label TIE, in 1 prompt groups"):
        folds.assign(np.array([0, 1] * 50 + [2] * 10), np.array([*range(100)] + [100] * 10), 5, 0)


@pytest.mark.fault(27)
def test_a_label_that_no_vote_has_is_not_missed():
    labels = np.array([0, 1] * 50)
    fold = folds.assign(labels, np.arange(100), 5, 0)
    assert np.bincount(fold).tolist() == [20] * 5
    assert all(set(labels[fold == i]) == {0, 1} for i in range(5))
    with pytest.raises(UserError, match="all 100 rows have the label B"):
        folds.assign(np.ones(100, dtype=int), np.arange(100), 5, 0)


@pytest.mark.fault(16)
def test_a_fold_without_a_label():
    # Every label is in two groups or more, but the best split still leaves a fold without ties.
    labels, groups = (
        np.array([2, 2, 2, 0, 1, 0, 0, 1, 1, 2, 0, 2, 2]),
        np.array([1, 1, 2, 1, 1, 3, 0, 3, 0, 3, 0, 2, 2]),
    )
    with pytest.raises(UserError, match="none with the label"):
        folds.assign(labels, groups, 2, 0)


@pytest.mark.fault(16)
def test_a_spread_group_is_refused():
    with pytest.raises(UserError, match="prompt group 4 is in 2 folds"):
        folds.check(pd.DataFrame({"group": [3, 4, 4], "fold": [0, 0, 1]}))
