"""A Trainer whose result, resumed, is on a CPU byte-identical to that of an uninterrupted run.

- Dropout is keyed by seed, step, process and part, so that no generator's state is saved.
- Checkpoints are whole or not there (`checkpoints`), and hold nothing that can run code: what torch
  pickles of optimizer and scheduler is read by its weights-only unpickler.
- The best epoch's weights lie in a folder of their own, which checkpoints name.
- A training that was over is not gone on with.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerControl, TrainerState

from pairpref.errors import UserError
from pairpref.model import weights
from pairpref.pairs import LABELS
from pairpref.training import determinism, whole
from pairpref.training.checkpoints import CheckpointManager

_WEIGHTS, _STATE, _OWN = "model.safetensors", "trainer_state.json", "pairpref.json"
_UNREADABLE = UnpicklingError, LookupError, RuntimeError, TypeError, ValueError
_AGREE_STEPS = 10  # between processes on GPUs, which wait for each other to agree


class ExactTrainer(Trainer):
    """Keeps what is left of a training with a `CheckpointManager`."""

    control: TrainerControl

    def __init__(self, manager: CheckpointManager, **options: Any) -> None:
        self.manager, self._output = manager, ""
        self.part = 0  # of this process's share of the step
        # Summed over this epoch's items, in this process.
        device = options["args"].device
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=device)
        # Exponential mean of the logged losses, from that of a classifier that knows nothing.
        self.smooth_loss = math.log(len(LABELS))
        super().__init__(**options)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise UserError(
                "FSDP and DeepSpeed split a model's weights, but checkpoints are made for whole "
                "models: choose plain multi-GPU (accelerate launch --multi_gpu)."
            )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False

    def to_the_end(self, checkpoint: Path | None) -> None:
        """Train from a checkpoint or from nothing; the model has the weights to keep.

        Raises:
            UserError: the checkpoint is of another model.
        """
        done = checkpoint and _state(checkpoint)
        if done and _is_over(done):
            # Trainer would go on for a step.
            self.state = done
            self._load_from_checkpoint(str(checkpoint))
        else:
            self.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        if self.args.load_best_model_at_end:
            # Trainer does so only where it finds them itself, which after resuming it may not.
            self._load_best_model()
        self.manager.settle()

    def training_step(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        keys = self.args.seed, self.state.global_step, self.args.process_index, self.part
        determinism.seed_step(*keys)
        self.part += 1
        return super().training_step(model, inputs, num_items_in_batch)

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Over the processes."""
        return self.accelerator.reduce(tensor, "sum") if self.args.world_size > 1 else tensor

    def agreed(self, *flags: bool) -> list[bool]:
        """Whether any process says so: the same answer for all of them."""
        if self.args.world_size == 1:
            return list(flags)
        if self.args.device.type == "cuda" and self.state.global_step % _AGREE_STEPS:
            return [False] * len(flags)
        said = torch.tensor(flags, dtype=torch.float32, device=self.args.device)
        return (self.summed(said) > 0).tolist()

    def _get_output_dir(self, trial: Any) -> str:
        return self._output or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step = self.state.global_step
        machine = determinism.machine(self.args.world_size)
        writes: AbstractContextManager[Path] = (
            self.manager.checkpoint(step, machine)
            if self.args.should_save
            else nullcontext(whole.aside_of(self.manager.folder / f"checkpoint-{step}"))
        )
        with writes as folder:
            self.accelerator.wait_for_everyone()  # the first process has made room
            self._output = str(folder.parent)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._output = ""
            own = {
                "epoch_loss": float(self.summed(self.epoch_loss)) / self.args.world_size,
                "smooth_loss": self.smooth_loss,
            }
            if self.args.should_save:
                (folder / _OWN).write_text(json.dumps(own), encoding="utf-8")
            self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Without the pickled arguments that Trainer adds.
        if self.args.should_save and output_dir:
            os.makedirs(output_dir, exist_ok=True)
            save_file(state_dict or weights.of(self.model), Path(output_dir) / _WEIGHTS)

    def _save_rng_state(self, output_dir: str) -> None:
        """Nothing is drawn that is not keyed."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing is drawn that is not keyed."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        with _of_this_model(folder):
            weights.put(self.model, load_file(folder / _WEIGHTS))
            own = json.loads((folder / _OWN).read_text(encoding="utf-8"))
            # Each process holds its share: the first one that of all.
            share = self.args.world_size * self.args.should_save
            self.epoch_loss.fill_(own["epoch_loss"] * share)
            self.smooth_loss = own["smooth_loss"]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _of_this_model(Path(checkpoint or "")):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        better = super()._determine_best_metric(metrics, trial)
        if better:
            folder = self.manager.best(self.state.global_step)
            if self.args.should_save:
                self.manager.write(folder, lambda path: self._save(str(path)))
            self.state.best_model_checkpoint = str(folder)
        return better

    def _load_best_model(self) -> None:
        folder = self.manager.best(self.state.best_global_step)
        weights.put(self.model, load_file(folder / _WEIGHTS))


def _state(checkpoint: Path) -> TrainerState:
    with _of_this_model(checkpoint):
        return TrainerState.load_from_json(str(checkpoint / _STATE))


def _is_over(state: TrainerState) -> bool:
    """Whether a checkpoint is of the end of a training: its last epoch is evaluated."""
    evaluated = any(
        row["step"] == state.global_step and "eval_log_loss" in row for row in state.log_history
    )
    control = state.stateful_callbacks["TrainerControl"]["args"]
    return evaluated and (state.global_step >= state.max_steps or control["should_training_stop"])


@contextmanager
def _of_this_model(folder: Path) -> Iterator[None]:
    """Turn what a whole checkpoint of another model raises into one line."""
    try:
        yield
    except (SafetensorError, *_UNREADABLE) as error:
        raise UserError(
            f"{folder} is whole, but no checkpoint of this model ({type(error).__name__}). "
            "Remove it, or start over: -S train.resume=false"
        ) from None
