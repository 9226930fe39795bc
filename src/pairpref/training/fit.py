"""Train one classifier on given rows and evaluate it on others after each epoch."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from pairpref.errors import UserError
from pairpref.evaluation.metrics import scores
from pairpref.model import classifier
from pairpref.monitor import Log, peak_mib
from pairpref.pairs import LABELS
from pairpref.params import SMALL, Params
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training.batches import KeyedBatches, PairDataset
from pairpref.training.inference import by_order, collator_for


@dataclass(frozen=True)
class Fitted:
    """A trained classifier.

    Attributes:
        model: the weights after the last epoch.
        card: what it needs to be told to predict.
        history: one row an epoch: epoch, train_loss, validation_loss (of A shown first), log_loss, accuracy and f1_macro (as predicted:
            of both orders' mean with inference.dual_order).
        p: probabilities of the validation rows, uncalibrated, shape (n, 3).
    """

    model: torch.nn.Module
    card: classifier.Card
    history: list[dict[str, float]]
    p: np.ndarray


def fit(
    train: Tokens, validation: Tokens, params: Params, tokenizer: PreTrainedTokenizerBase, seed: int, work: Path, log: Log
) -> Fitted:
    """Train on `train`, evaluate on `validation` after each epoch.

    The same arguments give the same weights, bit for bit, on the same kind of machine and with the same params.train.threads.

    Args:
        work: a folder for the Trainer's own files.
        log: told of steps, rate, padding and time left.
    """
    torch.set_num_threads(params.train.threads)
    set_seed(seed)
    model = classifier.build(params.model, tokenizer)
    trainer = _PairTrainer(model, train, validation, params, Template.of(tokenizer), seed, work, log)
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    read = trainer.data_collator
    log.event(
        "trained",
        seconds=round(seconds, 1),
        tokens=read.tokens,
        tokens_per_second=round(read.tokens / seconds),
        padding_share=round(1 - read.tokens / read.padded, 4),
        peak_mib=peak_mib(),
    )
    return Fitted(model, card(params, train), trainer.history, trainer.p)


def card(params: Params, train: Tokens) -> classifier.Card:
    """What a classifier trained on these votes must be told to predict."""
    prior = np.bincount(train.labels, minlength=len(LABELS)) / len(train)
    return classifier.Card(
        pooling=params.model.pooling,
        max_length=params.model.max_length,
        dual_order=params.inference.dual_order,
        single=train.single,
        threads=params.train.threads,
        clean=params.clean.model_dump(include={"utf8", "flatten"}),
        prior=tuple(prior.tolist()),
    )


class _PairTrainer(Trainer):
    """The Trainer with keyed batches of late-composed pairs, evaluated by the project's own inference."""

    def __init__(
        self,
        model: torch.nn.Module,
        train: Tokens,
        validation: Tokens,
        params: Params,
        template: Template,
        seed: int,
        work: Path,
        log: Log,
    ) -> None:
        cuda = torch.cuda.is_available()
        arguments = TrainingArguments(
            output_dir=str(work),
            num_train_epochs=params.train.epochs,
            per_device_train_batch_size=params.train.batch_size,
            learning_rate=params.train.lr * (params.model.lr_multiplier if params.model.backbone == SMALL else 1),
            weight_decay=params.train.weight_decay,
            bf16=cuda and torch.cuda.is_bf16_supported(),
            seed=seed,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=cuda,
        )
        self._batches = KeyedBatches(train, params.train.batch_size, params.augment, seed)
        self._params, self._template, self._validation = params, template, validation
        self.history: list[dict[str, float]] = []
        self.p = np.empty((0, 3))
        super().__init__(
            model=model,
            args=arguments,
            data_collator=collator_for(model, template),
            train_dataset=PairDataset(train, params.model.max_length, template),
            eval_dataset=PairDataset(validation, params.model.max_length, template),
            callbacks=[_Progress(log, self)],
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            self._train_loss = logs["loss"]
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Scores of the validation rows, as the params say they are to be predicted."""
        params = self._params
        orders = by_order(
            self.model,
            self._validation,
            params.model.max_length,
            self._template,
            params.predict.batch_size,
            params.inference.dual_order,
        )
        self.p = orders.mean(axis=0)
        if not np.isfinite(self.p).all():
            raise UserError(
                f"Training broke down in epoch {self.state.epoch:.0f}: the model's probabilities are not numbers. "
                f"Lower train.lr (now {self.args.learning_rate:g} after model.lr_multiplier)."
            )
        result = scores(self._validation.labels, self.p)
        self.history.append(
            {
                "epoch": round(self.state.epoch),
                "train_loss": self._train_loss,
                "validation_loss": scores(self._validation.labels, orders[0])["log_loss"],
                "log_loss": result["log_loss"],
                "accuracy": result["accuracy"],
                "f1_macro": result["f1_macro"],
            }
        )
        metrics = {f"eval_{name}": value for name, value in result.items()}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Progress(TrainerCallback):
    """A line every few seconds while training, and one an epoch."""

    def __init__(self, log: Log, trainer: _PairTrainer, every: float = 10.0) -> None:
        self._log, self._trainer, self._every = log, trainer, every

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._began = self._last = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        now = time.perf_counter()
        if now - self._last < self._every:
            return
        self._last = now
        elapsed, read = now - self._began, self._trainer.data_collator
        left = elapsed / state.global_step * (state.max_steps - state.global_step)
        self._log.say(
            f"step {state.global_step:,} of {state.max_steps:,}, {read.tokens / elapsed:,.0f} tokens/s, "
            f"{1 - read.tokens / read.padded:.0%} padding, {peak_mib():,} MiB, {left:.0f} s left"
        )

    def on_evaluate(self, args, state, control, metrics, **kwargs) -> None:
        row = self._trainer.history[-1]
        self._log.say(
            f"epoch {row['epoch']} of {args.num_train_epochs}: train loss {row['train_loss']:.4f}, log loss {row['log_loss']:.4f}, "
            f"accuracy {row['accuracy']:.3f}, macro F1 {row['f1_macro']:.3f}"
        )
        self._log.event("epoch", **row)
