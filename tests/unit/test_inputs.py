"""A stage whose params, code or data changed while it ran must not end well: DVC would record the new ones with the old result."""

import os
from pathlib import Path

import pytest

from pairpref.errors import UserError
from pairpref.inputs import Inputs

DVC = """
stages:
  train:
    cmd: python -m stages.train
    deps: [src/code, "${data.train}"]
    params: [train, data.train]
"""
PARAMS = "data: {train: votes.csv}\ntrain: {lr: 1e-5, warmup: {steps: 3}}\nreport: {bins: 3}\n"


@pytest.fixture
def inputs(here):
    (here / "src" / "code" / "__pycache__").mkdir(parents=True)
    for name, text in {"dvc.yaml": DVC, "params.yaml": PARAMS, "src/code/fit.py": "pass", "votes.csv": "id\n1\n"}.items():
        Path(name).write_text(text)
    with Path("votes.csv").open("ab") as file:
        file.truncate(2**21)
    return Inputs("train")


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("params.yaml", "1e-5", "2e-5", "train.lr changed"),
        ("params.yaml", "steps: 3", "steps: 4", "train.warmup.steps changed"),
        ("src/code/fit.py", "pass", "fail", "src/code/fit.py changed"),
        ("dvc.yaml", "train.csv", "train.csv", None),
        ("params.yaml", "bins: 3", "bins: 4", None),
    ],
)
def test_what_the_stage_depends_on_may_not_change_and_nothing_else_matters(inputs, path, old, new, named):
    file = Path(path)
    file.write_text(file.read_text().replace(old, new))
    if named is None:
        inputs.check()
    else:
        with pytest.raises(UserError, match=named):
            inputs.check()


@pytest.mark.fault(9)
def test_files_that_come_and_go_and_large_ones_that_are_written_again(inputs):
    Path("src/code/__pycache__/fit.pyc").write_text("x")
    inputs.check()
    Path("src/code/new.py").write_text("pass")
    with pytest.raises(UserError, match="src/code/new.py changed"):
        inputs.check()
    Path("src/code/new.py").unlink()
    os.utime("votes.csv", (1, 1))
    with pytest.raises(UserError, match="votes.csv changed"):
        inputs.check()


def test_a_stage_run_where_there_is_no_pipeline_has_no_inputs(here):
    Inputs("train").check()
