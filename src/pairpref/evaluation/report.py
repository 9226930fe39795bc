"""Every figure of the report: one model, judged on votes that it was not trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pairpref.evaluation import buckets, examples, intervals, metrics, position, truth
from pairpref.evaluation import sufficient_statistics as sums
from pairpref.evaluation.calibration import Calibrator
from pairpref.evaluation.comparison import Comparison, compare
from pairpref.evaluation.examples import Example
from pairpref.evaluation.metrics import losses, probabilities
from pairpref.evaluation.reliability import CONFIDENCE, calibration_error, reliability
from pairpref.pairs import LABELS, TIE

Interval = tuple[float, float]

_APART = 3.0  # standard errors between extremes of several parts from which they really differ


@dataclass(frozen=True)
class Votes:
    """The votes a model is judged on; n rows."""

    frame: pd.DataFrame  # id, prompt, response_a, response_b, label
    groups: np.ndarray  # prompt group; shape (n,)
    folds: np.ndarray  # shape (n,)
    before: np.ndarray  # probabilities before calibration; shape (n, 3)
    after: np.ndarray  # and after it
    orders: np.ndarray | None  # uncalibrated, by order; shape (2, n, 3). None for single texts
    truth: np.ndarray | None  # true probabilities; shape (n, 3). None if unknown
    kinds: dict[str, np.ndarray]  # see `buckets.table`
    cuts: Interval  # tokens up to which a pair is short, and medium
    windows: np.ndarray | None = None  # in which each was read; shape (n,). None: one each

    @property
    def labels(self) -> np.ndarray:
        return self.frame["label"].to_numpy(dtype=int)


@dataclass(frozen=True)
class Baseline:
    """A simple answer: its log loss, and the model compared with it."""

    name: str
    log_loss: float
    ci: Interval
    against: Comparison


@dataclass(frozen=True)
class Part:
    """A bucket, and the model's loss there minus the truth's, or if unknown the class shares'."""

    kind: str
    bucket: str
    against: Comparison


@dataclass(frozen=True)
class EvaluationReport:
    """What the report shows."""

    figures: dict[str, float]  # of report/headline.json
    ci: dict[str, Interval]  # 95% CI of those that have one
    baselines: list[Baseline]  # the best last
    members: list[Baseline]  # each alone, the best last; empty if there is one
    parts: list[Part]  # the weakest first
    weakest: tuple[Part, Part] | None  # and the strongest of its kind; None if none differ
    folds: pd.DataFrame  # fold, `metrics.scores` after calibration and, if known, above_truth
    seeds: pd.DataFrame  # of fold 0, before calibration: seed, and what `metrics.scores` gives
    seeds_against: Comparison  # all of them, with the best baseline
    reliability: pd.DataFrame  # with stage (before, after) and margin: two standard errors
    errors: pd.DataFrame  # `calibration_error`, with stage
    least_reliable: pd.Series  # the row of `errors` of the worst label that was voted, after
    ties: pd.Series  # the row of ties
    ties_off: bool  # said and happened shares of ties differ by over two standard errors
    gain: Comparison  # after calibration, with before
    confusion: np.ndarray  # counts; shape (3, 3), rows voted, columns most likely
    buckets: pd.DataFrame
    cuts: Interval
    truncated: int  # votes longer than the model reads
    windows: int  # in which these are read
    orders: dict[str, dict[str, float]] | None  # see `position.by_order`
    averaging: Comparison | None  # mean of both orders, with A shown first
    surprising: list[Example]  # of largest log loss
    hardest: list[Example]  # of largest entropy of the model's probabilities
    calibrator: Calibrator
    calibration: dict[str, Any]  # data/oof/calibration.json and features.json
    clean: dict[str, int]  # data/clean/counts.json
    test: dict[str, float]  # data/test.json
    training: pd.DataFrame  # plots/train.csv

    @property
    def calibrated(self) -> bool:
        """Whether final probabilities are others than the classifier's own."""
        return self.calibrator.method != "none" or bool(self.members)

    @property
    def best(self) -> Baseline:
        return self.baselines[-1]

    @property
    def levels(self) -> pd.DataFrame:
        """Log loss of baselines, floor (if known) and model: name, log_loss, low, high."""
        rows = [(b.name, b.log_loss, *b.ci) for b in self.baselines]
        if "floor" in self.figures:
            floor = self.figures["floor"]
            rows.append(("floor", floor, floor, floor))
        for name in ("log_loss_before", "log_loss"):
            rows.append((name, self.figures[name], *self.ci[name]))
        return pd.DataFrame(rows, columns=["name", "log_loss", "low", "high"])

    @property
    def folds_std(self) -> float:
        """Standard deviation over folds of the loss above the truth's, or of the loss itself."""
        return self.folds["above_truth" if "above_truth" in self.folds else "log_loss"].std()

    @property
    def public_margin(self) -> float:
        """Two standard errors of the log loss of the test file's public part."""
        return 2 * self.test["log_loss_error"] * (self.test["n"] / self.test["n_public"]) ** 0.5


def evaluate(
    votes: Votes,
    baselines: dict[str, np.ndarray],
    by_seed: pd.DataFrame,
    bins: int,
    members: dict[str, np.ndarray] | None = None,
    **records: Any,
) -> EvaluationReport:
    """Judge a model.

    Args:
        baselines: probabilities of each baseline for these votes; shape (n, 3).
        by_seed: answers of data/oof/seeds.parquet.
        bins: of the reliability curves.
        members: as baselines, of each member where several are fused.
        records: fields of `EvaluationReport` that are passed on: calibrator, calibration, clean,
            test, training.
    """
    labels, groups = votes.labels, votes.groups
    curves, errors = [], []
    for stage, p in (("before", votes.before), ("after", votes.after)):
        curves.append(reliability(labels, p, bins).assign(stage=stage))
        errors.append(calibration_error(labels, p, groups, bins).assign(stage=stage))
    final = errors[-1].set_index("class").drop(CONFIDENCE)
    ties = final.loc[LABELS[TIE]]
    margin = 2 * (ties["happened"] * (1 - ties["happened"]) / len(labels)) ** 0.5
    points, share = pd.concat(curves), pd.concat(curves)["observed"]
    compared, fused = (
        sorted((_baseline(*item, votes) for item in of.items()), key=lambda one: -one.log_loss)
        for of in (baselines, members or {})
    )
    parts = sorted(_parts(votes, baselines["class_prior"]), key=lambda p: -p.against.difference)
    figures, ci = _figures(votes)
    calibration = {"calibration_error": float(np.sqrt((final["error"] ** 2).mean()))}
    seeds, seeds_against = _seeds(by_seed, votes, baselines[compared[-1].name])
    orders, seen = votes.orders, (votes.frame, votes.after, votes.truth)
    truncated = votes.kinds.get("truncated", np.zeros(len(labels))) == "yes"
    return EvaluationReport(
        figures={b.name: b.log_loss for b in compared} | figures | calibration,
        ci={b.name: b.ci for b in compared} | ci,
        baselines=compared,
        members=fused,
        parts=parts,
        weakest=_weakest(parts),
        folds=pd.DataFrame(_folds(votes)),
        seeds=seeds,
        seeds_against=seeds_against,
        reliability=points.assign(margin=2 * np.sqrt(share * (1 - share) / points["n"])),
        errors=pd.concat(errors, ignore_index=True),
        least_reliable=final.loc[final["error"].where(final["happened"] > 0).idxmax()],
        ties=ties,
        ties_off=abs(ties["said"] - ties["happened"]) > margin,
        gain=_against(votes.after, votes.before, votes),
        confusion=metrics.confusion(labels, votes.after),
        buckets=buckets.table(labels, votes.after, groups, votes.kinds),
        cuts=votes.cuts,
        truncated=int(truncated.sum()),
        windows=int((truncated if votes.windows is None else votes.windows[truncated]).sum()),
        orders=None if orders is None else position.by_order(labels, *orders),
        averaging=None if orders is None else _against(orders.mean(axis=0), orders[0], votes),
        surprising=examples.largest(losses(labels, votes.after), *seen),
        hardest=examples.largest(truth.entropy(votes.after), *seen),
        **records,
    )


def _ci(columns: np.ndarray, groups: np.ndarray, statistic: intervals.Statistic) -> list[Interval]:
    low, high = intervals.bounds(intervals.resampled(columns, groups, statistic))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _figures(votes: Votes) -> tuple[dict[str, float], dict[str, Interval]]:
    labels, groups = votes.labels, votes.groups
    figures, ci = {}, {}
    for suffix, p in (("_before", votes.before), ("", votes.after)):
        scored = metrics.scores(labels, p)
        found = _ci(sums.per_vote(labels, p), groups, sums.figures)
        for name, interval in zip(sums.FIGURES, found, strict=True):
            if not suffix or name == "log_loss":
                figures[name + suffix], ci[name + suffix] = scored[name], interval
    figures["n"] = len(labels)
    if votes.truth is not None:
        known = votes.truth, votes.after
        figures |= truth.captured(*known) | truth.distance(*known)
        found = _ci(truth.sufficient_statistics(*known), groups, truth.captured_from_sums)
        named = zip(truth.FROM_SUMS, found, strict=True)
        ci |= {name: interval for name, interval in named if name in figures}
    return figures, ci


def _baseline(name: str, p: np.ndarray, votes: Votes) -> Baseline:
    statistics = sums.per_vote(votes.labels, p)
    ci = _ci(statistics, votes.groups, sums.figures)[0]
    log_loss = metrics.scores(votes.labels, p)["log_loss"]
    return Baseline(name, log_loss, ci, _against(votes.after, p, votes))


def _against(new: np.ndarray, old: np.ndarray, votes: Votes) -> Comparison:
    return compare(losses(votes.labels, new)[None], losses(votes.labels, old)[None], votes.groups)


def _parts(votes: Votes, shares: np.ndarray) -> Iterator[Part]:
    # Not by label: a model that always says A is best on the votes for A.
    if votes.truth is None:
        loss, reference = losses(votes.labels, votes.after), losses(votes.labels, shares)
    else:
        loss, reference = truth.cross_entropy(votes.truth, votes.after), truth.entropy(votes.truth)
    for kind, names in votes.kinds.items():
        for name in sorted(set(names)):
            rows = names == name
            against = compare(loss[None, rows], reference[None, rows], votes.groups[rows])
            yield Part(kind, name, against)


def _weakest(parts: list[Part]) -> tuple[Part, Part] | None:
    """The weakest and the strongest part of the kind in which they differ most, if they do."""
    found, largest = None, 0.0
    for kind in dict.fromkeys(part.kind for part in parts):
        of_kind = [p for p in parts if p.kind == kind and p.against.groups >= buckets.FEW]
        if of_kind:
            worst, best = of_kind[0].against, of_kind[-1].against
            apart = worst.difference - best.difference
            # Parts of one kind share no vote, so their errors are independent.
            error = np.hypot(worst.rows_error, best.rows_error)
            if apart > largest and apart >= _APART * error:
                found, largest = (of_kind[0], of_kind[-1]), apart
    return found


def _folds(votes: Votes) -> Iterator[dict[str, float]]:
    for fold in np.unique(votes.folds):
        rows = votes.folds == fold
        row = {"fold": fold} | metrics.scores(votes.labels[rows], votes.after[rows])
        if votes.truth is not None:
            known = truth.captured(votes.truth[rows], votes.after[rows])
            row["above_truth"] = known["expected_log_loss"] - known["floor"]
        yield row


def _seeds(
    by_seed: pd.DataFrame, votes: Votes, best: np.ndarray
) -> tuple[pd.DataFrame, Comparison]:
    """Scores of each seed, and all of them compared with the best baseline."""
    place = pd.Series(np.arange(len(votes.frame)), index=votes.frame["id"])
    scores, loss = [], []
    for seed, rows in by_seed.groupby("seed", sort=False):
        answers = rows["label"].to_numpy(int), probabilities(rows)
        scores.append({"seed": seed} | metrics.scores(*answers))
        loss.append(losses(*answers))
        at = place[rows["id"]].to_numpy()
    of_best = np.broadcast_to(losses(votes.labels[at], best[at]), (len(loss), len(at)))
    return pd.DataFrame(scores), compare(np.stack(loss), of_best, votes.groups[at])
