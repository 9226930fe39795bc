"""Train one classifier on given rows and evaluate it on others after each epoch.

A plain loop, because everything it is at the end of a step has to fit into a checkpoint: the step, the weights, the optimizer's state
and the history. Order, augmentation and dropout are keyed by seed, epoch, step and row id; the learning rate and early stopping are
functions of the step and the history. So a training that goes on from a checkpoint ends with the bytes of one that was never stopped.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from torch import nn
from transformers import PreTrainedTokenizerBase

from pairpref import stopping
from pairpref.errors import UserError
from pairpref.evaluation.metrics import scores
from pairpref.model import classifier, weights
from pairpref.monitor import Log, peak_mib
from pairpref.pairs import LABELS
from pairpref.params import SMALL, Params
from pairpref.text.published import one_line
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training import determinism, dry_run, memory, recipe
from pairpref.training.batches import Item, KeyedBatches, PairDataset
from pairpref.training.checkpoints import CheckpointManager, State
from pairpref.training.inference import (
    best_device,
    by_order,
    collator_for,
    computes_bf16,
    evaluation_batch,
)

# A classifier of three that knows nothing loses log 3 = 1.1 a vote. One far beyond that is not learning any more.
_EXPLODED = 5.0
_SMOOTHING = 0.98
_TELL_SECONDS = 10.0


@dataclass(frozen=True)
class Fitted:
    """A trained classifier.

    Attributes:
        model: the weights after the best epoch, or after the last one without train.patience.
        config: what it needs to be told to predict.
        history: one row an epoch: epoch, train_loss (weighted, where votes are), validation_loss (of A shown first), log_loss, accuracy
            and f1_macro (of both orders' mean where there are two).
        orders: probabilities of the validation rows, uncalibrated, where A and where B is shown first; shape (2, n, 3), or of single
            texts (1, n, 3).
        machine: what decides the last bits besides the arguments, where the training began.
    """

    model: nn.Module
    config: classifier.InferenceConfig
    history: list[dict[str, float]]
    orders: np.ndarray
    machine: dict[str, Any]


def fit(
    train: Tokens,
    validation: Tokens,
    params: Params,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    manager: CheckpointManager,
    log: Log,
) -> Fitted:
    """Train on `train`, evaluate on `validation` after each epoch.

    The same arguments give the same weights, bit for bit, on the same kind of machine and with the same params.train.threads, however
    often the training was interrupted. Started by `accelerate launch`, it runs in all its processes and returns the same in each.

    Args:
        manager: where checkpoints are kept and found.
        log: told of steps, rate, padding and time left.

    Raises:
        UserError: the backbone can't be trained so, memory ran out, or the loss is not a number, or exploded.
        Stopped: a signal ended it; everything is saved.
    """
    with _named(params.model.backbone):
        with memory.explained(
            lambda: f"model.backbone {params.model.backbone} alone. Choose a smaller one"
        ):
            run = _Run(train, validation, params, tokenizer, seed, manager, log)
        with stopping.deferred():
            run.to_the_end()
    return Fitted(run.model, run.config, run.state.history, run.best_orders(), run.state.machine)


@contextmanager
def _named(backbone: str) -> Iterator[None]:
    """Turn what a published backbone raises after its dry run into one line."""
    try:
        yield
    except (UserError, OSError):
        raise
    # A backbone of any family may raise anything here.
    except Exception as error:
        if backbone == SMALL:
            raise
        raise UserError(
            f"model.backbone {backbone!r} can't be trained and saved ({type(error).__name__}: {one_line(error)}). "
            "Choose another model.backbone."
        ) from error


def make_config(params: Params, train: Tokens) -> classifier.InferenceConfig:
    """What a classifier trained on these votes must be told to predict."""
    prior = np.bincount(train.labels, minlength=len(LABELS)) / len(train)
    return classifier.InferenceConfig(
        pooling=params.model.pooling,
        max_length=params.model.max_length,
        single=train.single,
        threads=params.train.threads,
        clean=params.clean.model_dump(include={"utf8", "flatten"}),
        prior=tuple(prior.tolist()),
        class_weights=recipe.class_weights(
            prior, params.train.class_weights, symmetric=params.augment.ab
        ),
    )


class _Run:
    """One training: what it is made of, and its state."""

    def __init__(
        self,
        train: Tokens,
        validation: Tokens,
        params: Params,
        tokenizer: PreTrainedTokenizerBase,
        seed: int,
        manager: CheckpointManager,
        log: Log,
    ) -> None:
        self._params, self._options, self._seed, self._store, self._log = (
            params,
            params.train,
            seed,
            manager,
            log,
        )
        determinism.fix(params.train.threads, seed)
        self._processes = _accelerator()
        self._template = Template.of(tokenizer)
        self._validation = validation
        self._ids = train.ids
        self._items = PairDataset(train, params.model.max_length, self._template)
        self._batches = KeyedBatches(train, params.train.batch_size, params.augment, seed)
        self._steps_an_epoch = len(self._batches)
        self._steps = params.train.epochs * self._steps_an_epoch
        self.config = make_config(params, train)

        aside = manager.folder / f"dry-run-{self._processes.process_index}.aside"
        self.model = dry_run.build(self.config, params.model, tokenizer, aside, log.say)
        self._collate = collator_for(self.model, self._template)
        self._peak = params.train.lr * (
            params.model.lr_multiplier if params.model.backbone == SMALL else 1
        )
        optimizer = recipe.optimizer(self.model, self._peak, params.train.weight_decay)
        self._factor = recipe.schedule(optimizer, params.train, self._steps)
        self._shown, self._optimizer = self._processes.prepare(self.model, optimizer)
        machine = {**determinism.machine(), "processes": self._processes.num_processes}
        restored = manager.restore(self.model, self._optimizer, machine)
        if restored is None and params.model.backbone != SMALL:
            dry_run.check(self.model, self.config, params.model, tokenizer, aside)
        self.state = restored or State(machine)
        self._parameters = list(self._shown.parameters())
        self._weights = torch.tensor(self.config.class_weights, device=self._processes.device)
        self._began = self._told = time.perf_counter()
        self._first = self.state.step
        log.event("training", **machine, steps=self._steps)

    def to_the_end(self) -> None:
        """Train and evaluate until the epochs are over, patience is at its end, or a signal asks to stop."""
        while len(self.state.history) < self._options.epochs and not self._is_exhausted():
            for items in self._rest_of_epoch():
                with memory.explained(self._smaller):
                    stop = self._step(items)
                if self._processes.is_main_process and (stop or self._store.due()):
                    self._save()
                if stop:
                    raise stopping.Stopped(stopping.requested() or signal.SIGTERM)
                self._tell()
            self._evaluate()
        read, seconds = self._collate, time.perf_counter() - self._began
        self._log.event(
            "trained",
            seconds=round(seconds, 1),
            tokens=read.tokens,
            tokens_per_second=round(read.tokens / seconds),
            padding_share=round(1 - read.tokens / max(1, read.padded), 4),
            peak_mib=peak_mib(),
        )
        if self._options.patience is not None:
            weights.put(
                self.model,
                {name: tensor for name, tensor in self.state.best.items() if name != "orders"},
            )

    def best_orders(self) -> np.ndarray:
        return self.state.best["orders"].numpy()

    def _is_exhausted(self) -> bool:
        return recipe.exhausted(self.state.history, self._options.patience, self._options.min_delta)

    def _rest_of_epoch(self) -> Iterator[list[Item]]:
        epoch = len(self.state.history)
        self._batches.set_epoch(epoch)
        self._shown.train()
        done = self.state.step - epoch * self._steps_an_epoch
        for number, items in enumerate(self._batches):
            if number >= done:
                yield items

    def _step(self, items: list[Item]) -> bool:
        """One step of the optimizer; whether a signal asks to stop."""
        processes, parts = self._processes, self._options.gradient_accumulation_steps
        mine = _shares(items, processes.num_processes * parts)[processes.process_index * parts :][
            :parts
        ]
        loss = torch.zeros((), dtype=torch.float64, device=processes.device)
        for number, part in enumerate(mine):
            determinism.seed_step(self._seed, self.state.step, processes.process_index, number)
            with processes.no_sync(self._shown) if number < parts - 1 else nullcontext():
                share = self._loss(part or items[:1]) * bool(part) / len(items)
                # Processes average their gradients; the shares are to be summed.
                processes.backward(share * processes.num_processes)
            loss += share.detach()
        norm = processes.clip_grad_norm_(self._parameters, self._options.max_grad_norm)
        stop = stopping.requested() is not None
        if processes.num_processes > 1:
            # All have to stop at the same step, whoever got the signal.
            both = processes.reduce(torch.stack([loss, loss.new_tensor(stop)]), "sum")
            loss, stop = both[0], bool(both[1] > 0)
        self._optimizer_step(items, float(loss), float(norm))
        return stop

    def _smaller(self) -> str:
        rows, width = self._collate.shape
        return (
            f"{rows} sequences of {width} tokens at a time. Raise train.gradient_accumulation_steps (now {self._options.gradient_accumulation_steps}), or lower "
            f"train.batch_size (now {self._options.batch_size}) or model.max_length (now {self._params.model.max_length})"
        )

    def _loss(self, items: list[Item]) -> torch.Tensor:
        """Sum of the cross-entropies of some items, each weighted by its class."""
        batch = {
            name: tensor.to(self._processes.device)
            for name, tensor in self._collate([self._items[i] for i in items]).items()
        }
        labels = batch.pop("labels")
        logits = self._shown(**batch)["logits"].float()
        return nn.functional.cross_entropy(logits, labels, weight=self._weights, reduction="sum")

    def _optimizer_step(self, items: list[Item], loss: float, norm: float) -> None:
        """Let the optimizer take its step, unless it would ruin the weights."""
        state = self.state
        smooth = _SMOOTHING * state.smooth_loss + (1 - _SMOOTHING) * loss
        if not (math.isfinite(loss) and math.isfinite(norm)) or smooth > _EXPLODED:
            raise UserError(self._diagnosis(items, loss, norm, smooth))
        lr = self._peak * self._factor(state.step)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad()
        state.step += 1
        state.loss_sum += loss * len(items)
        state.items += len(items)
        state.smooth_loss = smooth
        self._log.event("step", step=state.step, loss=loss, lr=lr, grad_norm=norm)

    def _diagnosis(self, items: list[Item], loss: float, norm: float, smooth: float) -> str:
        rows = dict.fromkeys(str(self._ids[row]) for row, _ in items)
        what = f"the loss is {loss:.4g} and the gradient's length {norm:.4g}"
        if math.isfinite(loss) and math.isfinite(norm):
            what = f"the loss has grown to {smooth:.3g} on average (knowing nothing costs {math.log(len(LABELS)):.2f})"
        return (
            f"Training broke down in epoch {len(self.state.history) + 1}, step {self.state.step + 1} of {self._steps}: {what}. "
            f"Rows of this step: {', '.join(rows)}. Lower train.lr (now {self._peak:g} after model.lr_multiplier), or raise "
            f"train.warmup (now {self._options.warmup:g}). The last good checkpoint stays in {self._store.folder}."
        )

    def _evaluate(self) -> None:
        """Scores of the validation rows by the mean of both orders; the epoch's row of the history."""
        processes, state = self._processes, self.state
        orders = by_order(
            self.model,
            self.config,
            self._validation,
            self._template,
            evaluation_batch(self.config.max_length),
            share=(processes.process_index, processes.num_processes),
        )
        if processes.num_processes > 1:
            orders = (
                processes.reduce(torch.from_numpy(orders).to(processes.device), "sum").cpu().numpy()
            )
        p = orders.mean(axis=0)
        if not np.isfinite(p).all():
            raise UserError(
                f"Training broke down in epoch {len(state.history) + 1}: the model's probabilities are not numbers. "
                f"Lower train.lr (now {self._peak:g} after model.lr_multiplier)."
            )
        labels = self._validation.labels
        figures = scores(labels, p)
        row = {
            "epoch": len(state.history) + 1,
            "train_loss": state.loss_sum / state.items,
            "validation_loss": scores(labels, orders[0])["log_loss"],
            **{name: figures[name] for name in ("log_loss", "accuracy", "f1_macro")},
        }
        best = min((earlier["log_loss"] for earlier in state.history), default=math.inf)
        if self._options.patience is None or row["log_loss"] < best:
            kept = {"orders": torch.from_numpy(orders)}
            if self._options.patience is not None:
                kept |= {
                    name: tensor.detach().cpu().clone()
                    for name, tensor in weights.of(self.model).items()
                }
            state.best = kept
        state.history.append(row)
        state.loss_sum, state.items = 0.0, 0
        self._log.say(
            f"epoch {row['epoch']} of {self._options.epochs}: train loss {row['train_loss']:.4f}, log loss {row['log_loss']:.4f}, "
            f"accuracy {row['accuracy']:.3f}, macro F1 {row['f1_macro']:.3f}"
        )
        self._log.event("epoch", **row)
        if self._is_exhausted() and row["epoch"] < self._options.epochs:
            self._log.say(
                f"stopping early: no better log loss for {self._options.patience} epochs (train.patience)"
            )
        if processes.is_main_process:
            self._save()

    def _save(self) -> None:
        self._store.save(self.state, self.model, self._optimizer)

    def _tell(self) -> None:
        """A line every few seconds."""
        now, step = time.perf_counter(), self.state.step
        if now - self._told < _TELL_SECONDS:
            return
        self._told = now
        elapsed, read = now - self._began, self._collate
        left = elapsed / (step - self._first) * (self._steps - step)
        self._log.say(
            f"step {step:,} of {self._steps:,}, {read.tokens / elapsed:,.0f} tokens/s, "
            f"{1 - read.tokens / read.padded:.0%} padding, {peak_mib():,} MiB, {left:.0f} s left"
        )


def _accelerator() -> Accelerator:
    """This process's part of however many `accelerate launch` has started; without it, the only one."""
    device = best_device()
    processes = Accelerator(
        cpu=device.type == "cpu", mixed_precision="bf16" if computes_bf16(device) else "no"
    )
    if processes.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
    ):
        raise UserError(
            f"accelerate is set up for {processes.distributed_type.value}, but checkpoints are made for whole models: choose plain "
            "multi-GPU or multi-CPU (accelerate launch --multi_gpu)."
        )
    return processes


def _shares(items: list[Item], parts: int) -> list[list[Item]]:
    """Contiguous parts of nearly equal length; empty ones where there are more parts than items."""
    ends = np.linspace(0, len(items), parts + 1).round().astype(int)
    return [items[begin:end] for begin, end in zip(ends[:-1], ends[1:], strict=True)]
