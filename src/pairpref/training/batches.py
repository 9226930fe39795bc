"""Which pairs are in a step, in which order, which process gets them, and how they become tensors.

Nothing is drawn from a random number generator: every choice is a hash of (seed, epoch, row id), so
a resumed or re-sharded run makes the same ones.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset

from pairpref.pairs import swap_labels
from pairpref.params import AugmentParams, Member
from pairpref.text.compose import LONGEST_FIRST, Composed, Cut, inputs, windows
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens

# Batches are cut from stretches of this many, sorted by length: nearly no padding, and the order
# stays random at any larger scale.
_STRETCH = 50
_ORDER, _SIDE, _WINDOW = 0, 1, 2
_UNLABELLED, _IGNORED = -1, -100  # a row without a label; a label that the loss leaves out

# A row, and whether B is shown first; of its windows the first, or a number modulo how many it has.
# ~row: it fills an empty batch.
Item = tuple[int, bool] | tuple[int, bool, int]
# What is read of a pair, its label and, for a model that counts, the features as they are shown.
Example = tuple[list[Composed], int] | tuple[list[Composed], int, np.ndarray]


def keyed(seed: int, epoch: int, purpose: int, keys: np.ndarray) -> np.ndarray:
    """Uniform uint64 numbers that depend on nothing but their arguments.

    The finaliser of SplitMix64 (Steele et al. 2014).

    Args:
        keys: uint64, any shape.
    """
    start = hashlib.blake2b(f"{seed}:{epoch}:{purpose}".encode(), digest_size=8).digest()
    z = keys + np.frombuffer(start, dtype="<u8")[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def row_keys(ids: np.ndarray) -> np.ndarray:
    """A uint64 for each row's identifier; shape (n,)."""
    digests = (hashlib.blake2b(str(i).encode(), digest_size=8).digest() for i in ids)
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


class PairDataset(Dataset):
    """Items as composed inputs; the label follows the order shown.

    Args:
        tokens: tokenised rows; where labels are −1, batches have none. With features these are
            given, too.
        max_length: most tokens of one input.
        template: special ids.
        member: what reads them.
        cut: what is shown of longer pairs.
    """

    def __init__(
        self,
        tokens: Tokens,
        max_length: int,
        template: Template,
        member: Member = "classifier",
        cut: Cut = LONGEST_FIRST,
    ) -> None:
        self.tokens, self.max_length, self.template = tokens, max_length, template
        self.member, self.cut, self._lengths = member, cut, tokens.part_lengths()
        labels = tokens.labels
        self._swapped_labels = np.where(labels < 0, labels, swap_labels(labels))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, item: Item) -> Example:
        row, swapped, *window = item
        row, filler = (row, False) if row >= 0 else (~row, True)
        pair = *self.tokens.pair(row), self.max_length, self.template, swapped, self.cut
        labels = self._swapped_labels if swapped else self.tokens.labels
        read = inputs(self.member, *pair, *window), _IGNORED if filler else int(labels[row])
        counted = self.tokens.features
        return read if counted is None else (*read, counted.shown(row, swapped))

    def windows(self, row: int) -> int:
        """How many windows a row is shown in."""
        how = self.max_length, self.template, self.cut, self.member
        return windows(self._lengths[row], *how)


class Collator:
    """Pad composed inputs to the longest of the batch; a pair's inputs follow each other.

    Args:
        pad: the padding id.
        segments: give the model token_type_ids.
    """

    def __init__(self, pad: int, segments: bool) -> None:
        self.pad, self.segments = pad, segments
        self.shape = (0, 0)

    def __call__(self, items: list[Example]) -> dict[str, torch.Tensor]:
        rows = [composed for of_pair, *_ in items for composed in of_pair]
        ids = np.full((len(rows), max(len(row.ids) for row in rows)), self.pad, dtype=np.int64)
        mask, segments = np.zeros_like(ids), np.zeros_like(ids)
        for i, (row_ids, row_segments) in enumerate(rows):
            length = len(row_ids)
            ids[i, :length], mask[i, :length], segments[i, :length] = row_ids, 1, row_segments
        self.shape = mask.shape
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self.segments:
            batch["token_type_ids"] = torch.from_numpy(segments)
        labels, features = [item[1] for item in items], [item[2] for item in items if len(item) > 2]
        if features:
            batch["features"] = torch.from_numpy(np.stack(features))
        if labels[0] != _UNLABELLED:
            batch["labels"] = torch.tensor(labels)
        return batch


class KeyedBatches(BatchSampler):
    """Batches of items for one epoch after another; `set_epoch` chooses the epoch.

    Args:
        tokens: the rows to train on.
        batch_size: pairs a batch. With both orders shown a batch has twice as many items.
        augment: whether and how the second order is shown.
        seed: of the run.
        windows: show a keyed window of a pair each epoch, the same in both orders.
    """

    def __init__(
        self,
        tokens: Tokens,
        batch_size: int,
        augment: AugmentParams,
        seed: int,
        windows: bool = False,
    ) -> None:
        self._windows = windows
        self.batch_size, self.drop_last, self.sampler = batch_size, False, None
        self._augment, self._seed, self._epoch = augment, seed, 0
        self._keys, self._lengths = row_keys(tokens.ids), tokens.lengths()
        both = augment.ab and augment.mode == "both"
        self.items = len(tokens) * (1 + both)  # of an epoch

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._keys) // self.batch_size)

    def __iter__(self) -> Iterator[list[Item]]:
        order = self._shuffled(self._keys)
        stretch = _STRETCH * self.batch_size
        for begin in range(0, len(order), stretch):
            rows = order[begin : begin + stretch]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            for i in self._shuffled(np.array([self._keys[batch[0]] for batch in batches])):
                yield self._items(batches[i])

    def _shuffled(self, keys: np.ndarray) -> np.ndarray:
        """Indices of the keys in this epoch's order."""
        return np.argsort(keyed(self._seed, self._epoch, _ORDER, keys), kind="stable")

    def _drawn(self, purpose: int, rows: np.ndarray) -> np.ndarray:
        return keyed(self._seed, self._epoch, purpose, self._keys[rows])

    def _items(self, rows: np.ndarray) -> list[Item]:
        if not self._windows:
            return list(self._sides(rows))
        drawn = dict(zip(rows.tolist(), self._drawn(_WINDOW, rows).tolist(), strict=True))
        return [(row, swapped, drawn[row]) for row, swapped in self._sides(rows)]

    def _sides(self, rows: np.ndarray) -> list[tuple[int, bool]]:
        if not self._augment.ab:
            return [(int(row), False) for row in rows]
        if self._augment.mode == "both":
            return [(int(row), swapped) for swapped in (False, True) for row in rows]
        sides = self._drawn(_SIDE, rows) & np.uint64(1)
        return [(int(row), bool(side)) for row, side in zip(rows, sides, strict=True)]


class StepParts(BatchSampler):
    """This process's parts of each step's items, one batch after another.

    The step is that of all processes together, however many there are. Where it has fewer items
    than parts, some parts are a filler that the loss leaves out.

    Args:
        steps: the steps of all processes.
        process, processes: this process's number, and how many there are.
        parts: of one process, whose gradients are added up before the optimizer steps.
    """

    def __init__(self, steps: KeyedBatches, process: int, processes: int, parts: int) -> None:
        self.steps, self.batch_size, self.drop_last, self.sampler = steps, parts, False, None
        self._process, self._processes, self._parts = process, processes, parts

    def set_epoch(self, epoch: int) -> None:
        self.steps.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.steps) * self._parts

    def __iter__(self) -> Iterator[list[Item]]:
        first = self._process * self._parts
        for items in self.steps:
            for part in shares(items, self._processes * self._parts)[first : first + self._parts]:
                row, *shown = items[0]
                yield part or [(~row, *shown)]


def shares(items: list[Item], parts: int) -> list[list[Item]]:
    """Contiguous parts of nearly equal length, some of them empty if there are too few items."""
    ends = np.linspace(0, len(items), parts + 1).round().astype(int)
    return [items[begin:end] for begin, end in zip(ends[:-1], ends[1:], strict=True)]
