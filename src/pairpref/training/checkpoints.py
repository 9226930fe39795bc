"""Folders that are whole or don't count, and what is left of one training in work/.

A folder is written aside, every file hashed into its manifest and synced, and then renamed: a kill, a full disk or a flipped bit at
any moment leaves either a whole folder or one that `fault` explains.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pairpref import monitor
from pairpref.errors import UserError
from pairpref.model import weights
from pairpref.monitor import Log
from pairpref.pairs import LABELS
from pairpref.training.fingerprint import Fingerprint

WORK = Path("work")
MANIFEST = "manifest.json"
_MACHINE = "machine.json"

_KEPT_STEPS = 2
_KEPT_TRAININGS = 3
# A process that its stage left behind notices at the end of its step; until then it holds the lock.
_WAIT_SECONDS = 60.0
# Saving takes at most this share of the time: a fold of the default is saved every second, a model of gigabytes every few minutes.
_SHARE = 0.02
_SHORTEST_SECONDS = 1.0


def write(folder: Path, fill: Callable[[Path], None], owner: str) -> None:
    """Make a folder out of what `fill` writes into the path it is given, all of it or nothing.

    Args:
        owner: whose it is; `fault` finds fault with anybody else's.

    Raises:
        OSError: naming the file; what was there before is untouched.
    """
    aside = folder.with_name(f"{folder.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        manifest = {
            "owner": owner,
            "files": {path.relative_to(aside).as_posix(): _hash(path) for path in files},
        }
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        for path in [
            *files,
            aside / MANIFEST,
            *(path for path in aside.rglob("*") if path.is_dir()),
            aside,
        ]:
            _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(aside, folder)
        _sync(folder.parent)
    except SafetensorError as error:
        # Its writer reports a full disk in words only.
        full = "No space left" in str(error)
        raise OSError(
            28 if full else 5, "No space left on device" if full else str(error), str(folder)
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def fault(folder: Path, owner: str) -> str | None:
    """What is wrong with a folder that `write` made for `owner`; None when it is whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["owner"] != owner:
            return f"it belongs to {manifest['owner']}"
        for name, expected in manifest["files"].items():
            if _hash(folder / name) != expected:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is not readable ({error})"
    return None


@dataclass
class State:
    """Everything that a training is at the end of a step. What comes after depends on this and on the arguments alone.

    Attributes:
        machine: what decides the last bits besides the arguments, where the training began: processor, threads, processes.
        step: optimizer steps done.
        loss_sum, items: of this epoch's steps so far.
        smooth_loss: exponential mean of the steps' losses, from that of a classifier that knows nothing.
        history: a row an epoch that was evaluated.
        best: the best epoch's weights and its validation rows' probabilities by order, on the CPU; None before the first evaluation.
    """

    machine: dict[str, Any]
    step: int = 0
    loss_sum: float = 0.0
    items: int = 0
    smooth_loss: float = math.log(len(LABELS))
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] | None = None


class CheckpointManager:
    """What work/<fingerprint>/ holds of one training: its checkpoints, and its results once it has finished."""

    def __init__(self, fingerprint: Fingerprint, log: Log, work: Path = WORK) -> None:
        self.folder = work / fingerprint.digest
        self._fingerprint, self._log, self._work = fingerprint, log, work
        self._owner = fingerprint.digest
        self._saved, self._took = time.perf_counter(), 0.0

    @property
    def finished(self) -> Path:
        """The folder of the results; whole if `is_finished`."""
        return self.folder / "finished"

    def open(self, resume: bool) -> FileLock:
        """Lock this training for this process, say what is left of it, or why nothing is.

        Args:
            resume: False throws away what is left.

        Raises:
            UserError: another process is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=_WAIT_SECONDS)
        except Timeout:
            raise UserError(
                f"{self.folder}: another process is at the same training. Wait for its end; then the same command again."
            ) from None
        for path in self.folder.glob("*.aside"):
            shutil.rmtree(path)
        if not resume:
            for path in self._remains():
                shutil.rmtree(path)
        elif (
            not self._remains()
            and (others := self._others())
            and not (others[0][0] / "finished").exists()
        ):
            folder, about = others[0]
            self._log.say(f"not going on from {folder}: {self._fingerprint.difference(about)}")
        (self.folder / "about.json").write_text(self._fingerprint.to_json(), encoding="utf-8")
        self._prune_trainings()
        return lock

    def is_finished(self, machine: dict[str, Any]) -> bool:
        """Whether whole results lie here; damaged ones are named.

        Args:
            machine: as in `State`; a difference is told.
        """
        if not (self.finished.exists() and self._whole(self.finished)):
            return False
        job = ", ".join(f"{name} {number}" for name, number in self._fingerprint.job.items())
        self._log.say(f"{job}: already trained, in {self.folder}")
        self._compare(json.loads((self.finished / _MACHINE).read_text(encoding="utf-8")), machine)
        return True

    def finish(self, fill: Callable[[Path], None], machine: dict[str, Any]) -> None:
        """Keep results, which make the checkpoints worthless.

        Args:
            machine: as in `State`.
        """

        def fill_all(folder: Path) -> None:
            fill(folder)
            (folder / _MACHINE).write_text(json.dumps(machine), encoding="utf-8")

        write(self.finished, fill_all, self._owner)
        for path in self._steps():
            shutil.rmtree(path)

    def due(self) -> bool:
        """Whether a checkpoint is worth its time now."""
        return time.perf_counter() - self._saved > max(_SHORTEST_SECONDS, self._took / _SHARE)

    def save(self, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, and drop all but the newest two."""
        began = time.perf_counter()
        write(
            self.folder / f"step-{state.step:08d}",
            lambda folder: _write_state(folder, state, model, optimizer),
            self._owner,
        )
        for path in self._steps()[:-_KEPT_STEPS]:
            shutil.rmtree(path)
        self._saved = time.perf_counter()
        self._took = self._saved - began
        self._log.event("saved", step=state.step, seconds=round(self._took, 4))

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, machine: dict[str, Any]
    ) -> State | None:
        """Load the newest whole checkpoint into model and optimizer; None when there is none. Damaged ones are named.

        Nothing in it is unpickled.

        Args:
            machine: as in `State`; a difference is told.

        Raises:
            UserError: somebody put something else in its place.
        """
        for path in reversed(self._steps()):
            if self._whole(path):
                try:
                    state = _read_state(path, model, optimizer)
                except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{path} is whole, but no checkpoint of this model ({type(error).__name__}). Remove it, or start over: "
                        "-S train.resume=false"
                    ) from None
                self._log.say(f"going on from step {state.step:,}, found in {path}")
                self._log.event("resumed", step=state.step)
                self._compare(state.machine, machine)
                return state
            # Kept, it would count as one of the newest, and push out the whole ones that are written from here on. The other
            # processes of a launch skip it, whether the first has removed it yet or not.
            if not monitor.RANK:
                shutil.rmtree(path)
        return None

    def _compare(self, there: dict[str, Any], here: dict[str, Any]) -> None:
        if other := {name: value for name, value in there.items() if here.get(name) != value}:
            self._log.say(
                f"it was begun with {other}, here it is not: the last bits are not those of an undisturbed run"
            )

    def _whole(self, folder: Path) -> bool:
        problem = fault(folder, self._owner)
        if problem and not monitor.RANK:
            self._log.say(f"{folder} is damaged and not used: {problem}")
        return problem is None

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != ".aside")

    def _remains(self) -> list[Path]:
        return [path for path in (*self._steps(), self.finished) if path.exists()]

    def _others(self) -> list[tuple[Path, dict[str, Any]]]:
        """Other trainings of the same fold and seed, the latest first: folder, and what its fingerprint was made of."""
        found = []
        for path in self._work.glob("*/about.json"):
            try:
                about = json.loads(path.read_text(encoding="utf-8"))
                if path.parent != self.folder and self._fingerprint.same_job(about):
                    found.append((path.stat().st_mtime_ns, path.parent, about))
            except (OSError, ValueError, AttributeError):
                continue
        return [
            (folder, about)
            for _, folder, about in sorted(found, key=lambda item: item[0], reverse=True)
        ]

    def _prune_trainings(self) -> None:
        """Keep this training and the latest others of the same fold and seed."""
        for folder, _ in self._others()[_KEPT_TRAININGS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)


def _write_state(
    folder: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    saved = optimizer.state_dict()
    tensors, numbers = {}, {}
    for parameter, values in saved["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, torch.Tensor) else numbers)[f"{parameter}.{name}"] = value
    save_file(weights.of(model), folder / "model.safetensors")
    save_file(tensors, folder / "optimizer.safetensors")
    if state.best is not None:
        save_file(state.best, folder / "best.safetensors")
    fields = {name: value for name, value in vars(state).items() if name != "best"}
    (folder / "state.json").write_text(
        json.dumps({**fields, "optimizer": numbers}), encoding="utf-8"
    )


def _read_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    fields = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    weights.put(model, load_file(folder / "model.safetensors"))
    values: dict[int, dict[str, Any]] = {}
    for key, value in {
        **load_file(folder / "optimizer.safetensors"),
        **fields.pop("optimizer"),
    }.items():
        parameter, name = key.split(".", 1)
        values.setdefault(int(parameter), {})[name] = value
    # The groups hold learning rate and decay, which the params give anew.
    optimizer.load_state_dict(
        {"state": values, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    best = folder / "best.safetensors"
    return State(**fields, best=load_file(best) if best.exists() else None)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
