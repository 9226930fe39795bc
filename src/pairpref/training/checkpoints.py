"""What is left of one training in work/: its checkpoints, and later its results."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pairpref import monitor, paths
from pairpref.errors import UserError
from pairpref.files import write_text
from pairpref.monitor import Log
from pairpref.training import whole
from pairpref.training.fingerprint import Fingerprint

_MACHINE = "machine.json"
_KEPT_STEPS = 2
_KEPT_TRAININGS = 3
_WAIT_SECONDS = 60.0  # a process that its stage left behind holds the lock to the end of its step
_BYTES_A_PARAMETER, _BYTES_A_SECOND = 12, 5e8  # weight and two moments; a plain disk
_SHARE = 0.02  # of the time is spent on saving, at most
_SHORTEST_SECONDS = 1.0


class CheckpointManager:
    """What work/<fingerprint>/ holds of one training: its checkpoints, and later its results."""

    def __init__(self, fingerprint: Fingerprint, log: Log, work: Path = paths.WORK) -> None:
        self.folder = work / fingerprint.digest
        self._fingerprint, self._log, self._work = fingerprint, log, work
        self._saved, self._took = time.perf_counter(), 0.0
        self._sealing: Future | None = None  # the newest checkpoint, while it is hashed and synced
        self._thread = ThreadPoolExecutor(1)

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
        whole.remove(self.folder / whole.ASIDE)
        left = [path for path in (*self._steps(), self.finished) if path.exists()]
        others = self._others()
        if not resume:
            for path in left:
                whole.remove(path)
        elif not left and others and not (others[0][0] / "finished").exists():
            folder, about = others[0]
            self._log.say(f"not going on from {folder}: {self._fingerprint.difference(about)}")
        write_text(self.folder / "about.json", self._fingerprint.to_json())
        for folder, _ in others[_KEPT_TRAININGS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)
        return lock

    def is_finished(self, machine: dict[str, Any]) -> bool:
        """Whether there are whole results; damaged ones are named.

        Args:
            machine: see `determinism.machine`; a difference is told.
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

        self.write(self.finished, fill_all)
        for path in (*self._steps(), *self.folder.glob("best-*")):
            whole.remove(path)

    def due(self) -> bool:
        """Whether a checkpoint is worth its time now."""
        return time.perf_counter() - self._saved > max(_SHORTEST_SECONDS, self._took / _SHARE)

    def expect(self, parameters: int) -> None:
        """Take saving a model of so many weights for as long as it should take."""
        self._took = parameters * _BYTES_A_PARAMETER / _BYTES_A_SECOND

    @contextmanager
    def checkpoint(self, step: int, machine: dict[str, Any]) -> Iterator[Path]:
        """A folder to fill, which becomes the newest checkpoint. The newest two are kept.

        It is hashed and synced beside the training: `settle` waits for the end of that.

        Args:
            machine: see `determinism.machine`.

        Raises:
            OSError: as `whole.write`, also for the checkpoint before this one.
        """
        self.settle()
        began, folder = time.perf_counter(), self.folder / f"checkpoint-{step}"
        with whole.filled(folder) as aside:
            yield aside
            (aside / _MACHINE).write_text(json.dumps(machine), encoding="utf-8")
        self._saved = time.perf_counter()
        self._sealing = self._thread.submit(self._kept, folder, step, began)

    def _kept(self, folder: Path, step: int, began: float) -> None:
        whole.seal(folder, self._fingerprint.digest)
        steps = self._steps()
        best = {f"best-{_best_step(path)}" for path in steps[-_KEPT_STEPS:]}
        unnamed = (path for path in self.folder.glob("best-*") if path.name not in best)
        for path in (*steps[:-_KEPT_STEPS], *unnamed):
            whole.remove(path)
        self._took = time.perf_counter() - began
        self._log.event("saved", step=step, seconds=round(self._took, 4))

    def settle(self) -> None:
        """Wait until the newest checkpoint is on the disk.

        Raises:
            OSError: it is not; the one before it is.
        """
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def best(self, step: int | None) -> Path:
        """The folder of the weights of the best epoch, which ended with this step."""
        return self.folder / f"best-{step}"

    def write(self, folder: Path, fill: Callable[[Path], None]) -> None:
        """`whole.write` in the name of this training, after what is being written."""
        self.settle()  # it drops what no checkpoint names yet
        whole.write(folder, fill, self._fingerprint.digest)

    def newest(self, machine: dict[str, Any]) -> Path | None:
        """The newest whole checkpoint; None when there is none. Damaged ones are named.

        Args:
            machine: see `determinism.machine`; a difference is told.
        """
        for path in reversed(self._steps()):
            best = _best_step(path)
            if self._is_whole(path) and (best is None or self._is_whole(self.best(best))):
                self._log.say(f"going on from step {_step(path):,}, found in {path}")
                self._log.event("resumed", step=_step(path))
                self._compare(json.loads((path / _MACHINE).read_text(encoding="utf-8")), machine)
                return path
            # Kept, it would count as one of the newest and push out whole ones. Only the first
            # process of a launch removes it; the others skip it.
            if not monitor.RANK:
                whole.remove(path)
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
        problem = whole.fault(folder, self._fingerprint.digest)
        if problem and not monitor.RANK:
            self._log.say(f"{folder} is damaged and not used: {problem}")
        return problem is None

    def _steps(self) -> list[Path]:
        found = self.folder.glob("checkpoint-*")
        return sorted((path for path in found if path.name[11:].isdecimal()), key=_step)

    def _others(self) -> list[tuple[Path, dict[str, Any]]]:
        """Other trainings of the same fold and seed, the latest first: folder and fingerprint."""
        found = []
        for path in self._work.glob("*/about.json"):
            try:
                about = json.loads(path.read_text(encoding="utf-8"))
                if path.parent != self.folder and self._fingerprint.same_job(about):
                    found.append((path.stat().st_mtime_ns, path.parent, about))
                    self._fingerprint.difference(about)
            except (OSError, ValueError, AttributeError, TypeError):
                continue
        found.sort(key=lambda item: item[0], reverse=True)
        return [(folder, about) for _, folder, about in found]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _best_step(checkpoint: Path) -> int | None:
    """The step whose weights were the best so far; None where there is none, or no knowing."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        return state["best_global_step"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
