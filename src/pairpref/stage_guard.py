"""A stage's inputs must not change while it runs, because DVC records them at its end."""

import hashlib
import sys
from collections.abc import Iterator
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


class Inputs:
    """The params and files that dvc.yaml names as a stage's inputs, as they are now.

    Raises:
        UserError: a file that another stage makes is missing.
    """

    def __init__(self, stage: str) -> None:
        stages = raw(DVC)["stages"] if DVC.exists() else {}
        self._declared = stages.get(stage, {})
        made = {
            Path(out): name
            for name, other in stages.items()
            if name != stage
            for out in _outs(other)
        }
        for path in self._deps():
            maker = next((made[known] for known in (path, *path.parents) if known in made), None)
            if maker and not path.exists():
                raise UserError(
                    f"{path} is missing; the stage {maker} makes it: `dvc repro {stage}`"
                )
        self._before = self._now()

    def check(self) -> None:
        """Called at the stage's end.

        Raises:
            UserError: inputs have changed; it names them.
        """
        before, now = self._before, self._now()
        changed = [name for name in sorted(before | now) if before.get(name) != now.get(name)]
        if changed:
            raise UserError(
                f"{', '.join(changed)} changed while the stage ran, so its result is not kept. "
                "Run the same command again."
            )

    def _now(self) -> dict[str, Any]:
        params = raw(PARAMS) if self._declared else {}
        found = flat({name: _value(params, name) for name in self._declared.get("params", ())})
        for path in self._deps():
            for file in [path] if path.is_file() else path.rglob("*"):
                if file.is_file() and "__pycache__" not in file.parts:
                    found[file.as_posix()] = _seen(file)
        return found

    def _deps(self) -> list[Path]:
        params = raw(PARAMS) if self._declared else {}
        return [
            Path(str(_value(params, dep[2:-1])) if dep.startswith("${") else dep)
            for dep in self._declared.get("deps", ())
        ]


def _value(params: Any, name: str) -> Any:
    """A param by its dotted name, in which items of lists are numbers; None where it is missing."""
    for part in name.split("."):
        try:
            params = params[int(part) if isinstance(params, list) else part]
        except (LookupError, TypeError, ValueError):
            return None
    return params


def _outs(stage: dict[str, Any]) -> Iterator[str]:
    """Paths of a stage's outs, metrics and plots; those with options are dicts of one key."""
    for entry in (entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, ())):
        yield from [entry] if isinstance(entry, str) else entry


def _seen(file: Path) -> object:
    """The hash of a small file; size and time of a large one, which nobody edits by hand."""
    status = file.stat()
    if status.st_size < _SMALL:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    return status.st_size, status.st_mtime_ns
