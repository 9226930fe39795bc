"""The benchmark of mechanisms: its table, its statistics, and that it goes on where it stopped."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks import mechanisms
from benchmarks.mechanism_table import KNOBS, MECHANISMS, SWITCHES
from benchmarks.mechanisms import Gain, Run, gain, make, measured, planned, table_lines, write
from benchmarks.resource_usage import ROOT, environment

ONE = "temperature"


@pytest.fixture
def made(monkeypatch):
    """The runs that were asked for, each with made-up figures instead of stages."""
    runs: list[Run] = []

    def figures_of(run: Run) -> dict[str, float]:
        runs.append(run)
        return {"information_captured": 0.5 + 0.1 * (run.switch == "on") + 0.01 * run.seed}

    monkeypatch.setattr(mechanisms, "figures_of", figures_of)
    return runs


@pytest.mark.parametrize("name", MECHANISMS)
def test_four_different_runs_and_a_sign_for_each_knob(name):
    runs = planned([name], 1, None)
    assert {(run.knob, run.switch) for run in runs} == {(k, s) for k in KNOBS for s in SWITCHES}
    assert len({run.key for run in runs}) == 4  # all params are valid, and differ
    for metric, signs in MECHANISMS[name].expects.items():
        assert metric in mechanisms._COLUMNS
        assert len(signs) == len(KNOBS) and {*signs} <= {"+", "-", "0"}


def test_the_interval_is_students_and_power_2_8_standard_errors():
    found = Gain.of(np.array([1.0, 2, 3, 4, 5]))
    assert (found.mean, found.seeds) == (3, 5)
    assert found.error == pytest.approx(np.sqrt(2.5 / 5))
    np.testing.assert_allclose(found.ci, (3 - 2.7764 * found.error, 3 + 2.7764 * found.error), 1e-4)
    assert found.power == pytest.approx(2.8 * found.error)


@pytest.mark.parametrize(
    ("mean", "verdicts"),
    [
        (4.0, {"+": "shown", "-": "against", "0": "against"}),
        (2.0, {"+": "not shown", "-": "not shown", "0": "none shown"}),
        (-4.0, {"+": "against", "-": "shown", "0": "against"}),
    ],
)
def test_what_is_found_goes_by_the_interval_and_the_sign(mean, verdicts):
    for sign, verdict in verdicts.items():
        assert Gain(mean, 1.0, 5).found(sign) == verdict


def test_no_difference_at_all_is_not_shown():
    found = Gain.of(np.zeros(5))
    assert found.ci == (0, 0) and found.found("+") == "not shown"


def test_pairs_are_of_one_seed_and_less_loss_is_a_gain():
    rows = pd.DataFrame(
        [(seed, switch, seed + 0.5 * (switch == "on")) for seed in (3, 1, 2) for switch in SWITCHES]
        + [(9, "on", 100.0)],  # its other run is missing
        columns=["seed", "switch", "f1_macro"],
    ).assign(log_loss=lambda table: table["f1_macro"])
    assert gain(rows, "f1_macro") == Gain(0.5, 0.0, 3)
    assert gain(rows, "log_loss").mean == -0.5
    assert gain(rows[rows["seed"] == 1], "f1_macro") is None


def test_it_goes_on_where_it_was_killed(made, monkeypatch, here):
    runs, out = planned([ONE], 2, None), here / "work" / "table.csv"
    whole = mechanisms.figures_of

    def killed(run: Run) -> dict[str, float]:
        if len(made) == 3:
            raise KeyboardInterrupt
        return whole(run)

    monkeypatch.setattr(mechanisms, "figures_of", killed)
    with pytest.raises(KeyboardInterrupt):
        make(runs, out, jobs=1)
    assert len(measured(out)) == 3
    monkeypatch.setattr(mechanisms, "figures_of", whole)
    make(runs, out, jobs=1)
    assert made == runs
    assert [(*key,) for key in measured(out)[mechanisms._KEY].to_numpy()] == [r.key for r in runs]
    make(runs, out, jobs=1)
    assert len(made) == len(runs)


def test_a_run_that_fails_is_named_and_tried_again(made, monkeypatch, here):
    runs, out = planned([ONE], 1, None), here / "table.csv"
    whole = mechanisms.figures_of
    monkeypatch.setattr(
        mechanisms, "figures_of", lambda run: 1 / 0 if run == runs[1] else whole(run)
    )
    (error,) = make(runs, out, jobs=1)
    assert "ZeroDivisionError" in error and str(runs[1]) in error
    assert len(measured(out)) == 3
    monkeypatch.setattr(mechanisms, "figures_of", whole)
    assert not make(runs, out, jobs=1)
    assert len(measured(out)) == 4


def test_the_table_counts_runs_of_todays_params_only(made, here):
    runs, out = planned([ONE, "tail"], 3, None), here / "table.csv"
    make([run for run in runs if run.mechanism == ONE], out, jobs=1)
    lines = list(table_lines(measured(out), runs))
    assert (
        sum("| +0.100 (+0.100 to +0.100) | + | shown | 0.000 | 3 |" in line for line in lines) == 1
    )
    assert sum("not measured" in line for line in lines) == 2  # both knobs of tail
    others = list(table_lines(measured(out), planned([ONE], 3, 77)))
    assert all("not measured" in line for line in others[2:4])


def test_the_page_keeps_what_is_around_the_table(here):
    page = here / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- /table -->\nafter\n", encoding="utf-8")
    for _ in range(2):
        write(page, "| new |")
    text = page.read_text(encoding="utf-8")
    assert text == "before\n<!-- table -->\n\n| new |\n\n<!-- /table -->\nafter\n"


@pytest.mark.slow
def test_a_mechanism_is_measured_in_two_processes(here):
    out = here / "table.csv"
    asked = ["--only", "grouped_folds", "--seeds", "1", "--rows", "300", "--out", str(out)]
    command = [sys.executable, "-m", "benchmarks.mechanisms", *asked]
    how = {"cwd": ROOT, "env": environment(here), "text": True, "capture_output": True}
    done = subprocess.run(command, **how)
    assert done.returncode == 0, done.stderr
    assert "not measured" in done.stdout  # one seed has no interval
    found = measured(out)
    assert len(found) == 4 and found[["information_captured", "overclaim"]].notna().all(axis=None)
