"""What a running stage tells: readable lines on the terminal, and the same as JSON lines in logs/<stage>.jsonl.

Times, hosts, versions and memory live here and nowhere else, so that what a stage declares as an out stays the same byte for byte.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import psutil
from threadpoolctl import threadpool_limits

from pairpref import params
from pairpref.errors import UserError

LOGS = Path("logs")
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
    """The record of one run of one stage. Each event is one line of JSON, with `at`: seconds since its process began."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        # From the start of the process: importing torch is part of what a stage costs.
        self._began = time.perf_counter() - _age()
        LOGS.mkdir(exist_ok=True)
        self._file = (LOGS / f"{stage}.jsonl").open("w", encoding="utf-8", buffering=1)

    def event(self, name: str, **fields: object) -> None:
        """Write one event to the file only."""
        record = {"event": name, "at": round(time.perf_counter() - self._began, 3), **fields}
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()

    def say(self, text: str) -> None:
        """Write one line to the terminal and the file."""
        print(f"{self.stage:>9} │ {text}", flush=True)
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
                self.say(f"{done:,} of {total:,} {unit}, {rate:,.0f}/s, {(total - done) / rate:.0f} s left")


def run(stage: str, body: Callable[[params.Params, Log], None]) -> None:
    """Run a stage's `body`: load params, log, and turn what a user can mend into one line and exit code 1.

    Called under `if __name__ == "__main__":` by every `stages/<word>.py`.
    """
    try:
        settings = params.load()
        log = Log(stage)
        log.event("began", python=platform.python_version(), machine=platform.machine(), cores=os.cpu_count(), **_versions())
        # Another number of threads adds numbers up in another order: it is a param, not the machine's.
        with threadpool_limits(settings.train.threads):
            body(settings, log)
        log.event("ended", peak_mib=peak_mib())
        log.close()
    except UserError as error:
        _fail(stage, str(error), 1)
    except OSError as error:
        _fail(stage, f"{error.filename or 'file'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        _fail(stage, "interrupted; the same command starts this stage again", 130)


def peak_mib() -> int:
    """Largest resident memory so far, in MiB, of this process or of any child it has waited for."""
    kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(kib / (1024**2 if sys.platform == "darwin" else 1024))


def last(stage: str) -> list[dict]:
    """The events of a stage's last run; empty when there is no log (a fresh clone, or outputs that came from the cache)."""
    path, events = LOGS / f"{stage}.jsonl", []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        # A stage that was killed may have left half a line.
        with suppress(json.JSONDecodeError):
            events.append(json.loads(line))
    return events


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
    print("\n".join(f"{stage}: {line}" for line in message.splitlines()), file=sys.stderr, flush=True)
    raise SystemExit(code)
