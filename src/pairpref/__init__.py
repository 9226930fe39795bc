"""Calibrated probabilities from human votes on pairs of answers."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairpref.judge import Judge as Judge

# In a clone, a linked worktree or DVC's copy for an experiment, or below it, the package of that
# repository runs, whatever folder an installation names. Workers are given sys.path.
_cwd = Path.cwd()
_found = (folder / "src" / "pairpref" for folder in (_cwd, *_cwd.parents))
_here = next((folder for folder in _found if (folder / "__init__.py").is_file()), None)
if _here and not _here.samefile(Path(__file__).parent):
    sys.path.insert(0, str(_here.parent))
    __path__, __file__ = [str(_here)], str(_here / "__init__.py")

# A terminal that is not UTF-8 shows "?" for a character that it lacks. Files and pipes get UTF-8.
if hasattr(sys.stdout, "reconfigure"):
    _encoding = None if sys.stdout.isatty() else "utf-8"
    sys.stdout.reconfigure(errors="replace", encoding=_encoding)


def _end(signum: int, _: object) -> None:
    name = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
    os.write(2, f"stopped by {name} during start-up; run the command again\n".encode())
    os._exit(128 + signum)


# A command imports for seconds before it handles signals itself; until then they end it in a line.
# Only commands: `python -m` is named "-m" while it looks for its module.
if sys.argv and Path(sys.argv[0]).name in ("-m", "pairpref"):
    for _signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_signum, _end)


def __getattr__(name: str) -> object:
    """`from pairpref import Judge` imports what it needs only then."""
    if name != "Judge":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pairpref.judge import Judge

    return Judge
