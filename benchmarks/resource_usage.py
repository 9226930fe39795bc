"""Runs a command as a child and measures its time, and its memory with that of its children."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]

_EVERY = 0.1


@dataclass(frozen=True)
class Watched:
    """How a command went.

    Attributes:
        seconds: wall time.
        cpu_seconds: user and system time of all its processes.
        peak_mib: most resident memory of any one of its processes at any look (every 0.1 s).
        peak_mib_together: most of all its processes together; what they share counts once each.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    peak_mib_together: float


def environment(home: Path) -> dict[str, str]:
    """Variables of a run: this Python first on the path, without the user's git or DVC settings.

    As after an editable install, Python finds this repository's package first, not the copy's.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))
    }
    site = {
        f"DVC_{name}": str(home / name.lower())
        for name in ("GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR", "SITE_CACHE_DIR")
    }
    return {
        **kept,
        **site,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_TEST": "1",
    }


def run(command: Sequence[str], folder: Path, env: dict[str, str]) -> Watched:
    """Run a command; its output goes to standard error, since standard output is for the table.

    An interrupt ends all of the command's processes: DVC alone would leave its stage running.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    began, cpu_began = time.perf_counter(), _cpu_of_ended_children()
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=sys.stderr)
    one, together, ended = [0.0], [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY):
            sizes = list(_sizes(process.pid))
            one.append(max(sizes, default=0))
            together.append(sum(sizes))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        code = process.wait()
    except BaseException:
        _stop(process.pid)
        raise
    finally:
        ended.set()
        looking.join()
    if code:
        raise subprocess.CalledProcessError(code, command)
    seconds, cpu_seconds = time.perf_counter() - began, _cpu_of_ended_children() - cpu_began
    return Watched(seconds, cpu_seconds, max(one), max(together))


def _cpu_of_ended_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _sizes(pid: int) -> Iterator[float]:
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            yield process.memory_info().rss / 2**20


def _stop(pid: int) -> None:
    family = _family(pid)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(family, timeout=10)[1]:
        process.kill()


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []
