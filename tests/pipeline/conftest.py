"""A copy of the repository with small data, in which tests run DVC as a user does: as a program."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

ROOT = Path(__file__).parents[2]
SMALL = [
    "simulate.rows=360",
    "simulate.test_rows=40",
    "data.folds=3",
    "oof.folds=2",
    "train.epochs=1",
    "train.seeds=[0,1]",
    "model.hidden_size=16",
    "model.max_length=64",
    "tokenize.vocab_size=600",
]


@dataclass(frozen=True)
class Repository:
    """A repository and the environment its commands run in, cut off from the user's own git and DVC settings."""

    path: Path
    environment: dict[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command to its end, whatever its exit code; output and errors as text in `stdout`."""
        return subprocess.run(
            command, cwd=self.path, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600
        )

    def dvc(self, *arguments: str) -> str:
        """Run `dvc` and return what it printed; it must succeed."""
        done = self.run(sys.executable, "-m", "dvc", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))}
    author = {f"GIT_{who}_{what}": "tests@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dvc = {f"DVC_{name}": str(home) for name in ("GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR", "SITE_CACHE_DIR")}
    return {
        **kept,
        **author,
        **dvc,
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_TEST": "1",
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Repository:
    """The working tree as it stands, committed, with its pipeline run once on small data."""
    path, home = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("home")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    for name in filter(lambda n: (ROOT / n).is_file(), listed.stdout.splitlines()):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, path / name)
    (path / "dvc.lock").unlink(missing_ok=True)
    apply_overrides(path / "params.yaml", SMALL)
    copy = Repository(path, {**_environment(home), "PYTHONPATH": str(path / "src")})
    copy.git("init", "--quiet", "--initial-branch=main")
    copy.git("add", "--all")
    copy.git("commit", "--quiet", "--message", "the project")
    print(copy.dvc("repro"))
    copy.git("add", "--all")
    copy.git("commit", "--quiet", "--message", "a small run")
    return copy
