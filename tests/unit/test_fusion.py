"""The pool of members: its laws, and that it is no worse than the best member."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax

from pairpref.errors import UserError
from pairpref.evaluation import fusion
from pairpref.evaluation.fusion import Fusion
from pairpref.evaluation.metrics import losses
from pairpref.pairs import PROBABILITIES, swap_labels, swap_probabilities

N = 3_000


def simulated(*noise: float, sharp: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and p of members that see the true logits with so much noise; (members, n, 3).

    The first member's logits are multiplied by `sharp`.
    """
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(N, 3))
    p = softmax(truth, axis=1)
    labels = (p.cumsum(axis=1) < rng.random((N, 1))).sum(axis=1)
    seen = np.stack([truth + rng.normal(size=truth.shape) * level for level in noise])
    seen /= 1 + np.square(noise)[:, None, None]  # the best guess of the truth
    seen[0] *= sharp
    return labels, softmax(seen, axis=-1)


def folds() -> list[tuple[np.ndarray, np.ndarray]]:
    parts = np.arange(N) % 5
    return [(parts != k, parts == k) for k in range(5)]


def pooled(labels: np.ndarray, p: np.ndarray, away: np.ndarray | None = None) -> np.ndarray:
    return losses(labels, fusion.cross_fitted(_names(p), p, away, labels, folds()))


def _names(p: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, range(len(p))))


@pytest.mark.parametrize(
    ("noise", "sharp"),
    [((0.5, 50.0), 1.0), ((1.0, 1.0, 1.0), 1.0), ((1.0, 1.0), 4.0), ((0.3, 2.0, 9.0), 1.0)],
    ids=["one useless", "all equal", "one over-confident", "one far better"],
)
def test_a_pool_is_no_worse_than_the_best_member(noise, sharp):
    labels, p = simulated(*noise, sharp=sharp)
    best = min((losses(labels, member) for member in p), key=np.mean)
    excess = pooled(labels, p) - best
    assert excess.mean() < 2 * excess.std() / N**0.5


def test_members_that_know_different_things_are_better_together():
    labels, p = simulated(1.0, 1.0)
    gain = losses(labels, p[0]) - pooled(labels, p)
    assert gain.mean() > 5 * gain.std() / N**0.5


def test_copies_of_a_member_add_no_information():
    labels, p = simulated(1.0)
    one, three = pooled(labels, p), pooled(labels, np.repeat(p, 3, axis=0))
    assert abs(one.mean() - three.mean()) < 1e-4
    fitted = Fusion.fit(("a", "b", "c"), np.repeat(p, 3, axis=0), None, labels)
    assert np.ptp(fitted.winner) < 1e-4 and np.isclose(sum(fitted.winner), 1, atol=0.15)


def test_swapped_answers_give_swapped_probabilities():
    labels, p = simulated(0.7, 1.5)
    fitted = Fusion.fit(("a", "b"), p, p[:, ::-1], labels)
    swapped = fitted.apply(swap_probabilities(p))
    assert np.allclose(swapped, swap_probabilities(fitted.apply(p)), atol=1e-6)
    again = Fusion.fit(("a", "b"), swap_probabilities(p), None, swap_labels(labels))
    there = Fusion.fit(("a", "b"), p, None, labels)
    assert np.allclose(again.winner, there.winner, atol=1e-4)


def test_away_from_home_a_member_that_fails_there_counts_less():
    labels, home = simulated(0.5, 1.0)
    away = home.copy()
    away[0] = np.roll(home[0], 1, axis=0)  # knows nothing of these
    at_home, both = (Fusion.fit(("a", "b"), home, q, labels) for q in (None, away))
    assert both.winner[0] < at_home.winner[0] and both.tie[0] < at_home.tie[0]


def test_a_silent_member_is_not_replaced_by_the_others():
    labels, home = simulated(0.3, 3.0)
    away = home.copy()
    away[0] = np.nan
    fitted = Fusion.fit(("a", "b"), home, away, labels)
    assert min(fitted.louder) >= 1
    assert losses(labels, fitted.apply(home)).mean() < losses(labels, home[0]).mean() + 0.002
    assert np.isfinite(fitted.apply(away, away=True)).all()


def test_few_votes_leave_members_nearly_alike():
    labels, p = simulated(0.5, 3.0)
    few = Fusion.fit(("a", "b"), p[:, :20], None, labels[:20])
    many = Fusion.fit(("a", "b"), p, None, labels)
    assert few.winner[0] - few.winner[1] < (many.winner[0] - many.winner[1]) / 2


def test_one_member_alone_stays_as_it_is():
    _, p = simulated(1.0)
    assert np.allclose(Fusion.alone("classifier").apply(p), p[0], atol=1e-6)


def test_saved_and_loaded(tmp_path):
    labels, p = simulated(1.0, 2.0)
    fitted = Fusion.fit(("a", "b"), p, p, labels)
    fitted.save(tmp_path / "fusion.json")
    assert Fusion.load(tmp_path / "fusion.json") == fitted
    for damaged in ({"winner": (1.0,)}, {"bias": np.nan}, {"tie": ("x", "y")}, {"louder": 1.0}):
        replace(fitted, **damaged).save(tmp_path / "fusion.json")
        with pytest.raises(UserError, match="not a saved fusion"):
            Fusion.load(tmp_path / "fusion.json")
    (tmp_path / "fusion.json").write_text("[1]")
    with pytest.raises(UserError, match="not a saved fusion"):
        Fusion.load(tmp_path / "fusion.json")


def test_figures_of_fused_members():
    labels, p = simulated(0.5, 1.0)
    ids = [f"v{i}" for i in range(N)]
    votes = pd.DataFrame({"id": ids, "fold": np.arange(N) % 5, "label": labels})
    rows = [
        pd.DataFrame(of, columns=PROBABILITIES).assign(id=ids, member=name, part=np.arange(N) % 3)
        for name, of in zip(("classifier", "counted"), p, strict=True)
    ]
    fitted, fused, figures = fusion.fuse(votes, np.arange(N), pd.concat(rows), rows[1])
    assert fitted.members == ("classifier", "counted") and np.allclose(fused.sum(axis=1), 1)
    assert figures["log_loss"] == pytest.approx(losses(labels, fused).mean())
    assert figures["log_loss_before"] == pytest.approx(losses(labels, p[0]).mean())
    assert "away" in figures["members"]["counted"]
    assert "away" not in figures["members"]["classifier"]
    assert figures["away"] < figures["away_shares"]
    assert -log_softmax(np.zeros(3))[0] > figures["away_shares"] - 0.01


@pytest.mark.parametrize("lost", [np.nan, np.inf, None])
def test_answers_that_are_missing_or_no_numbers_are_refused(lost):
    votes = pd.DataFrame({"id": ["a", "b"], "fold": [0, 1], "label": [0, 1]})
    rows = votes[["id"]].assign(member="reward", p_a=0.5, p_b=0.3, p_tie=0.2)
    damaged = rows.iloc[:1] if lost is None else rows.assign(p_b=[0.3, lost])
    with pytest.raises(UserError, match="1 of 2 out-of-fold rows .* by reward"):
        fusion.fuse(votes, np.arange(2), damaged, damaged.iloc[:0])
