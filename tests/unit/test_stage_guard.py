"""A stage fails if its params, code or data change while it runs."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

import stages
from pairpref.errors import UserError
from pairpref.stage_guard import refuse_other_code, unchanged

DVC = """
stages:
  train:
    cmd: python -m stages.train
    deps: [src/code, "${data.train}"]
    params: [train, data.train, seeds.0]
"""
PARAMS = (
    "data: {train: votes.csv}\ntrain: {lr: 1e-5, warmup: {steps: 3}}\n"
    "report: {bins: 3}\nseeds: [5, 6]\n"
)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def inputs(here):
    (here / "src" / "code" / "__pycache__").mkdir(parents=True)
    for name, text in {
        "dvc.yaml": DVC,
        "params.yaml": PARAMS,
        "src/code/fit.py": "pass",
        "votes.csv": "id\n1\n",
    }.items():
        Path(name).write_text(text)
    with Path("votes.csv").open("ab") as file:
        file.truncate(2**21)
    return unchanged("train")


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("params.yaml", "1e-5", "2e-5", "train.lr changed"),
        ("params.yaml", "steps: 3", "steps: 4", "train.warmup.steps changed"),
        ("params.yaml", "[5, 6]", "[7, 6]", "seeds.0 changed"),
        ("params.yaml", "[5, 6]", "[5, 7]", None),
        ("src/code/fit.py", "pass", "fail", "src/code/fit.py changed"),
        ("dvc.yaml", "train.csv", "train.csv", None),
        ("params.yaml", "bins: 3", "bins: 4", None),
    ],
)
def test_what_the_stage_depends_on_may_not_change_and_nothing_else_matters(
    inputs, path, old, new, named
):
    file = Path(path)
    with pytest.raises(UserError, match=named) if named else nullcontext(), inputs:
        file.write_text(file.read_text().replace(old, new))


@pytest.mark.fault(9)
def test_files_that_come_and_go_and_large_ones_that_are_written_again(inputs):
    with inputs:
        Path("src/code/__pycache__/fit.pyc").write_text("x")
    with pytest.raises(UserError, match="src/code/new.py changed"), unchanged("train"):
        Path("src/code/new.py").write_text("pass")
    with pytest.raises(UserError, match="votes.csv changed"), unchanged("train"):
        os.utime("votes.csv", (1, 1))


def test_a_stage_run_where_there_is_no_pipeline_has_no_inputs(here):
    with unchanged("train"):
        Path("votes.csv").touch()


def test_a_missing_input_is_named_with_the_command_that_makes_it(here):
    Path("params.yaml").write_text(PARAMS)
    Path("dvc.yaml").write_text(DVC.replace("src/code", "models/oof/list.json"))
    said = "models/oof/list.json is missing: `dvc repro train` makes it first."
    with pytest.raises(UserError, match=said), unchanged("train"):
        pass
    Path("models/oof").mkdir(parents=True)
    Path("models/oof/list.json").touch()
    with unchanged("train"):
        pass


@pytest.mark.fault(9)
def test_code_that_is_edited_while_it_is_imported_is_refused(monkeypatch):
    """The process may run the one, and DVC record the other."""
    refuse_other_code()
    path = ROOT / "src/pairpref/pairs.py"
    monkeypatch.setitem(stages.CODE, path, stages.CODE[path] - 1)
    with pytest.raises(UserError, match="code was edited during start-up"):
        refuse_other_code()
