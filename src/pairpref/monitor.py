"""What a running stage tells: readable lines on the terminal, and the same as JSON lines in logs/<stage>.jsonl.

Times, hosts, versions and memory live here and nowhere else, so that what a stage declares as an out stays the same byte for byte.
"""

import json
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import psutil
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

from pairpref import errors, params, stopping
from pairpref.errors import UserError, explain
from pairpref.files import naming
from pairpref.stage_guard import Inputs, refuse_other_code

LOGS = Path("logs")
LOCKS = Path("work/locks")
# Under `accelerate launch` a stage runs in several processes at once; the first of them speaks and writes.
RANK = int(os.environ.get("RANK", 0))
_PACKAGES = (
    "numpy",
    "torch",
    "transformers",
    "accelerate",
    "tokenizers",
    "datasets",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "ftfy",
    "dvc",
)

T = TypeVar("T")


class Log:
    """The record of one run of one stage. Each event is one line of JSON, with `run`, and `at`: seconds since its process began.

    What an interrupted run wrote stays, and the next one is appended. After a run that ended, the file is begun anew.
    """

    def __init__(self, stage: str, quiet: bool = False) -> None:
        self.stage, self._quiet = stage, quiet
        self._run = f"{time.time_ns():x}-{os.getpid()}"
        # From the start of the process: importing torch is part of what a stage costs.
        self._began = time.perf_counter() - _age()
        LOGS.mkdir(exist_ok=True)
        self._path = LOGS / f"{stage}.jsonl"
        before = last(stage)
        interrupted = bool(before) and before[-1]["event"] != "ended"
        self._file = self._path.open("a" if interrupted else "w", encoding="utf-8", buffering=1)
        if interrupted and not self._path.read_bytes().endswith(b"\n"):
            self._file.write("\n")

    def event(self, name: str, **fields: object) -> None:
        """Write one event to the file only."""
        record = {
            "event": name,
            "at": round(time.perf_counter() - self._began, 3),
            "run": self._run,
            **fields,
        }
        with naming(self._path):
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def end(self, **fields: object) -> None:
        """Write that the run ended well, and nothing after it."""
        self.event("ended", **fields)
        self._file.close()

    def say(self, text: str) -> None:
        """Write one line to the terminal and the file."""
        if not self._quiet:
            errors.say(f"{self.stage:>9} │ {text}")
        self.event("said", text=text)

    def track(self, items: Iterable[T], total: int, unit: str, every: float = 5.0) -> Iterator[T]:
        """Pass items through, with a line every few seconds: done, rate, time left. Short work prints nothing."""
        began = last = time.perf_counter()
        for done, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            if now - last >= every:
                last = now
                rate = done / (now - began)
                self.say(
                    f"{done:,} of {total:,} {unit}, {rate:,.0f}/s, {(total - done) / rate:.0f} s left"
                )


def run(stage: str, body: Callable[[params.Params, Log], None]) -> None:
    """Run a stage's `body`: load params, lock, log, and turn what a user can mend into one line and an exit code.

    Called under `if __name__ == "__main__":` by every `stages/<word>.py`. Exit codes: 1 for a fault, 130 after Ctrl-C, 143 after SIGTERM.
    """
    stopping.listen()
    settings = None
    try:
        refuse_other_code()
        # Once to say what is wrong with the file, once to have what Inputs has seen.
        params.load()
        inputs, settings = Inputs(stage), params.load()
        with _sole(stage):
            log = Log(stage if not RANK else f"{stage}-rank{RANK}", quiet=bool(RANK))
            log.event(
                "began",
                python=platform.python_version(),
                machine=platform.machine(),
                cores=os.cpu_count(),
                **_versions(),
            )
            # Another number of threads adds numbers up in another order, so no stage takes the machine's. Training and prediction
            # set their own (train.threads).
            with threadpool_limits(1):
                body(settings, log)
            inputs.check()
            log.end(peak_mib=peak_mib())
    except UserError as error:
        _fail(stage, str(error), 1)
    except OSError as error:
        _fail(stage, explain(error), 1)
    except stopping.Stopped as stop:
        name = "Ctrl-C" if stop.signum == signal.SIGINT else signal.Signals(stop.signum).name
        over = settings is not None and not settings.train.resume
        again = "starts over, since train.resume is off" if over else "goes on from here"
        _fail(stage, f"stopped by {name}; the same command {again}", 128 + stop.signum)


@contextmanager
def _sole(stage: str) -> Iterator[None]:
    """Hold the stage's lock, which the system releases however the process ends."""
    if RANK:
        yield
        return
    LOCKS.mkdir(parents=True, exist_ok=True)
    owner = LOCKS / f"{stage}.pid"
    try:
        with FileLock(LOCKS / f"{stage}.lock", timeout=0):
            owner.write_text(str(os.getpid()), encoding="utf-8")
            yield
    except Timeout:
        pid = owner.read_text(encoding="utf-8") if owner.exists() else "?"
        raise UserError(
            f"already running here as process {pid}, perhaps left behind by a dvc that is gone. Wait for its end, or stop it with "
            f"`kill {pid}`; then the same command again. Nothing was touched."
        ) from None


def peak_mib() -> int:
    """Largest resident memory so far, in MiB, of this process or of any child it has waited for."""
    kib = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(kib / (1024**2 if sys.platform == "darwin" else 1024))


def last(stage: str) -> list[dict]:
    """The events of a stage's last run; empty when there is no log (a fresh clone, or outputs that came from the cache)."""
    path, events = LOGS / f"{stage}.jsonl", []
    for line in (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ()
    ):
        # A stage that was killed may have left half a line.
        with suppress(json.JSONDecodeError):
            events.append(json.loads(line))
    return [event for event in events if event.get("run") == events[-1].get("run")]


def _age() -> float:
    """Seconds since this process began, by a clock that nobody sets where there is one."""
    born = psutil.Process().create_time()
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - (born - psutil.boot_time())
    return time.time() - born


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _fail(stage: str, message: str, code: int) -> None:
    if not RANK:
        print(
            "\n".join(f"{stage}: {line}" for line in message.splitlines()),
            file=sys.stderr,
            flush=True,
        )
    raise SystemExit(code)
