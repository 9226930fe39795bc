"""`dvc repro` as a program to kill: all of it, its stage's process, dvc alone, or a worker."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.copies import DVC, Repository

TARGETS = ("group", "stage", "dvc", "worker")


@dataclass(frozen=True)
class Strike:
    """A kill to come."""

    stage: str
    share: float  # of the stage's length
    targets: tuple[str, ...]  # the first one that exists is killed


@dataclass
class Kill:
    """A kill that was done."""

    words: str
    hit: bool  # whether the stage's process was there
    strike: Strike | None = None
    resumed: list[str] = field(default_factory=list)  # steps of trainings found afterwards


class Repro:
    """`dvc repro` in its own session. Prints to a file: a pipe waits for left-over processes."""

    def __init__(self, repository: Repository, output: Path, *stages: str) -> None:
        self._output = output
        with output.open("wb") as file:
            streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            where = {
                "cwd": repository.path,
                "env": repository.environment,
                "start_new_session": True,
            }
            self.process = subprocess.Popen([*DVC, "repro", *stages], **where, **streams)

    @property
    def printed(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def reach(self, stage: str) -> float | None:
        """Wait for the stage's process; when it was there, or None if the command ended without."""
        while self.process.poll() is None:
            if self.find(stage)["stage"]:
                return time.perf_counter()
            time.sleep(0.02)
        return None

    def find(self, stage: str) -> dict[str, list[psutil.Process]]:
        """The command's processes by `TARGETS`; the group by its leader."""
        dvc = [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        main = [
            process
            for process in _below(dvc, recursive=True)
            if _words(process)[1:3] == ["-m", f"stages.{stage}"]
        ]
        workers = [
            process
            for process in _below(main)
            if "resource_tracker" not in " ".join(_words(process))
        ]
        return {"group": dvc, "stage": main, "dvc": dvc, "worker": workers}

    def strike(self, strike: Strike, seconds: float, signum: signal.Signals) -> Kill | None:
        """Wait for the moment and kill; None if the command has ended before."""
        if (began := self.reach(strike.stage)) is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(strike.share * seconds)
        there = self.find(strike.stage)
        if (target := next((name for name in strike.targets if there[name]), None)) is None:
            return None
        with suppress(psutil.Error, ProcessLookupError):
            if target == "group":
                os.killpg(self.process.pid, signum)
            else:
                there[target][0].send_signal(signum)
        moment = f"{time.perf_counter() - began:4.1f} of {seconds:4.1f} s"
        return Kill(
            f"{strike.stage:9} {signum.name} {target:6} at {moment}", bool(there["stage"]), strike
        )


def living(folder: Path) -> list[psutil.Process]:
    """The processes that work in or below a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def stop(folder: Path) -> None:
    """Kill all that works in a folder."""
    for process in (found := living(folder)):
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=10)


def _below(processes: Sequence[psutil.Process], recursive: bool = False) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.Error):
            found += process.children(recursive)
    return found


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
