"""python -m stages.calibrate

Fit the calibrator on all out-of-fold rows, and score it on rows that each temperature has not seen.

data/oof/uncalibrated.parquet, data/clean/pairs.parquet (prompt groups), models/oof/manifest.json -> models/calibrator.json,
models/manifest.json, metrics/calibrate.json and data/oof/oof.parquet (the same rows with c_a, c_b, c_tie: the cross-fitted probabilities)
"""

from pathlib import Path

import pandas as pd

from pairpref import bundle, monitor
from pairpref.evaluation.calibration import CALIBRATED, Calibrator, cross_fitted
from pairpref.evaluation.metrics import probabilities, scores
from pairpref.files import write_json, write_parquet
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES
from pairpref.params import Params

UNCALIBRATED = Path("data/oof/uncalibrated.parquet")
PAIRS = Path("data/clean/pairs.parquet")
CALIBRATOR = Path("models/calibrator.json")
OOF = Path("data/oof/oof.parquet")
METRICS = Path("metrics/calibrate.json")


def calibrate(params: Params, log: Log) -> None:
    oof = pd.read_parquet(UNCALIBRATED, columns=["id", "fold", "label", *PROBABILITIES])
    p, labels = probabilities(oof), oof["label"].to_numpy(dtype=int)
    if len(oof):
        groups = oof[["id"]].merge(pd.read_parquet(PAIRS, columns=["id", "group"]), on="id", how="left", validate="one_to_one")
        folds, groups = oof["fold"].to_numpy(), groups["group"].to_numpy()
        calibrator = Calibrator.fit(p, labels, params.calibrate.method)
        calibrated = cross_fitted(p, labels, folds, groups, params.calibrate.method)
        metrics = {
            "log_loss_before": scores(labels, p)["log_loss"],
            **scores(labels, calibrated),
            "log_loss_in_sample": scores(labels, calibrator.apply(p))["log_loss"],
            "temperature": calibrator.temperature,
            "tie": calibrator.tie,
        }
        log.say(
            f"temperature {calibrator.temperature:.3f}, tie {calibrator.tie:+.3f} from {len(oof):,} votes: "
            f"log loss {metrics['log_loss_before']:.4f} before, {metrics['log_loss']:.4f} across folds"
        )
    else:
        calibrator, calibrated, metrics = Calibrator(), p, {"n": 0}
        log.say("no out-of-fold rows (oof.enabled is false): probabilities stay as they are")

    calibrator.save(CALIBRATOR)
    bundle.record_calibrator(CALIBRATOR.parent)
    write_parquet(OOF, oof.assign(**dict(zip(CALIBRATED, calibrated.T, strict=True))))
    write_json(METRICS, metrics)


if __name__ == "__main__":
    monitor.run("calibrate", calibrate)
