"""Scores against known vote probabilities: they use no labels, so they have no label noise. Simulated votes only."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import entr, xlogy

from pairpref.errors import UserError
from pairpref.evaluation.metrics import probabilities
from pairpref.pairs import PROBABILITIES

_EPS = np.finfo(np.float64).eps


def read(path: Path | str, ids: pd.Series) -> np.ndarray:
    """The true probabilities of some votes, in their order; shape (n, 3).

    Args:
        path: a CSV with columns id, p_a, p_b, p_tie. It may hold other votes too.
        ids: ids of the votes, a series named id.

    Raises:
        UserError: the file has other columns, holds something else than numbers, names an id twice, or lacks a vote.
    """
    try:
        types = {"id": ids.dtype, **dict.fromkeys(PROBABILITIES, float)}
        known = pd.read_csv(
            path, usecols=["id", *PROBABILITIES], dtype=types, na_filter=False
        ).drop_duplicates()
        found = ids.to_frame().merge(known, on="id", how="left", validate="one_to_one")
    except ValueError as error:
        raise UserError(
            f"data.truth: {path} should be a CSV with columns id, p_a, p_b, p_tie: {error}"
        ) from None
    sums = known[PROBABILITIES].sum(axis=1)
    if not (known[PROBABILITIES] >= 0).all(axis=None) or not ((sums > 0) & np.isfinite(sums)).all():
        raise UserError(
            f"data.truth: {path} holds p_a, p_b, p_tie that are no probabilities: each should be 0 or more, not all 0."
        )
    if missing := int(found["p_a"].isna().sum()):
        raise UserError(
            f"data.truth: {path} lacks {missing:,} of {len(ids):,} votes; give the file they came with."
        )
    return probabilities(found)


def entropy(p: np.ndarray) -> np.ndarray:
    """H(p) in nats over the last axis."""
    return entr(p).sum(axis=-1)


def cross_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """CE(p, q) = −Σ p log q in nats over the last axis; q is clipped as scikit-learn's log loss clips."""
    return -xlogy(p, np.clip(q, _EPS, 1)).sum(axis=-1)


def bounds(p: np.ndarray) -> dict[str, float]:
    """What any prediction lies between, in expected log loss.

    Args:
        p: true probabilities; shape (n, 3).

    Returns:
        prior: H(p̄), the best constant answer. floor: E[H(p)], the truth itself.
    """
    return {"prior": float(entropy(p.mean(axis=0))), "floor": float(entropy(p).mean())}


def captured(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    """How much of what could be known was known.

    Information captured = (H(p̄) − E[CE(p, q)]) / (H(p̄) − E[H(p)]): the expected fall in log loss below the best constant
    answer, as a share of the largest possible one (McFadden's pseudo-R² on a scale whose 1 can be reached). 1 for q = p, 0 for
    q = p̄, below 0 for worse than constant.

    Args:
        p: true probabilities; shape (n, 3).
        q: predicted probabilities of the same rows; shape (n, 3).

    Returns:
        prior, floor, expected_log_loss and information_captured; the last is left out where p does not vary: nothing to know.
    """
    found = bounds(p)
    expected = float(cross_entropy(p, q).mean())
    spread = found["prior"] - found["floor"]
    share = {"information_captured": (found["prior"] - expected) / spread} if spread > 1e-12 else {}
    return {**found, "expected_log_loss": expected, **share}


def distance(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    """How far predictions are from the truth: total_variation, the mean over rows of ½ Σ |p − q|, from 0 to 1.

    Args:
        p, q: true and predicted probabilities of the same rows; shape (n, 3).
    """
    return {"total_variation": float(np.abs(p - q).sum(axis=1).mean() / 2)}


FROM_SUMS = ("expected_log_loss", "information_captured", "total_variation")


def summands(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What `captured_from_sums` needs of each row: shape (n, 7)."""
    return np.column_stack(
        [np.ones(len(p)), cross_entropy(p, q), entropy(p), np.abs(p - q).sum(axis=1) / 2, p]
    )


def captured_from_sums(sums: np.ndarray) -> np.ndarray:
    """The figures of `FROM_SUMS` of the sums of `summands` over any rows; from shape (..., 7) to (..., 3)."""
    n, expected, floor, distance = np.moveaxis(sums[..., :4], -1, 0)
    prior = entropy(sums[..., 4:] / n[..., None])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [expected / n, (prior - expected / n) / (prior - floor / n), distance / n], axis=-1
        )
