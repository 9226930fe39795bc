"""Prompts that ask the same belong to one group: equal once normalised, or near duplicates.

MinHash and locality-sensitive hashing find candidates; the exact Jaccard similarity of their
shingles decides. Broder, A. Z. (1997), "On the resemblance and containment of documents",
Compression and Complexity of Sequences.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
from datasketch import MinHash, MinHashLSH
from scipy.cluster.hierarchy import DisjointSet

from pairpref.parallel import ALONE, each
from pairpref.params import ParallelParams

SHINGLE = 5  # characters
_PERMUTATIONS = 128
_SHARD = 500  # prompts
# Hashing aims a little below the wanted similarity and weighs missed candidates far above false
# ones, which are verified. It then finds 98 % of the pairs at similarity 0.8.
_AIM = 0.95
_WEIGHTS = (0.05, 0.95)
_FOLDED = re.compile(r"[\W_]+")


def normalise(prompt: str) -> str:
    """The prompt without case, compatibility forms (NFKC), punctuation and white space.

    A prompt of punctuation alone stays as it is.
    """
    text = unicodedata.normalize("NFKC", prompt).casefold()
    return _FOLDED.sub(" ", text).strip() or text.strip()


def group(
    normalised: Sequence[str], similarity: float, parallel: ParallelParams = ALONE
) -> np.ndarray:
    """The group of each row.

    Args:
        normalised: a normalised prompt per row.
        similarity: Jaccard similarity in (0, 1] from which two prompts are near duplicates. A
            prompt that is near to any member of a group belongs to it.

    Returns:
        int64, shape (rows,): the number of the group's first row.
    """
    distinct = list(dict.fromkeys(normalised))
    joined = DisjointSet(distinct)
    for one, other in _candidates(distinct, similarity, parallel):
        if not joined.connected(one, other) and jaccard(one, other) >= similarity:
            joined.merge(one, other)
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(joined[text], row) for row, text in enumerate(normalised)], dtype=np.int64
    )


def jaccard(one: str, other: str) -> float:
    """Similarity in [0, 1] of two normalised prompts: common shingles as a share of all."""
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


@lru_cache(maxsize=4096)
def shingles(text: str) -> frozenset[str]:
    """All runs of `SHINGLE` characters, or the text itself where it is shorter."""
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))


def _candidates(
    texts: Sequence[str], similarity: float, parallel: ParallelParams
) -> Iterator[tuple[str, str]]:
    index = MinHashLSH(threshold=_AIM * similarity, num_perm=_PERMUTATIONS, weights=_WEIGHTS)
    shards = ((texts[begin : begin + _SHARD],) for begin in range(0, len(texts), _SHARD))
    sketches = chain.from_iterable(each(_sketches, shards, parallel))
    for text, sketch in zip(texts, sketches, strict=True):
        for similar in index.query(sketch):
            yield text, similar
        index.insert(text, sketch, check_duplication=False)


def _sketches(texts: Sequence[str]) -> list[MinHash]:
    encoded = ([shingle.encode() for shingle in shingles(text)] for text in texts)
    return list(MinHash.generator(encoded, num_perm=_PERMUTATIONS, hashfunc=zlib.crc32))
