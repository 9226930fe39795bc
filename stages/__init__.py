"""The pipeline's stages, run as `python -m stages.<word>` by their own repository's package."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# First, because DVC records the hash of the code beside this file.
sys.path.insert(0, str(_ROOT / "src"))


def code() -> dict[Path, int]:
    """When each file of code was last written, in ns."""
    files = (path for folder in ("src", "stages") for path in (_ROOT / folder).rglob("*.py"))
    return {path: path.stat().st_mtime_ns for path in files}


CODE = code()  # before anything was imported

import pairpref  # noqa: E402, F401  handles signals from now on
