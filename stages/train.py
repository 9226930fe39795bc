"""python -m stages.train: the classifier of fold 0, evaluated on that fold after each epoch.

Reads data/tokens/ and models/tokenizer/; writes models/train/ (with validation.parquet, each order's probabilities of the fold's rows
before calibration), metrics/train.json (scores of both orders' mean) and plots/train.csv. It is also the first of the out-of-fold
models: nothing is trained twice.
`accelerate launch -m stages.train` trains it in several processes, on one host or several; `dvc repro` then finds it finished.
"""

from pathlib import Path

import pandas as pd

from pairpref import monitor
from pairpref.evaluation.metrics import answers, probabilities, scores
from pairpref.files import write_json, write_parquet, write_text
from pairpref.monitor import Log
from pairpref.params import Params
from pairpref.training.folds import train_fold

MODEL = Path("models/train")
METRICS = Path("metrics/train.json")
CURVES = Path("plots/train.csv")


def train(params: Params, log: Log) -> None:
    fold = train_fold(0, params.train.seeds[0], params, log, save_to=MODEL)
    if fold is None:
        return
    write_parquet(MODEL / "validation.parquet", fold.predictions)
    write_text(CURVES, pd.DataFrame(fold.history).round(6).to_csv(index=False, lineterminator="\n"))
    figures = scores(fold.predictions["label"].to_numpy(), probabilities(answers(fold.predictions)))
    write_json(METRICS, {name: figures[name] for name in ("log_loss", "accuracy", "f1_macro")})
    log.say(
        f"fold 0: log loss {figures['log_loss']:.4f}, accuracy {figures['accuracy']:.3f}, macro F1 {figures['f1_macro']:.3f}"
    )


if __name__ == "__main__":
    monitor.run("train", train)
