"""python -m pairpref.predict --input test.csv --output submission.csv [--bundle models]

Predict a file of pairs with what the pipeline trained: the mean of each member's models of all
trained folds, calibrated or fused (see `pairpref.evaluation.calibration` and `fusion`). Rows that
can't be read are listed with line and reason in submission.unreadable.csv, and get the shares of A,
B and tie among the training votes. More than 2 % of them are an error, without --keep-going.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pairpref import bundle as bundles
from pairpref.cli import parser
from pairpref.data import quarantine
from pairpref.data.clean import read_test
from pairpref.data.votes import RejectedRow
from pairpref.errors import UserError, command, say
from pairpref.evaluation.calibration import Calibrator, pooled
from pairpref.evaluation.fusion import Fusion
from pairpref.files import written_aside
from pairpref.pairs import WINNERS
from pairpref.parallel import ALONE, each
from pairpref.params import CleanParams, ParallelParams, Precision, PredictParams
from pairpref.paths import MODELS
from pairpref.text.features import Features

BATCH_SIZE = PredictParams().batch_size
MAX_BAD_SHARE = CleanParams().max_bad_share
_SHARES = "the shares of A, B and tie among the training votes"


def predict(
    path: Path | str,
    bundle: Path,
    batch_size: int = BATCH_SIZE,
    parallel: ParallelParams = ALONE,
    say: Callable[[str], object] = print,
    unreadable: Path | None = None,
    keep_going: bool = False,
    precision: Precision = "auto",
) -> pd.DataFrame:
    """A submission: id, winner_model_a, winner_model_b, winner_tie for each row of a file in order.

    A row that can't be read gets the shares of A, B and tie among the training votes.

    Args:
        path: pairs in any form of docs/votes.md.
        bundle: folder of a finished pipeline's models.
        batch_size: sequences in a forward pass.
        parallel: where the text is cleaned; by default in this process.
        say: called with a line on each step.
        unreadable: CSV of the rows that can't be read; removed where there are none.
        keep_going: allow any share of rows that can't be read.
        precision: see `pairpref.model.precision`.

    Raises:
        UserError: the file or the bundle can't be used, or more than `MAX_BAD_SHARE` of the rows.
    """
    members = bundles.check(bundle)

    # Seconds to import: --help and a wrong bundle need not wait for it.
    import torch

    from pairpref.model import classifier
    from pairpref.text import tokenizer as tokenizers
    from pairpref.text.tokens import tokenize
    from pairpref.training.inference import of_models

    template = tokenizers.Template.of(tokenizers.load(str(bundle / "tokenizer")))
    config = classifier.load_config(members["classifier"][0])
    torch.set_num_threads(config.threads)
    switches = CleanParams(**config.clean, near_duplicate=1, max_bad_share=1)
    frame, bad = read_test(path, switches, parallel, bundles.plain(bundle))
    listed = _list(bad, unreadable)
    if bad:
        found = f"{len(bad):,} of {len(frame):,} rows can't be read"
        if len(bad) > MAX_BAD_SHARE * len(frame) and not keep_going:
            raise UserError(
                f"{path}: {found}, more than {MAX_BAD_SHARE:.0%}.\n{quarantine.summary(bad)}\n"
                f"Mend the file, or let such rows get {_SHARES} with --keep-going.{listed}"
            )
        say(f"{found}; they get {_SHARES}.{listed}\n{quarantine.summary(bad)}")
    usable = frame["ok"].to_numpy()
    tokens = tokenize(frame[usable], bundle / "tokenizer")
    if len(tokens) and tokens.single != config.single:
        kinds = {True: "single texts", False: "pairs of answers"}
        raise UserError(
            f"{path} has {kinds[tokens.single]}; {bundle} was trained on {kinds[config.single]}."
        )
    calibrator = Calibrator.load(bundle / bundles.CALIBRATOR)
    fusion = Fusion.load(bundle / bundles.FUSION)
    features = None
    if config.features or len(members) < len(fusion.members):
        features = Features.of(frame[usable], lambda job, shards: each(job, shards, parallel))
    if config.features:
        tokens = replace(tokens, features=features)
    asked = tokens, template, batch_size, calibrator.dual_order, precision, say
    p = np.tile(np.asarray(config.prior), (len(frame), 1))
    answers = {name: of_models(folders, *asked) for name, folders in members.items()}
    if fusion.members == ("classifier",):
        p[usable] = calibrator.pool(answers["classifier"])
    else:
        p[usable] = _fused(fusion, answers, features, bundle, say)
    submission = pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=WINNERS)
    submission.insert(0, "id", frame["id"])
    return submission


def _fused(
    fusion: Fusion,
    trained: dict[str, np.ndarray],
    features: Features | None,
    bundle: Path,
    say: Callable[[str], object],
) -> np.ndarray:
    """The pool of all members, shape (n, 3), from the trained ones' p, (models, n, 3) each."""
    factors = dict(zip(fusion.members, fusion.sharpening, strict=True))
    answers = {name: pooled(p, factors[name]) for name, p in trained.items()}
    if features is not None and len(answers) < len(fusion.members):
        from pairpref.model.experts import Experts

        say(f"{len(features):,} pairs by {bundle / bundles.EXPERTS}")
        answers |= Experts.load(bundle / bundles.EXPERTS).predict(features)
    return fusion.apply(np.stack([answers[name] for name in fusion.members]))


def _list(bad: Sequence[RejectedRow], unreadable: Path | None) -> str:
    """Write the rows that can't be read, and say where."""
    if unreadable is None:
        return ""
    if not bad:
        unreadable.unlink(missing_ok=True)
        return ""
    with written_aside(unreadable) as (to,):
        quarantine.write(to, bad)
    return f" Each is in {unreadable} with its line."


def write(submission: pd.DataFrame, path: Path) -> None:
    """Write a submission as CSV, whole or not at all."""
    with written_aside(path) as (to,):
        submission.to_csv(to, index=False, lineterminator="\n", float_format="%.9g")


def _outputs(path: Path, given: Path) -> tuple[Path, Path]:
    """Where the submission goes, behind a symlink if it is one, and the list of unreadable rows."""
    if (path.exists() and not path.is_file()) or path.suffix.lower() != ".csv":
        raise UserError(f"--output {str(path)!r} is not a .csv file; name a CSV of its own.")
    real, unreadable = Path(os.path.realpath(path)), path.with_suffix(".unreadable.csv")
    if Path(os.path.realpath(given)) in (real, Path(os.path.realpath(unreadable))):
        raise UserError(f"--output {path} would overwrite the input itself; name a CSV of its own.")
    for folder in (real.parent, unreadable.absolute().parent):
        there = next(above for above in (folder, *folder.parents) if above.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise UserError(f"--output {path}: {there} is no folder to write to; name another.")
    return real, unreadable


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    example = "pairpref predict --input data/raw/test.csv --output submission.csv"
    arguments = parser("predict", (__doc__ or "").split("\n\n")[1], example)
    add = arguments.add_argument
    form = "CSV, JSONL (also .gz) or Parquet, in any form of docs/votes.md"
    add("--input", required=True, type=Path, help=f"pairs to predict: {form}")
    add("--output", required=True, type=Path, help="submission to write, a CSV")
    add("--bundle", default=MODELS, type=Path, help="trained models (default: %(default)s)")
    size = "sequences in a forward pass (default: %(default)s)"
    add("--batch-size", default=BATCH_SIZE, type=_count, help=size)
    add("--keep-going", action="store_true", help="even where many rows can't be read")
    asked = arguments.parse_args(argv)
    with command("predict"):
        output, bad = _outputs(asked.output, asked.input)
        options = {"say": say, "unreadable": bad, "keep_going": asked.keep_going}
        submission = predict(asked.input, asked.bundle, asked.batch_size, **options)
        write(submission, output)
        say(f"{len(submission):,} predictions in {asked.output}")


if __name__ == "__main__":
    main()
