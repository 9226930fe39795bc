"""python -m benchmarks.predict [--rows 10000 100000 1000000]

What prediction costs with the models of a finished pipeline. Prints as it goes:
one classifier's time for both orders, and that of a plain loop over batches in the file's order;
the time and log loss of both orders, one order, and the second order where the first is unsure;
what other margins for "unsure" would save and cost, by the out-of-fold votes;
the time and peak memory of `pairpref predict` on files of more and more rows, which repeat the
input's, with one order and one fold, since a fold more costs time and no memory that grows.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.resource_usage import environment, run
from pairpref.data.clean import clean_row
from pairpref.data.votes import Row, read_unjudged
from pairpref.effort import SURE, UNSURE, Effort
from pairpref.evaluation.metrics import losses
from pairpref.judge import Judge
from pairpref.model import classifier
from pairpref.pairs import ORDERS, WINNERS, swap_probabilities
from pairpref.paths import ARENA, MODELS
from pairpref.training.batches import PairDataset
from pairpref.training.inference import by_order, collator_for
from pairpref.training.members import BATCH_SIZE, Pairs

_MARGINS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def efforts(bundle: Path, path: Path, solution: Path | None) -> Iterator[str]:
    """CPU seconds, since another process may have the machine, and log loss by effort."""
    judge = Judge.load(bundle)
    began = time.process_time()
    rows = [row for row in read_unjudged(path, judge.usual).rows if isinstance(row, Row)]
    pairs = judge.read([clean_row(row, judge.switches) for row in rows])
    seconds = time.process_time() - began
    yield f"reading {len(pairs):,} pairs: {seconds:.1f} s, {len(pairs) / seconds:,.0f}/s"
    yield from plain(judge, pairs)
    labels = None
    if solution:
        known = pd.read_csv(solution, dtype={"id": str}).set_index("id")[WINNERS]
        labels = known.loc[[row.id for row in rows]].to_numpy().argmax(axis=1)
    both = None
    for orders in ("both", "uncertain", "one"):
        began, read = time.process_time(), []
        p = judge.answer(pairs, Effort(orders), step=read.append)
        seconds = time.process_time() - began
        line = f"{orders}: {seconds:.1f} s, {len(pairs) / seconds:,.0f}/s, {sum(read):,} pairs read"
        both = p if both is None else both
        if labels is not None:
            more = losses(labels, p) - losses(labels, both)
            error = more.std() / len(more) ** 0.5
            line += f", log loss {losses(labels, p).mean():.5f}, {more.mean():+.5f} ± {error:.5f}"
        yield f"{line}, at most {np.abs(p - both).max():.4f} apart"


def plain(judge: Judge, pairs: Pairs) -> Iterator[str]:
    """CPU seconds of one classifier for both orders, without windows, and of a plain loop."""
    model, config = classifier.load(judge.members.bundle / "train")
    config, template = replace(config, windows=1), judge.members.template
    model.eval()
    torch.set_num_threads(config.threads)
    dataset = PairDataset(pairs.tokens, config.longest, template, config.member, config.cut)
    collate = collator_for(model, template)

    def loop() -> np.ndarray:
        p = []
        for swapped in (False, True):
            for begin in range(0, len(pairs), BATCH_SIZE):
                rows = range(begin, min(begin + BATCH_SIZE, len(pairs)))
                batch = collate([dataset[row, swapped, 0] for row in rows])
                batch.pop("labels", None)
                with torch.inference_mode():
                    logits = model(**batch)["logits"].double()
                p.append(torch.softmax(logits, dim=-1).numpy())
        first, second = np.split(np.concatenate(p), 2)
        return (first + swap_probabilities(second)) / 2

    def ours() -> np.ndarray:
        return by_order(model, config, pairs.tokens, template, BATCH_SIZE).mean(axis=0)

    found, seconds = [], []
    for ask in (loop, ours):
        began = time.process_time()
        found.append(ask())
        seconds.append(time.process_time() - began)
    apart = np.abs(found[1] - found[0]).max()
    yield (
        f"one classifier, both orders: a plain loop {seconds[0]:.1f} s, this project "
        f"{seconds[1]:.1f} s, {seconds[1] / seconds[0]:.2f}x; at most {apart:.1e} apart"
    )


def margins(path: Path) -> Iterator[str]:
    """The classifier's out-of-fold votes by the margin above which one order is asked."""
    votes = pd.read_parquet(path)
    if not len(votes):  # oof.enabled is off
        return
    first, second = (votes[columns].to_numpy() for columns in ORDERS)
    labels, (_, middle, top) = votes["label"].to_numpy(int), np.sort(first, axis=1).T
    both = losses(labels, (first + second) / 2)
    for sure in (0.0, *_MARGINS, 1.0):
        weight = 0.5 * np.clip((sure - (top - middle)) / (SURE - UNSURE), 0, 1)[:, None]
        weight = np.full_like(weight, 0.5) if sure == 1 else weight
        more = losses(labels, (1 - weight) * first + weight * second) - both
        yield (
            f"margin {sure:.1f}: {(weight > 0).mean():4.0%} asked twice, "
            f"log loss {more.mean():+.5f} ± {more.std() / len(more) ** 0.5:.5f}"
        )


def memory(bundle: Path, path: Path, count: int, folder: Path) -> str:
    """Of a file of so many rows."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    given, left = folder / "rows.csv", count
    while left > 0:
        part = rows.head(left).assign(id=lambda frame, left=left: range(left - len(frame), left))
        part.to_csv(given, mode="w" if left == count else "a", header=left == count, index=False)
        left -= len(part)
    command = [sys.executable, "-m", "pairpref.predict", "--input", given, "--bundle", bundle]
    command += ["--output", folder / "out.csv", "--orders", "one", "--folds", "1"]
    went = run([*map(str, command)], folder, environment(folder))
    done = sum(1 for _ in (folder / "out.csv").open("rb")) - 1
    size = given.stat().st_size / 2**20
    return (
        f"{done:,} rows, {size:,.0f} MiB: {went.seconds:,.0f} s, "
        f"{done / went.seconds:,.0f} pairs/s, peak {went.peak_mib:,.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    add = parser.add_argument
    add("--bundle", type=Path, default=MODELS)
    add("--input", type=Path, default=ARENA / "test.csv", help="pairs in a CSV")
    add("--solution", type=Path, help="their labels (default: beside the arena's test file)")
    add("--oof", type=Path, default=Path("data/oof/uncalibrated.parquet"))
    add("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    asked = parser.parse_args()
    beside = asked.input.with_name("solution.csv")
    solution = asked.solution or (beside if beside.exists() else None)
    for line in efforts(asked.bundle.resolve(), asked.input, solution):
        print(line, flush=True)
    for line in margins(asked.oof) if asked.oof.exists() else ():
        print(line, flush=True)
    for count in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(memory(asked.bundle.resolve(), asked.input, count, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
