"""A copy of the repository with small data, in which tests run DVC as a user does: as a program."""

from collections.abc import Callable
from importlib import import_module

import pytest
from filelock import FileLock

from benchmarks.copies import SMALL, Repository, outputs, working_tree
from pairpref.monitor import Log
from pairpref.params import load


@pytest.fixture(scope="session")
def repository(tmp_path_factory, request) -> Repository:
    """The working tree, committed, with its pipeline run on small data.

    It runs once for all test processes. Each works in its own copy.
    """
    mine = tmp_path_factory.mktemp("repository")
    shared = mine.parent.parent if hasattr(request.config, "workerinput") else mine.parent
    with FileLock(shared / "small.lock"):
        if not (shared / "small.done").exists():
            copy = working_tree(shared / "small", SMALL)
            print(copy.dvc("repro"))
            copy.git("add", "--all")
            copy.git("commit", "--quiet", "--message", "a small run")
            (shared / "small.done").touch()
    return Repository.at(shared / "small").copy(mine)


@pytest.fixture
def clean_tree(repository):
    """The repository as its small run left it, before and after a test that runs experiments."""
    before = outputs(repository.path)
    yield repository
    repository.git("reset", "--hard", "--quiet")
    repository.git("clean", "-d", "--force", "--quiet")
    if outputs(repository.path) != before:
        repository.dvc("checkout", "--force")


@pytest.fixture
def run_here(clean_tree) -> Callable[[str], None]:
    """Run a stage in the repository, but in this process, which has imported everything."""

    def run(stage: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(clean_tree.path)
            log = Log(stage)
            getattr(import_module(f"stages.{stage}"), stage)(load(), log)
            log.end()

    return run
