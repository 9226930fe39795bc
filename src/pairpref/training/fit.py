"""Train one classifier on given rows and evaluate it on others after each epoch.

Everything the loop is at the end of a step fits into a checkpoint: the step, the weights, the
optimizer's state and the history. Order, augmentation and dropout are keyed by seed, epoch, step
and row id; the learning rate and early stopping are functions of the step and the history. So the
result of a resumed training is byte-identical to that of an uninterrupted one.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from pairpref import stopping
from pairpref.errors import UserError
from pairpref.evaluation.metrics import scores
from pairpref.model import classifier, weights
from pairpref.monitor import Log, peak_mib
from pairpref.params import SMALL, Params
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training import determinism, dry_run, failures, processes, recipe
from pairpref.training.batches import Item, KeyedBatches, PairDataset
from pairpref.training.checkpoints import CheckpointManager, State
from pairpref.training.inference import by_order, collator_for, evaluation_batch

_EXPLODED = 5.0  # a vote; a classifier that knows nothing loses log 3 = 1.1
_SMOOTHING = 0.98
_TELL_SECONDS = 10.0


@dataclass(frozen=True)
class Fitted:
    """A trained classifier."""

    model: nn.Module  # weights of the best epoch, or of the last one without train.patience
    config: classifier.InferenceConfig
    # A row an epoch: epoch, train_loss (weighted, where votes are), validation_loss (of A shown
    # first), log_loss, accuracy and f1_macro (of both orders' mean where there are two).
    history: list[dict[str, float]]
    # Uncalibrated probabilities of the validation rows, A and B shown first; shape (2, n, 3), or of
    # single texts (1, n, 3).
    orders: np.ndarray
    machine: dict[str, Any]  # as in `State`


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

    The same arguments give the same weights, bit for bit, on the same kind of machine, however
    often the training was interrupted. Under `accelerate launch` it runs in all processes and
    returns the same in each.

    Args:
        manager: where checkpoints are kept and found.
        log: told of steps, rate, padding and time left.

    Raises:
        UserError: the backbone can't be trained so, memory ran out, or the loss is not a number,
            or exploded.
        Stopped: a signal ended it; everything is saved.
    """
    backbone = params.model.backbone
    with failures.naming_backbone(backbone):
        with failures.explained(lambda: f"model.backbone {backbone} alone. Choose a smaller one"):
            run = _Run(train, validation, params, tokenizer, seed, manager, log)
        with stopping.deferred():
            run.to_the_end()
    state = run.state
    return Fitted(run.model, run.config, state.history, state.best["orders"].numpy(), state.machine)


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
        self._params, self._options, self._seed = params, params.train, seed
        self._manager, self._log = manager, log
        determinism.fix(params.train.threads, seed)
        self._accelerator = processes.accelerator()
        self._template = Template.of(tokenizer)
        self._validation, self._ids = validation, train.ids
        self._items = PairDataset(train, params.model.max_length, self._template)
        self._batches = KeyedBatches(train, params.train.batch_size, params.augment, seed)
        self._steps = params.train.epochs * len(self._batches)
        self.config = recipe.inference_config(params, train)

        aside = manager.folder / f"dry-run-{self._accelerator.process_index}.aside"
        self.model = dry_run.build(self.config, params.model, tokenizer, aside, log.say)
        self._collate = collator_for(self.model, self._template)
        small = params.model.backbone == SMALL
        self._peak_lr = params.train.lr * (params.model.lr_multiplier if small else 1)
        optimizer = recipe.optimizer(self.model, self._peak_lr, params.train.weight_decay)
        self._factor = recipe.schedule(optimizer, params.train, self._steps)
        self._shown, self._optimizer = self._accelerator.prepare(self.model, optimizer)
        machine = {**determinism.machine(), "processes": self._accelerator.num_processes}
        restored = manager.restore(self.model, self._optimizer, machine)
        if restored is None and not small:
            dry_run.check(self.model, self.config, params.model, tokenizer, aside)
        self.state = restored or State(machine)
        self._parameters = list(self._shown.parameters())
        self._weights = torch.tensor(self.config.class_weights, device=self._accelerator.device)
        self._began = self._told = time.perf_counter()
        self._first = self.state.step
        log.event("training", **machine, steps=self._steps)

    def to_the_end(self) -> None:
        """Train and evaluate until the epochs or the patience are over, or a signal stops it."""
        while len(self.state.history) < self._options.epochs and not self._is_exhausted():
            for items in self._rest_of_epoch():
                with failures.explained(self._smaller):
                    stop = self._step(items)
                if self._accelerator.is_main_process and (stop or self._manager.due()):
                    self._manager.save(self.state, self.model, self._optimizer)
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
            weights.put(self.model, {k: v for k, v in self.state.best.items() if k != "orders"})

    def _is_exhausted(self) -> bool:
        return recipe.exhausted(self.state.history, self._options.patience, self._options.min_delta)

    def _rest_of_epoch(self) -> Iterator[list[Item]]:
        epoch = len(self.state.history)
        self._batches.set_epoch(epoch)
        self._shown.train()
        done = self.state.step - epoch * len(self._batches)
        for number, items in enumerate(self._batches):
            if number >= done:
                yield items

    def _step(self, items: list[Item]) -> bool:
        """One step of the optimizer; whether a signal asks to stop."""
        accelerator, parts = self._accelerator, self._options.gradient_accumulation_steps
        first = accelerator.process_index * parts
        mine = processes.shares(items, accelerator.num_processes * parts)[first : first + parts]
        loss = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        for number, part in enumerate(mine):
            determinism.seed_step(self._seed, self.state.step, accelerator.process_index, number)
            with accelerator.no_sync(self._shown) if number < parts - 1 else nullcontext():
                share = self._loss(part or items[:1]) * bool(part) / len(items)
                # Processes average their gradients; the shares are to be summed.
                accelerator.backward(share * accelerator.num_processes)
            loss += share.detach()
        norm = accelerator.clip_grad_norm_(self._parameters, self._options.max_grad_norm)
        stop = stopping.requested() is not None
        if accelerator.num_processes > 1:
            # All have to stop at the same step, whichever got the signal.
            both = accelerator.reduce(torch.stack([loss, loss.new_tensor(stop)]), "sum")
            loss, stop = both[0], bool(both[1] > 0)
        self._optimizer_step(items, float(loss), float(norm))
        return stop

    def _smaller(self) -> str:
        (rows, width), options = self._collate.shape, self._options
        return (
            f"{rows} sequences of {width} tokens at a time. Raise "
            f"train.gradient_accumulation_steps (now {options.gradient_accumulation_steps}), "
            f"or lower train.batch_size (now {options.batch_size}) or model.max_length "
            f"(now {self._params.model.max_length})"
        )

    def _loss(self, items: list[Item]) -> torch.Tensor:
        """Sum of the cross-entropies of some items, each weighted by its class."""
        batch = self._collate([self._items[item] for item in items])
        batch = {name: tensor.to(self._accelerator.device) for name, tensor in batch.items()}
        labels = batch.pop("labels")
        logits = self._shown(**batch)["logits"].float()
        return nn.functional.cross_entropy(logits, labels, weight=self._weights, reduction="sum")

    def _optimizer_step(self, items: list[Item], loss: float, norm: float) -> None:
        """Let the optimizer take its step, unless it would ruin the weights."""
        state = self.state
        smooth = _SMOOTHING * state.smooth_loss + (1 - _SMOOTHING) * loss
        if not (math.isfinite(loss) and math.isfinite(norm)):
            broken = f"the loss is {loss:.4g} and the gradient's length {norm:.4g}"
            raise UserError(self._diagnosis(items, broken))
        if smooth > _EXPLODED:
            broken = f"the loss has grown to {smooth:.3g} on average (knowing nothing costs 1.10)"
            raise UserError(self._diagnosis(items, broken))
        lr = self._peak_lr * self._factor(state.step)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad()
        state.step += 1
        state.loss_sum += loss * len(items)
        state.items += len(items)
        state.smooth_loss = smooth
        self._log.event("step", step=state.step, loss=loss, lr=lr, grad_norm=norm)

    def _diagnosis(self, items: list[Item], broken: str) -> str:
        rows = ", ".join(dict.fromkeys(str(self._ids[row]) for row, _ in items))
        return (
            f"Training broke down in epoch {len(self.state.history) + 1}, step "
            f"{self.state.step + 1} of {self._steps}: {broken}. Rows of this step: {rows}. "
            f"Lower train.lr (now {self._peak_lr:g} after model.lr_multiplier), or raise "
            f"train.warmup (now {self._options.warmup:g}). "
            f"The last good checkpoint stays in {self._manager.folder}."
        )

    def _evaluate(self) -> None:
        """Scores of the validation rows by the mean of both orders; the epoch's row of history."""
        accelerator, state, patience = self._accelerator, self.state, self._options.patience
        orders = by_order(
            self.model,
            self.config,
            self._validation,
            self._template,
            evaluation_batch(self.config.max_length),
            share=(accelerator.process_index, accelerator.num_processes),
        )
        if accelerator.num_processes > 1:
            shares = torch.from_numpy(orders).to(accelerator.device)
            orders = accelerator.reduce(shares, "sum").cpu().numpy()
        p, epoch = orders.mean(axis=0), len(state.history) + 1
        if not np.isfinite(p).all():
            raise UserError(
                f"Training broke down in epoch {epoch}: the model's probabilities are not numbers. "
                f"Lower train.lr (now {self._peak_lr:g} after model.lr_multiplier)."
            )
        labels = self._validation.labels
        figures = scores(labels, p)
        row = {
            "epoch": epoch,
            "train_loss": state.loss_sum / state.items,
            "validation_loss": scores(labels, orders[0])["log_loss"],
            **{name: figures[name] for name in ("log_loss", "accuracy", "f1_macro")},
        }
        best = min((earlier["log_loss"] for earlier in state.history), default=math.inf)
        if patience is None or row["log_loss"] < best:
            state.best = {"orders": torch.from_numpy(orders)}
            if patience is not None:
                for name, tensor in weights.of(self.model).items():
                    state.best[name] = tensor.detach().cpu().clone()
        state.history.append(row)
        state.loss_sum, state.items = 0.0, 0
        self._log.say(
            f"epoch {epoch} of {self._options.epochs}: train loss {row['train_loss']:.4f}, "
            f"log loss {row['log_loss']:.4f}, accuracy {row['accuracy']:.3f}, "
            f"macro F1 {row['f1_macro']:.3f}"
        )
        self._log.event("epoch", **row)
        if self._is_exhausted() and epoch < self._options.epochs:
            self._log.say(
                f"stopping early: no better log loss for {patience} epochs (train.patience)"
            )
        if accelerator.is_main_process:
            self._manager.save(state, self.model, self._optimizer)

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
