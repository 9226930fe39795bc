"""Prompt groups: what is joined, what is not, and that no process changes it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairpref.data.groups import group, jaccard, normalise

LONG = (
    "Write a short story about a lighthouse keeper who finds a letter in a bottle, "
    "and tell it from the point of view of the sea."
)


@pytest.mark.parametrize(
    "same",
    [
        "Explain  ＣＯＭＥＴＳ, please!",
        "explain comets please",
        "EXPLAIN COMETS\tPLEASE…",
        "«explain» comets — please",
    ],
)
def test_case_width_space_and_punctuation_are_nothing(same):
    assert normalise(same) == "explain comets please"


def test_prompts_of_punctuation_alone_differ():
    assert len({normalise(text) for text in ("?", "!!", "😀", "🚀", " ", "")}) == 5


def test_near_duplicates_are_joined_and_others_not():
    near, far = LONG.replace("short", "long"), "Write a short story about a dog."
    keys = [normalise(text) for text in (far, LONG, "else", near, LONG.upper(), far)]
    assert group(keys, 0.8).tolist() == [0, 1, 2, 1, 1, 0]
    assert group(keys, 1.0).tolist() == [0, 1, 2, 3, 1, 0]


def test_candidates_are_verified():
    one, other = (
        normalise(LONG),
        normalise(LONG.replace("lighthouse keeper", "night nurse").replace("bottle", "drawer")),
    )
    similarity = jaccard(one, other)
    assert 0.5 < similarity < 0.8
    assert group([one, other], similarity + 0.01).tolist() == [0, 1]


def test_recall_at_the_threshold():
    rng = np.random.default_rng(0)
    keys = []
    for _ in range(200):
        text = "".join(rng.choice(list("abcdefghij "), 200))
        keys += [text, text[:100] + "#" * 2 + text[102:]]
    near = [jaccard(a, b) >= 0.9 for a, b in zip(keys[::2], keys[1::2], strict=True)]
    groups = group(keys, 0.9)
    joined = groups[::2] == groups[1::2]
    assert np.mean(joined[near]) > 0.98


@settings(max_examples=50)
@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=20))
def test_a_group_is_named_by_its_first_row_and_equal_prompts_share_it(keys):
    groups = group(keys, 0.8)
    assert groups.dtype == np.int64 and len(groups) == len(keys)
    for row, (key, number) in enumerate(zip(keys, groups, strict=True)):
        assert groups[number] == number <= row
        assert groups[keys.index(key)] == number


def test_hash_randomisation_changes_nothing():
    program = (
        "from pairpref.data.groups import group\n"
        "prompts = [f'tell me about number {i % 37} and its friend {i % 5}' for i in range(300)]\n"
        "print(group(prompts, .7).tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1
