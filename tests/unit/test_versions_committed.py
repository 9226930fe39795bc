"""What the repository says of its versions is what their commits hold."""

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pairpref.paths import LEADERBOARD, LOG, MEASURED, VERSIONS
from pairpref.typed_yaml import flat
from pairpref.versions import catalog as catalogs
from pairpref.versions import log, results
from pairpref.versions import predictions as kept
from pairpref.versions.git import Repository

ROOT = Path(__file__).parents[2]
CATALOG = catalogs.load(ROOT / "versions/catalog.yaml")
KEPT = [name for name in CATALOG.ordered() if results.predictions_path(name, ROOT).exists()]


@pytest.fixture(scope="module")
def repository() -> Repository:
    found = Repository(ROOT)
    if found.git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("a shallow clone does not hold the versions' commits")
    return found


def at(repository: Repository, name: str, path: str) -> bytes:
    commit = repository.versions().get(name)
    assert commit, f"{name} is kept in versions/, but no commit has its trailer"
    found = repository.show(commit.sha, path)
    assert found is not None, f"{path} is not in the commit of {name}"
    return found


@pytest.mark.parametrize("name", KEPT)
def test_predictions_are_those_of_the_commit(repository, name):
    path = results.predictions_path(name).as_posix()
    assert (ROOT / path).read_bytes() == at(repository, name, path)
    frame = kept.read(ROOT / path)
    one_seed = frame[frame["seed"] == frame["seed"].iloc[0]]
    first = kept.measure(one_seed)
    committed = json.loads(at(repository, name, "metrics/calibrate.json"))
    final = kept.measure(kept.final_probabilities(one_seed))
    members = flat(yaml.safe_load(at(repository, name, "params.yaml")))["fusion.members"]
    if len(members) == 1:
        first = final
    else:  # Fused on fold 0 alone, to compare with versions of one fold: other weights.
        assert final["log_loss"] == pytest.approx(committed["log_loss"], abs=5e-3)
        committed = json.loads(at(repository, name, "metrics/train.json"))
    # Rounding to 5 decimals may make two probabilities equal and so change the most likely answer.
    for figure, moved in (("log_loss", 2e-4), ("accuracy", 1e-3), ("f1_macro", 1e-3)):
        assert first[figure] == pytest.approx(committed[figure], abs=moved)
    assert (ROOT / VERSIONS / name / results.TRAINING).read_bytes() == at(
        repository, name, "plots/train.csv"
    )


@pytest.mark.parametrize("name", KEPT)
def test_measured_figures_are_those_of_the_predictions(name):
    row = results.read_measured(ROOT / MEASURED).loc[name]
    for figure, value in kept.measure(kept.read(results.predictions_path(name, ROOT))).items():
        assert row[figure] == pytest.approx(value, abs=1e-6), figure


@pytest.mark.parametrize("name", KEPT)
def test_the_commit_ran_what_the_catalog_says(repository, name):
    ran = flat(yaml.safe_load(at(repository, name, "params.yaml")))
    assert {key: ran.get(key) for key in CATALOG.changes(name)} == CATALOG.changes(name)


@pytest.mark.skipif(CATALOG.anchor not in KEPT, reason="the anchor is not replayed")
def test_the_anchors_submission_is_the_one_it_made(repository):
    packed = (ROOT / VERSIONS / CATALOG.anchor / "submission.csv.gz").read_bytes()
    lock = yaml.safe_load(at(repository, CATALOG.anchor, "dvc.lock"))
    made = {out["path"]: out["md5"] for out in lock["stages"]["predict"]["outs"]}
    assert hashlib.md5(gzip.decompress(packed)).hexdigest() == made["submission.csv"]


def test_simulated_scores_are_those_of_the_commits(repository):
    scores = results.read_leaderboard(ROOT / LEADERBOARD)
    for row in scores[scores["regime"] == "simulated"].itertuples():
        committed = json.loads(at(repository, row.version, "metrics/test.json"))
        assert row.public == pytest.approx(committed["log_loss_public"], abs=1e-5)
        assert row.private == pytest.approx(committed["log_loss_private"], abs=1e-5)


def test_the_log_is_what_replay_writes(repository, tmp_path):
    """Written again beside the repository's history, it is the same, whatever LOG.md says."""
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", ROOT, copy], check=True)
    shutil.copytree(ROOT / VERSIONS, copy / VERSIONS)
    (copy / LOG).unlink()
    log.write(CATALOG, copy)
    assert (copy / LOG).read_text(encoding="utf-8") == (ROOT / LOG).read_text(encoding="utf-8")


def test_kept_files_are_small():
    assert all(path.stat().st_size < 200_000 for path in (ROOT / VERSIONS).rglob("*"))


def test_every_version_and_feature_is_measured_on_the_same_votes():
    frames = [kept.read(path) for path in sorted((ROOT / VERSIONS).rglob("*.parquet"))]
    assert all(kept.same_votes(frames[0], other) for other in frames[1:])


@pytest.mark.parametrize("name", KEPT)
def test_predictions_are_there_for_every_seed_that_the_version_trained(repository, name):
    seeds = yaml.safe_load(at(repository, name, "params.yaml"))["train"]["seeds"]
    votes = kept.read(results.predictions_path(name, ROOT)).groupby("seed")["id"].nunique()
    assert list(votes.index) == seeds and votes.nunique() == 1
    assert results.read_measured(ROOT / MEASURED).loc[name, "seeds"] == len(seeds)
