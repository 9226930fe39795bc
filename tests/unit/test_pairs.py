"""What swapping the answers does to labels and probabilities."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pairpref.pairs import (
    LABELS,
    PROBABILITIES,
    TIE,
    WINNERS,
    A,
    B,
    swap_labels,
    swap_probabilities,
)

NUMBERS = st.floats(-1e6, 1e6)


@given(arrays(np.int64, array_shapes(max_dims=3), elements=st.integers(0, 2)))
def test_swapping_labels_twice_is_nothing(labels):
    assert np.array_equal(swap_labels(swap_labels(labels)), labels)
    assert np.array_equal(swap_labels(labels) == TIE, labels == TIE)


@given(
    array_shapes(max_dims=3).flatmap(
        lambda shape: arrays(np.float64, (*shape, 3), elements=NUMBERS)
    )
)
def test_swapping_probabilities_twice_is_nothing(p):
    swapped = swap_probabilities(p)
    assert np.array_equal(swap_probabilities(swapped), p)
    assert np.array_equal(swapped[..., TIE], p[..., TIE]) and np.array_equal(
        swapped[..., A], p[..., B]
    )


@given(arrays(np.int64, st.integers(1, 20), elements=st.integers(0, 2)))
def test_labels_and_probabilities_swap_alike(labels):
    certain = np.eye(3)
    assert np.array_equal(swap_probabilities(certain[labels]), certain[swap_labels(labels)])


def test_columns_stand_in_the_order_of_the_labels():
    assert LABELS[A] == "A" and LABELS[B] == "B" and LABELS[TIE] == "TIE"
    assert (
        PROBABILITIES[A].endswith("_a")
        and PROBABILITIES[B].endswith("_b")
        and PROBABILITIES[TIE].endswith("_tie")
    )
    assert WINNERS[A].endswith("_a") and WINNERS[B].endswith("_b") and WINNERS[TIE].endswith("_tie")
