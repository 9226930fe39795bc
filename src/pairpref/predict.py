"""python -m pairpref.predict --input test.csv --output submission.csv [--bundle models]

Predict a file of pairs with what the pipeline trained: all folds of all members, both orders, fused
and calibrated. Rows that can't be read are listed with line and reason in
submission.unreadable.csv, and get the shares of A, B and tie among the training votes. More than
2 % of them are an error, unless --keep-going is given. A killed command goes on where it was.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pandas as pd

from pairpref import bundle as bundles
from pairpref.budget import Budget
from pairpref.cli import parser
from pairpref.data import readers
from pairpref.data.clean import Clean, clean_rows
from pairpref.data.quarantine import RejectedRow
from pairpref.data.votes import Row, read_unjudged
from pairpref.effort import WHOLE, Effort, Orders
from pairpref.errors import UserError, command, say
from pairpref.files import written_aside
from pairpref.judge import SHARD_CHARACTERS, SHARD_ROWS, Judge, take
from pairpref.pairs import PROBABILITIES, WINNERS
from pairpref.parallel import ALONE, each
from pairpref.params import ParallelParams, Precision, PredictParams
from pairpref.paths import MODELS
from pairpref.progress import Progress
from pairpref.shards import Shards, key, write_csv
from pairpref.survey import survey

BATCH_SIZE = PredictParams().batch_size
_NONE = "the shares of the training votes"  # the effort of pairs for which there was no time


@dataclass(frozen=True)
class Options:
    """How a file is predicted.

    Args:
        batch_size: sequences in a forward pass.
        effort: how much is spent on a pair.
        max_seconds: in which all is done, if need be with less effort.
        precision: see `pairpref.model.precision`.
        parallel: where text is cleaned and counted; by default in this process.
        keep_going: allow any share of rows that can't be read.
    """

    batch_size: int = BATCH_SIZE
    effort: Effort = WHOLE
    max_seconds: float | None = None
    precision: Precision = "auto"
    parallel: ParallelParams = ALONE
    keep_going: bool = False


def predict(
    path: Path | str,
    bundle: Path,
    say: Callable[[str], object] = print,
    unreadable: Path | None = None,
    kept: Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """A submission: id, winner_model_a, winner_model_b, winner_tie for each row of a file in order.

    A row that can't be read gets the shares of A, B and tie among the training votes.

    Args:
        path: pairs in any form of docs/votes.md.
        bundle: folder of a finished pipeline's models.
        say: called with a line on each step.
        unreadable: CSV of the rows that can't be read; removed where there are none.
        kept: folder for what is finished, from which a killed prediction goes on.
        options: those of `Options`.

    Raises:
        UserError: the file or the bundle can't be used, or more than 2 % of the rows.
    """
    with (
        TemporaryDirectory() as folder,
        _filled(
            kept or Path(folder), Path(path), bundle, Options(**options), say, unreadable
        ) as shards,
    ):
        submission = pd.concat(shards.frames(), ignore_index=True)
        shards.discard()
    return submission.rename(columns=dict(zip(PROBABILITIES, WINNERS, strict=True)))


def write(submission: pd.DataFrame, path: Path) -> None:
    """Write a submission as CSV, whole or not at all."""
    with written_aside(path) as (to,):
        write_csv(submission, to)


@contextmanager
def _filled(
    folder: Path,
    path: Path,
    bundle: Path,
    options: Options,
    say: Callable[[str], object],
    unreadable: Path | None,
) -> Iterator[Shards]:
    """All rows' predictions, in shards in a folder; what is finished there is not done again."""
    began = time.time()
    readers.read(path)  # a wrong file need not wait for the models
    judge = Judge.load(bundle, options.precision, say)
    manifest = judge.members.bundle / bundles.MANIFEST
    depends = options.batch_size, options.effort, options.max_seconds, options.precision
    with Shards.opened(folder, key((path, manifest), (depends, SHARD_ROWS))) as shards:
        at = time.time()
        total, characters = survey(path, judge.usual, options.keep_going, say, unreadable)
        if shards.rows:
            say(f"going on: {shards.rows:,} of {total:,} rows are finished")
        for line in judge.members.says(options.effort):
            say(line)
        budget = None
        if options.max_seconds is not None:
            idle = 2 * (time.time() - at) / max(1, total)
            ladder = judge.members.efforts(options.effort)
            budget = Budget(options.max_seconds, began, ladder, judge.members.work, idle)
        progress = Progress(shards.rows, total, say)
        _fill(shards, path, judge, options, budget, characters, progress, say)
        if shards.rows != total:
            raise UserError(f"{path} changed while it was read. Run the same command again.")
        if given_up := {
            name: n for name, n in shards.efforts.items() if name != str(options.effort)
        }:
            listed = "; ".join(f"{n:,} rows: {name}" for name, n in given_up.items())
            say(f"given up for --max-seconds {options.max_seconds:g}, of {total:,} rows: {listed}")
        if options.max_seconds and (late := time.time() - began - options.max_seconds) > 0:
            say(f"--max-seconds {options.max_seconds:g}: {late:.1f} s late before it is written")
        yield shards


def _fill(
    shards: Shards,
    path: Path,
    judge: Judge,
    options: Options,
    budget: Budget | None,
    characters: int,
    progress: Progress,
    say: Callable[[str], object],
) -> None:
    """Predict the rows that are not finished, of a file of so many characters."""
    rows = read_unjudged(path, judge.usual).rows
    left = characters - _characters(islice(rows, shards.rows))
    effort: Effort | None = options.effort
    most, length, before = SHARD_ROWS, SHARD_CHARACTERS, effort
    while True:
        if budget:
            effort, most, length = budget.next(progress.total - shards.rows, left)
        if not (shard := take(rows, min(most, SHARD_ROWS), min(length, SHARD_CHARACTERS))):
            return
        left -= _characters(shard)
        if effort != before:
            say(f"from row {shards.rows + 1:,}: {effort or _NONE}")
            before = effort
        frame = pd.DataFrame(
            _answers(shard, judge, effort, options, budget, progress), columns=PROBABILITIES
        )
        frame.insert(0, "id", [row.id for row in shard])
        shards.add(frame, effort or _NONE)
        progress.finish(len(shard))


def _answers(
    shard: list[Row | RejectedRow],
    judge: Judge,
    effort: Effort | None,
    options: Options,
    budget: Budget | None,
    progress: Progress,
) -> np.ndarray:
    """p of some rows, shape (n, 3); without an effort and of unreadable rows it is the prior."""
    p = np.tile(judge.prior, (len(shard), 1))
    if not effort:
        return p
    began = time.time()
    cleaned = enumerate(clean_rows(shard, judge.switches, options.parallel))
    usable = {i: row for i, row in cleaned if isinstance(row, Clean)}
    pairs = judge.read([*usable.values()], partial(each, params=options.parallel))
    read = time.time()
    progress.begin(len(pairs), len(pairs) * judge.members.passes(effort))
    p[[*usable]] = judge.answer(pairs, effort, batch_size=options.batch_size, step=progress.step)
    if budget:
        size = _characters(shard)
        budget.took(effort, pairs.tokens.lengths(), size, read - began, time.time() - read)
    return p


def _characters(rows: Iterable[Row | RejectedRow]) -> int:
    return sum(row.characters for row in rows if isinstance(row, Row))


def _outputs(path: Path, given: Path) -> tuple[Path, Path]:
    """Where the result goes, behind a symlink if it is one, and the list of unreadable rows."""
    if (path.exists() and not path.is_file()) or path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(
            f"--output {str(path)!r} is no .csv (a submission) or .parquet (probabilities) file; "
            "name a file of its own."
        )
    real, unreadable = Path(os.path.realpath(path)), path.with_suffix(".unreadable.csv")
    if Path(os.path.realpath(given)) in (real, Path(os.path.realpath(unreadable))):
        raise UserError(
            f"--output {path} would overwrite the input itself; name a file of its own."
        )
    for folder in (real.parent, unreadable.absolute().parent):
        there = next(above for above in (folder, *folder.parents) if above.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise UserError(f"--output {path}: {there} is no folder to write to; name another.")
    return real, unreadable


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds


def main(argv: list[str] | None = None) -> None:
    example = "pairpref predict --input data/raw/test.csv --output submission.csv"
    arguments = parser("predict", (__doc__ or "").split("\n\n")[1], example)
    add = arguments.add_argument
    form = "CSV, JSONL (also .gz) or Parquet, in any form of docs/votes.md"
    add("--input", required=True, type=Path, help=f"pairs to predict: {form}")
    result = "to write: a submission as .csv, or probabilities as .parquet"
    add("--output", required=True, type=Path, help=result)
    add("--bundle", default=MODELS, type=Path, help="trained models (default: %(default)s)")
    size = "sequences in a forward pass (default: %(default)s)"
    add("--batch-size", default=BATCH_SIZE, type=_count, help=size)
    orders = "uncertain: the second order only where the first is unsure (default: as calibrated)"
    add("--orders", choices=get_args(Orders), help=orders)
    add("--folds", type=_count, help="of each trained member, the first ones (default: all)")
    jobs = "processes that clean and count text (default: %(default)s)"
    add("--jobs", default=1, type=_count, help=jobs)
    budget = "give up orders, then folds, then length, to be done in so many seconds"
    add("--max-seconds", type=_seconds, help=budget)
    add("--keep-going", action="store_true", help="even where many rows can't be read")
    asked = arguments.parse_args(argv)
    with command("predict"):
        output, bad = _outputs(asked.output, asked.input)
        options = Options(
            asked.batch_size,
            Effort(asked.orders, asked.folds),
            asked.max_seconds,
            parallel=ParallelParams(jobs=asked.jobs),
            keep_going=asked.keep_going,
        )
        folder = output.with_name(f".{output.name}.shards")
        with _filled(folder, asked.input, asked.bundle, options, say, bad) as shards:
            shards.write(output)
            shards.discard()
            say(f"{shards.rows:,} predictions in {asked.output}")


if __name__ == "__main__":
    main()
