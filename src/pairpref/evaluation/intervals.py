"""95% confidence intervals by resampling prompt groups.

Votes on one prompt are alike, so whole groups are drawn again, not single votes (cluster bootstrap:
Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8). Every figure is a
function of sums over votes, so each resample is one weighted sum over the groups.
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
    """Figures of `count` resamples of the groups, drawn with replacement; shape (count, m).

    Args:
        columns: sufficient statistics of each row; shape (n, k).
        statistic: from the columns' sums, shape (..., k), to the figures, shape (..., m).
    """
    sums = group_sums(columns, groups)
    rng = np.random.default_rng(seed)
    figures = []
    for begin in range(0, count, _CHUNK):
        drawn = rng.integers(len(sums), size=(min(_CHUNK, count - begin), len(sums)))
        times = [np.bincount(row, minlength=len(sums)) for row in drawn]
        figures.append(statistic(np.stack(times).astype(np.float64) @ sums))
    return np.concatenate(figures)


def group_sums(columns: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums of the columns over each group's rows; shape (groups, k)."""
    _, number = np.unique(groups, return_inverse=True)
    sums = np.zeros((number.max(initial=-1) + 1, columns.shape[1]))
    np.add.at(sums, number, columns)
    return sums


def bounds(figures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high end of each figure's percentile interval; from shape (count, m) to two of (m,).

    Resamples in which a figure is undefined are left out; nan if it is undefined in all of them.
    """
    outside = 100 * (1 - LEVEL) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN")
        low, high = np.nanpercentile(figures, [outside, 100 - outside], axis=0)
    return low, high
