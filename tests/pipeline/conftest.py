"""A copy of the repository with small data, in which tests run DVC as a user does: as a program."""

import pytest

from benchmarks.copies import SMALL, Repository, working_tree


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Repository:
    """The working tree as it stands, committed, with its pipeline run once on small data."""
    copy = working_tree(tmp_path_factory.mktemp("repository"), SMALL)
    print(copy.dvc("repro"))
    copy.git("add", "--all")
    copy.git("commit", "--quiet", "--message", "a small run")
    return copy


@pytest.fixture
def clean_tree(repository):
    """The repository after its small run, restored after a test that runs experiments in it."""
    yield repository
    repository.git("reset", "--hard", "--quiet")
    repository.git("clean", "-d", "--force", "--quiet")
    repository.dvc("checkout", "--force")
