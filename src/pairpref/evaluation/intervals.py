"""How sure a figure is: 95 % intervals by resampling prompt groups.

Votes on one prompt are alike, so not votes but whole groups of them are drawn again (the cluster bootstrap: Davison and Hinkley 1997,
"Bootstrap Methods and their Application", section 3.8). Every figure here is a function of sums over votes, so each resample is one
weighted sum over the groups, and a thousand of them take a second.
"""

import warnings
from collections.abc import Callable

import numpy as np

LEVEL = 0.95
RESAMPLES = 1_000

_CHUNK = 50

Statistic = Callable[[np.ndarray], np.ndarray]


def resampled(
    columns: np.ndarray,
    groups: np.ndarray,
    statistic: Statistic,
    count: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """A figure, or several, of `count` resamples of the groups, drawn with replacement.

    Args:
        columns: what the figure needs of each row; shape (n, k).
        groups: prompt group of each row; shape (n,).
        statistic: from the columns' sums, shape (..., k), to the figures, shape (..., m).

    Returns:
        shape (count, m). The same arguments give the same resamples.
    """
    sums = group_sums(columns, groups)
    rng = np.random.default_rng(seed)
    figures = []
    for begin in range(0, count, _CHUNK):
        drawn = rng.integers(len(sums), size=(min(_CHUNK, count - begin), len(sums)))
        times = np.stack([np.bincount(row, minlength=len(sums)) for row in drawn]).astype(
            np.float64
        )
        figures.append(statistic(times @ sums))
    return np.concatenate(figures)


def group_sums(columns: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums of the columns over each group's rows; shape (groups, k)."""
    _, number = np.unique(groups, return_inverse=True)
    sums = np.zeros((number.max(initial=-1) + 1, columns.shape[1]))
    np.add.at(sums, number, columns)
    return sums


def bounds(figures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the 95 % percentile interval of each figure; from shape (count, m) to two of shape (m,).

    A resample in which a figure is not defined (a bucket none of whose rows was drawn) says nothing about it, and
    one that is defined nowhere has no interval: nan.
    """
    outside = 100 * (1 - LEVEL) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN")
        low, high = np.nanpercentile(figures, [outside, 100 - outside], axis=0)
    return low, high
