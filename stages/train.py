"""python -m stages.train: the classifier of fold 0, evaluated on that fold after each epoch.

Reads data/tokens/ and models/tokenizer/. Writes models/train/ (with validation.parquet, each
order's probabilities of the fold's rows before calibration), metrics/train.json (of both orders'
mean) and plots/train.csv. `accelerate launch -m stages.train` trains it in several processes, on
one host or several; `dvc repro` then finds it finished.
"""

import pandas as pd

from pairpref import monitor, paths
from pairpref.evaluation.metrics import answers, probabilities, scores
from pairpref.files import write_json, write_parquet, write_text
from pairpref.monitor import Log
from pairpref.params import Params
from pairpref.training.folds import train_fold


def train(params: Params, log: Log) -> None:
    fold = train_fold(0, params.train.seeds[0], params, log, save_to=paths.FOLD_0)
    if fold is None:
        return
    write_parquet(paths.FOLD_0_ANSWERS, fold.predictions)
    curves = pd.DataFrame(fold.history).round(6)
    write_text(paths.TRAINING_CURVES, curves.to_csv(index=False, lineterminator="\n"))
    figures = scores(fold.predictions["label"].to_numpy(), probabilities(answers(fold.predictions)))
    names = ("log_loss", "accuracy", "f1_macro")
    write_json(paths.TRAIN_METRICS, {name: figures[name] for name in names})
    log.say(
        f"fold 0: log loss {figures['log_loss']:.4f}, accuracy {figures['accuracy']:.3f}, "
        f"macro F1 {figures['f1_macro']:.3f}"
    )


if __name__ == "__main__":
    monitor.run("train", train)
