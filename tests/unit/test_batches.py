"""Which pairs are in a step: every row once an epoch, chosen by seed, epoch and id alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pairpref.pairs import TIE, A, B
from pairpref.params import AugmentParams
from pairpref.text.compose import compose
from pairpref.text.tokenizer import Template
from pairpref.training.batches import (
    Collator,
    KeyedBatches,
    PairDataset,
    StepParts,
    keyed,
    row_keys,
)

OFF, RANDOM, BOTH = (
    AugmentParams(ab=ab, mode=mode)
    for ab, mode in ((False, "both"), (True, "random"), (True, "both"))
)
TEMPLATE = Template(1, 2, 0)


@pytest.fixture(scope="module")
def tokens(pairs_of):
    rng = np.random.default_rng(0)
    rows = [[rng.integers(3, 50, rng.integers(0, 12)) for _ in range(3)] for _ in range(130)]
    return pairs_of(rows, ids=[f"row {i}" for i in range(130)])


def batches(tokens, augment, epoch=0, seed=0, batch_size=4) -> list[list]:
    sampler = KeyedBatches(tokens, batch_size, augment, seed)
    sampler.set_epoch(epoch)
    made = list(sampler)
    assert len(made) == len(sampler)
    return made


def sides(tokens, **how) -> dict[str, bool]:
    """Which answer of each row, by its id, is shown first in an epoch of random orders."""
    return {
        tokens.ids[row]: swapped
        for batch in batches(tokens, RANDOM, **how)
        for row, swapped in batch
    }


@pytest.mark.parametrize("augment", [OFF, RANDOM])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 500])
def test_every_row_is_seen_once_an_epoch(tokens, augment, batch_size):
    for epoch in range(3):
        made = batches(tokens, augment, epoch, batch_size=batch_size)
        assert sorted(row for batch in made for row, _ in batch) == list(range(130))
        assert all(1 <= len(batch) <= batch_size for batch in made)


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_both_orders_are_in_the_same_step(tokens, batch_size):
    made = batches(tokens, BOTH, batch_size=batch_size)
    for batch in made:
        plain, swapped = ([row for row, side in batch if side is want] for want in (False, True))
        assert plain == swapped and len(plain) == len(set(plain)) <= batch_size
    assert sorted(row for batch in made for row, _ in batch) == sorted([*range(130)] * 2)


def test_without_augmentation_nothing_is_swapped(tokens):
    assert not any(swapped for batch in batches(tokens, OFF) for _, swapped in batch)


def test_the_mode_changes_neither_rows_nor_their_order(tokens):
    rows = [[row for row, _ in batch] for batch in batches(tokens, OFF)]
    assert [[row for row, _ in batch] for batch in batches(tokens, RANDOM)] == rows
    assert [[row for row, side in batch if not side] for batch in batches(tokens, BOTH)] == rows


def test_a_choice_is_a_matter_of_seed_epoch_and_id_alone(tokens):
    for seed, epoch in ((0, 0), (3, 1)):
        every = sides(tokens, seed=seed, epoch=epoch)
        some = tokens.take(np.array([77, 3, 120, 5, 64, 9]))
        for batch_size in (1, 5):
            assert (
                sides(some, seed=seed, epoch=epoch, batch_size=batch_size).items() <= every.items()
            )
        assert 0.35 < np.mean(list(every.values())) < 0.65


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}])
def test_other_epochs_and_seeds_choose_otherwise(tokens, other):
    differ = [side != sides(tokens, **other)[key] for key, side in sides(tokens).items()]
    assert 0.3 < np.mean(differ) < 0.7
    assert batches(tokens, OFF) != batches(tokens, OFF, **other)
    assert {frozenset(batch) for batch in batches(tokens, OFF)} != {
        frozenset(batch) for batch in batches(tokens, OFF, **other)
    }


def test_an_epoch_is_the_same_whenever_it_is_asked_for(tokens):
    sampler = KeyedBatches(tokens, 4, BOTH, 0)
    seen = []
    for epoch in (2, 0, 2):
        sampler.set_epoch(epoch)
        seen.append(list(sampler))
    assert seen[0] == seen[2] == list(sampler) == batches(tokens, BOTH, epoch=2) != seen[1]


def test_batches_are_of_like_lengths(tokens):
    lengths = tokens.lengths()
    spread = [
        np.ptp(lengths[[row for row, _ in batch]]) for batch in batches(tokens, OFF, batch_size=8)
    ]
    assert np.median(spread) < 0.2 * np.ptp(lengths)


@given(
    st.integers(0, 2**32),
    st.integers(0, 1000),
    st.lists(st.text(), min_size=1, max_size=20, unique=True),
)
def test_keys_depend_on_nothing_but_their_arguments(seed, epoch, ids):
    keys = row_keys(np.array(ids, dtype=object))
    numbers = keyed(seed, epoch, 0, keys)
    assert numbers.dtype == np.uint64 and len(set(numbers.tolist())) == len(ids)
    assert np.array_equal(keyed(seed, epoch, 0, keys[::-1]), numbers[::-1])
    assert not np.array_equal(keyed(seed, epoch, 1, keys), numbers)


def test_keys_are_the_same_on_any_machine():
    assert row_keys(np.array(["7"], dtype=object))[0] == row_keys(np.array([7]))[0]
    spread = keyed(0, 0, 0, row_keys(np.arange(20_000))).astype(np.float64) / 2**64
    assert abs(spread.mean() - 0.5) < 0.01 and abs(spread.std() - 12**-0.5) < 0.01


class TestPairDataset:
    def test_the_label_follows_the_order_shown(self, pairs_of):
        tokens = pairs_of([([3], [4], [5])] * 3, labels=[A, B, TIE])
        dataset = PairDataset(tokens, 16, TEMPLATE)
        assert [dataset[row, False][1] for row in range(3)] == [A, B, TIE]
        assert [dataset[row, True][1] for row in range(3)] == [B, A, TIE]

    def test_items_are_composed_pairs(self, tokens):
        dataset = PairDataset(tokens, 20, TEMPLATE)
        assert len(dataset) == 130
        for row in range(130):
            for swapped in (False, True):
                [(ids, segments)], _ = dataset[row, swapped]
                composed = compose(*tokens.pair(row), 20, TEMPLATE, swapped)
                assert np.array_equal(ids, composed.ids) and np.array_equal(
                    segments, composed.segments
                )


class TestCollator:
    @pytest.fixture
    def items(self, pairs_of):
        tokens = pairs_of([([3], [4, 5, 6], [7]), ([], [8], [])], labels=[A, TIE])
        dataset = PairDataset(tokens, 16, TEMPLATE)
        return [dataset[0, True], dataset[1, False]]

    def test_short_inputs_are_padded_to_the_longest(self, items):
        batch = Collator(pad=9, segments=True)(items)
        assert batch["input_ids"].tolist() == [
            [1, 3, 2, 7, 2, 4, 5, 6, 2],
            [1, 2, 8, 2, 2, 9, 9, 9, 9],
        ]
        assert batch["attention_mask"].tolist() == [[1] * 9, [1] * 5 + [0] * 4]
        assert batch["token_type_ids"].tolist() == [
            [0, 1, 1, 2, 2, 3, 3, 3, 3],
            [0, 1, 2, 2, 3, 0, 0, 0, 0],
        ]
        assert batch["labels"].tolist() == [B, TIE]
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())

    def test_a_model_without_segments_gets_none(self, items):
        assert set(Collator(0, segments=False)(items)) == {"input_ids", "attention_mask", "labels"}

    def test_a_filler_has_a_label_that_the_loss_leaves_out(self, pairs_of):
        dataset = PairDataset(pairs_of([([3], [4], [5])] * 2, labels=[A, B]), 16, TEMPLATE)
        batch = Collator(0, True)([dataset[~1, True]])
        assert batch["labels"].tolist() == [-100]
        assert torch.equal(batch["input_ids"], Collator(0, True)([dataset[1, True]])["input_ids"])

    def test_unlabelled_pairs_have_no_labels(self, pairs_of):
        dataset = PairDataset(pairs_of([([3], [4], [5])], labels=[-1]), 16, TEMPLATE)
        assert "labels" not in Collator(0, True)([dataset[0, False]])

    def test_unlabelled_pairs_have_no_labels_swapped_either(self, pairs_of):
        dataset = PairDataset(pairs_of([([3], [4], [5])], labels=[-1]), 16, TEMPLATE)
        assert "labels" not in Collator(0, True)([dataset[0, True]])


class TestStepParts:
    @pytest.mark.parametrize(("processes", "parts"), [(1, 1), (1, 3), (2, 1), (3, 2), (2, 9)])
    def test_all_processes_together_read_each_step(self, pairs_of, processes, parts):
        """However many they are, a step is the same items in the same order."""
        rows = [([3], [4] * (i % 7), [5]) for i in range(22)]
        steps = KeyedBatches(pairs_of(rows), 4, AugmentParams(), seed=3)
        batches = [list(StepParts(steps, rank, processes, parts)) for rank in range(processes)]
        assert [len(found) for found in batches] == [len(steps) * parts] * processes
        for number, expected in enumerate(steps):
            shown = [
                item
                for found in batches
                for batch in found[number * parts : (number + 1) * parts]
                for item in batch
                if item[0] >= 0
            ]
            assert shown == expected
        assert all(batch for found in batches for batch in found)
