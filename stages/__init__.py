"""The pipeline's stages, each run as `python -m stages.<word>`, by the package of their own repository."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# Before whatever an installation names: DVC records the hash of the code beside this file.
sys.path.insert(0, str(_ROOT / "src"))


def code() -> dict[Path, int]:
    """When each file of code was last written, in ns."""
    return {
        path: path.stat().st_mtime_ns
        for name in ("src", "stages")
        for path in (_ROOT / name).rglob("*.py")
    }


CODE = code()
"""As it was before anything was imported."""

import pairpref  # noqa: E402, F401  listens to signals from now on
