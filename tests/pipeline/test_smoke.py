"""The real dvc.yaml on small data: from scratch, again, on a user's votes, and with one change."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from dvc.utils.hydra import apply_overrides

from benchmarks.copies import stages
from pairpref.data import arena, cells
from pairpref.pairs import ORDERS, TEXTS, WINNERS
from pairpref.params import load

ROOT = Path(__file__).parents[2]
SCORES = {"log_loss", "accuracy", "f1_macro"}


def read(repository, path):
    return json.loads((repository.path / f"{path}.json").read_text(encoding="utf-8"))


def metrics(repository, stage):
    return read(repository, f"metrics/{stage}")


def test_metrics_are_the_version_table(repository):
    """A dozen numbers, each of the same votes in every version."""
    shown = json.loads(repository.dvc("metrics", "show", "--json"))[""]["data"]
    found = {Path(path).stem: file["data"] for path, file in shown.items()}
    assert found.keys() == {"train", "calibrate", "test"} and sum(map(len, found.values())) <= 16
    assert set(found["train"]) == SCORES and {*SCORES, "information_captured", "temperature"} < set(
        found["calibrate"]
    )
    assert set(found["test"]) == {"log_loss_public", "log_loss_private"}
    assert all(type(value) is float for file in found.values() for value in file.values())


def test_oof_covers_the_trained_folds(repository):
    pairs = pd.read_parquet(repository.path / "data/clean/pairs.parquet")
    oof = pd.read_parquet(repository.path / "data/oof/oof.parquet")
    assert {"id", "fold", "label", "p_a", "p_b", "p_tie", "c_a", "c_b", "c_tie"} == set(oof.columns)
    assert set(oof["id"]) == set(pairs.loc[pairs["fold"] < 2, "id"])
    for columns in (["p_a", "p_b", "p_tie"], ["c_a", "c_b", "c_tie"]):
        assert (oof[columns].sum(axis=1) - 1).abs().max() < 1e-9


def test_each_seed_judges_fold_0(repository):
    seeds = pd.read_parquet(repository.path / "data/oof/seeds.parquet")
    fold_0 = pd.read_parquet(repository.path / "data/oof/oof.parquet").query("fold == 0")
    assert {"id", "seed", *ORDERS[0], *ORDERS[1]} <= set(seeds.columns)
    assert all(set(rows["id"]) == set(fold_0["id"]) for _, rows in seeds.groupby("seed"))
    found = read(repository, "data/oof/seeds")
    assert found["n"] == 2 and found["log_loss_std"] > 0


def test_submission_is_what_the_competition_takes(repository):
    submission = pd.read_csv(repository.path / "submission.csv", dtype={"id": str})
    test = pd.read_csv(repository.path / "data/raw/simulated/test.csv", dtype={"id": str})
    assert list(submission.columns) == ["id", *WINNERS]
    assert list(submission["id"]) == list(test["id"])
    assert (submission[WINNERS].sum(axis=1) - 1).abs().max() < 1e-8
    assert {"log_loss_public", "log_loss_private", "expected_log_loss"} <= set(
        read(repository, "data/test")
    )


def test_headline_and_report(repository):
    assert {"information_captured", "prior", "floor"} <= set(
        read(repository, "report/headline")["figures"]
    )
    assert "</html>" in (repository.path / "report/index.html").read_text(encoding="utf-8")
    printed = repository.run("python", "-m", "pairpref.reporting.headline")
    assert (
        printed.returncode == 0
        and "Information captured" in printed.stdout
        and "report/index.html" in printed.stdout
    )


def test_second_run_does_nothing(repository):
    printed = repository.dvc("repro")
    assert "up to date" in printed and "Running stage" not in printed


@pytest.mark.slow
def test_forced_run_writes_the_same_bytes(repository):
    """dvc.lock holds the hash of every out, metrics file and plot: it may not change."""
    shutil.rmtree(repository.path / "work")
    repository.dvc("repro", "--force", "--no-run-cache")
    assert repository.git("status", "--porcelain") == ""


def test_one_param_is_one_experiment(clean_tree):
    printed = clean_tree.dvc("exp", "run", "--set-param", "inference.dual_order=false", "calibrate")
    assert "Running stage 'calibrate'" in printed and "Running stage 'train'" not in printed
    assert "inference.dual_order" in clean_tree.dvc("params", "diff")
    assert "information_captured_before" in clean_tree.dvc("metrics", "diff")


@pytest.mark.slow
@pytest.mark.fault(25)
def test_dual_order_inference_is_switched_without_training_again(clean_tree):
    """Both orders are exported anyway. README's table of experiments fits in 160 columns."""
    printed = clean_tree.dvc("exp", "run", "--set-param", "inference.dual_order=false")
    assert re.findall(r"Running stage '(\w+)'", printed) == ["calibrate", "predict", "report"]
    oof, orders = (
        pd.read_parquet(clean_tree.path / f"data/oof/{name}.parquet")
        for name in ("oof", "uncalibrated")
    )
    assert oof[["p_a", "p_b", "p_tie"]].to_numpy().tolist() == orders[ORDERS[0]].to_numpy().tolist()

    command = re.search(
        r"^dvc (exp show .*)$", (ROOT / "docs/experiments.md").read_text(encoding="utf-8"), re.M
    )[1]
    clean_tree.environment["COLUMNS"] = "160"
    table = clean_tree.dvc(*shlex.split(command), "--no-pager").splitlines()
    del clean_tree.environment["COLUMNS"]
    assert max(map(len, table)) <= 160 and not any("…" in line for line in table)
    assert all(
        name in "".join(table)
        for name in ("log_loss", "information_captured", "log_loss_private", "inference.dual_order")
    )


@pytest.mark.fault(25)
def test_a_further_seed_leaves_the_first_ones_model_alone(clean_tree):
    apply_overrides(clean_tree.path / "params.yaml", ["train.seeds=[0,1,2]"])
    changed = clean_tree.dvc("status")
    assert "oof:" in changed and "train:" not in changed


def test_plots_show_the_training_curves(repository, tmp_path):
    repository.dvc("plots", "show", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Training, fold 0" in page and "validation_loss" in page


@pytest.fixture
def run_on(clean_tree, run_here):
    """Run the stages on a file of votes: DVC the one that reads it, this process all others."""

    def run(name: str, *options: str) -> None:
        clean_tree.dvc("exp", "run", "-S", f"data.train={name}", *options, "clean")
        _, _, *others = stages(clean_tree.path)
        for stage in others:
            run_here(stage)

    return run


@pytest.mark.fault(27)
def test_users_votes(clean_tree, run_on):
    """Votes in Parquet, no ties, no test file: all stages run without the arena's truth."""
    settings = load(clean_tree.path / "params.yaml").simulate.model_copy(update={"seed": 7})
    drawn = [vote for vote in (arena.vote(row, settings) for row in range(300)) if vote.label < 2]
    votes = pd.DataFrame(
        {
            "id": [f"{vote.id:012x}" for vote in drawn],
            "winner": [f"model_{'ab'[v.label]}" for v in drawn],
        }
    )
    for i, name in enumerate(TEXTS):
        votes[name] = [cells.join(vote.shown[i]) for vote in drawn]
    votes.to_parquet(clean_tree.path / "votes.parquet")
    run_on("votes.parquet")
    assert read(clean_tree, "data/clean/counts")["kept"] == len(votes)
    assert read(clean_tree, "data/test") == {"n": 0} and metrics(clean_tree, "test") == {}
    assert "log_loss_public" not in clean_tree.dvc("metrics", "show")
    assert "prior" not in read(clean_tree, "report/headline")["figures"]
    assert metrics(clean_tree, "calibrate")["log_loss"] < 0.8
    assert pd.read_parquet(clean_tree.path / "data/oof/oof.parquet")["p_tie"].mean() < 0.2
    assert (clean_tree.path / "submission.csv").read_text() == ",".join(["id", *WINNERS]) + "\n"
    assert (clean_tree.path / "submission.unreadable.csv").read_text() == "line,id,reason,excerpt\n"


@pytest.mark.slow
def test_text_and_label_need_no_swap_and_no_comparison(clean_tree, run_on):
    settings = load(clean_tree.path / "params.yaml").simulate
    with open(clean_tree.path / "votes.jsonl", "w", encoding="utf-8") as file:
        for vote in (arena.vote(row, settings) for row in range(150)):
            file.write(
                json.dumps({"text": f"{vote.shown[0]} {vote.shown[1]}", "label": vote.label}) + "\n"
            )
    command = ["python", "-m", "dvc", "exp", "run", "--set-param", "data.train=votes.jsonl"]
    refused = clean_tree.run(*command)
    assert refused.returncode != 0
    assert "-S augment.ab=false" in refused.stdout and "Traceback" not in refused.stdout
    clean_tree.git("reset", "--hard", "--quiet")
    run_on("votes.jsonl", "-S", "augment.ab=false", "-S", "fusion.members=[classifier]")
    assert (
        read(clean_tree, "data/clean/counts")["kept"] == 150
        and read(clean_tree, "data/oof/calibration")["n"] > 50
    )


def test_what_cannot_work_is_one_clear_line(clean_tree):
    """No traceback, and nothing lost: README's command restores what DVC removed for the stage."""
    override = "calibrate.method=sometimes"
    done = clean_tree.run("python", "-m", "dvc", "exp", "run", "--set-param", override)
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "calibrate.method" in done.stdout
    restored = clean_tree.run(
        "sh", "-c", "git restore params.yaml dvc.lock metrics plots && dvc checkout"
    )
    assert restored.returncode == 0, restored.stdout
    assert clean_tree.git("status", "--porcelain") == ""
    assert "up to date" in clean_tree.dvc("status")


def test_a_stage_run_before_the_one_it_needs_is_one_line(clean_tree):
    (clean_tree.path / "data/clean/pairs.parquet").unlink()
    done = clean_tree.run("python", "-m", "stages.baselines")
    assert done.returncode == 1
    assert done.stdout == (
        "baselines: data/clean/pairs.parquet is missing: `dvc repro baselines` makes it first.\n"
    )


@pytest.mark.fault(15)
def test_a_hostile_value_is_data(clean_tree):
    done = clean_tree.run(
        "python", "-m", "dvc", "exp", "run", "--set-param", "data.train='a; touch PWNED'"
    )
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "a; touch PWNED" in done.stdout, "the file that is missing is not named"
    assert not (clean_tree.path / "PWNED").exists()
