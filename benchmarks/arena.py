"""python -m benchmarks.arena [--model]

How hard the default arena is: the information captured by answers that read little or nothing.

With --model also by the default model, with and without the prompt; see `pairpref.evaluation.truth`
for the measure. The arena is worth learning if all keep their bounds. The stages make and clean
all training votes of params.yaml in a temporary folder. Answers are cross-fitted over the frozen
folds. The model is that of fold 0, calibrated across fold 0's prompts.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from itertools import chain

import numpy as np
import pandas as pd

from benchmarks.resource_usage import ROOT
from pairpref import paths
from pairpref.evaluation import baselines, truth
from pairpref.evaluation.calibration import cross_fitted
from pairpref.evaluation.metrics import probabilities
from pairpref.monitor import Log
from pairpref.params import PARAMS, Params, load
from stages.clean import clean
from stages.simulate import simulate

AT_MOST = {"length_only": 0.15, "tfidf": 0.50, "boosting": 0.60}
PROMPT_IS_WORTH = 0.15


class Aside(Log):
    """What stages say goes to standard error: the table stands alone on standard output."""

    def say(self, text: str) -> None:
        print(f"{self.stage:>9} │ {text}", file=sys.stderr, flush=True)


def baseline_rows(pairs: pd.DataFrame, params: Params) -> Iterator[str]:
    known = truth.read(params.data.truth, pairs["id"])
    for name in ("class_prior", *AT_MOST):
        share = captured(known, getattr(baselines, name)(pairs))
        yield row(
            name.replace("_", " "),
            share,
            AT_MOST.get(name),
            share <= AT_MOST.get(name, np.inf),
            "at most",
        )


def model_rows(pairs: pd.DataFrame, params: Params) -> Iterator[str]:
    shares = {}
    for name, shown in (("model", pairs), ("model, prompt hidden", pairs.assign(prompt=""))):
        shown.to_parquet(paths.PAIRS)
        shares[name] = model(shown, params)
        yield row(name, shares[name])
    seen, hidden = shares.values()
    yield row(
        "the prompt is worth",
        seen - hidden,
        PROMPT_IS_WORTH,
        seen - hidden >= PROMPT_IS_WORTH,
        "at least",
    )


def model(pairs: pd.DataFrame, params: Params) -> float:
    """Information captured by the default model of fold 0 on the pairs as they lie in `PAIRS`."""
    from pairpref.training.folds import (
        train_fold,
    )  # brings torch: seconds that the baselines alone don't need
    from stages.tokenize import tokenize

    log = Aside("model")
    tokenize(params, log)
    votes = train_fold(0, params.train.seeds[0], params, log).predictions
    votes = votes.merge(pairs[["id", "group"]], on="id", how="left", validate="one_to_one")
    columns = (votes[name].to_numpy() for name in ("label", "fold", "group"))
    calibrated = cross_fitted(probabilities(votes), *columns, params.calibrate.method)
    return captured(truth.read(params.data.truth, votes["id"]), calibrated)


def captured(known: np.ndarray, predicted: np.ndarray) -> float:
    return truth.captured(known, predicted)["information_captured"]


def row(
    name: str, share: float, bound: float | None = None, ok: bool = True, kind: str = ""
) -> str:
    verdict = "" if bound is None else f"{kind:8} {bound:.2f}  {'ok' if ok else 'NOT OK'}"
    return f"{name:20} {share:6.3f}  {verdict}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument(
        "--model",
        action="store_true",
        help="also train the default model, with and without the prompt",
    )
    asked = parser.parse_args()

    params = load(ROOT / PARAMS)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        simulate(params, Aside("simulate"))
        clean(params, Aside("clean"))
        pairs = pd.read_parquet(paths.PAIRS)
        print(f"information captured, {len(pairs):,} votes", flush=True)
        for line in chain(
            baseline_rows(pairs, params), model_rows(pairs, params) if asked.model else ()
        ):
            print(line, flush=True)


if __name__ == "__main__":
    main()
