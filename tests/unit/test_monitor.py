"""The log of a stage."""

from pathlib import Path

import pytest

from pairpref import monitor
from pairpref.monitor import Log, last

PATH = Path("logs/train.jsonl")


def test_a_killed_runs_half_line_spoils_nothing(here):
    log = Log("train")
    log.event("began")
    log.event("step")
    PATH.write_text(PATH.read_text()[:-9])
    assert [event["event"] for event in last("train")] == ["began"]
    log = Log("train")
    log.end(peak_mib=7)
    assert [(event["event"], event["peak_mib"]) for event in last("train")] == [("ended", 7)]


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
