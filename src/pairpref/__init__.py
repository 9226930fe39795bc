"""Calibrated probabilities from human votes on pairs of answers."""

import os
import signal
import sys
from pathlib import Path

# An installation names the folder that it was made in. In another clone, a linked worktree or DVC's
# copy for an experiment, or below it, the package of that repository runs instead. Workers are given sys.path.
_cwd = Path.cwd()
_found = (folder / "src" / "pairpref" for folder in (_cwd, *_cwd.parents))
_here = next((folder for folder in _found if (folder / "__init__.py").is_file()), None)
if _here and not _here.samefile(Path(__file__).parent):
    sys.path.insert(0, str(_here.parent))
    __path__, __file__ = [str(_here)], str(_here / "__init__.py")

# A terminal that is not UTF-8 shows "?" for a character that it lacks; it never ends a run. A file or pipe gets UTF-8.
if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="replace", encoding=None if sys.stdout.isatty() else "utf-8")


def _end(signum: int, _: object) -> None:
    name = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
    os.write(2, f"stopped by {name} before it began; the same command begins it\n".encode())
    os._exit(128 + signum)


# A command imports for two or three seconds before it listens to signals. Until then they end it here, in a line instead of a
# traceback. Only there where Python is still looking for what `-m` names: whoever imports it listens to signals in a way of their own.
if sys.argv[:1] == ["-m"]:
    for _signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_signum, _end)
