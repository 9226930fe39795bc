"""Scores against known vote probabilities, which have no label noise. Simulated votes only."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import entr, xlogy

from pairpref.errors import UserError
from pairpref.evaluation.metrics import probabilities
from pairpref.pairs import PROBABILITIES

_EPS = np.finfo(np.float64).eps


def read(path: Path | str, ids: pd.Series) -> np.ndarray:
    """True probabilities of the votes with these ids, in their order; shape (n, 3).

    Args:
        path: a CSV with columns id, p_a, p_b, p_tie; it may hold more votes.
        ids: a series named id.

    Raises:
        UserError: wrong columns, values that are no probabilities, repeated or missing ids.
    """
    try:
        types = {"id": ids.dtype, **dict.fromkeys(PROBABILITIES, float)}
        known = pd.read_csv(path, usecols=list(types), dtype=types, na_filter=False)
        p, known = known[PROBABILITIES], known.drop_duplicates()
        if not (np.isfinite(p) & (p >= 0)).all(axis=None) or (p.sum(axis=1) == 0).any():
            raise ValueError("some are no probabilities")
        found = ids.to_frame().merge(known, on="id", how="left", validate="one_to_one")
        if missing := int(found["p_a"].isna().sum()):
            raise ValueError(f"it lacks {missing:,} of {len(ids):,} votes")
    except ValueError as error:
        raise UserError(
            f"data.truth: {path} should be a CSV with columns id, p_a, p_b, p_tie for every vote, "
            f"each p 0 or more and not all 0: {error}"
        ) from None
    return probabilities(found)


def entropy(p: np.ndarray) -> np.ndarray:
    """H(p) in nats over the last axis."""
    return entr(p).sum(axis=-1)


def cross_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """CE(p, q) = −Σ p log q in nats over the last axis; q is clipped as scikit-learn clips."""
    return -xlogy(p, np.clip(q, _EPS, 1)).sum(axis=-1)


def captured(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    """How much predictions q know of the true probabilities p.

    Returns:
        prior: H(p̄), expected log loss of the best constant answer; floor: E[H(p)], of the truth;
        expected_log_loss: E[CE(p, q)]; and unless p is constant, information_captured =
        (prior − expected) / (prior − floor): McFadden's pseudo-R², scaled so that 1 can be reached.
    """
    prior, floor = float(entropy(p.mean(axis=0))), float(entropy(p).mean())
    expected = float(cross_entropy(p, q).mean())
    found = {"prior": prior, "floor": floor, "expected_log_loss": expected}
    if prior - floor > 1e-12:
        found["information_captured"] = (prior - expected) / (prior - floor)
    return found


def distance(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    """total_variation: mean over rows of ½ Σ |p − q|, from 0 to 1."""
    return {"total_variation": float(np.abs(p - q).sum(axis=1).mean() / 2)}


FROM_SUMS = ("expected_log_loss", "information_captured", "total_variation")


def sufficient_statistics(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What `captured_from_sums` needs of each row; shape (n, 7)."""
    off = np.abs(p - q).sum(axis=1) / 2
    return np.column_stack([np.ones(len(p)), cross_entropy(p, q), entropy(p), off, p])


def captured_from_sums(sums: np.ndarray) -> np.ndarray:
    """`FROM_SUMS` from sums of the statistics; from shape (..., 7) to (..., 3)."""
    n, expected, floor, off = np.moveaxis(sums[..., :4], -1, 0)
    prior = entropy(sums[..., 4:] / n[..., None])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (prior - expected / n) / (prior - floor / n)
    return np.stack([expected / n, share, off / n], axis=-1)
