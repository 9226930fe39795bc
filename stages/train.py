"""python -m stages.train: the classifier of fold 0, evaluated on that fold after each epoch.

Reads data/tokens/ and models/tokenizer/; writes models/train/ (with validation.parquet, the fold's uncalibrated probabilities),
metrics/train.json and plots/train.csv. It is also the first of the out-of-fold models: nothing is trained twice.
"""

import json
from pathlib import Path

import pandas as pd

from pairpref import monitor
from pairpref.evaluation.metrics import probabilities, scores
from pairpref.monitor import Log
from pairpref.params import Params
from pairpref.training.folds import train_fold

MODEL = Path("models/train")
METRICS = Path("metrics/train.json")
CURVES = Path("plots/train.csv")


def train(params: Params, log: Log) -> None:
    fold = train_fold(0, params.train.seeds[0], params, log, save_to=MODEL)
    fold.predictions.to_parquet(MODEL / "validation.parquet", index=False)
    for path in (METRICS, CURVES):
        path.parent.mkdir(exist_ok=True)
    pd.DataFrame(fold.fitted.history).round(6).to_csv(CURVES, index=False, lineterminator="\n")
    figures = scores(fold.predictions["label"].to_numpy(), probabilities(fold.predictions))
    METRICS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    log.say(f"fold 0: log loss {figures['log_loss']:.4f}, accuracy {figures['accuracy']:.3f}, macro F1 {figures['f1_macro']:.3f}")


if __name__ == "__main__":
    monitor.run("train", train)
