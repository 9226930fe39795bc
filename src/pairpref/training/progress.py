"""What a training says, when it saves, and when it stops."""

import signal
import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from pairpref import stopping
from pairpref.monitor import peak_mib

if TYPE_CHECKING:
    from pairpref.training.trainer import PairTrainer

_TELL_SECONDS = 10.0


class Progress(TrainerCallback):
    """Called by Trainer; knows the trainer that calls it."""

    def __init__(self, trainer: "PairTrainer") -> None:
        self._trainer, self._log, self._stop = trainer, trainer.log_file, False
        self._began = self._told = time.perf_counter()
        self._first = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._began = self._told = time.perf_counter()
        self._first = state.global_step

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._trainer.steps.set_epoch(state.global_step // len(self._trainer.steps))

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._trainer.part = 0
        self._trainer.step_loss.zero_()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        trainer = self._trainer
        # Only the process that writes knows how long ago that was.
        due = args.should_save and trainer.manager.due()
        stop, due = trainer.agreed(stopping.requested() is not None, due)
        self._stop |= stop
        # After the last step of an epoch it is evaluated first, and saved in any case.
        if (self._stop or due) and state.global_step % len(trainer.steps):
            control.should_save = True
        self._tell(state)

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if self._stop or stopping.requested():
            self._trainer.manager.settle()
            raise stopping.Stopped(stopping.requested() or signal.SIGTERM)

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, float], **_: Any
    ) -> None:
        if (loss := logs.get("loss")) is None:
            return
        lr, norm = logs["learning_rate"], logs.get("grad_norm")
        self._log.event("step", step=state.global_step, loss=loss, lr=lr, grad_norm=norm)
        if args.device.type == "cuda":  # elsewhere each step is watched before it is taken
            self._trainer.watch(loss, args.logging_steps, done=1)

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        row, epochs = self._trainer.history()[-1], self._trainer.params.train.epochs
        self._log.say(
            f"epoch {row['epoch']} of {epochs}: train loss {row['train_loss']:.4f}, "
            f"log loss {row['log_loss']:.4f}, accuracy {row['accuracy']:.3f}, "
            f"macro F1 {row['f1_macro']:.3f}"
        )
        self._log.event("epoch", **row)

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        options = self._trainer.params.train
        if len(self._trainer.history()) < options.epochs:
            self._log.say(
                f"stopping early: no better log loss for {options.patience} epochs (train.patience)"
            )

    def _tell(self, state: TrainerState) -> None:
        """A line every few seconds."""
        now = time.perf_counter()
        if now - self._told < _TELL_SECONDS:
            return
        self._told, read, elapsed = now, self._trainer, now - self._began
        left = elapsed / (state.global_step - self._first) * (state.max_steps - state.global_step)
        self._log.say(
            f"step {state.global_step:,} of {state.max_steps:,}, "
            f"{read.tokens / elapsed:,.0f} tokens/s, {1 - read.tokens / read.padded:.0%} padding, "
            f"{peak_mib():,} MiB, {left:.0f} s left"
        )
