"""How a command or a stage ends: in one line where the user can mend it, or a signal came."""

import errno
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pairpref import stopping


class UserError(Exception):
    """Shown without a traceback; it says what was got, what was expected and what to do."""


@contextmanager
def command(name: str, refused: int = 1, quiet: bool = False) -> Iterator[None]:
    """Run a command's or a stage's main.

    Args:
        name: what each line of an error begins with.
        refused: exit code of every end but a good one, and a signal's 128 + its number.
        quiet: print no error.
    """
    stopping.listen()
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # None where the command is started with it closed
                sys.stdout.flush()
        return
    except UserError as error:
        message = str(error)
    except stopping.Stopped as stop:
        message = f"stopped by {stop}; run the same command again"
        refused = 128 + stop.signum
    except BrokenPipeError:
        message = ""  # the reader of the output has seen enough
        _mute()
    except ModuleNotFoundError as error:
        message = lacking(error) or traceback.format_exc()
    except OSError as error:
        message = _explain(error)
        if error.filename is None:
            _mute()
    except Exception:
        message = traceback.format_exc()
    if not quiet and message:
        lines = "\n".join(f"{name}: {line}" for line in message.splitlines())
        print(lines, file=sys.stderr, flush=True)
    sys.exit(refused)


def lacking(error: ModuleNotFoundError) -> str | None:
    """What to install for a package that predicting does without; None if it is one of ours."""
    if not error.name or error.name.split(".")[0] in ("pairpref", "stages"):
        return None
    how = "pip install -c constraints.txt -e '.[pipeline]'"
    return f"needs {error.name}, which is not installed: {how}"


def say(text: str) -> None:
    """Print a line. Work goes on where standard output is closed or full."""
    try:
        # One write, because folds that train side by side share the terminal.
        print(f"{text}\n", end="", flush=True)
    except OSError:
        _mute()


def _explain(error: OSError) -> str:
    """One line: which file, and how much room is left where the disk is full."""
    where = error.filename or "standard output or a file"
    if error.filename is None or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}: {error.strerror or error}"
    disk = next(folder for folder in Path(where).absolute().parents if folder.is_dir())
    free = shutil.disk_usage(disk).free / 2**20
    return (
        f"{where}: no space left on the disk, {free:,.1f} MiB free. "
        "Earlier results are untouched. Make room (`dvc gc --workspace` removes cached results of "
        "other runs, work/ has those of interrupted training), then run the same command again."
    )


def _mute() -> None:
    """Leave nothing for Python to flush at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
