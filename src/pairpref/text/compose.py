"""Prompt, A and B, each tokenised once, become the model's input when a batch is made.

Training and inference alike compose here: they cut a long pair in the same way, and swapping A and
B costs no copy of the data.
"""

from typing import NamedTuple

import numpy as np

from pairpref.params import Member
from pairpref.text.tokenizer import Template

# Segment of a token. FIRST is the answer shown first, whether A or B; special tokens belong to the
# part they end.
OUTSIDE, PROMPT, FIRST, SECOND = range(4)
SEGMENTS = 4


class Composed(NamedTuple):
    """One input: ids (int32) and segments (int8), both of shape (tokens,)."""

    ids: np.ndarray
    segments: np.ndarray


def compose(
    prompt: np.ndarray,
    a: np.ndarray,
    b: np.ndarray | None,
    max_length: int,
    template: Template,
    swapped: bool = False,
) -> Composed:
    """Build the input of one pair.

    Args:
        prompt, a, b: ids of each part, shape (tokens,); b is None for a single text, which is a.
        max_length: most tokens, special ones included. The longest parts lose their ends first.
        swapped: show B first.
    """
    if b is None:
        parts, segments = [a], [FIRST]
    else:
        parts, segments = [prompt, b, a] if swapped else [prompt, a, b], [PROMPT, FIRST, SECOND]
    return _joined(parts, segments, max_length, template)


def inputs(
    member: Member,
    prompt: np.ndarray,
    a: np.ndarray,
    b: np.ndarray | None,
    max_length: int,
    template: Template,
    swapped: bool = False,
) -> list[Composed]:
    """What a member reads of one pair: the pair, or for a reward model each answer with the prompt.

    Args:
        member: see `FusionParams`; the others are those of `compose`.
    """
    if member != "reward" or b is None:
        return [compose(prompt, a, b, max_length, template, swapped)]
    answers = (b, a) if swapped else (a, b)
    segments = [PROMPT, FIRST]
    return [_joined([prompt, answer], segments, max_length, template) for answer in answers]


def _joined(
    parts: list[np.ndarray], segments: list[int], max_length: int, template: Template
) -> Composed:
    at = 0 if template.start is None else 1
    kept = longest_first([len(part) for part in parts], max_length - at - len(parts))
    ids = np.empty(at + len(parts) + sum(kept), dtype=np.int32)
    out = np.empty(len(ids), dtype=np.int8)
    if template.start is not None:
        ids[0], out[0] = template.start, OUTSIDE
    for part, segment, length in zip(parts, segments, kept, strict=True):
        end = at + length
        ids[at:end], ids[end], out[at : end + 1] = part[:length], template.separator, segment
        at = end + 1
    return Composed(ids, out)


def longest_first(lengths: list[int], total: int) -> list[int]:
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
    return lengths


def composed_lengths(lengths: np.ndarray, single: bool, template: Template) -> np.ndarray:
    """Tokens of whole inputs, uncut, from those of their parts together; shape (n,)."""
    return lengths + (1 if single else 3) + (template.start is not None)
