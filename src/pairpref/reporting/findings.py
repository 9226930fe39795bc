"""Everything the report tells, measured: one model, judged on votes that it was not trained on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairpref.evaluation import buckets, intervals, metrics, position, sufficient_statistics, truth
from pairpref.evaluation.calibration import Calibrator
from pairpref.evaluation.comparison import Comparison, compare
from pairpref.evaluation.metrics import losses, probabilities
from pairpref.evaluation.reliability import CONFIDENCE, calibration_error, reliability
from pairpref.pairs import ORDERS
from pairpref.reporting.examples import Example, hardest, surprising
from pairpref.versions.results import VersionResults

Ends = tuple[float, float]


@dataclass(frozen=True)
class Votes:
    """The votes a model is judged on.

    Attributes:
        frame: id, prompt, response_a, response_b, label; n rows.
        groups, folds: prompt group and fold of each; shape (n,).
        before, after: probabilities before and after calibration; shape (n, 3).
        orders: those where A, and where B was shown first, uncalibrated; shape (2, n, 3). None for single texts.
        truth: true probabilities; shape (n, 3). None where nobody knows them.
        kinds: bucket of each vote, of every kind; see `pairpref.evaluation.buckets`.
        cuts: tokens up to which a pair is short, and medium.
    """

    frame: pd.DataFrame
    groups: np.ndarray
    folds: np.ndarray
    before: np.ndarray
    after: np.ndarray
    orders: np.ndarray | None
    truth: np.ndarray | None
    kinds: dict[str, np.ndarray]
    cuts: tuple[float, float]

    @property
    def labels(self) -> np.ndarray:
        return self.frame["label"].to_numpy(dtype=int)


@dataclass(frozen=True)
class Baseline:
    """A simple answer: its log loss with interval, and the model compared with it."""

    name: str
    log_loss: float
    ends: Ends
    against: Comparison


@dataclass(frozen=True)
class Part:
    """A part of the votes, and how the model does there: above the truth where that is known, or else against the shares of A, B and tie.

    Votes of one label are no such part: who always says A is best on A's.
    """

    kind: str
    bucket: str
    against: Comparison


@dataclass(frozen=True)
class Seeds:
    """Fold 0 trained from several seeds.

    Attributes:
        scores: a row a seed: seed, and what `pairpref.evaluation.metrics.scores` gives.
        against: all of them against the best baseline.
    """

    scores: pd.DataFrame
    against: Comparison


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        headline: the figures of report/headline.json.
        ends: 95 % interval of those of its figures that have one.
        baselines: the best last.
        parts: of every kind of bucket, the weakest first.
        folds: a row a fold: fold, what `metrics.scores` gives after calibration and, where the truth is known, above_truth.
        seeds: of fold 0.
        curves: plots/train.csv.
        reliability, errors: curves and calibration errors, with a column stage: before, after.
        gain: after calibration against before.
        confusion: shape (3, 3), rows voted, columns predicted.
        buckets, cuts: see `pairpref.evaluation.buckets`.
        orders: see `pairpref.evaluation.position.by_order`; None for single texts.
        averaging: both orders' mean against A shown first.
        surprises, hard: votes to look at.
        calibrator: as used by predict.
        calibrate, clean, test: what these stages counted and scored.
        params: dotted key to value.
        defaults: the same of the params.yaml that the project comes with.
        versions: where this run and the versions before it stand.
    """

    headline: dict[str, float]
    ends: dict[str, Ends]
    baselines: list[Baseline]
    parts: list[Part]
    folds: pd.DataFrame
    seeds: Seeds
    curves: pd.DataFrame
    reliability: pd.DataFrame
    errors: pd.DataFrame
    gain: Comparison
    confusion: np.ndarray
    buckets: pd.DataFrame
    cuts: tuple[float, float]
    orders: dict[str, dict[str, float]] | None
    averaging: Comparison | None
    surprises: list[Example]
    hard: list[Example]
    calibrator: Calibrator
    calibrate: dict[str, float]
    clean: dict[str, float]
    test: dict[str, float]
    params: dict[str, object]
    defaults: dict[str, object]
    versions: VersionResults


def find(
    votes: Votes, simple: dict[str, np.ndarray], by_seed: pd.DataFrame, bins: int, **known: object
) -> Findings:
    """Judge a model.

    Args:
        votes: what it is judged on.
        simple: probabilities of each baseline for these votes; shape (n, 3).
        by_seed: the answers of data/oof/seeds.parquet; the first seed's rows may be among the votes or not.
        bins: of the reliability curves.
        known: the fields of `Findings` that are merely passed on.
    """
    labels, groups = votes.labels, votes.groups
    stages = {"before": votes.before, "after": votes.after}
    curves = [reliability(labels, p, bins).assign(stage=stage) for stage, p in stages.items()]
    errors = [
        calibration_error(labels, p, groups, bins).assign(stage=stage)
        for stage, p in stages.items()
    ]
    baselines = sorted(
        (_baseline(name, p, votes) for name, p in simple.items()), key=lambda y: -y.log_loss
    )
    headline, ends = _headline(votes)
    orders = None if votes.orders is None else position.by_order(labels, *votes.orders)
    return Findings(
        headline={y.name: y.log_loss for y in baselines}
        | headline
        | {"calibration_error": _mean_error(errors[-1])},
        ends={y.name: y.ends for y in baselines} | ends,
        baselines=baselines,
        parts=sorted(
            _parts(votes, simple["class_prior"]), key=lambda part: -part.against.difference
        ),
        folds=pd.DataFrame(_folds(votes)),
        seeds=_seeds(by_seed, votes, simple[baselines[-1].name]),
        reliability=pd.concat(curves, ignore_index=True),
        errors=pd.concat(errors, ignore_index=True),
        gain=_against(votes.after, votes.before, votes),
        confusion=metrics.confusion(labels, votes.after),
        buckets=buckets.table(labels, votes.after, groups, votes.kinds),
        cuts=votes.cuts,
        orders=orders,
        averaging=None
        if votes.orders is None
        else _against(votes.orders.mean(axis=0), votes.orders[0], votes),
        surprises=surprising(votes.frame, votes.after, votes.truth),
        hard=hardest(votes.frame, votes.after, votes.truth),
        **known,
    )


def _headline(votes: Votes) -> tuple[dict[str, float], dict[str, Ends]]:
    labels, groups = votes.labels, votes.groups
    figures, ends = {}, {}
    for suffix, p in (("_before", votes.before), ("", votes.after)):
        low, high = intervals.bounds(
            intervals.resampled(
                sufficient_statistics.summands(labels, p), groups, sufficient_statistics.figures
            )
        )
        scored = metrics.scores(labels, p)
        for i, name in enumerate(sufficient_statistics.FIGURES):
            if not suffix or name == "log_loss":
                figures[name + suffix] = scored[name]
                ends[name + suffix] = float(low[i]), float(high[i])
    figures["n"] = len(labels)
    if votes.truth is not None:
        figures |= truth.captured(votes.truth, votes.after) | truth.distance(
            votes.truth, votes.after
        )
        low, high = intervals.bounds(
            intervals.resampled(
                truth.summands(votes.truth, votes.after), groups, truth.captured_from_sums
            )
        )
        for i, name in enumerate(truth.FROM_SUMS):
            if name in figures:
                ends[name] = float(low[i]), float(high[i])
    return figures, ends


def _mean_error(errors: pd.DataFrame) -> float:
    """Root mean square over A, B and tie."""
    return float(np.sqrt((errors.loc[errors["class"] != CONFIDENCE, "error"] ** 2).mean()))


def _parts(votes: Votes, shares: np.ndarray) -> Iterator[Part]:
    if votes.truth is None:
        loss, reference = losses(votes.labels, votes.after), losses(votes.labels, shares)
    else:
        loss, reference = truth.cross_entropy(votes.truth, votes.after), truth.entropy(votes.truth)
    for kind, names in votes.kinds.items():
        for name in sorted(set(names)):
            rows = names == name
            yield Part(
                kind, name, compare(loss[None, rows], reference[None, rows], votes.groups[rows])
            )


def _folds(votes: Votes) -> Iterator[dict[str, float]]:
    for fold in np.unique(votes.folds):
        rows = votes.folds == fold
        row = {"fold": fold} | metrics.scores(votes.labels[rows], votes.after[rows])
        if votes.truth is not None:
            p = votes.truth[rows]
            row["above_truth"] = float(
                (truth.cross_entropy(p, votes.after[rows]) - truth.entropy(p)).mean()
            )
        yield row


def _baseline(name: str, p: np.ndarray, votes: Votes) -> Baseline:
    low, high = intervals.bounds(
        intervals.resampled(
            sufficient_statistics.summands(votes.labels, p),
            votes.groups,
            sufficient_statistics.figures,
        )[:, :1]
    )
    loss = metrics.scores(votes.labels, p)["log_loss"]
    return Baseline(name, loss, (float(low[0]), float(high[0])), _against(votes.after, p, votes))


def _against(new: np.ndarray, old: np.ndarray, votes: Votes) -> Comparison:
    return compare(losses(votes.labels, new)[None], losses(votes.labels, old)[None], votes.groups)


def _seeds(by_seed: pd.DataFrame, votes: Votes, best: np.ndarray) -> Seeds:
    """Each seed's figures on the votes of fold 0, and all seeds against the best baseline on them. Uncalibrated."""
    place = pd.Series(np.arange(len(votes.frame)), index=votes.frame["id"])
    tables = dict(tuple(by_seed.groupby("seed", sort=False)))
    rows = [
        {"seed": seed} | metrics.scores(t["label"].to_numpy(int), probabilities(t))
        for seed, t in tables.items()
    ]
    loss = np.stack([losses(t["label"].to_numpy(int), probabilities(t)) for t in tables.values()])
    at = place[next(iter(tables.values()))["id"]].to_numpy()
    of_best = losses(votes.labels[at], best[at])
    return Seeds(
        pd.DataFrame(rows), compare(loss, np.broadcast_to(of_best, loss.shape), votes.groups[at])
    )


def orders_of(predictions: pd.DataFrame) -> np.ndarray | None:
    """The single orders' probabilities of an export; shape (2, n, 3). None where there are none: single texts have no order."""
    if ORDERS[1][0] not in predictions:
        return None
    return np.stack([probabilities(predictions, columns) for columns in ORDERS])
