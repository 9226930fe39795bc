"""The clean stage on files of votes: what it writes and counts, and what no switch changes."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pairpref import monitor, params, paths
from pairpref.data import arena, cells, folds
from pairpref.data.clean import clean_rows, texts
from pairpref.data.quarantine import RejectedRow
from pairpref.data.votes import read_unjudged
from pairpref.errors import UserError
from pairpref.pairs import LABELS, TEXTS
from stages import clean

ROWS, TEST_ROWS = 240, 30
DEFAULTS = yaml.safe_load(params.PARAMS.read_text(encoding="utf-8"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(**changes: object) -> params.Params:
    """The default params of a small, well-damaged arena, with changes such as clean__utf8=False."""
    raw = json.loads(json.dumps(DEFAULTS))
    damage = {
        "mojibake": 0.3,
        "html_entities": 0.3,
        "control_characters": 0.3,
        "nested_lists": 0.3,
        "null_answers": 0.05,
    }
    raw["simulate"] |= damage | {"rows": ROWS, "test_rows": TEST_ROWS}
    raw["parallel"]["jobs"] = 1
    for name, value in changes.items():
        section, key = name.split("__")
        raw[section][key] = value
    return params.Params.model_validate(raw)


OUTS = (paths.PAIRS, paths.QUARANTINE, paths.CLEAN_COUNTS)


def simulated(**changes: object) -> params.Params:
    with_arena = settings(**changes)
    rows = with_arena.simulate.rows
    votes = (arena.vote(row, with_arena.simulate) for row in range(rows + TEST_ROWS))
    arena.write(
        votes,
        rows,
        *(paths.ARENA / f"{name}.csv" for name in ("train", "test", "truth", "solution")),
    )
    return with_arena


def run(with_params: params.Params) -> tuple[pd.DataFrame, dict]:
    clean.clean(with_params, monitor.Log("clean"))
    counts = json.loads(paths.CLEAN_COUNTS.read_text())
    bad = [count for name, count in counts.items() if name.startswith("bad_")]
    assert counts["rows"] == counts["kept"] + counts["quarantined"] == counts["kept"] + sum(bad)
    assert all(isinstance(value, int) for value in counts.values())
    return pd.read_parquet(paths.PAIRS), counts


def test_the_votes_come_out_as_the_voter_saw_them(here):
    with_params = simulated()
    pairs, counts = run(with_params)
    votes = [arena.vote(row, with_params.simulate) for row in range(ROWS)]
    assert any(vote.shown != vote.stored for vote in votes)
    for column, i in zip(TEXTS, range(3), strict=True):
        assert pairs[column].tolist() == [cells.join(vote.shown[i]) for vote in votes]
    assert pairs["id"].tolist() == [str(vote.id) for vote in votes]
    assert pairs["label"].tolist() == [vote.label for vote in votes]
    assert pairs["turns"].tolist() == [len(vote.shown[0]) for vote in votes]
    assert pairs["line"].tolist() == list(range(2, ROWS + 2))
    assert list(map(str, pairs.dtypes[["line", "label", "turns", "group", "fold"]])) == [
        "int64",
        "int8",
        "int16",
        "int64",
        "int8",
    ]
    assert (
        counts["null_answers"]
        == sum(None in turns for vote in votes for turns in vote.shown[1:])
        > 0
    )
    assert (
        counts["repaired_mojibake"] > 0
        and counts["repaired_entities"] > 0
        and counts["repaired_controls"] > 0
    )
    folds.check(pairs)


def test_no_switch_moves_a_row(here):
    simulated()
    frames = [
        run(settings(clean__utf8=utf8, clean__flatten=flat))[0]
        for utf8 in (True, False)
        for flat in (True, False)
    ]
    rows = ["line", "id", "label", "turns", "group", "fold"]
    assert all(frame[rows].equals(frames[0][rows]) for frame in frames)
    assert len({tuple(frame["response_a"]) for frame in frames}) > 2


def test_without_flatten_the_json_source_is_the_text(here):
    pairs, _ = run(simulated(clean__flatten=False, clean__utf8=False))
    with open(settings().data.train, encoding="utf-8", newline="") as file:
        assert pairs["response_b"].tolist() == [row["response_b"] for row in csv.DictReader(file)]


def test_bytes_do_not_depend_on_jobs_or_run(here):
    outs = []
    for jobs in (1, 2):
        run(simulated(parallel__jobs=jobs))
        outs.append([path.read_bytes() for path in OUTS])
    assert outs[0] == outs[1]


def spoil(share: int) -> params.Params:
    """Some of the arena's votes without a winner, and one that a spreadsheet would run."""
    with_params = simulated()
    path = Path(with_params.data.train)
    lines = path.read_text(encoding="utf-8").split("\n")
    for i in range(1, ROWS, share):
        lines[i] = lines[i][: -len("0,0,1")] + "0,0,0"
    lines[1] = '"=cmd|""/c calc""",' + lines[1].partition(",")[2]
    path.write_text("\n".join(lines), encoding="utf-8")
    return with_params


@pytest.mark.fault(17, 19)
def test_bad_rows_are_in_quarantine(here):
    with_params = spoil(share=60)
    pairs, counts = run(with_params)
    assert (counts["quarantined"], counts["bad_no_winner"], len(pairs)) == (4, 4, ROWS - 4)
    with open(paths.QUARANTINE, encoding="utf-8", newline="") as file:
        bad = list(csv.DictReader(file))
    assert [row["line"] for row in bad] == ["2", "62", "122", "182"]
    assert bad[0] == {
        "line": "2",
        "id": '\'=cmd|"/c calc"',
        "reason": "no_winner",
        "excerpt": "winner_model_a: 0, winner_model_b: 0, winner_tie: 0",
    }
    assert not set(pairs["line"]) & {2, 62, 122, 182}


@pytest.mark.fault(17)
def test_too_many_bad_rows_stop_the_run_and_leave_earlier_results(here):
    run(simulated())
    before = [path.read_bytes() for path in OUTS]
    with pytest.raises(UserError) as error:
        run(spoil(share=4))
    assert f"60 of {ROWS} rows can't be used" in str(
        error.value
    ) and "60 x no_winner, first on line 2" in str(error.value)
    assert [path.read_bytes() for path in OUTS] == before
    assert len(clean._REJECTED.read_text(encoding="utf-8").splitlines()) == 61
    assert not list(here.rglob("*.aside"))


def test_text_and_label(here):
    with open("votes.jsonl", "w", encoding="utf-8") as file:
        for i in range(60):
            file.write(
                json.dumps({"text": f"text {i // 2} brÃ»lÃ©e\ud83d", "label": LABELS[i // 2 % 3]})
                + "\n"
            )
    text = {
        "data__train": "votes.jsonl",
        "data__folds": 2,
        "oof__folds": 2,
        "clean__near_duplicate": 1.0,
    }
    pairs, counts = run(settings(**text))
    assert pairs["response_b"].isna().all() and (pairs["prompt"] == "").all()
    assert pairs["response_a"][0] == "text 0 brûlée\ufffd"
    assert counts["prompts"] == counts["groups"] == 30
    assert pairs["group"].tolist() == [i // 2 * 2 for i in range(60)]


@pytest.mark.parametrize(
    "content", ["id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n", ""]
)
def test_a_file_without_rows(here, content):
    Path("votes.csv").write_text(content)
    with pytest.raises(UserError, match=r"votes\.csv: (no rows|the file is empty)"):
        run(settings(data__train="votes.csv"))


def test_too_few_votes_for_the_folds(here):
    with pytest.raises(UserError, match="too few for data.folds = 5"):
        run(simulated(simulate__rows=8))


def test_every_test_row_is_there(here):
    with_params = simulated()
    path = Path(with_params.data.test)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = "broken,[,[,["
    lines[5] = lines[4]
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = [*clean_rows(read_unjudged(path).rows, with_params.clean)]
    bad = rows.pop(2)
    assert isinstance(bad, RejectedRow)
    assert (bad.line, bad.id, bad.reason) == (4, "broken", "broken_json")
    frame = texts(rows)
    assert list(frame.columns) == ["id", *TEXTS] and len(frame) == TEST_ROWS - 1
    assert frame["id"][2] == frame["id"][3]
    shown = arena.vote(ROWS, with_params.simulate).shown
    assert frame.loc[0, TEXTS].tolist() == [cells.join(cell) for cell in shown]


def test_the_stage_ends_in_one_line_and_exit_code_1(here, capsys):
    Path("params.yaml").write_text(
        yaml.safe_dump(DEFAULTS | {"data": DEFAULTS["data"] | {"train": "none.csv"}})
    )
    with pytest.raises(SystemExit) as exit_code:
        monitor.run("clean", clean.clean)
    assert exit_code.value.code == 1
    assert capsys.readouterr().err.startswith("clean: none.csv: no such file or directory; ")
