"""What the order of the answers does to a model."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairpref.evaluation import position
from pairpref.pairs import swap_probabilities
from tests.made_up import drawn


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_averaging_makes_a_model_consistent_to_the_last_bit(n, seed):
    (ab, labels), (ba, _) = drawn(n, seed), drawn(n, seed + 1)
    found = position.by_order(labels, ab, ba)
    assert found["average"]["largest_distance"] == 0 and found["average"]["flipped"] == 0
    assert found["A first"]["largest_distance"] > 0


def test_a_consistent_model_has_no_order():
    p, _ = drawn(100, 0)
    found = position.consistency(p, swap_probabilities(p))
    assert set(found.values()) == {0.0}


def test_a_taste_for_the_first_is_found():
    p, labels = drawn(200, 0)
    ab, ba = 0.8 * p + 0.2 * np.eye(3)[0], 0.8 * p + 0.2 * np.eye(3)[1]
    found = position.by_order(labels, ab, ba)
    assert np.isclose(found["A first"]["first_favoured"], 0.2) and np.isclose(
        found["B first"]["first_favoured"], 0.2
    )
    assert (
        np.isclose(found["A first"]["mean_distance"], 0.4 / 3)
        and 0 < found["A first"]["flipped"] < 1
    )
