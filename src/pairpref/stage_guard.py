"""A stage's inputs must be at its end what they were when it began: DVC writes down params and files as they are then.

Whoever edits params.yaml for the next experiment while this one runs would otherwise have its result recorded as the next one's.
For the same reason a stage runs no code but that of the folder it runs in.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pairpref.errors import UserError
from pairpref.params import flat, raw

_DVC = Path("dvc.yaml")
_SMALL = 2**20


def refuse_other_code() -> None:
    """Called before a stage runs.

    Raises:
        UserError: there is a dvc.yaml here, whose hashes are of the code here, but other code was imported, or it was edited meanwhile.
    """
    for name, folder in (("stages", "stages"), (__package__, "src/pairpref")):
        file = getattr(sys.modules.get(name), "__file__", None)
        if _DVC.exists() and file and Path(file).resolve().parent != Path(folder).resolve():
            raise UserError(
                f"{folder}/ here is not the code that runs, which is in {Path(file).parent}: DVC would record the wrong hash. "
                "Unset PYTHONPATH, and run it without -P."
            )
    stages = sys.modules.get("stages")
    if stages and stages.code() != stages.CODE:
        raise UserError(
            "code was edited while the stage was being imported: the same command again runs it as it is now."
        )


class Inputs:
    """The params and files that dvc.yaml names as a stage's inputs, as they are now. Without a dvc.yaml there are none.

    Raises:
        UserError: a file that another stage makes is missing.
    """

    def __init__(self, stage: str) -> None:
        stages = yaml.safe_load(_DVC.read_text(encoding="utf-8"))["stages"] if _DVC.exists() else {}
        self._named = stages.get(stage, {})
        made = {
            Path(out): name
            for name, other in stages.items()
            if name != stage
            for out in _outs(other)
        }
        for path in self._deps():
            makers = [made[known] for known in (path, *path.parents) if known in made]
            if makers and not path.exists():
                raise UserError(
                    f"{path} is missing; the stage {makers[0]} makes it: `dvc repro {stage}`"
                )
        self._before = self._now()

    def check(self) -> None:
        """Refuse to end where an input has changed since.

        Raises:
            UserError: naming what has changed.
        """
        now = self._now()
        if changed := [
            name
            for name in sorted({*self._before, *now})
            if self._before.get(name) != now.get(name)
        ]:
            raise UserError(
                f"{', '.join(changed)} changed while the stage ran: what it made belongs to what was there before, and is not kept. "
                "The same command again runs it on what is there now."
            )

    def _now(self) -> dict[str, Any]:
        params = self._params()
        of_stage = tuple(self._named.get("params", ()))
        found = {
            name: value
            for name, value in params.items()
            if any(name == p or name.startswith(f"{p}.") for p in of_stage)
        }
        for name, _, item in (param.rpartition(".") for param in of_stage):
            if item.isdigit():
                found[f"{name}.{item}"] = params.get(name, [])[int(item) : int(item) + 1]
        for path in self._deps():
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    found[file.as_posix()] = _seen(file)
        return found

    def _params(self) -> dict[str, Any]:
        return flat(raw() or {}) if self._named else {}

    def _deps(self) -> list[Path]:
        params = self._params()
        return [
            Path(str(params.get(dep[2:-1], "")) if dep.startswith("${") else dep)
            for dep in self._named.get("deps", ())
        ]


def _outs(stage: dict[str, Any]) -> Iterator[str]:
    """Paths of a stage's outs, metrics and plots; those with options are dicts of one key."""
    for entry in (entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, ())):
        yield from [entry] if isinstance(entry, str) else entry


def _seen(file: Path) -> object:
    """A small file's bytes, hashed; of a large one, which nobody edits by hand, size and time are enough."""
    status = file.stat()
    if status.st_size < _SMALL:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    return status.st_size, status.st_mtime_ns
