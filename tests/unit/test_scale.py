"""Prediction at scale: in parts, in any order, killed, against the clock; always the same answers.

Models are loaded once, and killed processes are forks of this one.
"""

import errno
import gzip
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pairpref import bundle as bundles
from pairpref import predict as prediction
from pairpref.budget import PROBE, Budget
from pairpref.effort import Effort, fewer, second_weight
from pairpref.errors import UserError
from pairpref.judge import Judge
from pairpref.pairs import PROBABILITIES, TEXTS, WINNERS
from pairpref.params import ParallelParams
from pairpref.progress import Progress, in_words
from pairpref.shards import Shards

SILENT = {"say": lambda text: None}
SAME = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module")
def models(all_members) -> Path:
    return all_members / "models"


@pytest.fixture(scope="module")
def judge(models) -> Judge:
    return Judge.load(models)


@pytest.fixture(autouse=True)
def loaded(judge, monkeypatch):
    """Every prediction here is by the one judge."""
    monkeypatch.setattr(Judge, "load", lambda *_: judge)


@pytest.fixture(scope="module")
def test_file(all_members) -> Path:
    return all_members / "data/raw/simulated/test.csv"


@pytest.fixture(scope="module")
def rows(test_file) -> pd.DataFrame:
    return pd.read_csv(test_file, dtype=str, keep_default_na=False)


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(prediction, "SHARD_ROWS", 7)


@pytest.fixture(scope="module")
def p(models, test_file, judge) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judge, "load", lambda *_: judge)
        return prediction.predict(test_file, models, **SILENT)[WINNERS].to_numpy()


def run(models: Path, path: Path, output: Path, *options: str) -> None:
    given = ["--input", path, "--output", output, "--bundle", models, *options]
    prediction.main(list(map(str, given)))


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


class TestSameAnswers:
    def test_in_parts(self, models, test_file, p, in_parts):
        found = prediction.predict(test_file, models, **SILENT)
        assert np.allclose(found[WINNERS], p, **SAME) and len(found) == 40

    def test_in_any_order_of_rows(self, models, rows, p, tmp_path):
        order = np.random.default_rng(0).permutation(len(rows))
        rows.iloc[order].to_csv(tmp_path / "test.csv", index=False)
        found = prediction.predict(tmp_path / "test.csv", models, **SILENT)
        assert np.allclose(found[WINNERS], p[order], **SAME)
        assert found["id"].tolist() == rows["id"].iloc[order].tolist()

    def test_by_several_processes(self, models, test_file, p):
        several = {"parallel": ParallelParams(jobs=2), "batch_size": 3}
        found = prediction.predict(test_file, models, **several, **SILENT)
        assert np.allclose(found[WINNERS], p, **SAME)

    @pytest.mark.parametrize("ending", ["csv.gz", "jsonl", "jsonl.gz", "parquet"])
    def test_from_any_file(self, models, rows, p, ending, tmp_path, in_parts):
        path = tmp_path / f"test.{ending}"
        cells = rows.assign(**{name: rows[name].map(json.loads) for name in TEXTS})
        if ending == "parquet":
            rows.to_parquet(path)
        elif "jsonl" in ending:
            cells.to_json(path, orient="records", lines=True, force_ascii=True)
        else:
            with gzip.open(path, "wt", encoding="utf-8") as file:
                rows.to_csv(file, index=False)
        run(models, path, tmp_path / "p.parquet")
        found = pd.read_parquet(tmp_path / "p.parquet")
        assert list(found) == ["id", *PROBABILITIES]
        assert found["id"].tolist() == rows["id"].tolist()
        assert np.allclose(found[PROBABILITIES], p, **SAME)

    def test_a_submission_in_parts_is_one_file(self, models, test_file, tmp_path, in_parts):
        run(models, test_file, tmp_path / "s.csv")
        prediction.write(prediction.predict(test_file, models, **SILENT), tmp_path / "at_once.csv")
        assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "at_once.csv").read_bytes()
        assert not hidden(tmp_path)

    def test_less_effort(self, models, test_file, p, tmp_path):
        found = {}
        for name, options in {
            "one": ("--orders", "one"),
            "both": ("--orders", "both"),
            "uncertain": ("--orders", "uncertain"),
            "fold": ("--folds", "1"),
            "folds": ("--folds", "99"),
        }.items():
            run(models, test_file, tmp_path / "p.parquet", *options)
            found[name] = pd.read_parquet(tmp_path / "p.parquet")[PROBABILITIES].to_numpy()
        assert np.array_equal(found["both"], p) and np.array_equal(found["folds"], p)
        assert np.abs(found["one"] - p).max() > 1e-4 and np.abs(found["fold"] - p).max() > 1e-4
        unsure = second_weight(found["one"]) == 0.5
        assert np.allclose(found["uncertain"][unsure], p[unsure], **SAME) and unsure.any()


class TestRowsOfAnyKind:
    def test_the_train_file_with_columns_of_its_own(self, models, all_members, tmp_path):
        train = all_members / "data/raw/simulated/train.csv"
        votes = pd.read_csv(train, dtype=str, keep_default_na=False).head(30)
        votes.assign(note="extra").to_csv(tmp_path / "train.csv", index=False)
        found = prediction.predict(tmp_path / "train.csv", models, **SILENT)
        assert found["id"].tolist() == votes["id"].tolist()

    def test_hostile_rows(self, models, tmp_path, in_parts):
        given = [
            ("1", "p", "a" * 999_999, "b"),
            ("1", "p", "\ud800 alone", "b"),
            ("2", "", "", ""),
            ("3", "same", "x", "x"),
            ("4", "p", "word " * 180_000, "b"),
        ]
        records = (dict(zip(["id", *TEXTS], row, strict=True)) for row in given)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / "test.jsonl").write_text(lines, encoding="utf-8")
        run(models, tmp_path / "test.jsonl", tmp_path / "p.parquet")
        found = pd.read_parquet(tmp_path / "p.parquet")
        assert found["id"].tolist() == ["1", "1", "2", "3", "4"]
        p = found[PROBABILITIES].to_numpy()
        assert np.isfinite(p).all() and np.allclose(p.sum(axis=1), 1)
        assert np.abs(p[2:4, 0] - p[2:4, 1]).max() < 1e-12

    def test_odd_ids_are_one_row_each(self, models, tmp_path, in_parts):
        ids = ["007", "1e5", "NaN", "a,b", 'q"q', "x", "y", "z", "=1+1", "  x ", "7", "7"]
        lines = [
            json.dumps({"id": i, "prompt": "p", "response_a": "a", "response_b": "b"}) for i in ids
        ]
        (tmp_path / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
        run(models, tmp_path / "test.jsonl", tmp_path / "s.csv")
        found = pd.read_csv(tmp_path / "s.csv", dtype=str, keep_default_na=False)
        assert found["id"].tolist() == ids

    def test_a_carriage_return_in_an_id_is_quoted(self, tmp_path):
        frame = pd.DataFrame({"id": ["cr\rid", "2"], **dict.fromkeys(WINNERS, 0.5)})
        prediction.write(frame, tmp_path / "s.csv")
        found = pd.read_csv(tmp_path / "s.csv", dtype={"id": str})
        assert found["id"].tolist() == ["cr\rid", "2"]

    @pytest.mark.parametrize(
        ("names", "end"), [("prompt,chosen,rejected", "\n"), (",".join(["id", *TEXTS]), "\r")]
    )
    def test_a_row_that_may_hold_others_is_refused(self, models, tmp_path, names, end, capsys):
        """A quotation mark that is not closed: how many rows there are is not known."""
        width = names.count(",")
        rows = [",".join([str(i), *["text"] * width]) for i in range(20)]
        rows[4:6] = ['4,"text' + ",text" * (width - 1), '5,"text"' + ",text" * (width - 1)]
        (tmp_path / "test.csv").write_bytes(end.join([names, *rows, ""]).encode())
        with pytest.raises(SystemExit):
            run(models, tmp_path / "test.csv", tmp_path / "s.csv", "--keep-going")
        assert "has no readable id" in capsys.readouterr().err
        assert not (tmp_path / "s.csv").exists()

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_no_rows(self, models, tmp_path, ending):
        (tmp_path / "test.csv").write_text("id,prompt,response_a,response_b\n")
        run(models, tmp_path / "test.csv", tmp_path / f"out.{ending}")
        read = {"csv": pd.read_csv, "parquet": pd.read_parquet}[ending]
        assert read(tmp_path / f"out.{ending}").shape == (0, 4)

    def test_unreadable_rows_are_listed_once(self, models, rows, p, tmp_path, in_parts, judge):
        broken = rows.copy()
        bad = [*range(7), 8, 9, 39]  # a whole part, and some of others
        broken.loc[bad, "response_a"] = '["never closed'
        broken.to_csv(tmp_path / "test.csv", index=False)
        with pytest.raises(SystemExit):
            run(models, tmp_path / "test.csv", tmp_path / "s.csv")
        assert not (tmp_path / "s.csv").exists() and not hidden(tmp_path)
        run(models, tmp_path / "test.csv", tmp_path / "s.csv", "--keep-going")
        listed = pd.read_csv(tmp_path / "s.unreadable.csv")
        assert listed["line"].tolist() == [row + 2 for row in bad]
        found = pd.read_csv(tmp_path / "s.csv")[WINNERS].to_numpy()
        assert np.allclose(found[bad], judge.members.config.prior, rtol=0, atol=1e-8)
        assert np.allclose(np.delete(found, bad, axis=0), np.delete(p, bad, axis=0), **SAME)


def killed(after: float | None, *given: object) -> bool:
    """Whether a fork that predicts was killed so many seconds after it began."""
    process = multiprocessing.get_context("fork").Process(target=run, args=given)
    process.start()
    process.join(after)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


class TestFullDisk:
    """Files of a fork can't grow beyond a limit, so that writing fails where a full disk would."""

    @pytest.mark.parametrize(
        ("limit", "full"),
        [(60, "s.unreadable.csv"), (1_000, "000000000000.shard"), (4_000, "s.parquet")],
        ids=["listing", "part", "whole"],
    )
    def test_it_is_one_line_and_goes_on(self, models, rows, tmp_path, in_parts, limit, full):
        broken = rows.copy()
        broken.loc[[0, 8], "response_a"] = '["never closed'
        broken.to_csv(tmp_path / "test.csv", index=False)
        given = [models, tmp_path / "test.csv", tmp_path / "s.parquet", "--keep-going"]
        reading, writing = os.pipe()

        def limited() -> None:
            sys.stdout = sys.stderr = os.fdopen(writing, "w")  # pytest's are files
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            run(*given)

        process = multiprocessing.get_context("fork").Process(target=limited)
        process.start()
        os.close(writing)
        said = os.fdopen(reading).read().splitlines()
        process.join()
        (line,) = (line for line in said if line.startswith("predict: "))
        assert process.exitcode == 1 and line == said[-1]
        assert full in line and "File too large" in line
        parts = [*tmp_path.glob(".s.parquet.shards/*/*")]
        assert len(parts) == (6 if full == "s.parquet" else 0)
        assert not (tmp_path / "s.parquet").exists() and not [*tmp_path.rglob("*.aside")]
        written = []
        for _ in range(2):
            run(*given)
            written.append((tmp_path / "s.parquet").read_bytes())
            assert not hidden(tmp_path)
        assert written[0] == written[1]


class TestKilled:
    def storm(self, models, test_file, folder: Path, kills: int, seed: int) -> int:
        """How many of the kills left finished parts; one that comes too late is tried again."""
        undisturbed = folder / "undisturbed.csv"
        began = time.monotonic()
        assert not killed(None, models, test_file, undisturbed)
        lasts, draw = time.monotonic() - began, random.Random(seed)
        hit = on_the_way = 0
        while hit < kills:
            output = folder / f"{hit}.csv"
            while killed(draw.uniform(0, lasts), models, test_file, output):
                hit += 1
                on_the_way += any(folder.glob(f".{output.name}.shards/*/*.shard"))
                whole = not output.exists() or output.read_bytes() == undisturbed.read_bytes()
                assert whole and not {*hidden(folder)} - {f".{output.name}.shards"}
            assert output.read_bytes() == undisturbed.read_bytes()
            assert not hidden(folder)
        return on_the_way

    def test_at_drawn_moments(self, models, test_file, tmp_path, in_parts):
        self.storm(models, test_file, tmp_path, kills=3, seed=0)

    @pytest.mark.slow
    def test_at_thirty_drawn_moments(self, models, test_file, tmp_path, in_parts):
        assert self.storm(models, test_file, tmp_path, kills=30, seed=1) > 7

    def test_finished_parts_are_not_done_again(
        self, models, test_file, tmp_path, in_parts, judge, monkeypatch, capsys
    ):
        run(models, test_file, tmp_path / "whole.csv")
        answer, asked = Judge.answer, []

        def limited(self, pairs, *arguments, **options):
            if len(asked) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            asked.append(len(pairs))
            return answer(self, pairs, *arguments, **options)

        monkeypatch.setattr(Judge, "answer", limited)
        with pytest.raises(SystemExit):
            run(models, test_file, tmp_path / "s.csv")
        assert not (tmp_path / "s.csv").exists() and asked == [7, 7, 7]
        asked.clear()
        monkeypatch.setattr(
            Judge,
            "answer",
            lambda self, pairs, *a, **o: asked.append(len(pairs)) or answer(self, pairs, *a, **o),
        )
        run(models, test_file, tmp_path / "s.csv")
        assert asked == [7, 7, 5] and "21 of 40 rows are finished" in capsys.readouterr().out
        assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()

    @pytest.mark.parametrize("damage", ["torn", "flipped"])
    def test_a_damaged_part_is_done_again(self, tmp_path, damage):
        frame = pd.DataFrame({"id": ["a", "b"], **dict.fromkeys(PROBABILITIES, 0.5)})
        with Shards.opened(tmp_path / "s", "key") as shards:
            for _ in range(3):
                shards.add(frame, "effort")
        part = tmp_path / "s/key/000000000002.shard"
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content if damage == "flipped" else content[:100])
        with Shards.opened(tmp_path / "s", "key") as shards:
            assert shards.rows == 2

    @pytest.mark.parametrize("changed", ["input", "bundle", "options"])
    def test_parts_of_something_else_are_not_used(
        self, models, test_file, tmp_path, in_parts, changed, monkeypatch
    ):
        path = tmp_path / "test.csv"
        path.write_bytes(test_file.read_bytes())
        answer, asked = Judge.answer, []

        def once(self, pairs, *arguments, **options):
            if asked:
                raise OSError(errno.EIO, "gone")
            asked.append(1)
            return answer(self, pairs, *arguments, **options)

        monkeypatch.setattr(Judge, "answer", once)
        with pytest.raises(SystemExit):
            run(models, path, tmp_path / "s.csv")
        monkeypatch.setattr(Judge, "answer", answer)
        begun = [p.parent.name for p in tmp_path.glob(".s.csv.shards/*/*.shard")]
        assert len(begun) == 1
        options = ("--batch-size", "3") if changed == "options" else ()
        if changed == "input":
            path.write_bytes(test_file.read_bytes().replace(b"the", b"teh"))
        if changed == "bundle":
            monkeypatch.setattr(bundles, "MANIFEST", "calibrator.json")
        said = []
        monkeypatch.setattr(prediction, "say", said.append)
        run(models, path, tmp_path / "s.csv", *options)
        assert not any("finished" in line for line in said) and not hidden(tmp_path)

    def test_two_at_once_are_refused(self, models, test_file, tmp_path, capsys):
        with Shards.opened(tmp_path / ".s.csv.shards", "key"), pytest.raises(SystemExit):
            run(models, test_file, tmp_path / "s.csv")
        assert "another process predicts the same output" in capsys.readouterr().err


class TestSeconds:
    def test_what_is_given_up_first(self):
        steps = [*fewer(Effort(), "both", 3, 128)]
        assert steps == [
            Effort("uncertain"),
            Effort("one"),
            Effort("one", 2),
            Effort("one", 1),
            Effort("one", 1, 64),
            Effort("one", 1, 32),
        ]
        assert [*fewer(Effort("one", 1, 64), "one", 3, 128)] == [Effort("one", 1, 32)]

    @pytest.mark.parametrize("seconds", [2, 20, 60, 100, 1000])
    @pytest.mark.parametrize(
        ("slower", "longer"),
        [(1.0, 1), (3.0, 1), (1.0, 20)],
        ids=["even", "slower later", "longer later"],
    )
    def test_it_is_kept_whatever_happens(self, monkeypatch, seconds, slower, longer):
        """1,000 pairs by a clock of their own: .1 s each as asked, or slower after the half; to be
        read at .001 s a 100 characters, and longer after the half."""
        sizes = np.where(np.arange(1000) < 500, 100, 100 * longer)
        now, work = [0.0], {None: 1.0, "both": 1.0, "uncertain": 0.75, "one": 0.5}
        monkeypatch.setattr("pairpref.budget.time.time", lambda: now[0])

        def cost(effort: Effort, lengths: np.ndarray) -> float:
            return work[effort.orders] * (effort.folds or 3) / 3 * (effort.length or 128) / 128

        ladder = [Effort(), *fewer(Effort(), "both", 3, 128)]
        budget = Budget(seconds, 0.0, ladder, cost, idle=0.0001)
        done, spent = 0, []
        while done < 1000:
            effort, rows, most = budget.next(1000 - done, int(sizes[done:].sum()))
            enough = np.flatnonzero(sizes[done:].cumsum() >= most)
            rows = min(rows, 1000 - done, *enough[:1] + 1)
            if effort:
                size = int(sizes[done : done + rows].sum())
                pace = 0.1 * cost(effort, None) * (slower if done > 500 else 1)
                budget.took(effort, np.full(rows, 50), size, 1e-5 * size, pace * rows)
                now[0] += 1e-5 * size + pace * rows
            done += rows
            spent += [effort] * rows
        assert now[0] <= seconds
        if longer > 1:
            return
        if seconds == 1000:
            assert {*spent} == {Effort()}
        elif seconds == 20:
            assert None not in spent and now[0] > 0.9 * seconds
            assert sum(effort.orders == "one" for effort in spent) > 900
        elif seconds == 2:
            assert spent[-1] is None and spent[PROBE] == Effort("one", 1, 32)

    def test_a_file_is_whole_when_time_is_up(self, models, test_file, p, tmp_path, capsys, judge):
        run(models, test_file, tmp_path / "p.parquet", "--max-seconds", "0.000001")
        found = pd.read_parquet(tmp_path / "p.parquet")
        assert np.allclose(found[PROBABILITIES], judge.members.config.prior) and len(found) == 40
        said = capsys.readouterr().out
        assert "given up for --max-seconds 1e-06, of 40 rows: 40 rows: the shares" in said
        run(models, test_file, tmp_path / "p.parquet", "--max-seconds", "1000")
        found = pd.read_parquet(tmp_path / "p.parquet")[PROBABILITIES]
        assert np.allclose(found, p, **SAME) and "given up" not in capsys.readouterr().out

    def test_less_is_spent_where_there_is_less(
        self, models, test_file, p, tmp_path, capsys, monkeypatch
    ):
        """A slow model, by a clock of its own."""
        late, answer = [1e9], Judge.answer

        def slow(self, pairs, effort, **options):
            late[0] += len(pairs) * self.members.passes(effort)
            return answer(self, pairs, effort, **options)

        monkeypatch.setattr(Judge, "answer", slow)
        monkeypatch.setattr(time, "time", lambda: late[0])
        run(models, test_file, tmp_path / "p.parquet", "--max-seconds", "190")
        found = pd.read_parquet(tmp_path / "p.parquet")[PROBABILITIES].to_numpy()
        said = capsys.readouterr().out
        assert np.allclose(found[:PROBE], p[:PROBE], **SAME) and late[0] < 1e9 + 190
        assert np.abs(found[PROBE:] - p[PROBE:]).max() > 1e-4
        assert f"from row {PROBE + 1}: one order" in said and "given up" in said

    @pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
    def test_seconds_are_a_number(self, models, test_file, tmp_path, seconds, capsys):
        with pytest.raises(SystemExit):
            run(models, test_file, tmp_path / "s.csv", "--max-seconds", seconds)
        assert "expected a number of seconds above 0" in capsys.readouterr().err


def test_the_second_order_fades_out():
    """No last bit decides whether it is asked."""
    gaps = np.linspace(0, 1, 10_001)
    p = np.stack([(1 + gaps) / 2, (1 - gaps) / 2, np.zeros_like(gaps)], axis=1)
    weight = second_weight(p)
    assert weight[0] == 0.5 and weight[-1] == 0 and np.abs(np.diff(weight)).max() < 0.002
    assert np.array_equal(second_weight(p[:, [1, 2, 0]]), weight)


def test_progress_tells_the_time_left(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr("pairpref.progress.time.monotonic", lambda: now[0])
    progress = Progress(100, 1100, said.append)
    progress.begin(500, 1000)
    now[0] = 20.0
    progress.step(400)  # 200 pairs
    progress.step(1)
    progress.finish(500)
    progress.begin(500, 500)
    now[0] = 60.0
    progress.step(100)
    assert said == ["300 of 1,100 pairs, 10/s, 80 s left", "700 of 1,100 pairs, 10/s, 40 s left"]
    assert [in_words(s) for s in (7, 300, 7500)] == ["7 s", "5 min", "2 h 05 min"]


def test_a_file_that_grows_meanwhile(models, test_file, tmp_path, monkeypatch):
    survey = prediction.survey
    monkeypatch.setattr(prediction, "survey", lambda *given: (survey(*given)[0] + 1, 0))
    with pytest.raises(UserError, match="changed while it was read"):
        prediction.predict(test_file, models, **SILENT)
