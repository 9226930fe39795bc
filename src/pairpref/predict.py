"""python -m pairpref.predict --input test.csv --output submission.csv [--bundle models] [--keep-going]

Predict a file of pairs with what the pipeline trained: the classifiers of all trained folds, averaged, calibrated and sharpened for what
the average adds (see `pairpref.evaluation.pooling`). The bundle is the folder the pipeline writes: tokenizer/, train/, oof/,
calibrator.json, votes.json and manifest.json, which says that all are of one run.

Rows that can't be read are listed with line and reason in submission.unreadable.csv. More than 2 % of them stop it, unless it is
to keep going: they get the shares of A, B and tie among the training votes.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pairpref import bundle as bundles
from pairpref.data import quarantine
from pairpref.data.clean import read_test
from pairpref.data.votes import RejectedRow
from pairpref.errors import UserError, command, say
from pairpref.evaluation.calibration import Calibrator
from pairpref.files import written_aside
from pairpref.model import classifier
from pairpref.pairs import WINNERS
from pairpref.parallel import ALONE
from pairpref.params import CleanParams, ParallelParams
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokens import tokenize
from pairpref.training.inference import best_device, by_order

BUNDLE = Path("models")
BATCH_SIZE = 64
MAX_BAD_SHARE = 0.02
"""Share of rows that can't be read beyond which a test file is refused: as clean.max_bad_share comes, for votes."""


def predict(
    path: Path | str,
    bundle: Path,
    batch_size: int = BATCH_SIZE,
    parallel: ParallelParams = ALONE,
    say: Callable = print,
    unreadable: Path | None = None,
    keep_going: bool = False,
) -> pd.DataFrame:
    """The submission for a file of pairs: id, winner_model_a, winner_model_b, winner_tie, a row for each of the file's, in its order.

    No row is dropped: one whose text can't be read gets the shares of A, B and tie among the training votes.

    Args:
        path: pairs in any form of docs/votes.md.
        bundle: folder of a finished pipeline's models.
        batch_size: sequences in a forward pass.
        parallel: where the text is cleaned; by default in this process.
        say: told of each step.
        unreadable: CSV to list the rows in that can't be read; removed where there are none.
        keep_going: whatever the share of rows that can't be read.

    Raises:
        UserError: the file or the bundle can't be used, or more than `MAX_BAD_SHARE` of the rows.
    """
    folders = _classifiers(bundle)
    template = tokenizers.Template.of(tokenizers.load(str(bundle / "tokenizer")))
    config = classifier.load_config(folders[0])
    torch.set_num_threads(config.threads)
    frame, bad = read_test(
        path,
        CleanParams(**config.clean, near_duplicate=1, max_bad_share=1),
        parallel,
        bundles.plain(bundle),
    )
    _account(path, bad, len(frame), unreadable, keep_going, say)
    usable = frame["ok"].to_numpy()
    tokens = tokenize(frame[usable], bundle / "tokenizer")
    if len(tokens) and tokens.single != config.single:
        kinds = {True: "single texts", False: "pairs of answers"}
        raise UserError(
            f"{path} holds {kinds[tokens.single]}, but {bundle} was trained on {kinds[config.single]}."
        )

    calibrator = Calibrator.load(bundle / "calibrator.json")
    both = ", both orders" if calibrator.dual_order and not config.single else ""
    of_models = []
    for folder in folders:
        say(f"{len(tokens):,} pairs by {folder}{both}")
        model, its_config = classifier.load(folder)
        p = by_order(
            model.to(best_device()), its_config, tokens, template, batch_size, calibrator.dual_order
        )
        of_models.append(p.mean(axis=0))
    p = np.tile(np.asarray(config.prior), (len(frame), 1))
    p[usable] = calibrator.pool(np.stack(of_models))
    return pd.concat(
        [frame[["id"]], pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=WINNERS)], axis=1
    )


def _account(
    path: Path | str,
    bad: Sequence[RejectedRow],
    rows: int,
    to: Path | None,
    keep_going: bool,
    say: Callable,
) -> None:
    """List the rows that can't be read, and refuse too many."""
    if to and bad:
        with written_aside(to) as (aside,):
            quarantine.write(aside, bad)
    elif to:
        to.unlink(missing_ok=True)
    if not bad:
        return
    found = f"{len(bad):,} of {rows:,} rows can't be read"
    listed = f" Each is in {to} with its line." if to else ""
    if len(bad) > MAX_BAD_SHARE * rows and not keep_going:
        raise UserError(
            f"{path}: {found}, more than {MAX_BAD_SHARE:.0%}.\n{quarantine.summary(bad)}\n"
            f"Mend the file, or keep going (--keep-going): such rows then get the shares of A, B and tie among the training votes.{listed}"
        )
    say(
        f"{found}; they get the shares of A, B and tie among the training votes.{listed}\n{quarantine.summary(bad)}"
    )


def write(submission: pd.DataFrame, path: Path) -> None:
    """Write a submission as CSV, whole or not at all."""
    with written_aside(path) as (to,):
        submission.to_csv(to, index=False, lineterminator="\n", float_format="%.9g")


def _classifiers(bundle: Path) -> list[Path]:
    """Folders of the trained folds' classifiers, fold 0 (the train stage's) first."""
    bundles.check(bundle)
    return [
        bundle / "train",
        *sorted(
            (bundle / "oof").glob("fold[0-9]*"),
            key=lambda folder: int(folder.name.removeprefix("fold")),
        ),
    ]


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pairpref.predict", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        help="pairs to predict: CSV, JSONL (packed too: .gz) or Parquet, in any form of docs/votes.md",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        help="submission to write: id, winner_model_a, winner_model_b, winner_tie",
    )
    parser.add_argument(
        "--bundle",
        default=BUNDLE,
        type=Path,
        help="folder of the trained models (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        default=BATCH_SIZE,
        type=_count,
        help="sequences in a forward pass (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="predict even where many rows can't be read"
    )
    asked = parser.parse_args(argv)
    with command("predict"):
        output, unreadable = _outputs(asked.output, asked.input)
        submission = predict(
            asked.input,
            asked.bundle,
            asked.batch_size,
            say=say,
            unreadable=unreadable,
            keep_going=asked.keep_going,
        )
        write(submission, output)
        say(f"{len(submission):,} predictions in {asked.output}")


def _outputs(path: Path, given: Path) -> tuple[Path, Path]:
    """Where the submission goes, behind a symlink if it is one, and where the rows are listed that can't be read.

    Raises:
        UserError: there is something else than a file, or the input itself.
    """
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise UserError(
            f"--output {str(path)!r} is a {'folder' if path.is_dir() else 'pipe or device'}; name a CSV of its own."
        )
    unreadable = path.with_suffix(".unreadable.csv")
    real = os.path.realpath(path)
    if os.path.realpath(given) in (real, os.path.realpath(unreadable)):
        raise UserError(
            f"--output {path} would write over the input itself; name a CSV of its own."
        )
    return Path(real), unreadable


if __name__ == "__main__":
    main()
