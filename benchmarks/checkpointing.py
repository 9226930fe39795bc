"""python -m benchmarks.checkpointing [--runs 5]

What checkpoints within an epoch cost: trains fold 0 of the default with and without them, in turn,
`--runs` times each. Prints the medians and their ratio. Run the pipeline first: this reads its
tokens.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

from pairpref import params
from pairpref.monitor import Log
from pairpref.paths import TOKENIZER, TOKENS
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.folds import train_fold


def _train(folder: str, safe: bool, seconds: "multiprocessing.Queue[tuple[float, int]]") -> None:
    settings = params.load()
    root = Path.cwd()
    os.chdir(folder)
    for path in (TOKENS, TOKENIZER):
        path.parent.mkdir(parents=True)
        path.symlink_to(root / path)
    saves = 0
    checkpoint, due = CheckpointManager.checkpoint, CheckpointManager.due

    def counted(*args: object) -> AbstractContextManager[Path]:
        nonlocal saves
        saves += 1
        return checkpoint(*args)

    CheckpointManager.checkpoint = counted
    # Without: only those of each epoch's end are left.
    CheckpointManager.due = due if safe else lambda self: False
    log = Log("train", quiet=True)
    began = time.perf_counter()
    train_fold(0, settings.train.seeds[0], settings, log)
    seconds.put((time.perf_counter() - began, saves))


def measure(safe: bool) -> tuple[float, int]:
    """Seconds of one training in a process of its own, and how often it saved."""
    context = multiprocessing.get_context("spawn")
    # On the disk that work/ is on: a folder in memory would cost nothing.
    Path("work").mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(dir="work")
    try:
        seconds = context.Queue()
        process = context.Process(target=_train, args=(folder, safe, seconds))
        process.start()
        measured = seconds.get()
        process.join()
        return measured
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpointing", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=5, help="trainings of each kind (default: %(default)s)"
    )
    runs = parser.parse_args().runs
    measure(False)
    found: dict[bool, list[float]] = {False: [], True: []}
    for number in range(runs):
        for safe in (True, False):
            seconds, saves = measure(safe)
            found[safe].append(seconds)
            print(
                f"{number + 1} of {runs}: {'with' if safe else 'without'} checkpoints "
                f"{seconds:.2f} s, {saves} saved",
                flush=True,
            )
    safe, bare = (median(found[kind]) for kind in (True, False))
    print(f"median with {safe:.2f} s, without {bare:.2f} s: {safe / bare - 1:+.1%}")


if __name__ == "__main__":
    main()
