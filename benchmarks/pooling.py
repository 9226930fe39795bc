"""python -m benchmarks.pooling [--seeds 5] [--rows 6000] [--test-rows 3000]

Compares ways to pool the answers of all folds' models, by expected log loss on the arena's test
file, whose true probabilities are known. For each seed the stages make an arena, a split and a
training in a temporary folder. The temperature is the pipeline's: fitted on single models'
out-of-fold answers. "best" is the least loss that more sharpening of the same answers could reach;
the factor for it is beside it. The true best is unknown in practice; near 1, a pool is calibrated.
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import chdir

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from benchmarks.arena import Aside
from benchmarks.resource_usage import ROOT
from pairpref.data.clean import clean_row, texts
from pairpref.data.votes import Row, read_unjudged
from pairpref.evaluation import truth
from pairpref.evaluation.calibration import Calibrator, logits, sharpening
from pairpref.model import classifier
from pairpref.model.precision import best_device
from pairpref.params import PARAMS, Params, load
from pairpref.paths import CALIBRATOR, MODELS
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokens import tokenize
from pairpref.training.inference import by_order
from stages.calibrate import calibrate
from stages.clean import clean
from stages.oof import oof
from stages.simulate import simulate
from stages.tokenize import tokenize as tokenize_stage
from stages.train import train

STAGES = (simulate, clean, tokenize_stage, train, oof, calibrate)


def mean(p: np.ndarray) -> np.ndarray:
    return logits(p.mean(axis=0))


def log_pool(p: np.ndarray) -> np.ndarray:
    return logits(p).mean(axis=0)


# The logits of one answer from p of shape (models, n, 3), and how much they are sharpened.
POOLS: dict[str, tuple[Callable, Callable]] = {
    "first model alone": (lambda p: logits(p[0]), lambda p, calibrator: 1),
    "mean": (mean, lambda p, calibrator: 1),
    "log pool": (log_pool, lambda p, calibrator: 1),
    "log pool, sharpened by test file": (log_pool, lambda p, calibrator: sharpening_of_log_pool(p)),
    "mean, sharpened by test file": (mean, lambda p, calibrator: sharpening(p)),
    "mean, sharpened by training votes": (mean, lambda p, calibrator: calibrator.sharpening),
}


def sharpening_of_log_pool(p: np.ndarray) -> float:
    """What `sharpening` is for the mean, for the mean of the logits."""
    z = logits(p) - logits(p).mean(axis=-1, keepdims=True)
    return float((z * z).sum() / len(p) / (z.mean(axis=0) ** 2).sum())


def trained(seed: int, rows: int, test_rows: int) -> Params:
    """Run all stages before predict in this folder; the params they ran with."""
    raw = load(ROOT / PARAMS).model_dump(mode="json")
    raw["simulate"] |= {"seed": seed, "rows": rows, "test_rows": test_rows}
    raw["train"]["seeds"], raw["parallel"]["jobs"] = [seed], 1
    raw["fusion"]["members"], raw["text"]["windows"]["most"] = ["classifier"], 1
    params = Params.model_validate(raw)
    for stage in STAGES:
        stage(params, Aside(stage.__name__))
    return params


def answers(params: Params) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities of the test file, shape (n, 3), and each model's, shape (models, n, 3)."""
    rows = (row for row in read_unjudged(params.data.test).rows if isinstance(row, Row))
    frame = texts(clean_row(row, params.clean) for row in rows)
    tokens = tokenize(frame, MODELS / "tokenizer")
    template = tokenizers.Template.of(tokenizers.load(str(MODELS / "tokenizer")))
    folders = [MODELS / "train", *sorted((MODELS / "oof").glob("fold[0-9]*"))]
    models = [classifier.load(folder) for folder in folders]
    p = [
        by_order(m.to(best_device()), config, tokens, template, 64).mean(axis=0)
        for m, config in models
    ]
    return truth.read(params.data.truth, frame["id"]), np.stack(p)


def rows_of(
    seed: int, known: np.ndarray, p: np.ndarray, calibrator: Calibrator
) -> list[dict[str, float | str]]:
    rows = []
    for name, (pool, factor) in POOLS.items():
        scaled = factor(p, calibrator) * pool(p) / calibrator.temperature

        def loss(x: float, scaled: np.ndarray = scaled) -> float:
            return float(truth.cross_entropy(known, softmax(x * scaled, axis=1)).mean())

        best = minimize_scalar(loss, bounds=(0.3, 3), method="bounded")
        rows.append({"pool": name, "seed": seed, "loss": loss(1), "best": best.fun, "at": best.x})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    for name, default in (("seeds", 5), ("rows", 6000), ("test-rows", 3000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    rows = []
    for seed in range(1, asked.seeds + 1):
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            known, p = answers(trained(seed, asked.rows, asked.test_rows))
            rows += rows_of(seed, known, p, Calibrator.load(CALIBRATOR))
    table = pd.DataFrame(rows)
    print(
        table.pivot(index="pool", columns="seed", values="loss")
        .reindex(list(POOLS))
        .round(5)
        .to_string()
    )
    print(table.groupby("pool", sort=False)[["loss", "best", "at"]].mean().round(5).to_string())


if __name__ == "__main__":
    main()
