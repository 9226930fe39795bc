"""How a stage runs: a lock, lines on the terminal, and JSON lines in logs/<stage>.jsonl.

Times, hosts, versions and memory are in logs only, so that a stage's outs are deterministic.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from typing import Any, TypeVar

import psutil
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

from pairpref import errors, params
from pairpref.errors import UserError
from pairpref.files import naming
from pairpref.paths import LOGS, WORK
from pairpref.stage_guard import refuse_other_code, unchanged

# Under `accelerate launch` a stage runs in several processes; only the first one speaks and writes.
RANK = int(os.environ.get("RANK", 0))
_LOCKS = WORK / "locks"
_PACKAGES = (
    "numpy torch transformers accelerate tokenizers datasets scikit-learn pandas pyarrow ftfy dvc"
).split()
# Importing torch is part of what a stage costs.
_PROCESS_BEGAN = psutil.Process().create_time()

T = TypeVar("T")


class Log:
    """The record of one run of a stage: an event a line, with `run`, and `at` in process seconds.

    The next run appends to an interrupted run's events, and overwrites a finished run's.
    """

    def __init__(self, stage: str, quiet: bool = False) -> None:
        self.stage, self._quiet, self._path = stage, quiet, LOGS / f"{stage}.jsonl"
        self._run = f"{time.time_ns():x}-{os.getpid()}"
        LOGS.mkdir(exist_ok=True)
        before = last(stage)
        interrupted = bool(before) and before[-1]["event"] != "ended"
        self._file = self._path.open("a" if interrupted else "w", encoding="utf-8", buffering=1)
        if interrupted and not self._path.read_bytes().endswith(b"\n"):
            self._file.write("\n")

    def event(self, name: str, **fields: object) -> None:
        """Write one event to the file only."""
        at = round(time.time() - _PROCESS_BEGAN, 3)
        record = {"event": name, "at": at, "run": self._run, **fields}
        with naming(self._path):
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def end(self, **fields: object) -> None:
        """Write that the run finished, and close the file."""
        self.event("ended", **fields)
        self._file.close()

    def say(self, text: str) -> None:
        """Write one line to the terminal and the file."""
        if not self._quiet:
            errors.say(f"{self.stage:>9} │ {text}")
        self.event("said", text=text)

    def track(self, items: Iterable[T], total: int, unit: str) -> Iterator[T]:
        """Pass items through, with a line on progress every five seconds."""
        began = last = time.perf_counter()
        for done, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            if done == 1:
                began = last = now  # workers have started
            elif now - last >= 5:
                last, rate = now, done / (now - began)
                left = f"{rate:,.0f}/s, {(total - done) / rate:.0f} s left"
                self.say(f"{done:,} of {total:,} {unit}, {left}")


def run(stage: str, body: Callable[[params.Params, Log], None]) -> None:
    """Run a stage's `body`; every `stages/<word>.py` calls this under `if __name__ == "__main__"`.

    What a user can mend ends in one line. Exit codes: 1 a fault, 130 Ctrl-C, 143 SIGTERM.
    """
    with errors.command(stage, quiet=bool(RANK)):
        refuse_other_code()
        with unchanged(stage), nullcontext() if RANK else _only_process(stage):
            settings = params.load()
            log = Log(f"{stage}-rank{RANK}" if RANK else stage, quiet=bool(RANK))
            log.event(
                "began",
                python=platform.python_version(),
                machine=platform.machine(),
                cores=os.cpu_count(),
                **{package: version(package) for package in _PACKAGES},
            )
            # Threads change the last bits. Training and prediction set train.threads.
            with threadpool_limits(1):
                body(settings, log)
        log.end(peak_mib=peak_mib())


@contextmanager
def _only_process(stage: str) -> Iterator[None]:
    """Hold the stage's lock, which the system releases however the process ends."""
    _LOCKS.mkdir(parents=True, exist_ok=True)
    owner = _LOCKS / f"{stage}.pid"
    try:
        with FileLock(_LOCKS / f"{stage}.lock", timeout=0):
            owner.write_text(str(os.getpid()), encoding="utf-8")
            yield
    except Timeout:
        pid = owner.read_text(encoding="utf-8") if owner.exists() else "?"
        raise UserError(
            f"already running here as process {pid}, perhaps left behind by a dvc that was killed. "
            f"Wait for it, or stop it with `kill {pid}`; then run the same command again."
        ) from None


def peak_mib() -> int:
    """Largest resident memory so far, in MiB, of this process or of any child that has ended."""
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(which).ru_maxrss for which in processes)
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024))


def last(stage: str) -> list[dict[str, Any]]:
    """The events of a stage's last run; empty without a log, as in a fresh clone."""
    path = LOGS / f"{stage}.jsonl"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    events = []
    for line in text.splitlines():
        with suppress(json.JSONDecodeError):  # a killed stage may leave half a line
            events.append(json.loads(line))
    return [event for event in events if event.get("run") == events[-1].get("run")]
