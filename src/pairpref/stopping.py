"""SIGTERM and Ctrl-C: work that can be cut anywhere ends at once; work in progress that is worth keeping is asked to stop instead.

Inside `deferred()` a signal is only noted. Training looks at `requested()` at each step's end, saves, and leaves the block, which then
raises `Stopped`. The processes that a stage has started are told as well.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import psutil

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE_SECONDS = 5.0

_asked: int | None = None
_depth = 0
_worker = False
_ending: float | None = None


class Stopped(BaseException):
    """A signal ended the work. Not an Exception: nothing but the process's outermost frame may catch it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def listen(worker: bool = False) -> None:
    """Take over SIGTERM and SIGINT for this process.

    Args:
        worker: this process works for another one, and only notes signals: one Ctrl-C reaches it twice.
    """
    global _worker
    _worker = worker
    if threading.current_thread() is threading.main_thread():
        for signum in _SIGNALS:
            signal.signal(signum, _note)


def requested() -> int | None:
    """The signal that asked this process to stop."""
    return _asked


@contextmanager
def deferred() -> Iterator[None]:
    """Note signals instead of ending at once; raise `Stopped` at the end of the outermost block if one has come.

    Whatever else goes wrong after the signal, such as a worker that died of it before it could listen, ends in `Stopped` too.
    """
    global _depth
    _depth += 1
    try:
        yield
    except Exception:
        if requested() is None or _depth > 1:
            raise
    finally:
        _depth -= 1
    if not _depth and (signum := requested()) is not None:
        _end(signum)


def _note(signum: int, frame: object) -> None:
    global _asked
    if _ending is not None:
        # Whoever asks again while this process is on its way out would only cut its last words short; unless it does not get there.
        if time.monotonic() - _ending > _GRACE_SECONDS:
            os._exit(128 + signum)
        return
    again = _asked is not None
    _asked = signum
    if _worker:
        return
    _tell_children()
    # Who presses Ctrl-C a second time doesn't want to wait for the end of the step.
    if not _depth or (again and signum == signal.SIGINT):
        _end(signum)


def _end(signum: int) -> NoReturn:
    global _ending
    _ending = time.monotonic()
    raise Stopped(signum)


def _tell_children() -> None:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.terminate()
