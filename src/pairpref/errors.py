"""How a command ends: errors that the user can mend, and everything else that can end it."""

import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNNAMED = "standard output or a file"


class UserError(Exception):
    """Shown without a traceback; it says what was got, what was expected and what to do."""


@contextmanager
def command(name: str, refused: int = 1) -> Iterator[None]:
    """Run a command's main: what a user can mend, and Ctrl-C, end it in one line.

    Args:
        name: what that line begins with.
        refused: exit code of every unexpected end but Ctrl-C, which gives 130.
    """
    with suppress(ValueError):  # only the main thread can handle signals
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # None where the command is started with it closed
                sys.stdout.flush()
    except UserError as error:
        message = str(error)
    except BrokenPipeError:
        message = ""  # the reader of the output has seen enough
        _mute()
    except OSError as error:
        if error.filename is None:
            error.filename = _UNNAMED
            _mute()
        message = explain(error)
    except KeyboardInterrupt:
        message, refused = "stopped by Ctrl-C", 130
    except Exception:
        message = traceback.format_exc()
    else:
        return
    if message and refused == 1:
        sys.exit(f"{name}: {message}")  # printed by Python
    if message:
        print(f"{name}: {message}", file=sys.stderr)
    sys.exit(refused)


def say(text: str) -> None:
    """Print a line. Work goes on where standard output is closed or full."""
    try:
        # One write, because folds that train side by side share the terminal.
        print(f"{text}\n", end="", flush=True)
    except OSError:
        _mute()


def explain(error: OSError) -> str:
    """One line: which file, and how much room is left where the disk is full."""
    where = error.filename or "a file"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or where == _UNNAMED:
        return f"{where}: {error.strerror or error}"
    disk = next(folder for folder in Path(where).absolute().parents if folder.is_dir())
    free = shutil.disk_usage(disk).free
    return (
        f"{where}: no space left on the disk, {free / 2**20:,.1f} MiB free. "
        "Earlier results are untouched. Make room (`dvc gc --workspace` removes cached results of "
        "other runs, work/ has those of interrupted training), then run the same command again."
    )


def _mute() -> None:
    """Leave nothing for Python to flush at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
