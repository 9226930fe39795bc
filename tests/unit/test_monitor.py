"""The log of a stage: one run after another."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pairpref import monitor
from pairpref.monitor import Log, last

PATH = Path("logs/train.jsonl")


@pytest.fixture
def run(here, monkeypatch) -> Callable[[], Log]:
    """Begin a run of the stage, each as a process of its own."""
    pids = iter(range(10, 99))

    def begin() -> Log:
        pid = next(pids)
        monkeypatch.setattr(monitor.os, "getpid", lambda: pid)
        return Log("train")

    return begin


def events() -> list[tuple[str, int]]:
    """Name and process of each event in the file."""
    found = [json.loads(line) for line in PATH.read_text().splitlines()]
    return [(event["event"], int(event["run"].split("-")[1])) for event in found]


def test_what_an_interrupted_run_wrote_stays_and_its_half_line_spoils_nothing(run):
    log = run()
    log.event("began")
    log.event("step")
    PATH.write_text(PATH.read_text()[:-9])
    log = run()
    log.event("began")
    assert [line[:9] for line in PATH.read_text().splitlines()] == ['{"event":'] * 3
    log.end(peak_mib=7)
    assert [(e["event"], e.get("peak_mib")) for e in last("train")] == [
        ("began", None),
        ("ended", 7),
    ]


def test_three_runs_of_which_the_last_ends_then_a_new_one(run):
    for _ in range(3):
        log = run()
        log.event("began")
    log.end()
    assert events() == [("began", 10), ("began", 11), ("began", 12), ("ended", 12)]
    run().event("began")
    assert events() == [("began", 13)]


@pytest.mark.parametrize("content", ["", "\n", "{", '{"event": "step"}\n'])
def test_any_file_may_be_there(run, content):
    """Also one of earlier code, whose events have no `run`."""
    PATH.parent.mkdir()
    PATH.write_text(content)
    run().event("began")
    assert [event["event"] for event in last("train")] == ["began"]


@pytest.mark.parametrize("content", ["a: [", "[]", "train: {seeds: 5}", "a: 1\na: 2"])
def test_params_that_cannot_be_read_are_lines_not_a_traceback(here, capsys, monkeypatch, content):
    """Also where a dvc.yaml says which of them the stage depends on."""
    Path("dvc.yaml").write_text(
        "stages: {train: {cmd: x, params: [train.seeds.0], deps: ['${data.train}']}}"
    )
    Path("params.yaml").write_text(content)
    monkeypatch.setattr(monitor, "refuse_other_code", lambda: None)
    with pytest.raises(SystemExit) as end:
        monitor.run("train", lambda *_: None)
    said = capsys.readouterr().err.splitlines()
    assert (
        end.value.code == 1
        and said
        and all(line.startswith("train: params.yaml: ") for line in said)
    )
