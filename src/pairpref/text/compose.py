"""Prompt, A and B, each tokenised once, become the model's input when a batch is made.

Training and inference alike compose here: they cut a long pair in the same way, and swapping A and
B costs no copy of the data.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pairpref.params import POINTWISE, Member
from pairpref.text.tokenizer import Template

# Segment of a token. FIRST is the answer shown first, whether A or B; special tokens belong to the
# part they end.
OUTSIDE, PROMPT, FIRST, SECOND = range(4)
SEGMENTS = 4

_FLOOR = 16  # tokens that `proportional` leaves each part that has them


class Composed(NamedTuple):
    """One input: ids (int32) and segments (int8), both of shape (tokens,)."""

    ids: np.ndarray
    segments: np.ndarray


class Cut(NamedTuple):
    """What is shown of a pair longer than max_length: as in the params section `text`."""

    truncation: str = "longest_first"
    windows: int = 1
    stride: float = 0.5


LONGEST_FIRST = Cut()


def compose(
    prompt: np.ndarray,
    a: np.ndarray,
    b: np.ndarray | None,
    max_length: int,
    template: Template,
    swapped: bool = False,
    cut: Cut = LONGEST_FIRST,
    window: int = 0,
) -> Composed:
    """Build the input of one pair, or of one window of it.

    Args:
        prompt, a, b: ids of each part, shape (tokens,); b is None for a single text, which is a.
        max_length: most tokens, special ones included; nothing is cut that fits.
        swapped: show B first.
        window: its number, modulo `windows`.
    """
    if b is None:
        parts, segments = [a], [FIRST]
    else:
        parts, segments = [prompt, b, a] if swapped else [prompt, a, b], [PROMPT, FIRST, SECOND]
    count = windows([len(part) for part in parts], max_length, template, cut)
    return _joined(parts, segments, max_length, template, cut, window, count)


def inputs(
    member: Member,
    prompt: np.ndarray,
    a: np.ndarray,
    b: np.ndarray | None,
    max_length: int,
    template: Template,
    swapped: bool = False,
    cut: Cut = LONGEST_FIRST,
    window: int = 0,
) -> list[Composed]:
    """What a member reads of one pair: the pair, or for a reward model each answer with the prompt.

    Args:
        member: see `FusionParams`; the others are those of `compose`.
    """
    if member not in POINTWISE or b is None:
        return [compose(prompt, a, b, max_length, template, swapped, cut, window)]
    lengths = [len(prompt), len(a), len(b)]
    how = max_length, template, cut, window, windows(lengths, max_length, template, cut, member)
    return [
        _joined([prompt, answer], [PROMPT, FIRST], *how)
        for answer in ((b, a) if swapped else (a, b))
    ]


def _joined(
    parts: list[np.ndarray],
    segments: list[int],
    max_length: int,
    template: Template,
    cut: Cut,
    window: int,
    count: int,
) -> Composed:
    """One input of these parts: of `count` windows the given one."""
    at = 0 if template.start is None else 1
    kept = _kept([len(part) for part in parts], max_length, template, cut)
    ids = np.empty(at + len(parts) + sum(kept), dtype=np.int32)
    out = np.empty(len(ids), dtype=np.int8)
    if template.start is not None:
        ids[0], out[0] = template.start, OUTSIDE
    for part, segment, length in zip(parts, segments, kept, strict=True):
        end = at + length
        if length < len(part):
            if count > 1 and segment != PROMPT:
                begin = (len(part) - length) * (window % count) // (count - 1)
                part = part[begin : begin + length]
            else:
                part = _ends(part, length, cut.truncation, segment, template.mark)
        ids[at:end], ids[end], out[at : end + 1] = part, template.separator, segment
        at = end + 1
    return Composed(ids, out)


def windows(
    lengths: Sequence[int],
    max_length: int,
    template: Template,
    cut: Cut,
    member: Member = "classifier",
) -> int:
    """How many windows a pair is shown in, at most `cut.windows`; 1 if its answers fit.

    In each, an answer that does not fit shows another slice of the length that it is cut to. The
    slices are spread evenly from its beginning to its end, and each begins at most `cut.stride` of
    its length after the one before, as far as `cut.windows` allows.

    Args:
        lengths: tokens of prompt, A and B, or of a single text.
        member: what reads them, as in `inputs`.
    """
    if cut.windows == 1:
        return 1
    steps = 0
    prompt, *answers = lengths
    for read in [(prompt, n) for n in answers] if member in POINTWISE else [lengths]:
        kept = _kept(read, max_length, template, cut)
        for length, k in list(zip(read, kept, strict=True))[len(read) > 1 :]:
            steps = max(steps, -(-(length - k) // max(1, int(cut.stride * k))))
    return min(cut.windows, 1 + steps)


def _ends(
    part: np.ndarray, length: int, truncation: str, segment: int, mark: int | None
) -> np.ndarray:
    """`length` tokens of a longer part, the mark of the cut included.

    Of a prompt they are the last ones, since its last turn is what the answers answer.
    """
    if truncation == "longest_first":
        return part[:length]
    marks = np.array([] if mark is None else [mark], dtype=part.dtype)[:length]
    words = length - len(marks)
    rule = "tail" if segment == PROMPT else truncation
    last = words if rule == "tail" else words // 2 if rule == "head_tail" else 0
    return np.concatenate([part[: words - last], marks, part[len(part) - last :]])


def _kept(lengths: Sequence[int], max_length: int, template: Template, cut: Cut) -> list[int]:
    total = max_length - len(lengths) - (template.start is not None)
    rule = proportional if cut.truncation == "proportional" else longest_first
    return rule(lengths, total)


def longest_first(lengths: Sequence[int], total: int) -> list[int]:
    """How much of each part is kept so that all fit in `total`.

    Everything, or else the longest parts are cut to one common length, whatever their order: the
    rule of `truncation="longest_first"` of the tokenizers library, for any number of parts.
    """
    left = total
    for rank, length in enumerate(sorted(lengths)):
        longest = left // (len(lengths) - rank)
        if length > longest:
            return [min(length, longest) for length in lengths]
        left -= length
    return list(lengths)


def proportional(lengths: Sequence[int], total: int) -> list[int]:
    """How much of each part is kept so that all fit in `total`.

    Everything, or else the same share of each part, but of none less than `_FLOOR` tokens if it has
    them and there is room.
    """
    left, whole = total, sum(lengths)
    if whole <= total:
        return list(lengths)
    floor = min(_FLOOR, total // len(lengths))
    for length in sorted(filter(None, lengths)):  # the shortest have the smallest shares
        least = min(length, floor)
        if left * length // whole >= least:
            break
        left, whole = left - least, whole - length
    return [max(min(length, floor), left * length // whole) for length in lengths]


def composed_lengths(lengths: np.ndarray, single: bool, template: Template) -> np.ndarray:
    """Tokens of whole inputs, uncut, from those of their parts together; shape (n,)."""
    return lengths + (1 if single else 3) + (template.start is not None)
