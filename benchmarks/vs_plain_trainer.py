"""python -m benchmarks.vs_plain_trainer [--runs 3] [--epochs 3]

How long this project trains until it is as good as a plain Trainer: fold 0 of the arena, one model
from the same weights, the same learning rate and warm-up, one thread. The plain Trainer shuffles,
pads each batch as it comes, and shows each pair in one order, as most scripts do. It trains for
`--epochs`; then this project trains for 1, 2, … epochs until its log loss is no higher than the
plain Trainer's lowest. Both are judged after each epoch, and the time is that of the whole
training. Run the pipeline first: this reads its tokens.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from pairpref.evaluation.metrics import scores
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.params import SMALL, ModelParams, Params, TrainParams
from pairpref.paths import TOKENIZER, TOKENS
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training import determinism
from pairpref.training.batches import PairDataset
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
from pairpref.training.fit import fit
from pairpref.training.inference import collator_for

_BATCH = 8  # sequences of the plain Trainer, pairs of this project


class OneOrder(Dataset):
    """Each pair as it is in the file."""

    def __init__(self, pairs: PairDataset) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, row: int) -> object:
        return self._pairs[row, False]


def settings(epochs: int) -> Params:
    model = ModelParams(backbone=SMALL, max_length=256, dropout=0.0, lr_multiplier=70)
    train = TrainParams(epochs=epochs, batch_size=_BATCH, patience=None)
    return Params(model=model, train=train)


def plain(train: Tokens, held_out: Tokens, epochs: int) -> tuple[float, float]:
    """Seconds, and the lowest log loss of an epoch, of Trainer as it comes."""
    params, tokenizer = settings(epochs), tokenizers.load(str(TOKENIZER))
    determinism.fix(params.train.threads, 0)
    template = Template.of(tokenizer)
    model = classifier.build(params.model, tokenizer)
    data, judged = (
        OneOrder(PairDataset(tokens, params.model.max_length, template))
        for tokens in (train, held_out)
    )

    def score(found: object) -> dict[str, float]:
        p = torch.softmax(torch.from_numpy(found.predictions), dim=1).numpy()
        return {"log_loss": scores(held_out.labels, p.astype(np.float64))["log_loss"]}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=_BATCH,
            per_device_eval_batch_size=64,
            learning_rate=params.train.lr * params.model.lr_multiplier,
            weight_decay=params.train.weight_decay,
            warmup_steps=params.train.warmup,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            logging_strategy="no",
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model,
            arguments,
            data_collator=collator_for(model, template),
            train_dataset=data,
            eval_dataset=judged,
            compute_metrics=score,
        )
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
    losses = [row["eval_log_loss"] for row in trainer.state.log_history if "eval_log_loss" in row]
    return seconds, min(losses)


def ours(train: Tokens, held_out: Tokens, epochs: int) -> tuple[float, float]:
    """Seconds, and the last epoch's log loss, of this project's training."""
    params, tokenizer = settings(epochs), tokenizers.load(str(TOKENIZER))
    with tempfile.TemporaryDirectory() as folder:
        log = Log("vs-plain", quiet=True)
        manager = CheckpointManager(Fingerprint({}, {"epochs": epochs}), log)
        manager.folder = Path(folder)
        began = time.perf_counter()
        fitted = fit(train, held_out, params, tokenizer, 0, manager, log)
        return time.perf_counter() - began, fitted.history[-1]["log_loss"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vs_plain_trainer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=3, help="of both (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="of the plain Trainer")
    parser.add_argument("--rows", type=int, help="votes (default: all)")
    asked = parser.parse_args()
    tokens = token_files.load(TOKENS)
    tokens = tokens.take(np.arange(len(tokens))[: asked.rows])
    train, held_out = (tokens.take(np.flatnonzero(side)) for side in _sides(tokens))
    ratios, needed = [], 1
    for _ in range(asked.runs):
        seconds, goal = plain(train, held_out, asked.epochs)
        print(f"plain Trainer: {seconds:.1f} s, log loss {goal:.4f}", flush=True)
        for epochs in range(needed, 2 * asked.epochs + 1):
            mine, loss = ours(train, held_out, epochs)
            print(f"pairpref, {epochs} epochs: {mine:.1f} s, log loss {loss:.4f}", flush=True)
            if loss <= goal:
                needed = epochs  # the same bits: further runs need as many
                ratios.append(mine / seconds)
                break
        else:
            print("not reached")
            return
    print(f"as good after {median(ratios):.2f} of the plain Trainer's time (median)")


def _sides(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    return tokens.folds != 0, tokens.folds == 0


if __name__ == "__main__":
    main()
