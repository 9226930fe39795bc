"""Folders that are whole or don't count, and what is left of one training in work/.

A folder is written aside, every file hashed into its manifest and synced, and then renamed. A kill,
a full disk or a flipped bit leaves either a whole folder or one whose `fault` is named.
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

from pairpref import monitor, paths
from pairpref.errors import UserError
from pairpref.model import weights
from pairpref.monitor import Log
from pairpref.pairs import LABELS
from pairpref.training.fingerprint import Fingerprint

_MANIFEST = "manifest.json"
_MACHINE = "machine.json"
_KEPT_STEPS = 2
_KEPT_TRAININGS = 3
_WAIT_SECONDS = 60.0  # a process that its stage left behind holds the lock to the end of its step
_SHARE = 0.02  # of the time is spent on saving, at most
_SHORTEST_SECONDS = 1.0


def write(folder: Path, fill: Callable[[Path], None], owner: str) -> None:
    """Make a folder out of what `fill` writes into the path it is given, all of it or nothing.

    Args:
        owner: whose it is; `fault` rejects any other.

    Raises:
        OSError: naming the file; what was there before is untouched.
    """
    aside = folder.with_name(f"{folder.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        hashes = {path.relative_to(aside).as_posix(): _hash(path) for path in files}
        manifest = json.dumps({"owner": owner, "files": hashes}, indent=2) + "\n"
        (aside / _MANIFEST).write_text(manifest, encoding="utf-8")
        for path in (*aside.rglob("*"), aside):
            _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(aside, folder)
        _sync(folder.parent)
    except SafetensorError as error:
        # Its writer reports a full disk in words only.
        full = "No space left" in str(error)
        number, words = (28, "No space left on device") if full else (5, str(error))
        raise OSError(number, words, str(folder)) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def fault(folder: Path, owner: str) -> str | None:
    """What is wrong with a folder that `write` made for `owner`; None when it is whole."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["owner"] != owner:
            return f"it belongs to {manifest['owner']}"
        for name, expected in manifest["files"].items():
            if _hash(folder / name) != expected:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{_MANIFEST} is not readable ({error})"
    return None


@dataclass
class State:
    """Everything that a training is at the end of a step, besides its arguments."""

    machine: dict[str, Any]  # what else decides the last bits: processor, threads, processes
    step: int = 0  # optimizer steps done
    loss_sum: float = 0.0  # this and items: of this epoch's steps so far
    items: int = 0
    # Exponential mean of the steps' losses, from that of a classifier that knows nothing.
    smooth_loss: float = math.log(len(LABELS))
    history: list[dict[str, float]] = field(default_factory=list)  # a row an evaluated epoch
    # The best epoch's weights, and its validation rows' probabilities by order, on the CPU.
    best: dict[str, torch.Tensor] = field(default_factory=dict)


class CheckpointManager:
    """What work/<fingerprint>/ holds of one training: its checkpoints, and later its results."""

    def __init__(self, fingerprint: Fingerprint, log: Log, work: Path = paths.WORK) -> None:
        self.folder = work / fingerprint.digest
        self._fingerprint, self._log, self._work = fingerprint, log, work
        self._saved, self._took = time.perf_counter(), 0.0

    @property
    def finished(self) -> Path:
        """The folder of the results; whole if `is_finished`."""
        return self.folder / "finished"

    def open(self, resume: bool) -> FileLock:
        """Lock this training for this process, and say why an earlier one is not resumed.

        Args:
            resume: False throws away what is left of this training.

        Raises:
            UserError: another process is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=_WAIT_SECONDS)
        except Timeout:
            raise UserError(
                f"{self.folder}: another process is at the same training. "
                "Wait for its end; then run the same command again."
            ) from None
        for path in self.folder.glob("*.aside"):
            shutil.rmtree(path)
        left = [path for path in (*self._steps(), self.finished) if path.exists()]
        others = self._others()
        if not resume:
            for path in left:
                shutil.rmtree(path)
        elif not left and others and not (others[0][0] / "finished").exists():
            folder, about = others[0]
            self._log.say(f"not going on from {folder}: {self._fingerprint.difference(about)}")
        (self.folder / "about.json").write_text(self._fingerprint.to_json(), encoding="utf-8")
        for folder, _ in others[_KEPT_TRAININGS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)
        return lock

    def is_finished(self, machine: dict[str, Any]) -> bool:
        """Whether there are whole results; damaged ones are named.

        Args:
            machine: as in `State`; a difference is told.
        """
        if not (self.finished.exists() and self._is_whole(self.finished)):
            return False
        job = ", ".join(f"{name} {number}" for name, number in self._fingerprint.job.items())
        self._log.say(f"{job}: already trained, in {self.folder}")
        self._compare(json.loads((self.finished / _MACHINE).read_text(encoding="utf-8")), machine)
        return True

    def finish(self, fill: Callable[[Path], None], machine: dict[str, Any]) -> None:
        """Keep the results that `fill` writes, and drop the checkpoints."""

        def fill_all(folder: Path) -> None:
            fill(folder)
            (folder / _MACHINE).write_text(json.dumps(machine), encoding="utf-8")

        write(self.finished, fill_all, self._fingerprint.digest)
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
            self._fingerprint.digest,
        )
        for path in self._steps()[:-_KEPT_STEPS]:
            shutil.rmtree(path)
        self._saved = time.perf_counter()
        self._took = self._saved - began
        self._log.event("saved", step=state.step, seconds=round(self._took, 4))

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, machine: dict[str, Any]
    ) -> State | None:
        """Load the newest whole checkpoint into model and optimizer; None when there is none.

        Damaged ones are named. Nothing in it is unpickled.

        Args:
            machine: as in `State`; a difference is told.

        Raises:
            UserError: a whole one is not of this model.
        """
        for path in reversed(self._steps()):
            if self._is_whole(path):
                try:
                    state = _read_state(path, model, optimizer)
                except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{path} is whole, but no checkpoint of this model "
                        f"({type(error).__name__}). Remove it, or start over: "
                        "-S train.resume=false"
                    ) from None
                self._log.say(f"going on from step {state.step:,}, found in {path}")
                self._log.event("resumed", step=state.step)
                self._compare(state.machine, machine)
                return state
            # Kept, it would count as one of the newest and push out whole ones. Only the first
            # process of a launch removes it; the others skip it.
            if not monitor.RANK:
                shutil.rmtree(path)
        return None

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [
            f"{name} was {value} and is {now.get(name)}"
            for name, value in before.items()
            if now.get(name) != value
        ]
        if changed:
            self._log.say(
                f"environment changed ({', '.join(changed)}): results may differ in the last bits"
            )

    def _is_whole(self, folder: Path) -> bool:
        problem = fault(folder, self._fingerprint.digest)
        if problem and not monitor.RANK:
            self._log.say(f"{folder} is damaged and not used: {problem}")
        return problem is None

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != ".aside")

    def _others(self) -> list[tuple[Path, dict[str, Any]]]:
        """Other trainings of the same fold and seed, the latest first: folder and fingerprint."""
        found = []
        for path in self._work.glob("*/about.json"):
            try:
                about = json.loads(path.read_text(encoding="utf-8"))
                if path.parent != self.folder and self._fingerprint.same_job(about):
                    found.append((path.stat().st_mtime_ns, path.parent, about))
            except (OSError, ValueError, AttributeError):
                continue
        found.sort(key=lambda item: item[0], reverse=True)
        return [(folder, about) for _, folder, about in found]


def _write_state(
    folder: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, float] = {}
    for parameter, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, torch.Tensor) else numbers)[f"{parameter}.{name}"] = value
    save_file(weights.of(model), folder / "model.safetensors")
    save_file(tensors, folder / "optimizer.safetensors")
    if state.best:
        save_file(state.best, folder / "best.safetensors")
    fields = {name: value for name, value in vars(state).items() if name != "best"}
    content = json.dumps({**fields, "optimizer": numbers})
    (folder / "state.json").write_text(content, encoding="utf-8")


def _read_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    fields = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    weights.put(model, load_file(folder / "model.safetensors"))
    saved = {**load_file(folder / "optimizer.safetensors"), **fields.pop("optimizer")}
    values: dict[int, dict[str, Any]] = {}
    for key, value in saved.items():
        parameter, name = key.split(".", 1)
        values.setdefault(int(parameter), {})[name] = value
    # The groups hold learning rate and decay, which the params give anew.
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": values, "param_groups": groups})
    best = folder / "best.safetensors"
    return State(**fields, best=load_file(best) if best.exists() else {})


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
