"""A stage's code and inputs must not change while it runs, because DVC records them at its end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairpref.errors import UserError
from pairpref.paths import DVC, PARAMS
from pairpref.typed_yaml import flat, raw

_SMALL = 2**20


def refuse_other_code() -> None:
    """Called before a stage runs.

    Raises:
        UserError: what was imported is not this folder's code, which DVC hashes, as it is now.
    """
    for name, folder in (("stages", "stages"), (__package__, "src/pairpref")):
        file = getattr(sys.modules.get(name), "__file__", None)
        if DVC.exists() and file and Path(file).resolve().parent != Path(folder).resolve():
            raise UserError(
                f"{folder}/ here is not the code that runs, which is in {Path(file).parent}: DVC "
                "would record the wrong hash. Unset PYTHONPATH, and run without -P."
            )
    stages = sys.modules.get("stages")
    if stages and stages.code() != stages.CODE:
        raise UserError("code was edited during start-up; run the same command again.")


@contextmanager
def unchanged(stage: str) -> Iterator[None]:
    """A block in which the params and files that dvc.yaml names as a stage's inputs stay the same.

    Raises:
        UserError: an input is missing, or changed; it is named.
    """
    before = _inputs(stage)
    yield
    now = _inputs(stage)
    changed = [name for name in sorted(before | now) if before.get(name) != now.get(name)]
    if changed:
        raise UserError(
            f"{', '.join(changed)} changed while the stage ran, so its result is not kept. "
            "Run the same command again."
        )


def _inputs(stage: str) -> dict[str, Any]:
    """Values of params, contents of small files, size and time of large ones."""
    declared = raw(DVC)["stages"].get(stage, {}) if DVC.exists() else {}
    params = raw(PARAMS) if declared else {}
    found = flat({name: _value(params, name) for name in declared.get("params", ())})
    for dep in declared.get("deps", ()):
        path = Path(str(_value(params, dep[2:-1])) if dep.startswith("${") else dep)
        if not path.exists() and "$" not in dep:  # the stage itself refuses the user's files
            raise UserError(f"{path} is missing: `dvc repro {stage}` makes it first.")
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                status = file.stat()
                large = status.st_size >= _SMALL
                state = (status.st_size, status.st_mtime_ns) if large else file.read_bytes()
                found[file.as_posix()] = state
    return found


def _value(params: Any, name: str) -> Any:
    """A param by its dotted name, in which items of lists are numbers; None where it is missing."""
    for part in name.split("."):
        try:
            params = params[int(part) if isinstance(params, list) else part]
        except (LookupError, TypeError, ValueError):
            return None
    return params
