"""python -m pairpref.predict --input test.csv --output submission.csv [--bundle models]

Predict a file of pairs with what the pipeline trained: the classifiers of all trained folds, averaged and calibrated. The bundle is the
folder the pipeline writes: tokenizer/, train/, oof/, calibrator.json and manifest.json, which says that all are of one run.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pairpref import bundle as bundles
from pairpref.data.clean import read_test
from pairpref.errors import UserError
from pairpref.evaluation.calibration import Calibrator
from pairpref.files import written_aside
from pairpref.model import classifier
from pairpref.pairs import LABELS, WINNERS
from pairpref.parallel import ALONE
from pairpref.params import CleanParams, ParallelParams
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokens import tokenize
from pairpref.training.inference import best_device, by_order

BUNDLE = Path("models")
BATCH_SIZE = 64


def predict(
    path: Path | str, bundle: Path, batch_size: int = BATCH_SIZE, parallel: ParallelParams = ALONE, say: Callable = print
) -> pd.DataFrame:
    """The submission for a file of pairs: id, winner_model_a, winner_model_b, winner_tie, a row for each of the file's, in its order.

    No row is dropped: one whose text can't be read gets the shares of A, B and tie among the training votes.

    Args:
        path: a CSV (.gz too) or JSONL with id, prompt, response_a and response_b.
        bundle: folder of a finished pipeline's models.
        batch_size: sequences in a forward pass.
        parallel: where the text is cleaned; by default in this process.
        say: told of each step.

    Raises:
        UserError: the file or the bundle can't be used.
    """
    folders = _classifiers(bundle)
    template = tokenizers.Template.of(tokenizers.load(str(bundle / "tokenizer")))
    card = classifier.load_card(folders[0])
    torch.set_num_threads(card.threads)
    frame = read_test(path, CleanParams(**card.clean, near_duplicate=1, max_bad_share=1), parallel)
    usable = frame["ok"].to_numpy()
    tokens = tokenize(frame[usable], bundle / "tokenizer")
    if len(tokens) and tokens.single != card.single:
        kinds = {True: "single texts", False: "pairs of answers"}
        raise UserError(f"{path} holds {kinds[tokens.single]}, but {bundle} was trained on {kinds[card.single]}.")

    total = np.zeros((len(tokens), len(LABELS)))
    for folder in folders:
        say(f"{len(tokens):,} pairs by {folder}{', both orders' if card.dual_order else ''}")
        model, its_card = classifier.load(folder)
        total += by_order(model.to(best_device()), its_card, tokens, template, batch_size).mean(axis=0)
    p = np.tile(np.asarray(card.prior), (len(frame), 1))
    p[usable] = Calibrator.load(bundle / "calibrator.json").apply(total / len(folders))
    if unread := len(frame) - len(tokens):
        say(f"{unread:,} rows can't be read; they get the shares of A, B and tie among the training votes")
    return pd.concat([frame[["id"]], pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=WINNERS)], axis=1)


def write(submission: pd.DataFrame, path: Path) -> None:
    """Write a submission as CSV, whole or not at all."""
    with written_aside(path) as (to,):
        submission.to_csv(to, index=False, lineterminator="\n", float_format="%.9g")


def _classifiers(bundle: Path) -> list[Path]:
    """Folders of the trained folds' classifiers, fold 0 (the train stage's) first."""
    bundles.check(bundle)
    return [
        bundle / "train",
        *sorted((bundle / "oof").glob("fold[0-9]*"), key=lambda folder: int(folder.name.removeprefix("fold"))),
    ]


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pairpref.predict", description=__doc__.split("\n\n")[1])
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        help="pairs to predict: CSV, .csv.gz or .jsonl with id, prompt, response_a, response_b",
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="submission to write: id, winner_model_a, winner_model_b, winner_tie"
    )
    parser.add_argument("--bundle", default=BUNDLE, type=Path, help="folder of the trained models (default: %(default)s)")
    parser.add_argument(
        "--batch-size", default=BATCH_SIZE, type=_count, help="sequences in a forward pass (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    if arguments.output.is_dir() or arguments.output.resolve() == arguments.input.resolve():
        sys.exit(f"predict: --output {arguments.output} is a folder, or the input itself; name a CSV of its own")
    try:
        submission = predict(arguments.input, arguments.bundle, arguments.batch_size)
        write(submission, arguments.output)
    except UserError as error:
        sys.exit(f"predict: {error}")
    except OSError as error:
        sys.exit(f"predict: {error.filename or 'file'}: {error.strerror or error}")
    print(f"{len(submission):,} predictions in {arguments.output}")


if __name__ == "__main__":
    main()
