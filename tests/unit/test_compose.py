"""Composing a pair: within max_length, in a fixed order, cut by one rule, and swappable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairpref.text.compose import FIRST, OUTSIDE, PROMPT, SECOND, compose, longest_first
from pairpref.text.tokenizer import Template

START, SEPARATOR, PAD = 1, 2, 0
TEMPLATE = Template(START, SEPARATOR, PAD)
BARE = Template(None, SEPARATOR, PAD)
PART = st.lists(st.integers(10, 99), max_size=40).map(lambda ids: np.array(ids, dtype=np.int32))
TEMPLATES = st.sampled_from([TEMPLATE, BARE])
BUDGET = st.integers(16, 140)


def part(begin: int, length: int) -> np.ndarray:
    return np.arange(begin, begin + length, dtype=np.int32)


@given(PART, PART, PART, BUDGET, TEMPLATES, st.booleans())
def test_max_length_is_never_exceeded(prompt, a, b, max_length, template, swapped):
    ids, segments = compose(prompt, a, b, max_length, template, swapped)
    whole = len(prompt) + len(a) + len(b) + 3 + (template.start is not None)
    assert len(ids) == len(segments) <= min(max_length, whole)
    # What is cut is cut because it must be: at most a token a part is given away.
    assert len(ids) == whole if whole <= max_length else len(ids) > max_length - 3
    assert ids.dtype == np.int32 and segments.dtype == np.int8


@given(PART, PART, PART, BUDGET, TEMPLATES)
def test_parts_stand_in_order_each_with_its_beginning_kept(prompt, a, b, max_length, template):
    ids, segments = compose(prompt, a, b, max_length, template)
    start = [] if template.start is None else [template.start]
    assert list(ids[: len(start)]) == start and (segments[: len(start)] == OUTSIDE).all()
    assert (np.diff(segments[len(start) :]) >= 0).all() and OUTSIDE not in segments[len(start) :]
    for given_part, segment in zip((prompt, a, b), (PROMPT, FIRST, SECOND), strict=True):
        *kept, end = ids[segments == segment]
        assert end == SEPARATOR and kept == list(given_part[: len(kept)])


@given(PART, PART, PART, BUDGET, TEMPLATES)
def test_swapped_is_the_pair_the_other_way_round(prompt, a, b, max_length, template):
    swapped, other = (
        compose(prompt, a, b, max_length, template, swapped=True),
        compose(prompt, b, a, max_length, template),
    )
    assert np.array_equal(swapped.ids, other.ids) and np.array_equal(
        swapped.segments, other.segments
    )


@given(PART, BUDGET, TEMPLATES)
def test_a_single_text_is_all_there_is(text, max_length, template):
    ids, segments = compose(part(10, 5), text, None, max_length, template)
    start = [] if template.start is None else [template.start]
    kept = text[: max_length - len(start) - 1]
    assert list(ids) == [*start, *kept, SEPARATOR]
    assert list(segments) == [*[OUTSIDE] * len(start), *[FIRST] * (len(kept) + 1)]


def test_an_example():
    ids, segments = compose(part(10, 2), part(20, 30), part(60, 3), 16, TEMPLATE, swapped=True)
    assert list(ids) == [1, 10, 11, 2, 60, 61, 62, 2, 20, 21, 22, 23, 24, 25, 26, 2]
    assert list(segments) == [0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]


LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=5)


@given(LENGTHS, st.integers(0, 200))
def test_longest_first(lengths, room):
    kept = longest_first(lengths, room)
    cut = [k for k, length in zip(kept, lengths, strict=True) if k < length]
    whole = [k for k, length in zip(kept, lengths, strict=True) if k == length]
    assert all(0 <= k <= length for k, length in zip(kept, lengths, strict=True))
    assert sum(kept) <= room
    assert bool(cut) == (sum(lengths) > room)
    if cut:
        assert len(set(cut)) == 1 and max(whole, default=0) <= cut[0]
        assert sum(kept) > room - len(cut)


@given(LENGTHS, st.integers(0, 200), st.randoms())
def test_longest_first_does_not_know_the_order_of_parts(lengths, room, random):
    order = random.sample(range(len(lengths)), len(lengths))
    kept = longest_first(lengths, room)
    assert longest_first([lengths[i] for i in order], room) == [kept[i] for i in order]


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ([1, 2, 3], 6, [1, 2, 3]),
        ([1, 2, 3], 5, [1, 2, 2]),
        ([100, 1, 10], 30, [19, 1, 10]),
        ([10, 10, 10], 20, [6, 6, 6]),
        ([5, 0, 0], 0, [0, 0, 0]),
        ([2, 50, 50], 12, [2, 5, 5]),
    ],
)
def test_longest_first_by_hand(lengths, room, kept):
    assert longest_first(lengths, room) == kept
