"""SIGTERM and Ctrl-C end work at once, or inside `deferred()` at the next point where it is saved.

Training looks at `requested()` at the end of each step, saves, and leaves the block, which then
raises `Stopped`. The processes that this one has started are told as well.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import psutil

_GRACE_SECONDS = 5.0

_asked: int | None = None  # the signal that has come
_depth = 0  # of deferred() blocks
_worker = False
_ending: float | None = None  # when Stopped was raised


class Stopped(BaseException):
    """A signal ended the work. Not an Exception, so that only the outermost frame catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    def __str__(self) -> str:
        return "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name


def listen(worker: bool = False) -> None:
    """Handle SIGTERM and SIGINT. A worker only notes them: Ctrl-C reaches it twice."""
    global _worker
    _worker = worker
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, _note)


def requested() -> int | None:
    """The signal that asked this process to stop."""
    return _asked


@contextmanager
def deferred() -> Iterator[None]:
    """Note signals, and raise `Stopped` at the end of the outermost block if one has come.

    An error after the signal, such as that of a worker that it killed, ends in `Stopped` too.
    """
    global _depth
    _depth += 1
    try:
        yield
    except Exception:
        if _asked is None or _depth > 1:
            raise
    finally:
        _depth -= 1
    if not _depth and _asked is not None:
        _end(_asked)


def _note(signum: int, _: FrameType | None) -> None:
    global _asked
    if _ending is not None:
        # Ignore repeated signals for 5 s so that the exit message prints.
        if time.monotonic() - _ending > _GRACE_SECONDS:
            os._exit(128 + signum)
        return
    again = _asked is not None
    _asked = signum
    if _worker:
        return
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.terminate()
    # A second Ctrl-C does not wait for the end of the step.
    if not _depth or (again and signum == signal.SIGINT):
        _end(signum)


def _end(signum: int) -> NoReturn:
    global _ending
    _ending = time.monotonic()
    raise Stopped(signum)
