"""python -m stages.calibrate: fit the calibrator on all out-of-fold rows, score it across folds.

Reads data/oof/uncalibrated.parquet, data/oof/by_model.parquet (how far the folds' models agree),
data/clean/pairs.parquet (prompt groups), models/oof/manifest.json, models/votes.json, data.truth
and, where nothing is exported, fold 0 in models/train/validation.parquet. Writes
models/calibrator.json, models/manifest.json, data/oof/oof.parquet (p_a, p_b, p_tie as
inference.dual_order says; c_a, c_b, c_tie cross-fitted), data/oof/calibration.json (all trained
folds) and metrics/calibrate.json (fold 0).
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from pairpref import bundle, monitor
from pairpref.evaluation import truth
from pairpref.evaluation.calibration import CALIBRATED, Calibrator, Method, cross_fitted, sharpening
from pairpref.evaluation.metrics import answers, probabilities, scores
from pairpref.files import write_json, write_parquet
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES
from pairpref.params import Params
from pairpref.paths import (
    BY_MODEL,
    CALIBRATE_METRICS,
    CALIBRATION,
    CALIBRATOR,
    FOLD_0_ANSWERS,
    MODELS,
    OOF,
    PAIRS,
    UNCALIBRATED,
)


def calibrate(params: Params, log: Log) -> None:
    dual_order, method = params.inference.dual_order, params.calibrate.method
    oof = answers(pd.read_parquet(UNCALIBRATED), dual_order)
    if len(oof):
        calibrator, calibrated, figures = _fit(oof, method, dual_order, log)
    else:
        calibrator, calibrated, figures = Calibrator(), probabilities(oof), {"n": 0}
        log.say("no out-of-fold rows (oof.enabled is false): probabilities stay as they are")
    replace(calibrator, dual_order=dual_order).save(CALIBRATOR)
    bundle.record_calibrator(MODELS)
    oof = oof.assign(**dict(zip(CALIBRATED, calibrated.T, strict=True)))
    write_parquet(OOF, oof)
    write_json(CALIBRATION, figures)
    if not len(oof):
        oof = answers(pd.read_parquet(FOLD_0_ANSWERS), dual_order)
        oof[CALIBRATED] = oof[PROBABILITIES]
    write_json(CALIBRATE_METRICS, metrics(oof, calibrator.temperature, params.data.truth))


def _fit(
    oof: pd.DataFrame, method: Method, dual_order: bool, log: Log
) -> tuple[Calibrator, np.ndarray, dict[str, float]]:
    """A calibrator of all rows, the rows' probabilities cross-fitted, and figures of both."""
    p, labels = probabilities(oof), oof["label"].to_numpy(dtype=int)
    pairs = pd.read_parquet(PAIRS, columns=["id", "group"])
    groups = oof[["id"]].merge(pairs, on="id", how="left", validate="one_to_one")["group"]
    calibrator = Calibrator.fit(p, labels, method)
    if method != "none":
        calibrator = replace(calibrator, sharpening=_sharpening(dual_order))
    calibrated = cross_fitted(p, labels, oof["fold"].to_numpy(), groups.to_numpy(), method)
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


def metrics(
    oof: pd.DataFrame, temperature: float, true_probabilities: str | None
) -> dict[str, float]:
    """Scores of the final probabilities on fold 0, and as all_folds_… on all trained folds.

    Args:
        oof: id, fold, label, p_a, p_b, p_tie and c_a, c_b, c_tie.
        true_probabilities: file of them, where they are known.
    """
    labels, fold_0 = oof["label"].to_numpy(dtype=int), oof["fold"].to_numpy() == 0
    true = truth.read(true_probabilities, oof["id"]) if true_probabilities else None

    def figures(columns: list[str], rows: np.ndarray) -> dict[str, float]:
        p = probabilities(oof, columns)[rows]
        known = truth.captured(true[rows], p) if true is not None else {}
        found = scores(labels[rows], p) | known
        names = ("log_loss", "accuracy", "f1_macro", "information_captured")
        return {name: found[name] for name in names if name in found}

    before = figures(PROBABILITIES, fold_0)
    of_all = figures(CALIBRATED, np.full(len(oof), True))
    found = {
        **figures(CALIBRATED, fold_0),
        "information_captured_before": before.get("information_captured"),
        "temperature": temperature,
        "all_folds_log_loss": of_all["log_loss"],
        "all_folds_information_captured": of_all.get("information_captured"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _sharpening(dual_order: bool) -> float:
    rows = answers(pd.read_parquet(BY_MODEL), dual_order)
    models = [probabilities(of_model) for _, of_model in rows.groupby("fold")]
    return sharpening(np.stack(models)) if models else 1.0


if __name__ == "__main__":
    monitor.run("calibrate", calibrate)
