"""Composing a pair: within max_length, in a fixed order, cut by one rule, and swappable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairpref.text.compose import (
    FIRST,
    OUTSIDE,
    PROMPT,
    SECOND,
    Cut,
    compose,
    longest_first,
    proportional,
    windows,
)
from pairpref.text.tokenizer import Template

START, SEPARATOR, PAD = 1, 2, 0
TEMPLATE = Template(START, SEPARATOR, PAD)
BARE = Template(None, SEPARATOR, PAD)
PART = st.lists(st.integers(10, 99), max_size=40).map(lambda ids: np.array(ids, dtype=np.int32))
MARK = 3
MARKED = Template(START, SEPARATOR, PAD, MARK)
TEMPLATES = st.sampled_from([TEMPLATE, BARE, MARKED])
RULES = ("longest_first", "head", "tail", "head_tail", "proportional")
CUTS = st.builds(
    Cut, st.sampled_from(RULES), st.sampled_from([1, 2, 5]), st.sampled_from([0.1, 0.5, 1.0])
)
WINDOW = st.integers(0, 2**64 - 1)
BUDGET = st.integers(16, 140)


def part(begin: int, length: int) -> np.ndarray:
    return np.arange(begin, begin + length, dtype=np.int32)


@given(PART, PART, PART, BUDGET, TEMPLATES, st.booleans(), CUTS, WINDOW)
def test_max_length_is_never_exceeded(prompt, a, b, max_length, template, swapped, cut, window):
    ids, segments = compose(prompt, a, b, max_length, template, swapped, cut, window)
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


@given(PART, PART, PART, BUDGET, TEMPLATES, CUTS, WINDOW)
def test_swapped_is_the_pair_the_other_way_round(prompt, a, b, max_length, template, cut, window):
    swapped, other = (
        compose(prompt, a, b, max_length, template, True, cut, window),
        compose(prompt, b, a, max_length, template, False, cut, window),
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


@given(LENGTHS, st.integers(0, 200), st.randoms())
def test_proportional(lengths, room, random):
    kept = proportional(lengths, room)
    assert sum(kept) <= room and all(k <= n for k, n in zip(kept, lengths, strict=True))
    floor = min(16, room // len(lengths))
    if sum(lengths) <= room:
        assert kept == lengths
    else:
        assert sum(kept) > room - len(lengths)
        assert all(k >= min(n, floor) for k, n in zip(kept, lengths, strict=True))
    order = random.sample(range(len(lengths)), len(lengths))
    assert proportional([lengths[i] for i in order], room) == [kept[i] for i in order]


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ([100, 200, 300], 300, [50, 100, 150]),
        ([20, 200, 300], 300, [16, 113, 170]),
        ([5, 200, 300], 305, [5, 120, 180]),
        ([10, 10, 10], 9, [3, 3, 3]),
    ],
)
def test_proportional_by_hand(lengths, room, kept):
    assert proportional(lengths, room) == kept


@pytest.mark.parametrize(
    ("rule", "prompt", "a"),
    [
        ("longest_first", [10, 11, 12, 13], [50, 51, 52, 53]),
        ("head", [3, 37, 38, 39], [50, 51, 52, 3]),
        ("tail", [3, 37, 38, 39], [3, 77, 78, 79]),
        ("head_tail", [3, 37, 38, 39], [50, 51, 3, 79]),
        ("proportional", [3, 37, 38, 39], [50, 51, 52, 3]),
    ],
)
def test_which_tokens_of_a_part_are_kept_and_where_the_cut_is_marked(rule, prompt, a):
    parts = part(10, 30), part(50, 30), part(90, 30)
    ids, segments = compose(*parts, 16, MARKED, cut=Cut(rule))
    assert list(ids[segments == PROMPT]) == [*prompt, SEPARATOR]
    assert list(ids[segments == FIRST]) == [*a, SEPARATOR]
    unmarked, _ = compose(*parts, 16, TEMPLATE, cut=Cut(rule))
    assert len(unmarked) == len(ids) and MARK not in unmarked


@given(PART, PART, PART, TEMPLATES, CUTS, WINDOW)
def test_nothing_is_cut_that_fits(prompt, a, b, template, cut, window):
    whole = compose(prompt, a, b, 10**6, template)
    again = compose(prompt, a, b, len(whole.ids), template, False, cut, window)
    assert np.array_equal(whole.ids, again.ids) and np.array_equal(whole.segments, again.segments)


@given(st.tuples(*[st.integers(0, 90)] * 3), BUDGET, TEMPLATES, CUTS, st.booleans(), st.booleans())
def test_enough_windows_show_every_token_of_an_answer(
    lengths, max_length, template, cut, single, swapped
):
    """And in each, both answers have the same lengths, and one that fits is whole."""
    cut = cut._replace(windows=1000)
    prompt, a, b = (part(begin, n) for begin, n in zip((100, 200, 300), lengths, strict=True))
    shown = (prompt, a, None) if single else (prompt, a, b)
    tokens = [len(a)] if single else [*lengths]
    count = windows(tokens, max_length, template, cut)
    made = [compose(*shown, max_length, template, swapped, cut, k) for k in range(count)]
    assert len({segments.tobytes() for _, segments in made}) == 1
    answers = [(FIRST, a)] if single else [(FIRST, b), (SECOND, a)]
    if not (single or swapped):
        answers = [(FIRST, a), (SECOND, b)]
    for segment, answer in answers:
        slices = [ids[segments == segment][:-1] for ids, segments in made]
        assert set(np.concatenate(slices)) == set(answer)
        begins = [answer.searchsorted(found[0]) for found in slices if len(found)]
        if len(answer):
            assert begins[0] == 0 and begins == sorted(begins)
        if count > 1 and len(slices[0]) < len(answer):
            assert slices[-1][-1] == answer[-1]
            assert max(np.diff(begins)) <= max(1, cut.stride * len(slices[0]))
    assert windows(tokens, max_length, template, cut._replace(windows=2)) == min(2, count)
