"""A copy of the working tree to run programs in, without this user's git and DVC settings."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from dvc.utils.hydra import apply_overrides

from benchmarks import resource_usage
from benchmarks.resource_usage import ROOT

DVC = (sys.executable, "-m", "dvc")
# A pipeline of half a minute. Other processes would import for longer than they work.
SMALL = [
    "simulate.rows=360",
    "simulate.test_rows=40",
    "data.folds=3",
    "oof.folds=2",
    "train.epochs=1",
    "train.seeds=[0,1]",
    "train.batch_size=4",
    "model.hidden_size=16",
    "model.max_length=64",
    "tokenize.vocab_size=600",
    "parallel.jobs=1",
]


@dataclass(frozen=True)
class Repository:
    """A repository and the environment its commands run in."""

    path: Path
    environment: dict[str, str]

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The repository in `folder`/tree; the home folder of its commands is beside it."""
        author = {
            f"GIT_{who}_{what}": "tests@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        environment = resource_usage.environment(folder / "home")
        return cls(folder / "tree", {**environment, **author, "HF_HUB_OFFLINE": "1"})

    def copy(self, folder: Path) -> Self:
        """A copy in another folder, with git-ignored files and DVC's cache.

        What DVC remembers of files by their inodes does not apply to the copy.
        """
        shutil.copytree(self.path, folder / "tree", symlinks=True)
        return self.at(folder)

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command, whatever its exit code; output and errors are text in `stdout`."""
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1800,
        )

    def dvc(self, *arguments: str) -> str:
        """Run `dvc` and return what it printed; it must succeed."""
        return self._must(*DVC, *arguments)

    def git(self, *arguments: str) -> str:
        """Run `git` and return what it printed; it must succeed."""
        return self._must("git", *arguments)

    def _must(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stdout
        return done.stdout


def working_tree(folder: Path, overrides: Sequence[str]) -> Repository:
    """The working tree with some params changed, committed without dvc.lock; nothing has run yet.

    Args:
        folder: new or empty.
        overrides: as `dvc exp run -S` takes them; of two for the same param the last counts.
    """
    copy = Repository.at(folder)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    for name in filter(lambda n: (ROOT / n).is_file(), listed.stdout.splitlines()):
        (copy.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy.path / name)
    (copy.path / "dvc.lock").unlink(missing_ok=True)
    apply_overrides(copy.path / "params.yaml", list(overrides))
    copy.git("init", "--quiet", "--initial-branch=main")
    copy.git("add", "--all")
    copy.git("commit", "--quiet", "--message", "the project")
    return copy


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    """The stages of a folder's dvc.yaml, in its order."""
    return yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def outputs(folder: Path) -> dict[str, str]:
    """Path → SHA-256 of each out, metrics file and plot in dvc.yaml; of folders, each file."""
    files = {
        file for path in _declared(folder) for file in (path, *path.rglob("*")) if file.is_file()
    }
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
    }


def _declared(folder: Path) -> Iterator[Path]:
    for stage in stages(folder).values():
        for entry in (
            entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])
        ):
            yield from (folder / path for path in ([entry] if isinstance(entry, str) else entry))
