"""python -m stages.baselines: simple answers that a model must beat, cross-fitted over the folds.

Reads data/clean/pairs.parquet; writes data/oof/baselines.parquet: id, baseline, p_a, p_b, p_tie.
"""

import pandas as pd

from pairpref import monitor, paths
from pairpref.evaluation.baselines import BASELINES
from pairpref.evaluation.metrics import scores
from pairpref.files import write_parquet
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES, TEXTS
from pairpref.params import Params
from pairpref.paths import PAIRS


def baselines(params: Params, log: Log) -> None:
    pairs = pd.read_parquet(PAIRS, columns=["id", *TEXTS, "label", "fold"])
    labels = pairs["label"].to_numpy(dtype=int)
    tables = []
    for name, predict in BASELINES.items():
        p = predict(pairs)
        log.say(f"{name.replace('_', ' ')}: log loss {scores(labels, p)['log_loss']:.4f}")
        tables.append(pd.DataFrame(p, columns=PROBABILITIES).assign(id=pairs["id"], baseline=name))
    table = pd.concat(tables, ignore_index=True)[["id", "baseline", *PROBABILITIES]]
    write_parquet(paths.BASELINES, table)


if __name__ == "__main__":
    monitor.run("baselines", baselines)
