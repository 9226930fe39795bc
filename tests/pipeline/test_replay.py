"""Versions replayed as users replay them, on small data: interrupted, resumed, compared."""

import json
import re
import signal
import subprocess
import sys

import pytest

from pairpref.params import load
from pairpref.typed_yaml import flat

pytestmark = pytest.mark.slow
VERSIONS = (sys.executable, "-m", "pairpref.versions")


def started(repository, *arguments: str) -> subprocess.Popen:
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(
        [*VERSIONS, *arguments], cwd=repository.path, env=repository.environment, **output
    )


@pytest.fixture(scope="module")
def replayed(repository, tmp_path_factory):
    """A repository in which a replay was stopped by Ctrl-C during a training and then resumed."""
    copy = repository.copy(tmp_path_factory.mktemp("replay"))
    before = copy.git("rev-parse", "HEAD"), (copy.path / "params.yaml").read_text(encoding="utf-8")
    began = started(copy, "replay", "v17.0", "v18.0")
    printed = []
    for line in began.stdout:
        printed.append(line)
        if "training on" in line:
            began.send_signal(signal.SIGINT)
    assert began.wait(60) == 130, "".join(printed)
    assert "the same command resumes" in printed[-1], "".join(printed)
    assert (
        copy.git("rev-parse", "HEAD"),
        (copy.path / "params.yaml").read_text(encoding="utf-8"),
    ) == before
    assert copy.git("status", "--porcelain") == "" and "up to date" in copy.dvc("status")

    done = copy.run(*VERSIONS, "replay", "v17.0", "v18.0")
    assert done.returncode == 0, done.stdout
    assert "v17.0, 1 of 2" in done.stdout and re.search(
        r"v18.0, 2 of 2, about \d:\d\d:\d\d left", done.stdout
    )
    assert (copy.path / "params.yaml").read_text(encoding="utf-8") == before[1]
    return copy


def at(repository, version: str, path: str) -> str:
    return repository.git("show", f"{version}:{path}")


def test_a_replay_leaves_commits_tags_and_the_users_params(replayed):
    assert replayed.git("status", "--porcelain") == "" and "up to date" in replayed.dvc("status")
    subjects = replayed.git("log", "--format=%s").splitlines()
    assert subjects[0].startswith("Back to the params as they were") and [
        s[:6] for s in subjects[1:3]
    ] == ["v18.0:", "v17.0:"]
    assert replayed.git("tag").split() == ["v17.0", "v18.0"]
    assert "Hypothesis: Small batches" in replayed.git("cat-file", "-p", "v17.0")
    assert (
        not (replayed.path / "work/replay").exists()
        and len(replayed.git("worktree", "list").splitlines()) == 1
    )


def test_each_commit_holds_its_run(replayed, tmp_path):
    for version, dual in (("v17.0", False), ("v18.0", True)):
        (tmp_path / version).write_text(at(replayed, version, "params.yaml"), encoding="utf-8")
        params = load(tmp_path / version)
        assert (
            params.inference.dual_order is dual
            and params.oof.folds == 1
            and params.simulate.rows == 360
        )
        assert len(params.train.seeds) == 3
        row = next(
            line
            for line in at(replayed, version, "versions/measured.csv").splitlines()
            if line.startswith(version)
        ).split(",")
        final = json.loads(at(replayed, version, "metrics/calibrate.json"))
        assert float(row[1]) == pytest.approx(final["log_loss"], abs=0.05) and int(row[-2]) == 3
        assert f"{version},measured," in at(replayed, version, "plots/versions_log_loss.csv")
    assert "v18.0" not in at(replayed, "v17.0", "versions/measured.csv")
    assert "submission.csv.gz" in replayed.git("ls-tree", "-r", "v17.0", "versions/v17.0")
    assert "submission.csv.gz" not in replayed.git("ls-tree", "-r", "v18.0", "versions/v18.0")


def test_a_second_replay_does_nothing(replayed):
    head = replayed.git("rev-parse", "HEAD")
    done = replayed.run(*VERSIONS, "replay", "v17.0", "v18.0")
    assert (
        done.returncode == 0
        and "nothing to do" in done.stdout
        and "Running stage" not in done.stdout
    )
    assert replayed.git("rev-parse", "HEAD") == head


def test_edits_are_refused_and_stay(replayed):
    path = replayed.path / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "# mine\n", encoding="utf-8")
    done = replayed.run(*VERSIONS, "replay", "v18.0")
    assert done.returncode == 2 and "params.yaml differ from the last commit" in done.stdout
    assert path.read_text(encoding="utf-8") == text + "# mine\n"
    path.write_text(text, encoding="utf-8")


def test_what_the_pipeline_wrote_is_no_edit(replayed):
    path = replayed.path / "metrics/train.json"
    path.write_text("{}")
    assert "nothing to do" in replayed.run(*VERSIONS, "replay", "v18.0").stdout
    replayed.git("checkout", "--quiet", "metrics/train.json")


def test_a_version_checked_out_is_there_without_a_run(replayed):
    replayed.git("checkout", "--quiet", "v17.0")
    replayed.dvc("checkout")
    assert "up to date" in replayed.dvc("repro") and replayed.git("status", "--porcelain") == ""
    assert "the same probabilities" in replayed.run(*VERSIONS, "check").stdout
    # v18.0 came later: its predictions are not in this commit, but under its tag.
    assert "against v18.0" in replayed.run(*VERSIONS, "check", "--against", "v18.0").stdout
    replayed.git("checkout", "--quiet", "main")
    replayed.dvc("checkout")


def test_missing_tags_come_back_as_they_were(replayed):
    before = replayed.git("show-ref", "--tags")
    replayed.git("tag", "--delete", "v17.0", "v18.0")
    assert "tagged v17.0, v18.0" in replayed.run(*VERSIONS, "tag").stdout
    assert replayed.git("show-ref", "--tags") == before


def test_the_users_own_commands(replayed):
    """What users type: each works and says something about the version that it names."""
    assert "log_loss" in replayed.dvc("metrics", "diff", "v17.0")
    assert "inference.dual_order" in replayed.dvc("params", "diff", "v17.0", "v18.0")
    assert "|" in replayed.dvc("metrics", "diff", "v17.0", "v18.0", "--md")
    assert "v17.0" in replayed.dvc("metrics", "show", "-T")
    replayed.dvc("plots", "diff", "v17.0", "v18.0", "--out", "work/plots")
    page = (replayed.path / "work/plots/index.html").read_text(encoding="utf-8")
    assert "v18.0" in page and "Log loss, version by version" in page
    table = replayed.run(*VERSIONS, "table").stdout
    assert "the anchor" in table and table.count("not replayed") == 11
    assert replayed.run(*VERSIONS, "check").stdout.startswith("this run, against v17.0:")


def test_what_the_code_makes_otherwise_is_replayed_again(replayed):
    (replayed.path / "src/pairpref/training/recipe.py").open("a").write("# another recipe\n")
    replayed.git("commit", "--all", "--quiet", "--message", "another recipe")
    began = started(replayed, "replay", "v18.0")
    line = next(line for line in began.stdout if "again" in line or "nothing" in line)
    began.send_signal(signal.SIGINT)
    began.communicate(timeout=300)
    assert "v18.0 is replayed again: src/pairpref/training changed since" in line
    replayed.git("reset", "--hard", "--quiet", "HEAD~1")
    # What was begun on the commit that is dropped now does not bring it back.
    head = replayed.git("rev-parse", "HEAD")
    assert (
        "nothing to do" in replayed.run(*VERSIONS, "replay", "v18.0").stdout
        and replayed.git("rev-parse", "HEAD") == head
    )


def test_small_params_are_the_versions_own_but_for_what_they_set(replayed, tmp_path):
    """Versions take from params.yaml what they don't set: the votes, the tokenizer."""
    (tmp_path / "params.yaml").write_text(at(replayed, "v17.0", "params.yaml"), encoding="utf-8")
    version, ours = (
        flat(load(path).model_dump())
        for path in (tmp_path / "params.yaml", replayed.path / "params.yaml")
    )
    differ = {name.split(".")[0] for name in ours if ours[name] != version[name]}
    set_by_versions = "clean text augment model train oof fusion calibrate inference"
    assert differ <= set(set_by_versions.split())


def test_the_log_tells_what_was_replayed(replayed):
    log = (replayed.path / "versions/LOG.md").read_text(encoding="utf-8")
    (entry,) = re.findall(r"### v18\.0, (\d{4}-\d\d-\d\d)\n(.*?)\n### ", log, re.DOTALL)
    assert entry[0] == replayed.git("log", "-1", "--format=%cd", "--date=short", "v18.0").strip()
    assert "- Measured: log loss" in entry[1] and "**Conclusion.** Not shown." in entry[1]
    assert "Not measured with the current code and votes" in log  # the versions not replayed
