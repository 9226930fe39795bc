import subprocess
from pathlib import Path

import pytest

from pairpref.errors import UserError
from pairpref.versions import log as logs
from pairpref.versions import replay as replays
from pairpref.versions.git import Repository
from pairpref.versions.replay import Replay


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A machine on which git knows nobody."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in (
        "GIT_AUTHOR_NAME",
        "GIT_AUTHOR_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_COMMITTER_EMAIL",
        "EMAIL",
    ):
        monkeypatch.delenv(name, raising=False)


def started(folder: Path) -> Repository:
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
    (folder / ".git" / "info" / "exclude").write_text("work\n")
    repository = Repository(folder)
    repository.git("config", "user.useConfigOnly", "true")
    return repository


def step(repository: Repository, text: str, message: str) -> str:
    (repository.folder / "params.yaml").write_text(text)
    repository.commit(message, "params.yaml")
    return repository.head()


@pytest.fixture
def repository(tmp_path) -> Repository:
    found = started(tmp_path / "here")
    step(
        found, "1", "begun\n\nNot a version: its message only speaks of Version: v9.0 in passing.\n"
    )
    return found


def test_a_version_is_the_newest_commit_with_its_trailer(repository):
    old = step(repository, "2", "v1.0: better\n\n- Measured\n\nVersion: v1.0\n")
    step(repository, "3", "v2.0: worse\n\nVersion: v2.0\n")
    new = step(repository, "4", "v1.0: not shown\n\n- Measured again\n\nVersion: v1.0\n")
    found = repository.versions()
    assert set(found) == {"v1.0", "v2.0"} and found["v1.0"].sha == new != old
    assert found["v1.0"].message == "v1.0: not shown\n\n- Measured again"


def test_commits_need_no_identity_and_no_changes(repository):
    head = step(repository, "2", "v1.0: better\n\nVersion: v1.0\n")
    assert repository.versions()["v1.0"].committer[0] == "pairpref"
    measured = step(repository, "2", "measured again\n\nMeasured: features\n")
    assert repository.versions("Measured")["features"].sha == measured != head


def test_a_branch_of_a_tags_name_and_odd_settings_change_nothing(repository):
    sha = step(repository, "2", "v1.0: better ±\n\nVersion: v1.0\n")
    repository.tag(repository.versions())
    repository.git("branch", "v1.0", "HEAD~1")
    for name, value in (
        ("grep.patternType", "fixed"),
        ("trailer.separators", "="),
        ("i18n.logOutputEncoding", "latin1"),
    ):
        repository.git("config", name, value)
    assert (
        repository.tags() == {"v1.0": sha}
        and repository.versions()["v1.0"].message == "v1.0: better ±"
    )


def test_what_a_user_ignores_elsewhere_is_committed(repository, tmp_path):
    (tmp_path / "ignore").write_text("*.yaml\n")
    repository.git("config", "core.excludesFile", str(tmp_path / "ignore"))
    (repository.folder / "new").mkdir()
    (repository.folder / "new" / "other.yaml").write_text("1")
    repository.commit("v1.0: better\n", "new")
    assert repository.show("HEAD", "new/other.yaml") == b"1"


def test_a_tag_is_the_same_object_wherever_it_is_made(repository, tmp_path):
    step(repository, "2", "v1.0: besser, größer 🙂\n\n- one\n- two\n\nVersion: v1.0\n")
    subprocess.run(
        ["git", "clone", "--quiet", "--no-tags", repository.folder, tmp_path / "there"], check=True
    )
    there = Repository(tmp_path / "there")
    for here in (repository, there):
        assert here.tag(here.versions()) == ["tagged v1.0"]
    assert (
        repository.git("rev-parse", "v1.0") == there.git("rev-parse", "v1.0") != repository.head()
    )
    assert repository.git("cat-file", "-t", "v1.0") == "tag" and "größer 🙂\n\n- one" in there.git(
        "cat-file", "-p", "v1.0"
    )
    assert there.git("fetch", "--tags").strip() == ""
    assert there.tag(there.versions()) == []


def test_a_tag_is_never_moved_unasked(repository):
    old = step(repository, "2", "v1.0: better\n\nVersion: v1.0\n")
    repository.tag(repository.versions())
    new = step(repository, "3", "v1.0: worse\n\nVersion: v1.0\n")
    (said,) = repository.tag(repository.versions())
    assert "v1.0: the tag is on another commit" in said and repository.tags()["v1.0"] == old
    assert repository.tag(repository.versions(), move=["v1.0"]) == ["tagged v1.0"]
    assert repository.tags()["v1.0"] == new


def test_a_users_own_tag_counts_as_a_tag(repository):
    step(repository, "2", "v1.0: better\n\nVersion: v1.0\n")
    repository.git("tag", "v1.0")
    assert repository.tag(repository.versions()) == []


def test_a_shallow_clone_has_the_versions_of_its_commits(repository, tmp_path):
    step(repository, "2", "v1.0: better\n\nVersion: v1.0\n")
    step(repository, "3", "v2.0: better\n\nVersion: v2.0\n")
    source = repository.folder.as_uri()
    subprocess.run(["git", "clone", "--quiet", "--depth=1", source, tmp_path / "there"], check=True)
    there = Repository(tmp_path / "there")
    assert set(there.versions()) == {"v2.0"}


def test_variables_of_a_hook_do_not_lead_elsewhere(repository, tmp_path, monkeypatch):
    other = started(tmp_path / "other")
    step(other, "1", "elsewhere\n")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    assert repository.head() != other.head() or repository.git("log", "--format=%s") == "begun"


def test_edits_are_listed(repository):
    assert repository.changed() == []
    (repository.folder / "params.yaml").write_text("other")
    (repository.folder / "new").mkdir()
    (repository.folder / "new" / "file").write_text("")
    assert repository.changed() == ["params.yaml", "new/file"]
    assert (
        repository.show("HEAD", "params.yaml") == b"1"
        and repository.show("HEAD", "nowhere") is None
    )


def test_outside_of_git(tmp_path):
    with pytest.raises(UserError, match="not a git repository"):
        Repository(tmp_path).versions()


def test_a_branch_that_was_switched_to_meanwhile_gets_nothing(repository, monkeypatch):
    replay = Replay(None, None, repository.folder)
    for of, name in ((logs, "write"), (replays, "dvc"), (replay, "_set"), (replay.tree, "commit")):
        monkeypatch.setattr(of, name, lambda *_, **__: None)
    repository.git("switch", "--quiet", "--create", "other")
    with pytest.raises(UserError, match="another branch was checked out"):
        replay._finish("done")


def test_edits_are_refused(repository):
    (repository.folder / "params.yaml").write_text("mine")
    with pytest.raises(UserError, match="params.yaml differ from the last commit"):
        Replay(None, None, repository.folder)


def test_one_replay_at_a_time(repository):
    first = Replay(None, None, repository.folder)
    with pytest.raises(UserError, match="another replay is running"):
        Replay(None, None, repository.folder)
    del first
    Replay(None, None, repository.folder)


def test_a_damaged_worktree_is_made_anew(repository, params_yaml):
    """Without its .git file, git commands in it would reset the user's own repository."""
    step(repository, params_yaml.read_text(encoding="utf-8"), "params\n")
    subprocess.run(["dvc", "init", "--quiet"], cwd=repository.folder, check=True)
    repository.commit("dvc\n", ".dvc", ".dvcignore")
    replay = Replay(None, None, repository.folder)
    replay._open()
    (replay.folder / ".git").unlink()
    (repository.folder / "params.yaml").write_text("edited since")
    replay._open()
    assert (replay.folder / ".git").exists() and replay.tree.head() == repository.head()
    assert (repository.folder / "params.yaml").read_text() == "edited since"
    replay._close()
    assert len(repository.git("worktree", "list").splitlines()) == 1
