"""The pipeline's stages, each run as `python -m stages.<word>`, by the package of their own repository.

A stage imports for two or three seconds before it listens to signals. Until then they end it here, in a line instead of a traceback.
"""

import os
import signal
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# Before whatever an installation names: DVC records the hash of the code beside this file.
sys.path.insert(0, str(_ROOT / "src"))


def code() -> dict[Path, int]:
    """When each file of code was last written, in ns."""
    return {path: path.stat().st_mtime_ns for name in ("src", "stages") for path in (_ROOT / name).rglob("*.py")}


CODE = code()
"""As it was before anything was imported."""


def _end(signum: int, _: object) -> None:
    name = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
    os.write(sys.stderr.fileno(), f"stopped by {name} before it began; the same command begins it\n".encode())
    os._exit(128 + signum)


# Only there where Python is still looking for the stage to run: whoever imports one listens to signals in a way of their own.
if sys.argv[0] == "-m":
    for _signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_signum, _end)
