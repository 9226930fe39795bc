"""One answer from several members: a log-odds pool that treats A and B alike.

Each member's p is two odds: of A against B, and of a tie against no tie. The pool adds up the
members' log-odds, weighted, for the winner without a bias, so that swapped answers give swapped
probabilities, and for the tie with one (Genest and Zidek 1986, "Combining Probability
Distributions", section 3: logarithmic pools). Weights are not negative; together they are the
temperature. Where little tells members apart, their weights stay near each other: a normal prior.

Weights are fitted to out-of-fold votes ("home") and also to votes whose whole cluster was held out
("away"), which stand for votes from elsewhere. A member without answers there is silent, so that
the others may speak louder: their weights times a factor from 1.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from pairpref.errors import UserError
from pairpref.evaluation.calibration import splits
from pairpref.evaluation.metrics import losses, scores
from pairpref.files import write_json
from pairpref.pairs import PROBABILITIES, TIE, A

_LEAST = 1e-12
_MOST = np.log(999)  # a member's log-odds: it is believed up to 999 to 1
_AWAY = 0.5  # how much a vote away from home counts beside one at home
_LOUDEST = np.log(20)  # factor of the weights away from home
_APART = 30.0  # votes' worth of the prior that weights are equal
_WHOLE = 10.0  # and of the prior that they add up to 1


@dataclass(frozen=True)
class Fusion:
    """Weights of members in each head."""

    members: tuple[str, ...]
    winner: tuple[float, ...]
    tie: tuple[float, ...]
    bias: float  # of a tie's log-odds
    louder: tuple[float, float]  # factors of the winner's and the tie's weights, away from home
    # Factors on the logits of the means over folds (`calibration.sharpening`).
    sharpening: tuple[float, ...]

    @classmethod
    def alone(cls, member: str) -> Self:
        """Of one member, whose p stays as it is."""
        return cls((member,), (1.0,), (1.0,), 0.0, (1.0, 1.0), (1.0,))

    @classmethod
    def fit(
        cls, members: tuple[str, ...], home: np.ndarray, away: np.ndarray | None, labels: np.ndarray
    ) -> Self:
        """Minimise the mean log loss at home and away under the priors.

        Args:
            home, away: p of the same votes by each member, shape (members, n, 3); no numbers in
                `away` where a member is silent.
            labels: 0 = A, 1 = B, 2 = tie; shape (n,).
        """
        kinds = [log_odds(p) for p in (home, away) if p is not None]
        decisive = labels != TIE
        *winner, _, of_winner = _weights(
            [odds[0][:, decisive] for odds in kinds], labels[decisive] == A
        )
        *tie, bias, of_tie = _weights([odds[1] for odds in kinds], ~decisive, biased=True)
        louder, even = (of_winner, of_tie), (1.0,) * len(members)
        return cls(members, tuple(winner), tuple(tie), bias, louder, even)

    def apply(self, p: np.ndarray, away: bool = False) -> np.ndarray:
        """The pool of the members' p, shape (members, n, 3), as shape (n, 3)."""
        of_winner, of_tie = self.louder if away else (1.0, 1.0)
        winner, tie = log_odds(p)
        w = expit(of_winner * (self.winner @ winner))
        t = expit(of_tie * (self.tie @ tie) + self.bias)
        return np.stack([(1 - t) * w, (1 - t) * (1 - w), t], axis=-1)

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises UserError."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            named: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in found.items()
            }
            loaded = cls(**named)
            of_members = loaded.members, loaded.winner, loaded.tie, loaded.sharpening
            figures = (*loaded.winner, *loaded.tie, *loaded.sharpening, *loaded.louder, loaded.bias)
            if len(set(map(len, of_members))) > 1 or not np.isfinite(figures).all():
                raise ValueError("expected a finite number of each kind for each member")
            return loaded
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: not a saved fusion ({error}). Run dvc repro -f calibrate."
            ) from None


def stacked(
    ids: pd.Series, rows: pd.DataFrame, members: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], np.ndarray]:
    """Members, and p of the votes by each, shape (members, n, 3); no numbers without a row.

    Args:
        ids: of the votes; shape (n,).
        rows: of a vote and a member each: id, member, p_a, p_b, p_tie.
        members: by default those that have rows, in their order.
    """
    members = members or tuple(rows["member"].unique())
    of_member = dict(list(rows.groupby("member")))
    empty = rows.iloc[:0]
    tables = (of_member.get(name, empty).set_index("id")[PROBABILITIES] for name in members)
    return members, np.stack([table.reindex(ids).to_numpy(np.float64) for table in tables])


def answers_of(
    classifier: pd.DataFrame, trained: pd.DataFrame, counted: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows for `fuse` at home and away, of one seed.

    Args:
        classifier: its answers: id, p_a, p_b, p_tie.
        trained: data/oof/members.parquet.
        counted: data/oof/features.parquet.
    """
    trained = trained[(trained["member"] != "classifier") & (trained["seed"] == seed)]
    counted = counted[counted["seed"] == seed]
    home = [classifier.assign(member="classifier"), trained, counted[counted["split"] == "home"]]
    return pd.concat(home), counted[counted["split"] == "away"]


def log_odds(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of A against B, and of a tie against none; 0 of no numbers. Shape (..., n) each."""
    p = np.nan_to_num(p, nan=0.5)  # even odds
    log = np.log(np.clip(p, _LEAST, 1))
    winner, tie = (
        log[..., 0] - log[..., 1],
        log[..., TIE] - np.log(np.clip(1 - p[..., TIE], _LEAST, 1)),
    )
    return np.clip(winner, -_MOST, _MOST), np.clip(tie, -_MOST, _MOST)


def cross_fitted(
    members: tuple[str, ...],
    home: np.ndarray,
    away: np.ndarray | None,
    labels: np.ndarray,
    splits: Iterable[tuple[np.ndarray, np.ndarray]],
    of_away: bool = False,
) -> np.ndarray:
    """Each vote's pool at home, or away from it, by a fit without the vote; shape (n, 3).

    Args:
        splits: rows to fit to and rows to judge, which together are all.
    """
    judged = away if of_away and away is not None else home
    p = np.empty(judged.shape[1:])
    for rest, held_out in splits:
        others = None if away is None else away[:, rest]
        fusion = Fusion.fit(members, home[:, rest], others, labels[rest])
        p[held_out] = fusion.apply(judged[:, held_out], of_away)
    return p


def fuse(
    votes: pd.DataFrame, groups: np.ndarray, home: pd.DataFrame, away: pd.DataFrame
) -> tuple[Fusion, np.ndarray, dict[str, Any]]:
    """A fusion fitted to all votes, their p by fits without them, and figures.

    Args:
        votes: id, fold and label.
        groups: prompt groups; shape (n,).
        home: members' answers to votes of a fold they were not fitted to (see `stacked`).
        away: the same for clusters, with the cluster as `part`; may have no rows.

    Returns:
        The figures are those of `scores`, log_loss_before (of the first member), log_loss_in_sample
        and members: of each log_loss, winner and tie (weights). If there are `away` rows: away,
        away_shares (of class shares) and each member's away, which are log losses, too.

    Raises:
        UserError: a member has no answer to a vote at home, or one that is not finite.
    """
    ids, labels, folds = votes["id"], votes["label"].to_numpy(int), votes["fold"].to_numpy()
    members, p = stacked(ids, home)
    for name, of_member in zip(members, p, strict=True):
        if wrong := int((~np.isfinite(of_member)).any(axis=1).sum()):
            raise UserError(
                f"{wrong:,} of {len(ids):,} out-of-fold rows have no probabilities by {name}, or "
                "they are no numbers. Run dvc repro -f features oof."
            )
    q = stacked(ids, away, members)[1] if len(away) else None
    fusion = Fusion.fit(members, p, q, labels)
    fused = cross_fitted(members, p, q, labels, splits(folds, groups))
    table: dict[str, dict[str, float]] = {
        name: {"log_loss": _loss(labels, of_member), "winner": winner, "tie": tie}
        for name, of_member, winner, tie in zip(members, p, fusion.winner, fusion.tie, strict=True)
    }
    figures: dict[str, Any] = {
        "log_loss_before": _loss(labels, p[0]),
        **scores(labels, fused),
        "log_loss_in_sample": _loss(labels, fusion.apply(p)),
    }
    if q is not None:
        part = away.drop_duplicates("id").set_index("id")["part"].reindex(ids).to_numpy()
        across = [(part != number, part == number) for number in np.unique(part)]
        figures["away"] = _loss(labels, cross_fitted(members, p, q, labels, across, of_away=True))
        shares = np.empty_like(fused)
        for rest, held_out in across:
            shares[held_out] = np.bincount(labels[rest], minlength=3) / rest.sum()
        figures["away_shares"] = _loss(labels, shares)
        for name, of_member in zip(members, q, strict=True):
            if not np.isnan(of_member).any():
                table[name]["away"] = _loss(labels, of_member)
    return fusion, fused, figures | {"members": table}


def _loss(labels: np.ndarray, p: np.ndarray) -> float:
    return float(losses(labels, p).mean())


def _weights(kinds: list[np.ndarray], target: np.ndarray, biased: bool = False) -> list[float]:
    """A weight a member, the bias, and the factor of the weights away from home.

    Args:
        kinds: log-odds of the target at home and away; shape (members, n).
        target: bool, shape (n,).
    """
    heard = np.atleast_1d(np.any(kinds[0], axis=1))
    count, happened = int(heard.sum()), target.astype(np.float64)
    if not count or not len(target):
        return [*np.zeros(len(heard)).tolist(), 0.0, 1.0]
    apart, whole = _APART / len(target), _WHOLE / len(target)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = x[:count], x[count] * biased
        from_mean, from_one = weights - weights.mean(), weights.sum() - 1
        value = apart * from_mean @ from_mean + whole * from_one**2
        slope = np.concatenate([2 * (apart * from_mean + whole * from_one), [0.0, 0.0]])
        for odds, share, away in zip(kinds, (1.0, _AWAY), (False, True), strict=False):
            factor = np.exp(x[-1]) if away else 1.0
            pooled = factor * (weights @ odds[heard])
            z = pooled + bias
            value -= share * np.mean(happened * log_expit(z) + (1 - happened) * log_expit(-z))
            error = share * (expit(z) - happened) / len(target)
            slope[:count] += factor * (odds[heard] @ error)
            slope[count:] += error.sum() * biased, away * (error @ pooled)
        return value, slope

    start = np.append(np.full(count, 1 / count), [0.0, 0.0])
    bounds = [(0.0, None)] * count + [(-10.0, 10.0), (0.0, _LOUDEST)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = np.zeros(len(heard))
    weights[heard] = found[:count]
    return [*weights.tolist(), float(found[count]) * biased, float(np.exp(found[-1]))]
