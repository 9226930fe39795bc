"""python -m benchmarks.throughput [--rows 57477] [--simulate 1000000]

Speed and memory of the stages that train nothing, on as many votes as Kaggle's file holds.

Cleaning and tokenising are also compared with the bare tokenizer: the same texts, one process, no
files. Also the size of the page, and if there is a browser, how long it takes to open; with
--simulate, how fast the arena is made and whether its memory stays bounded. The model that is
calibrated and reported on is made up: the truth with noise.

Every answer is long and every conversation has two or three turns (`LIKE_KAGGLE`), as long as the
params allow; the length is printed (Kaggle's answers have about 1,300 characters). But nearly every
text has letters beyond ASCII and one in six is mojibake, so the repair takes its slow path far more
often than on Kaggle's.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from tokenizers import Tokenizer

from benchmarks import resource_usage
from benchmarks.resource_usage import ROOT, Watched
from pairpref.evaluation import truth
from pairpref.pairs import ORDERS, TEXTS
from pairpref.params import ARENA, PARAMS
from pairpref.paths import PAIRS, TOKENIZER, VERSIONS

LIKE_KAGGLE = {"long_answers": 1.0, "several_turns": 1.0}
ROWS = 57_477
_BATCH = 3_000  # texts; a batch of all of them would need many GiB


def stage(name: str, folder: Path) -> Watched:
    """One stage in a folder of its own."""
    environment = resource_usage.environment(folder) | {"PYTHONPATH": str(ROOT)}
    return resource_usage.run([sys.executable, "-m", f"stages.{name}"], folder, environment)


def prepare(folder: Path, rows: int, knobs: dict[str, float]) -> None:
    """Write the default params of the classifier alone, told what can be counted, with an arena of
    `rows` votes and one pair to predict."""
    params = yaml.safe_load((ROOT / PARAMS).read_text(encoding="utf-8"))
    params["simulate"] |= {"rows": rows, "test_rows": 1, **knobs}
    params["fusion"]["members"], params["model"]["features"] = ["classifier"], True
    (folder / PARAMS).write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copytree(ROOT / VERSIONS, folder / VERSIONS)


def bare(folder: Path) -> tuple[float, float]:
    """Seconds and CPU seconds that the trained tokenizer needs for all cleaned texts."""
    pairs = pd.read_parquet(folder / PAIRS, columns=TEXTS)
    texts = [text for name in TEXTS for text in pairs[name]]
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER / "tokenizer.json"))
    began, cpu_began = time.perf_counter(), time.process_time()
    for begin in range(0, len(texts), _BATCH):
        tokenizer.encode_batch(texts[begin : begin + _BATCH])
    return time.perf_counter() - began, time.process_time() - cpu_began


def pretend(folder: Path) -> None:
    """Write what train, oof and predict would write, for a model that is the truth with noise."""
    pairs = pd.read_parquet(folder / PAIRS, columns=["id", "label", "fold"])
    rng = np.random.default_rng(0)
    known = np.log(truth.read(folder / ARENA / "truth.csv", pairs["id"]))
    table = pairs[["id", "fold", "label"]].copy()
    for columns in ORDERS:
        p = np.exp(known + rng.normal(size=known.shape))
        table[columns] = p / p.sum(axis=1, keepdims=True)
    for path in ("data/oof", "plots"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "data/oof/uncalibrated.parquet")
    by_model = table.iloc[:0].assign(member="")
    by_model.to_parquet(folder / "data/oof/by_model.parquet")
    table[table["fold"] == 0].assign(seed=0).to_parquet(folder / "data/oof/seeds.parquet")
    (folder / "data/test.json").write_text(json.dumps({"n": 0}))
    for path, text in (("oof/manifest.json", {}), ("train/classifier.json", {"exact": True})):
        (folder / "models" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "models" / path).write_text(json.dumps(text))
    (folder / "plots/train.csv").write_text(
        "epoch,train_loss,validation_loss,log_loss,accuracy,f1_macro\n1,1,1,1,.5,.5\n"
    )


def opening(page: Path, times: int = 5) -> float | None:
    """Median seconds to open a page, minus those for an empty one; None without a browser."""
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        return None
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--dump-dom",
    ]
    taken: dict[str, list[float]] = {"about:blank": [], page.as_uri(): []}
    with tempfile.TemporaryDirectory() as profile:
        for url in [*taken] * times:
            began = time.perf_counter()
            subprocess.run(
                [browser, *options, f"--user-data-dir={profile}", url],
                capture_output=True,
                check=True,
            )
            taken[url].append(time.perf_counter() - began)
    empty, full = (statistics.median(seconds) for seconds in taken.values())
    return full - empty


def row(name: str, rows: int, size: float, run: Watched) -> str:
    return (
        f"{name:10} {rows:>9,} rows {size / 2**20:7.0f} MiB {run.seconds:7.1f} s "
        f"{run.cpu_seconds:7.1f} s of CPU {rows / run.seconds:7,.0f} rows/s "
        f"{run.peak_mib:6,.0f} MiB in any process "
        f"{run.peak_mib_together:6,.0f} MiB in all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument(
        "--rows", type=int, default=ROWS, help="votes to clean, tokenise and report on"
    )
    parser.add_argument(
        "--simulate", type=int, metavar="N", help="also simulate N votes of the default arena"
    )
    asked = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, asked.rows, LIKE_KAGGLE)
        stage("simulate", folder)
        size = (folder / ARENA / "train.csv").stat().st_size
        runs = {word: stage(word, folder) for word in ("clean", "tokenize")}
        for word, run in runs.items():
            print(row(word, asked.rows, size, run))
        seconds, cpu = bare(folder)
        print(
            f"clean and tokenize: {sum(run.seconds for run in runs.values()) / seconds:.1f} times "
            f"the bare tokenizer's {seconds:.1f} s, in CPU time "
            f"{sum(run.cpu_seconds for run in runs.values()) / cpu:.1f} times its {cpu:.1f} s"
        )
        for word in ("features", "baselines"):
            print(row(word, asked.rows, size, stage(word, folder)))
        pretend(folder)
        for word in ("calibrate", "report"):
            print(row(word, asked.rows, size, stage(word, folder)))
        page = folder / "report/index.html"
        opened = opening(page)
        print(
            f"page: {page.stat().st_size / 1e6:.1f} MB"
            + ("" if opened is None else f", open {opened:.1f} s after an empty one")
        )
        pairs = pd.read_parquet(folder / PAIRS, columns=TEXTS)
        prompt, *answers = (pairs[text].str.len().mean() for text in TEXTS)
        print(f"characters: {prompt:,.0f} a prompt, {sum(answers) / 2:,.0f} an answer")
    if asked.simulate:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, asked.simulate, {})
            run = stage("simulate", folder)
            size = (folder / ARENA / "train.csv").stat().st_size
            print(row("simulate", asked.simulate, size, run))


if __name__ == "__main__":
    main()
