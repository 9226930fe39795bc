"""python -m stages.calibrate: fit the calibrator on all out-of-fold rows, score it across folds.

Reads data/oof/uncalibrated.parquet, data/oof/by_model.parquet (how far the folds' models agree),
data/clean/pairs.parquet (prompt groups), models/oof/manifest.json, models/votes.json,
models/features.safetensors, data.truth and, of several members, data/oof/members.parquet and
data/oof/features.parquet; where nothing is exported, fold 0 in models/train/validation.parquet.
Writes models/calibrator.json, models/fusion.json, models/manifest.json, data/oof/oof.parquet (p_a,
p_b, p_tie of the classifier, as inference.dual_order says; c_a, c_b, c_tie of the calibrated
classifier or of all members fused, cross-fitted), data/oof/calibration.json (all trained folds) and
metrics/calibrate.json (fold 0).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pairpref import bundle, monitor, paths
from pairpref.evaluation import truth
from pairpref.evaluation.calibration import CALIBRATED, Calibrator, cross_fitted, sharpening
from pairpref.evaluation.fusion import Fusion, answers_of, fuse
from pairpref.evaluation.metrics import answers, probabilities, scores
from pairpref.files import write_json, write_parquet
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES
from pairpref.params import Params


def calibrate(params: Params, log: Log) -> None:
    dual_order = params.inference.dual_order
    oof = answers(pd.read_parquet(paths.UNCALIBRATED), dual_order)
    calibrator, fusion = Calibrator(), Fusion.alone("classifier")
    figures: dict[str, Any] = {"n": 0}
    if len(oof):
        pairs = pd.read_parquet(paths.PAIRS, columns=["id", "group"])
        groups = oof[["id"]].merge(pairs, on="id", how="left", validate="one_to_one")["group"]
        if len(params.fusion.members) > 1:
            fusion, oof[CALIBRATED], figures = _fuse(oof, groups.to_numpy(), params, log)
        else:
            calibrator, oof[CALIBRATED], figures = _fit(oof, groups.to_numpy(), params, log)
    else:
        oof[CALIBRATED] = probabilities(oof)
        log.say("no out-of-fold rows (oof.enabled is false): probabilities stay as they are")
    replace(calibrator, dual_order=dual_order).save(paths.CALIBRATOR)
    fusion.save(paths.FUSION)
    bundle.record_calibrator(paths.MODELS)
    write_parquet(paths.OOF, oof)
    write_json(paths.CALIBRATION, figures)
    if not len(oof):
        oof = answers(pd.read_parquet(paths.FOLD_0_ANSWERS), dual_order)
        oof[CALIBRATED] = oof[PROBABILITIES]
    write_json(paths.CALIBRATE_METRICS, _metrics(oof, calibrator.temperature, params.data.truth))


def _fuse(
    oof: pd.DataFrame, groups: np.ndarray, params: Params, log: Log
) -> tuple[Fusion, np.ndarray, dict[str, Any]]:
    """A fusion of all members, the rows' probabilities cross-fitted, and figures of both."""
    exports = pd.read_parquet(paths.MEMBERS), pd.read_parquet(paths.FEATURES_OOF)
    home, away = answers_of(oof, *exports, params.train.seeds[0])
    fusion, p, figures = fuse(oof, groups, home, away)
    factors = _sharpening(params.inference.dual_order)
    fusion = replace(fusion, sharpening=tuple(factors.get(name, 1.0) for name in fusion.members))
    of_members = {name: row["log_loss"] for name, row in figures["members"].items()}
    best = min(of_members, key=of_members.__getitem__)
    away = f", away from home {figures['away']:.4f}" if "away" in figures else ""
    log.say(
        f"fusion of {len(of_members)}: log loss {figures['log_loss']:.4f} across folds{away}; "
        f"the best member, {best}, {of_members[best]:.4f}"
    )
    return fusion, p, figures


def _sharpening(dual_order: bool) -> dict[str, float]:
    """Of each trained member that has several models."""
    rows = answers(pd.read_parquet(paths.BY_MODEL), dual_order)
    return {
        str(name): sharpening(np.stack([probabilities(p) for _, p in of_member.groupby("fold")]))
        for name, of_member in rows.groupby("member")
    }


def _fit(
    oof: pd.DataFrame, groups: np.ndarray, params: Params, log: Log
) -> tuple[Calibrator, np.ndarray, dict[str, float]]:
    """A calibrator of all rows, the rows' probabilities cross-fitted, and figures of both."""
    method, p, labels = params.calibrate.method, probabilities(oof), oof["label"].to_numpy(int)
    calibrator = Calibrator.fit(p, labels, method)
    if method != "none":
        factor = _sharpening(params.inference.dual_order).get("classifier", 1.0)
        calibrator = replace(calibrator, sharpening=factor)
    calibrated = cross_fitted(p, labels, oof["fold"].to_numpy(), groups, method)
    before, after = (scores(labels, q)["log_loss"] for q in (p, calibrated))
    if after > before:
        log.say(
            f"calibration does not help across folds: log loss {before:.4f} before, {after:.4f} "
            "after. The temperature stays 1"
        )
        calibrator, calibrated = replace(calibrator, temperature=1.0, tie=0.0), p
    figures = {
        "log_loss_before": before,
        **scores(labels, calibrated),
        "log_loss_in_sample": scores(labels, calibrator.apply(p))["log_loss"],
        "temperature": calibrator.temperature,
        "tie": calibrator.tie,
    }
    tie = f", tie {calibrator.tie:+.3f}" if method == "temperature_tie" else ""
    log.say(
        f"temperature {calibrator.temperature:.3f}{tie} from {len(oof):,} votes: log loss "
        f"{before:.4f} before, {figures['log_loss']:.4f} across folds; logits of the folds' mean "
        f"times {calibrator.sharpening:.3f}"
    )
    if calibrator.doubt:
        log.say(calibrator.doubt)
    return calibrator, calibrated, figures


def _metrics(oof: pd.DataFrame, temperature: float, truth_file: str | None) -> dict[str, float]:
    """Scores of the final probabilities on fold 0, and as all_folds_… on all trained folds."""
    labels, fold_0 = oof["label"].to_numpy(int), oof["fold"].to_numpy() == 0
    true = truth.read(truth_file, oof["id"]) if truth_file else None

    def figures(columns: list[str], rows: np.ndarray) -> dict[str, float]:
        p = probabilities(oof, columns)[rows]
        return scores(labels[rows], p) | ({} if true is None else truth.captured(true[rows], p))

    final, before = figures(CALIBRATED, fold_0), figures(PROBABILITIES, fold_0)
    every = figures(CALIBRATED, np.full(len(oof), True))
    names = ("log_loss", "accuracy", "f1_macro", "information_captured")
    found = {name: final.get(name) for name in names} | {
        "information_captured_before": before.get("information_captured"),
        "temperature": temperature,
        "all_folds_log_loss": every["log_loss"],
        "all_folds_information_captured": every.get("information_captured"),
    }
    return {name: value for name, value in found.items() if value is not None}


if __name__ == "__main__":
    monitor.run("calibrate", calibrate)
