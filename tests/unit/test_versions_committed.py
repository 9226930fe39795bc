"""What the repository says of its versions is what their commits hold: no table is typed by hand."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pairpref.typed_yaml import flat
from pairpref.versions import catalog as catalogs
from pairpref.versions import evidence, experiments, standing
from pairpref.versions.history import Repository

ROOT = Path(__file__).parents[2]
CATALOG = catalogs.load(ROOT / "versions.yaml")
KEPT = [name for name in CATALOG.ordered() if standing.predictions_of(name, ROOT).exists()]


@pytest.fixture(scope="module")
def repository() -> Repository:
    found = Repository(ROOT)
    if found.is_shallow():
        pytest.skip("a shallow clone does not hold the versions' commits")
    return found


def at(repository: Repository, name: str, path: str) -> bytes:
    commit = repository.versions().get(name)
    assert commit, f"{name} is kept in versions/, but no commit has its trailer"
    found = repository.show(commit.sha, path)
    assert found is not None, f"{path} is not in the commit of {name}"
    return found


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_what_the_commit_measured(repository, name):
    path = standing.predictions_of(name).as_posix()
    assert (ROOT / path).read_bytes() == at(repository, name, path)
    kept = evidence.read(ROOT / path)
    first = evidence.figures(kept[kept["seed"] == kept["seed"].iloc[0]])
    committed = json.loads(at(repository, name, "metrics/calibrate.json"))
    if "log_loss" in committed:
        first = evidence.figures(evidence.last_word(kept[kept["seed"] == kept["seed"].iloc[0]]))
    else:  # Versions without an export, replayed before the metrics of fold 0 became final ones.
        committed = json.loads(at(repository, name, "metrics/train.json"))
    # Kept probabilities are rounded to 5 decimals, which may make two of them equal and turn a vote's most likely answer.
    for figure, moved in (("log_loss", 2e-4), ("accuracy", 1e-3), ("f1_macro", 1e-3)):
        assert first[figure] == pytest.approx(committed[figure], abs=moved)
    assert (ROOT / evidence.FOLDER / name / standing.TRAINING).read_bytes() == at(
        repository, name, "plots/train.csv"
    )


@pytest.mark.parametrize("name", KEPT)
def test_the_row_is_what_is_kept(name):
    row = standing.read_figures(ROOT / standing.FIGURES).loc[name]
    for figure, value in evidence.figures(
        evidence.read(standing.predictions_of(name, ROOT))
    ).items():
        assert row[figure] == pytest.approx(value, abs=1e-6), figure


@pytest.mark.parametrize("name", KEPT)
def test_the_commit_ran_what_versions_yaml_says(repository, name):
    ran = flat(yaml.safe_load(at(repository, name, "params.yaml")))
    assert {key: ran.get(key) for key in CATALOG.changes(name)} == CATALOG.changes(name)


@pytest.mark.skipif(CATALOG.anchor not in KEPT, reason="the anchor is not replayed")
def test_the_anchors_submission_is_the_one_it_made(repository):
    packed = (ROOT / evidence.FOLDER / CATALOG.anchor / "submission.csv.gz").read_bytes()
    lock = yaml.safe_load(at(repository, CATALOG.anchor, "dvc.lock"))
    made = {out["path"]: out["md5"] for out in lock["stages"]["predict"]["outs"]}
    assert hashlib.md5(gzip.decompress(packed)).hexdigest() == made["submission.csv"]


def test_simulated_scores_are_those_of_the_commits(repository):
    scores = standing.read_leaderboard(ROOT / standing.LEADERBOARD)
    for row in scores[scores["regime"] == "simulated"].itertuples():
        committed = json.loads(at(repository, row.version, "metrics/test.json"))
        assert row.public == pytest.approx(committed["log_loss_public"], abs=1e-5)
        assert row.private == pytest.approx(committed["log_loss_private"], abs=1e-5)


def test_log_and_readme_are_what_is_generated(tmp_path):
    for path in (experiments.LOG, experiments.README, standing.FIGURES, standing.LEADERBOARD):
        if (ROOT / path).exists():
            shutil.copy(ROOT / path, tmp_path / path)
    shutil.copytree(ROOT / evidence.FOLDER, tmp_path / evidence.FOLDER)
    if KEPT:
        experiments.update(tmp_path, CATALOG)
        for path in (experiments.LOG, experiments.README):
            assert (tmp_path / path).read_text(encoding="utf-8") == (ROOT / path).read_text(
                encoding="utf-8"
            ), path


def test_what_is_kept_is_small():
    assert all(path.stat().st_size < 200_000 for path in (ROOT / evidence.FOLDER).rglob("*"))


def test_every_version_and_feature_is_measured_on_the_same_votes():
    kept = [evidence.read(path) for path in sorted((ROOT / evidence.FOLDER).rglob("*.parquet"))]
    assert all(evidence.same_votes(kept[0], other) for other in kept[1:])
    assert pd.Series([len(set(frame["seed"])) for frame in kept]).isin([3]).all()
