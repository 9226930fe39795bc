"""Hugging Face Trainer with this project's batches, loss and evaluation.

What Trainer does is left to it: the loop, optimizers, schedulers, accumulation, clipping,
precision, early stopping, loggers. It is told here which rows are in a step (keyed by seed and
epoch, in both orders; see `batches`), and how an epoch is judged: by the mean of both orders of the
validation rows. `exact` makes it resume.
"""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainingArguments

from pairpref.errors import UserError
from pairpref.evaluation.metrics import scores
from pairpref.model.classifier import InferenceConfig
from pairpref.monitor import Log, peak_mib
from pairpref.params import Params
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training.batches import KeyedBatches, PairDataset, StepParts
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.exact import ExactTrainer
from pairpref.training.inference import by_order, collator_for, evaluation_batch
from pairpref.training.progress import Progress

_EXPLODED = 5.0  # a vote; a classifier that knows nothing loses log 3 = 1.1
_SMOOTHING = 0.98
_HISTORY = ("train_loss", "validation_loss", "log_loss", "accuracy", "f1_macro")


class PairTrainer(ExactTrainer):
    """Trains a classifier of pairs; `finish` gives its history and its validation rows' answers."""

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        config: InferenceConfig,
        steps: KeyedBatches,
        train: Tokens,
        validation: Tokens,
        template: Template,
        params: Params,
        manager: CheckpointManager,
        log: Log,
    ) -> None:
        self.config, self.validation, self.template = config, validation, template
        self.params, self.steps, self.ids = params, steps, train.ids
        self.log_file = log
        self.class_weights = torch.tensor(config.class_weights, device=arguments.device)
        self.tokens = self.padded = 0  # read since the start
        self.step_loss = torch.zeros((), dtype=torch.float64, device=arguments.device)
        self.answers: dict[int, np.ndarray] = {}  # of the epochs judged here, by their last step
        patience = params.train.patience
        stop_early = [EarlyStoppingCallback(patience, params.train.min_delta)] if patience else []
        read = template, config.member, config.cut
        super().__init__(
            manager,
            model=model,
            args=arguments,
            data_collator=collator_for(model, template),
            train_dataset=PairDataset(train, config.max_length, *read),
            eval_dataset=PairDataset(validation, config.longest, *read),
            compute_loss_func=self._loss,
            callbacks=[*stop_early, Progress(self)],
        )

    # The data

    def get_train_dataloader(self) -> DataLoader:
        world, rank = self.args.world_size, self.args.process_index
        parts = self.args.gradient_accumulation_steps
        return DataLoader(
            self.train_dataset,
            batch_sampler=StepParts(self.steps, rank, world, parts),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def _prepare_input(self, data: Any) -> Any:
        if isinstance(data, torch.Tensor):
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    # A step

    def training_step(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        mask = inputs["attention_mask"]
        self.tokens, self.padded = self.tokens + int(mask.sum()), self.padded + mask.numel()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.step_loss += loss.double()
        self.epoch_loss += loss.double() * num_items_in_batch
        return loss

    def _loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor
    ) -> torch.Tensor:
        """Sum of the cross-entropies, each weighted by its class, over the step's items."""
        logits = outputs["logits"].float()
        loss = nn.functional.cross_entropy(
            logits, labels, weight=self.class_weights, reduction="sum"
        )
        return loss / num_items_in_batch

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        norm = super()._clip_grad_norm(model)
        if self.accelerator.scaler is not None:
            return norm  # the scaler of float16 leaves out steps that overflow
        if norm.is_cuda:
            # Asking would wait for the GPU: its fused optimizer leaves out the step by itself, and
            # the next logged loss tells.
            self.optimizer.optimizer.found_inf = (~norm.isfinite()).float()
        else:
            self.watch(float(self.summed(self.step_loss)) / self.args.world_size)
            if not norm.isfinite():
                self.broken(f"the gradient's length is {float(norm):.4g}")
        return norm

    def watch(self, loss: float, steps: int = 1, done: int = 0) -> None:
        """Raise the UserError of a training whose loss is no number, or has grown for long.

        Args:
            steps: since the last call.
            done: 1 where the weights have changed since, 0 where they have not.
        """
        step = self.state.global_step - done
        if not math.isfinite(loss):
            self.broken(f"the loss is {loss:.4g}", step)
        share = _SMOOTHING**steps
        self.smooth_loss = share * self.smooth_loss + (1 - share) * loss
        if self.smooth_loss > _EXPLODED:
            self.broken(
                f"the loss has grown to {self.smooth_loss:.3g} on average (knowing nothing costs "
                "1.10)",
                step,
            )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # it would count the model's weights at every step

    def smaller(self) -> str:
        """What was computed when memory ran out, and which param to lower."""
        (rows, width), options = self.data_collator.shape, self.params.train
        return (
            f"{rows} sequences of {width} tokens at a time. Raise "
            f"train.gradient_accumulation_steps (now {options.gradient_accumulation_steps}), "
            f"or lower train.batch_size (now {options.batch_size}) or model.max_length "
            f"(now {self.params.model.max_length})"
        )

    def broken(self, how: str, step: int | None = None) -> None:
        """Raise the UserError of a training that broke down in the present step, or in another."""
        step, options = self.state.global_step if step is None else step, self.params.train
        self.steps.set_epoch(step // len(self.steps))
        items = next(part for i, part in enumerate(self.steps) if i == step % len(self.steps))
        rows = ", ".join(dict.fromkeys(str(self.ids[row]) for row, *_ in items))
        raise UserError(
            f"Training broke down in epoch {step // len(self.steps) + 1}, step {step + 1} of "
            f"{self.state.max_steps}: {how}. Rows of this step: {rows}. Lower train.lr (now "
            f"{self.args.learning_rate:g} after model.lr_multiplier), or raise train.warmup (now "
            f"{options.warmup:g}). The last good checkpoint stays in {self.manager.folder}."
        )

    # An epoch

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the validation rows by the mean of both orders."""
        orders, labels = self._judged(self.state.global_step), self.validation.labels
        p, epoch = orders.mean(axis=0), len(self.history()) + 1
        if not np.isfinite(p).all():
            raise UserError(
                f"Training broke down in epoch {epoch}: the model's probabilities are not numbers. "
                f"Lower train.lr (now {self.args.learning_rate:g} after model.lr_multiplier)."
            )
        loss = self.summed(self.epoch_loss / self.args.world_size)
        figures = scores(labels, p) | {
            "train_loss": float(loss) / self.steps.items,
            "validation_loss": scores(labels, orders[0])["log_loss"],
        }
        self.epoch_loss.zero_()
        metrics = {f"{metric_key_prefix}_{name}": figures[name] for name in _HISTORY}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def history(self) -> list[dict[str, float]]:
        """A row an epoch: epoch and `_HISTORY`."""
        rows = [row for row in self.state.log_history if "eval_log_loss" in row]
        return [
            {"epoch": epoch, **{name: row[f"eval_{name}"] for name in _HISTORY}}
            for epoch, row in enumerate(rows, 1)
        ]

    def _judged(self, step: int) -> np.ndarray:
        """Probabilities of the validation rows by order; of the weights after a step."""
        if step not in self.answers:
            rank, world = self.args.process_index, self.args.world_size
            orders = by_order(
                self.model,
                self.config,
                self.validation,
                self.template,
                evaluation_batch(self.config.longest),
                share=(rank, world),
                precision=self.params.train.precision,
                say=self.log_file.say,
            )
            shares = torch.from_numpy(orders).to(self.args.device)
            self.answers[step] = self.summed(shares).cpu().numpy()
        return self.answers[step]

    # The whole

    def finish(self, checkpoint: Path | None) -> tuple[list[dict[str, float]], np.ndarray]:
        """Train from a checkpoint or from nothing to the end.

        Returns:
            The history, and the validation rows' probabilities by order, of the best epoch's
            weights, or without train.patience of the last one's. The model has these weights.

        Raises:
            UserError: the loss is not a number, or exploded.
            Stopped: a signal ended it; everything is saved.
        """
        began = time.perf_counter()
        self.to_the_end(checkpoint)
        seconds = time.perf_counter() - began
        self.log_file.event(
            "trained",
            seconds=round(seconds, 1),
            tokens=self.tokens,
            tokens_per_second=round(self.tokens / seconds),
            padding_share=round(1 - self.tokens / max(1, self.padded), 4),
            peak_mib=peak_mib(),
        )
        best = self.args.load_best_model_at_end and self.state.best_global_step
        return self.history(), self._judged(best or self.state.global_step)
