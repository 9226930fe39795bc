"""The same figures for parts of the votes: each part's own, with intervals, and none lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairpref.evaluation import buckets, metrics
from tests.made_up import drawn


@settings(max_examples=15)
@given(st.integers(20, 120), st.integers(0, 2**32 - 1))
def test_each_bucket_is_scored_as_its_rows_alone_would_be(n, seed):
    p, labels = drawn(n, seed)
    kinds = {
        "length": buckets.by_length(np.arange(n) % 30, (9, 19)),
        "turns": np.where(np.arange(n) % 7, "one", "several"),
    }
    table = buckets.table(labels, p, np.arange(n) // 2, kinds)
    for row in table.itertuples():
        inside = np.ones(n, bool) if row.kind == "all" else kinds[row.kind] == row.bucket
        whole = metrics.scores(labels[inside], p[inside])
        if row.label == "all":
            assert (row.n, row.log_loss, row.f1) == pytest.approx(
                (whole["n"], whole["log_loss"], whole["f1_macro"])
            )
        else:
            k = ("A", "B", "TIE").index(row.label)
            of_label = inside & (labels == k)
            counts = metrics.confusion(labels[inside], p[inside])
            assert row.n == of_label.sum() and row.log_loss == pytest.approx(
                metrics.losses(labels[of_label], p[of_label]).mean()
            )
            assert row.f1 == pytest.approx(
                2 * counts[k, k] / (counts[k].sum() + counts[:, k].sum())
            )
        assert row.log_loss_low - 1e-9 <= row.log_loss_high and row.groups <= row.n
    for kind in kinds:
        assert table[(table["kind"] == kind) & (table["label"] == "all")]["n"].sum() == n


def test_lengths_fall_into_three_equal_parts():
    lengths = np.random.default_rng(0).permutation(300)
    names = buckets.by_length(lengths, buckets.length_cuts(lengths))
    assert [int((names == name).sum()) for name in buckets.LENGTHS] == [100, 100, 100]
    assert buckets.by_length(np.array([10, 11, 20, 21]), (10, 20)).tolist() == [
        "short",
        "medium",
        "medium",
        "long",
    ]


def test_a_part_that_nobody_is_in_has_no_row():
    p, labels = drawn(60, 0)
    table = buckets.table(labels, p, np.arange(60), {"length": np.full(60, "long")})
    assert set(table.loc[table["kind"] == "length", "bucket"]) == {"long"}
    assert not table.isna().any(axis=None)


def test_a_small_part_is_less_certain_than_a_large_one():
    p, labels = drawn(2000, 1)
    table = buckets.table(
        labels, p, np.arange(2000), {"length": np.where(np.arange(2000) < 100, "short", "long")}
    )
    width = (table["log_loss_high"] - table["log_loss_low"])[table["label"] == "all"].to_numpy()
    assert width[1] > 2 * width[2]
