"""Calibrated probabilities from human votes on pairs of answers."""

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

# A terminal that is not UTF-8 shows "?" for a character that it lacks; it never ends a run.
if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="replace")
