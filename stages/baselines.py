"""python -m stages.baselines: what a model must beat to have earned its cost.

Reads data/clean/pairs.parquet; writes data/oof/baselines.parquet: id, baseline, p_a, p_b, p_tie, cross-fitted over the frozen folds. It
depends on the votes alone, so it runs once for them, however many models are tried.
"""

from pathlib import Path

import pandas as pd

from pairpref import monitor
from pairpref.evaluation.baselines import BASELINES
from pairpref.evaluation.metrics import scores
from pairpref.files import write_parquet
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES, TEXTS
from pairpref.params import Params

PAIRS = Path("data/clean/pairs.parquet")
PREDICTIONS = Path("data/oof/baselines.parquet")


def baselines(params: Params, log: Log) -> None:
    pairs = pd.read_parquet(PAIRS, columns=["id", *TEXTS, "label", "fold"])
    tables = []
    for name, predict in BASELINES.items():
        p = predict(pairs)
        log.say(
            f"{name.replace('_', ' ')}: log loss {scores(pairs['label'].to_numpy(dtype=int), p)['log_loss']:.4f}"
        )
        tables.append(pd.DataFrame(p, columns=PROBABILITIES).assign(id=pairs["id"], baseline=name))
    write_parquet(
        PREDICTIONS, pd.concat(tables, ignore_index=True)[["id", "baseline", *PROBABILITIES]]
    )


if __name__ == "__main__":
    monitor.run("baselines", baselines)
