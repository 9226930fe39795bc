"""Predicting a file of pairs, from Python, from the command line and as a stage."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from pairpref import bundle as bundles
from pairpref import predict as prediction
from pairpref.data import arena, cells
from pairpref.errors import UserError
from pairpref.evaluation.calibration import Calibrator
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES, TEXTS, WINNERS
from pairpref.params import Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokens import tokenize
from pairpref.training.inference import by_order
from stages import predict as stage
from stages.calibrate import calibrate
from stages.clean import clean
from stages.oof import oof
from stages.simulate import simulate
from stages.tokenize import tokenize as tokenize_stage
from stages.train import train

SILENT = {"say": lambda text: None}


@pytest.fixture(scope="module")
def settings(small_params) -> Params:
    return small_params(simulate__html_entities=0.3, simulate__mojibake=0.3)


@pytest.fixture(scope="module")
def pipeline(settings, tmp_path_factory) -> Path:
    """A folder in which every stage up to calibrate has run."""
    folder = tmp_path_factory.mktemp("pipeline")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for run in (simulate, clean, tokenize_stage, train, oof, calibrate):
            run(settings, Log("test"))
    return folder


@pytest.fixture
def there(pipeline, monkeypatch) -> Path:
    monkeypatch.chdir(pipeline)
    return pipeline


@pytest.fixture
def bundle(pipeline, tmp_path) -> Path:
    """A copy of the trained models, to be damaged."""
    return Path(shutil.copytree(pipeline / "models", tmp_path / "bundle"))


@pytest.fixture(scope="module")
def test_file(pipeline, settings) -> Path:
    return pipeline / settings.data.test


def rows_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def exchanged(path: Path) -> pd.DataFrame:
    """The same pairs with A and B exchanged."""
    rows = rows_of(path)
    rows[["response_a", "response_b"]] = rows[["response_b", "response_a"]].to_numpy()
    return rows


def read_back(submission: pd.DataFrame, path: Path) -> pd.DataFrame:
    prediction.write(submission, path)
    return pd.read_csv(path, dtype={"id": str})


class TestSubmission:
    def test_ids_and_order_are_the_test_files(self, pipeline, test_file, tmp_path):
        submission = prediction.predict(test_file, pipeline / "models", **SILENT)
        assert list(submission) == ["id", *WINNERS]
        assert submission["id"].tolist() == rows_of(test_file)["id"].tolist()
        back = read_back(submission, tmp_path / "submission.csv")
        assert list(back) == ["id", *WINNERS] and back["id"].tolist() == submission["id"].tolist()
        assert back[WINNERS].to_numpy() == pytest.approx(submission[WINNERS].to_numpy(), abs=1e-8)

    def test_rows_sum_to_one(self, pipeline, test_file, tmp_path):
        submission = prediction.predict(test_file, pipeline / "models", **SILENT)
        assert np.abs(submission[WINNERS].sum(axis=1) - 1).max() < 1e-12
        back = read_back(submission, tmp_path / "submission.csv")
        assert np.abs(back[WINNERS].sum(axis=1) - 1).max() < 1e-8 and (back[WINNERS] > 0).all(
            axis=None
        )
        assert back[WINNERS].std().min() > 1e-4

    def test_it_is_all_folds_pooled(self, pipeline, test_file, settings):
        """Against the pieces put together by hand, from texts before the file was damaged."""
        votes = [arena.vote(row, settings.simulate) for row in range(240, 280)]
        shown = {name: [cells.join(v.shown[i]) for v in votes] for i, name in enumerate(TEXTS)}
        frame = pd.DataFrame({"id": [str(v.id) for v in votes]} | shown)
        tokenizer = tokenizers.load(str(pipeline / "models/tokenizer"))
        tokens = tokenize(frame, pipeline / "models/tokenizer")
        folds = []
        for name in ("train", "oof/fold1"):
            model, config = classifier.load(pipeline / "models" / name)
            folds.append(
                by_order(model, config, tokens, tokenizers.Template.of(tokenizer), 64).mean(axis=0)
            )
        calibrator = Calibrator.load(pipeline / "models/calibrator.json")
        sharper = replace(calibrator, temperature=calibrator.temperature / calibrator.sharpening)
        q = sharper.apply(np.mean(folds, axis=0))
        submission = prediction.predict(test_file, pipeline / "models", **SILENT)
        assert submission[WINNERS].to_numpy() == pytest.approx(q, abs=1e-9)
        assert np.abs(folds[0] - folds[1]).max() > 1e-3 and calibrator.sharpening > 1.001

    @pytest.mark.fault(25)
    def test_one_order_is_asked_without_training_again(
        self, pipeline, test_file, small_params, tmp_path, monkeypatch
    ):
        """Calibrated for one order, the same classifiers are asked with A first alone."""
        shutil.copytree(pipeline, tmp_path / "copy")
        monkeypatch.chdir(tmp_path / "copy")
        calibrate(small_params(inference__dual_order=False), Log("test"))
        exchanged(test_file).to_csv("exchanged.csv", index=False)
        p, q = (
            prediction.predict(file, Path("models"), **SILENT)[WINNERS].to_numpy()
            for file in (test_file, Path("exchanged.csv"))
        )
        assert np.abs(q[:, [1, 0, 2]] - p).max() > 1e-4

    def test_the_batch_size_does_not_matter(self, pipeline, test_file):
        one, two = (
            prediction.predict(test_file, pipeline / "models", batch_size=size, **SILENT)[WINNERS]
            for size in (1, 64)
        )
        assert np.abs(one - two).max(axis=None) < 1e-6

    def test_exchanged_answers_exchange_their_probabilities(self, pipeline, test_file, tmp_path):
        exchanged(test_file).to_csv(tmp_path / "exchanged.csv", index=False)
        p = prediction.predict(test_file, pipeline / "models", **SILENT)[WINNERS].to_numpy()
        q = prediction.predict(tmp_path / "exchanged.csv", pipeline / "models", **SILENT)[
            WINNERS
        ].to_numpy()
        # The last bit may go with the sum of a row, whose terms are added in another order.
        assert q[:, [1, 0, 2]] == pytest.approx(p, abs=1e-15)


class TestUnreadableRows:
    def test_they_get_the_shares_among_the_training_votes(self, pipeline, test_file, tmp_path):
        rows = rows_of(test_file)
        rows.loc[[3, 17], "response_a"] = '["never closed'
        rows.to_csv(tmp_path / "broken.csv", index=False)
        told = []
        listing = tmp_path / "unreadable.csv"
        with pytest.raises(UserError, match=r"2 of 40 rows can't be read, more than 2%") as error:
            prediction.predict(
                tmp_path / "broken.csv", pipeline / "models", unreadable=listing, **SILENT
            )
        assert "2 x broken_json, first on line 5 (response_a: " in str(
            error.value
        ) and "--keep-going" in str(error.value)
        bad = {"unreadable": listing, "keep_going": True}
        submission = prediction.predict(
            tmp_path / "broken.csv", pipeline / "models", say=told.append, **bad
        )
        rows_listed = rows_of(listing)
        assert rows_listed["line"].tolist() == ["5", "19"] and set(rows_listed["reason"]) == {
            "broken_json"
        }
        assert rows_listed["id"].tolist() == rows.loc[[3, 17], "id"].tolist()
        assert submission["id"].tolist() == rows["id"].tolist()
        whole = prediction.predict(test_file, pipeline / "models", **SILENT)
        others = [i for i in range(len(rows)) if i not in (3, 17)]
        assert (
            np.abs(submission.loc[others, WINNERS] - whole.loc[others, WINNERS]).max(axis=None)
            < 1e-6
        )
        shares = (
            pd.read_parquet(pipeline / "data/clean/pairs.parquet")["label"]
            .value_counts(normalize=True)
            .sort_index()
        )
        for row in (3, 17):
            assert submission.loc[row, WINNERS].tolist() == pytest.approx(shares.tolist(), abs=0.05)
            assert submission.loc[row, WINNERS].sum() == pytest.approx(1)
        assert submission.loc[3, WINNERS].tolist() == submission.loc[17, WINNERS].tolist()
        assert any(
            line.startswith("2 of 40 rows can't be read; they get the shares") for line in told
        )
        prediction.predict(test_file, pipeline / "models", unreadable=listing, **SILENT)
        assert not listing.exists()

    def test_all_of_them(self, pipeline, tmp_path):
        (tmp_path / "test.csv").write_text(
            "id,prompt,response_a,response_b\n1,[[,[[,[[\n2,[[,[[,[[\n"
        )
        submission = prediction.predict(
            tmp_path / "test.csv", pipeline / "models", keep_going=True, **SILENT
        )
        assert submission["id"].tolist() == ["1", "2"] and submission[WINNERS].sum(
            axis=1
        ).tolist() == pytest.approx([1, 1])

    def test_no_rows(self, pipeline, tmp_path):
        (tmp_path / "test.csv").write_text("id,prompt,response_a,response_b\n")
        assert len(prediction.predict(tmp_path / "test.csv", pipeline / "models", **SILENT)) == 0


def refused(*args) -> str:
    with pytest.raises(UserError) as error:
        prediction.predict(*args, **SILENT)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def recorded(bundle: Path) -> None:
    """Let the manifest vouch for what is there."""
    bundles.record_models(bundle)
    bundles.record_calibrator(bundle)


class TestBadBundles:
    def test_none(self, test_file, tmp_path):
        assert "dvc repro" in refused(test_file, tmp_path / "none")

    @pytest.mark.fault(23)
    @pytest.mark.parametrize("name", ["train", "tokenizer", "oof/fold1", "calibrator.json"])
    def test_without_a_part(self, test_file, bundle, name):
        path = bundle / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert f"parts of different runs ({name} missing). Run `dvc repro`" in refused(
            test_file, bundle
        )

    @pytest.mark.fault(23)
    def test_with_a_fold_too_many(self, test_file, bundle):
        shutil.copytree(bundle / "oof" / "fold1", bundle / "oof" / "fold2")
        assert "(oof/fold2 extra)" in refused(test_file, bundle)

    @pytest.mark.fault(23)
    @pytest.mark.parametrize(
        "name",
        [
            "train/model.safetensors",
            "tokenizer/tokenizer.json",
            "oof/fold1/classifier.json",
            "calibrator.json",
        ],
    )
    def test_with_a_part_of_another_run(self, test_file, bundle, name):
        """One bit is enough; all such parts are named."""
        for path in (bundle / name, bundle / "train" / "validation.parquet"):
            path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
        parts = {"/".join(name.split("/")[:-1]) or name, "train"}
        assert f"({', '.join(f'{part} changed' for part in sorted(parts))})" in refused(
            test_file, bundle
        )

    @pytest.mark.fault(23)
    @pytest.mark.parametrize(
        "content", [None, "", "{", "[1]", "{}", '[[1, "a"], ["b", 2]]', '{"train": 1}']
    )
    def test_without_a_manifest(self, test_file, bundle, content):
        path = bundle / "manifest.json"
        path.unlink() if content is None else path.write_text(content)
        assert "`dvc repro`" in refused(test_file, bundle)

    @pytest.mark.parametrize(
        "name",
        [
            "train/classifier.json",
            "train/model.safetensors",
            "oof/fold1/config.json",
            "tokenizer/tokenizer.json",
        ],
    )
    @pytest.mark.parametrize("content", [None, b"", b"{"])
    def test_with_a_missing_or_damaged_file(self, test_file, bundle, name, content):
        path = bundle / name
        path.unlink() if content is None else path.write_bytes(content)
        recorded(bundle)
        refused(test_file, bundle)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"warmth": 1}'])
    def test_with_a_damaged_calibrator(self, test_file, bundle, content):
        (bundle / "calibrator.json").write_text(content)
        recorded(bundle)
        assert "calibrator.json" in refused(test_file, bundle)


class TestCommandLine:
    def test_a_submission_is_written(self, pipeline, test_file, tmp_path, capsys):
        output = tmp_path / "new" / "submission.csv"
        prediction.main(
            [
                "--input",
                str(test_file),
                "--output",
                str(output),
                "--bundle",
                str(pipeline / "models"),
            ]
        )
        assert "40 predictions" in capsys.readouterr().out
        assert not output.with_suffix(".unreadable.csv").exists()
        python = read_back(
            prediction.predict(test_file, pipeline / "models", **SILENT), tmp_path / "python.csv"
        )
        assert pd.read_csv(output, dtype={"id": str}).equals(python)

    @pytest.mark.parametrize("wrong", ["input", "bundle", "output"])
    def test_what_is_missing_is_one_line(self, pipeline, test_file, tmp_path, wrong, capsys):
        given = {
            "input": test_file,
            "output": tmp_path / "submission.csv",
            "bundle": pipeline / "models",
        }
        given[wrong] = tmp_path if wrong == "output" else tmp_path / "none"
        with pytest.raises(SystemExit) as stopped:
            prediction.main(
                [part for name, path in given.items() for part in (f"--{name}", str(path))]
            )
        assert stopped.value.code == 1 and len(capsys.readouterr().err.splitlines()) == 1
        assert not (tmp_path / "submission.csv").exists()

    @pytest.mark.parametrize(
        ("output", "says"),
        [
            *((name, "name a file of its own") for name in ("", ".", "/", "pipe", "/dev/null")),
            *((f"o.{ending}", "name a file of its own") for ending in ("json", "csv.gz")),
            ("file/below.csv", "file is no folder to write to"),
            ("file/new/below.csv", "file is no folder to write to"),
        ],
    )
    def test_only_what_can_be_written_is(
        self, pipeline, test_file, here, output, says, capsys, monkeypatch
    ):
        """It is known before anything is predicted."""
        monkeypatch.setattr(prediction, "Judge", None)
        os.mkfifo("pipe")
        Path("file").touch()
        with pytest.raises(SystemExit):
            prediction.main(
                [
                    "--input",
                    str(test_file),
                    "--output",
                    output,
                    "--bundle",
                    str(pipeline / "models"),
                ]
            )
        assert says in capsys.readouterr().err

    def test_a_link_is_followed(self, pipeline, test_file, here):
        Path("link.csv").symlink_to("there.csv")
        prediction.main(
            [
                "--input",
                str(test_file),
                "--output",
                "link.csv",
                "--bundle",
                str(pipeline / "models"),
            ]
        )
        assert Path("link.csv").is_symlink() and len(pd.read_csv("there.csv")) == 40

    def test_the_input_is_not_written_over(self, pipeline, test_file, capsys):
        before = test_file.read_bytes()
        with pytest.raises(SystemExit):
            prediction.main(
                [
                    "--input",
                    str(test_file),
                    "--output",
                    str(test_file),
                    "--bundle",
                    str(pipeline / "models"),
                ]
            )
        assert test_file.read_bytes() == before and "the input itself" in capsys.readouterr().err

    @pytest.mark.fault(27)
    def test_a_damaged_cell_is_named_with_its_line(self, pipeline, tmp_path, capsys):
        text = (
            'id,prompt,response_a,response_b\n01,["p"],["a"],["b"]\n'
            '02,["p"],"[""a "lone" quote""]",["b"]\n03,["p"],["a"],["b"]\n'
        )
        (tmp_path / "test.csv").write_text(text)
        output = tmp_path / "submission.csv"
        given = [
            "--input",
            str(tmp_path / "test.csv"),
            "--output",
            str(output),
            "--bundle",
            str(pipeline / "models"),
        ]
        with pytest.raises(SystemExit):
            prediction.main(given)
        said = capsys.readouterr().err
        assert "1 of 3 rows can't be read" in said and "first on line 3 (response_a: " in said
        assert not output.exists()
        prediction.main([*given, "--keep-going"])
        assert rows_of(output)["id"].tolist() == ["01", "02", "03"]
        listed = rows_of(output.with_suffix(".unreadable.csv"))
        assert listed[["line", "id", "reason"]].to_numpy().tolist() == [["3", "02", "broken_row"]]
        assert "response_a" in listed["excerpt"][0]

    @pytest.mark.parametrize("size", ["0", "-1", "many", "1.5"])
    def test_a_batch_has_a_sequence_at_least(self, pipeline, test_file, tmp_path, size, capsys):
        given = [
            "--input",
            str(test_file),
            "--output",
            str(tmp_path / "s.csv"),
            "--bundle",
            str(pipeline / "models"),
        ]
        with pytest.raises(SystemExit) as stopped:
            prediction.main([*given, "--batch-size", size])
        assert stopped.value.code != 0 and not (tmp_path / "s.csv").exists()
        says = f"argument --batch-size: {size!r}: expected a whole number from 1"
        assert says in capsys.readouterr().err


class TestStage:
    def test_it_predicts_and_scores(self, there, settings):
        stage.predict(settings, Log("predict"))
        metrics = json.loads((there / "data/test.json").read_text())
        leaderboard = json.loads((there / "metrics/test.json").read_text())
        assert leaderboard == {
            name: metrics[name] for name in ("log_loss_public", "log_loss_private")
        }
        submission = pd.read_csv("submission.csv", dtype={"id": str})
        solution = pd.read_csv(settings.data.solution, dtype={"id": str})
        truth = (
            pd.read_csv(settings.data.truth, dtype={"id": str})
            .set_index("id")
            .loc[submission["id"], PROBABILITIES]
        )
        p, labels = submission[WINNERS].to_numpy(), solution[WINNERS].to_numpy().argmax(axis=1)
        public = (solution["Usage"] == "Public").to_numpy()
        assert (
            metrics["n"] == 40 == metrics["n_public"] + metrics["n_private"]
            and metrics["n_public"] == public.sum() > 0
        )
        assert metrics["log_loss"] == pytest.approx(log_loss(labels, p), abs=1e-7)
        assert metrics["log_loss_public"] == pytest.approx(
            log_loss(labels[public], p[public]), abs=1e-7
        )
        assert metrics["log_loss_private"] == pytest.approx(
            log_loss(labels[~public], p[~public]), abs=1e-7
        )
        assert metrics["expected_log_loss"] == pytest.approx(
            -(truth.to_numpy() * np.log(p)).sum(axis=1).mean(), abs=1e-7
        )
        assert all(isinstance(value, int | float) for value in metrics.values())
        assert stage.UNREADABLE.read_text() == "line,id,reason,excerpt\n"

    def test_it_keeps_going(self, there, settings, tmp_path):
        rows = rows_of(Path(settings.data.test))
        rows.loc[3, "prompt"] = "[["
        rows.to_csv(tmp_path / "test.csv", index=False)
        data = settings.data.model_copy(update={"test": str(tmp_path / "test.csv")})
        stage.predict(settings.model_copy(update={"data": data}), Log("predict"))
        assert len(rows_of(stage.SUBMISSION)) == 40
        assert rows_of(stage.UNREADABLE)["line"].tolist() == ["5"]

    def test_twice_is_the_same_bytes(self, there, settings):
        written = []
        for _ in range(2):
            stage.predict(settings, Log("predict"))
            written.append(
                [
                    Path(name).read_bytes()
                    for name in ("submission.csv", "data/test.json", "metrics/test.json")
                ]
            )
        assert written[0] == written[1]

    def test_without_a_test_file_there_is_a_header(self, here, small_params):
        theirs = small_params(data__train="votes.csv")
        assert theirs.data.test is None
        stage.predict(theirs, Log("predict"))
        assert Path("submission.csv").read_text() == ",".join(["id", *WINNERS]) + "\n"
        assert json.loads(Path("data/test.json").read_text()) == {"n": 0}
        assert json.loads(Path("metrics/test.json").read_text()) == {}


class TestScore:
    """Against files that are not the arena's."""

    @pytest.fixture
    def submission(self):
        p = np.random.default_rng(0).dirichlet((1, 1, 1), size=6)
        return pd.concat(
            [pd.DataFrame({"id": list("abcdef")}), pd.DataFrame(p, columns=WINNERS)], axis=1
        )

    @pytest.fixture
    def data(self, small_params, here):
        def make(**files: pd.DataFrame):
            for name, frame in files.items():
                frame.to_csv(f"{name}.csv", index=False)
            return small_params(
                **{"data__train": "v.csv"} | {f"data__{name}": f"{name}.csv" for name in files}
            ).data

        return make

    @staticmethod
    def solution(ids: str, usage: str | list[str] = "Public") -> pd.DataFrame:
        return pd.DataFrame(
            {"id": list(ids)} | dict(zip(WINNERS, (1, 0, 0), strict=True)) | {"Usage": usage}
        )

    def test_nothing_known_is_a_count(self, submission, data):
        assert stage.score(submission, data()) == {"n": 6}

    def test_rows_are_matched_by_id(self, submission, data):
        metrics = stage.score(
            submission, data(solution=self.solution("fedcba", ["Public"] * 4 + ["Private"] * 2))
        )
        losses = -np.log(submission[WINNERS[0]].to_numpy())
        assert metrics["log_loss"] == pytest.approx(losses.mean())
        assert (
            metrics["log_loss_public"] == pytest.approx(losses[2:].mean())
            and metrics["n_public"] == 4
        )
        assert (
            metrics["log_loss_private"] == pytest.approx(losses[:2].mean())
            and metrics["n_private"] == 2
        )
        assert "expected_log_loss" not in metrics

    @pytest.mark.fault(27)
    def test_ids_are_text_and_flags_go_by_meaning(self, submission, data):
        numbered = submission.assign(id=["07", "7", "NA", "1e3", "", " "])
        solution = self.solution("abcdef").assign(
            id=numbered["id"], winner_model_a="TRUE", winner_model_b="0.0", winner_tie="false"
        )
        truth = numbered.set_axis(["id", *PROBABILITIES], axis=1)
        metrics = stage.score(numbered, data(solution=solution, truth=truth))
        assert metrics["log_loss"] == pytest.approx(-np.log(submission[WINNERS[0]]).mean())
        assert metrics["information_captured"] == pytest.approx(1)

    def test_a_usage_that_does_not_occur_has_no_score(self, submission, data):
        metrics = stage.score(submission, data(solution=self.solution("abcdef")))
        assert metrics["n_public"] == 6 and "log_loss_private" not in metrics

    def test_more_rows_than_the_submission_are_no_matter(self, submission, data):
        assert stage.score(submission, data(solution=self.solution("zabcdefy")))["n"] == 6

    def test_truth_alone(self, submission, data):
        truth = submission.set_axis(["id", *PROBABILITIES], axis=1)
        metrics = stage.score(submission, data(truth=truth))
        assert metrics["information_captured"] == pytest.approx(1) and "log_loss" not in metrics

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda s: s[s["id"] != "c"], "lacks 1 of 6 rows"),
            (lambda s: s.drop(columns="Usage"), "Usage"),
            (lambda s: s.assign(winner_tie=1), "exactly one winner"),
            (lambda s: pd.concat([s, s.iloc[:1]]), "not unique"),
        ],
        ids=["lacking", "no usage", "two winners", "twice"],
    )
    def test_a_solution_that_does_not_fit(self, submission, data, change, says):
        with pytest.raises(UserError, match=says) as error:
            stage.score(submission, data(solution=change(self.solution("abcdef"))))
        assert "data.solution" in str(error.value) and len(str(error.value).splitlines()) == 1

    def test_truth_that_does_not_fit(self, submission, data):
        truth = submission.set_axis(["id", *PROBABILITIES], axis=1)
        with pytest.raises(UserError, match=r"data\.truth.*lacks 2 of 6 votes"):
            stage.score(submission, data(truth=truth.iloc[:4]))


def test_texts_are_no_pairs(bundle, tmp_path):
    """Single texts would all come out as ties, so a model of pairs refuses them."""
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": 1, "text": "an answer without its rival"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="single texts"):
        prediction.predict(path, bundle)


def test_one_row_is_read_like_the_votes(bundle, tmp_path):
    """Where the training votes were plain text, a text that looks like a list is a text."""
    path = tmp_path / "one.csv"
    path.write_text(
        'id,prompt,response_a,response_b\n1,"[""a"", ""b""]","[""c"", ""d""]","[""e"", ""f""]"\n'
    )
    lists = prediction.predict(path, bundle, **SILENT)
    assert bundles.plain(bundle) == dict.fromkeys(TEXTS, False)
    (bundle / bundles.VOTES).write_text(json.dumps({"plain": dict.fromkeys(TEXTS, True)}))
    recorded(bundle)
    texts = prediction.predict(path, bundle, **SILENT)
    assert np.abs(lists[WINNERS] - texts[WINNERS]).max(axis=None) > 1e-9
