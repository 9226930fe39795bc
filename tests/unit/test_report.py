import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pairpref import bundle, params
from pairpref.monitor import Log
from pairpref.pairs import ORDERS, PROBABILITIES
from pairpref.reporting import headline
from pairpref.versions import catalog
from stages.baselines import baselines
from stages.calibrate import calibrate
from stages.report import report
from stages.tokenize import tokenize

PARAMS = Path(__file__).parents[2] / "params.yaml"
TRENDS = ("versions_log_loss", "versions_f1", "versions_accuracy")
PLOTS = [
    f"plots/{name}.csv" for name in ("reliability", "confusion", "buckets", "baselines", *TRENDS)
]
OUTS = ["report/index.html", "report/report.md", "report/headline.json", *PLOTS]


@pytest.fixture
def settings(before, tmp_path, monkeypatch) -> params.Params:
    """Every stage before calibrate has run on 600 made-up votes, with known truth."""
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return alone()


def alone(jobs: int = 1) -> params.Params:
    """The default params, of the classifier alone, in this process, or in several."""
    found = params.load(PARAMS)
    parallel = found.parallel.model_copy(update={"jobs": jobs})
    fusion = found.fusion.model_copy(update={"members": ("classifier",)})
    return found.model_copy(update={"parallel": parallel, "fusion": fusion})


@pytest.fixture(scope="module")
def finished(before, tmp_path_factory) -> Path:
    """A folder in which the stages after that have run too, with something in the log."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(before, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        log = Log("train")
        log.event("began", torch="9.9.9")
        log.event("trained", tokens_per_second=12345.6)
        log.event("ended", peak_mib=321)
        run(alone())
    return folder


@pytest.fixture
def found(finished, monkeypatch) -> dict:
    """The figures of a run, whose folder this is."""
    monkeypatch.chdir(finished)
    return json.loads(headline.HEADLINE.read_text())["figures"]


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _make()
    return folder


def _make() -> None:
    rng = np.random.default_rng(0)
    n = 600
    logits = rng.normal(size=(n, 3))
    p, bold = (np.exp(s * logits) / np.exp(s * logits).sum(axis=1, keepdims=True) for s in (1, 1.5))
    ids, fold = rng.permutation(10 * n)[:n].astype(str), np.arange(n) % 5
    label = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    for folder in ("data/raw/simulated", "data/clean", "data/oof", "models/train", "plots"):
        Path(folder).mkdir(parents=True)
    texts = {
        "prompt": "why?",
        "response_a": ["a" * k for k in rng.integers(0, 90, n)],
        "response_b": "<b>because</b>",
    }
    pairs = pd.DataFrame(
        {"id": ids, **texts, "label": label, "group": np.arange(n) // 2, "fold": fold}
    )
    pairs["turns"] = 1 + (np.arange(n) % 10 == 0)
    pairs.to_parquet("data/clean/pairs.parquet", index=False)
    oof = pd.DataFrame({"id": ids, "fold": fold, "label": label})
    for columns in ORDERS:
        oof[columns] = bold
    oof.to_parquet("data/oof/uncalibrated.parquet", index=False)
    bundle.record_models(Path("models"))
    oof[fold == 0].to_parquet("models/train/validation.parquet", index=False)
    by_model = oof.drop(columns="label").iloc[:0].assign(member="")
    by_model.to_parquet("data/oof/by_model.parquet", index=False)
    oof[fold == 0].assign(seed=0).to_parquet("data/oof/seeds.parquet", index=False)
    Path("data/oof/features.json").write_text("{}")
    known = pd.DataFrame({"id": ids}).join(pd.DataFrame(p, columns=PROBABILITIES))
    known.iloc[::-1].to_csv("data/raw/simulated/truth.csv", index=False)
    Path("data/clean/counts.json").write_text(json.dumps({"rows": n}))
    Path("data/test.json").write_text(json.dumps({"n": 0}))
    Path("models/train/classifier.json").write_text(json.dumps({"exact": True}))
    Path("plots/train.csv").write_text(
        "epoch,train_loss,validation_loss,log_loss,accuracy,f1_macro\n1,1.1,1.1,1.0,.5,.5\n"
    )
    catalog.CATALOG.parent.mkdir(exist_ok=True)
    shutil.copy(PARAMS.parent / catalog.CATALOG, catalog.CATALOG)
    settings = alone()
    tokenize(settings, Log("tokenize"))
    baselines(settings, Log("baselines"))


def run(settings) -> dict:
    calibrate(settings, Log("calibrate"))
    report(settings, Log("report"))
    return json.loads(Path("report/headline.json").read_text())["figures"]


def test_headline_of_simulated_votes(found):
    calibrated = json.loads(Path("data/oof/calibration.json").read_text())
    assert all(
        found[name] == pytest.approx(calibrated[name])
        for name in ("log_loss_before", "log_loss", "accuracy", "f1_macro", "n")
    )
    assert found["floor"] < found["log_loss"] < found["log_loss_before"] < found["class_prior"]
    assert found["length_only"] == pytest.approx(found["class_prior"], abs=0.02)
    assert found["information_captured"] == pytest.approx(1, abs=0.05)


def test_plots_are_what_dvc_expects(found):
    curves, votes, buckets, levels, *_ = (pd.read_csv(path) for path in PLOTS)
    assert len(curves) == 2 * 4 * 15 and set(curves["stage"]) == {"before", "after"}
    assert (
        list(votes) == ["actual", "predicted", "n"]
        and votes["n"].sum() == 600
        and set(votes["actual"]) == {"A", "B", "TIE"}
    )
    assert buckets.loc[0, "log_loss"] == pytest.approx(found["log_loss"], abs=1e-6)
    assert set(buckets["kind"]) == {"all", "length", "turns", "truncated"}
    assert list(levels["name"])[-2:] == ["model uncalibrated", "model"]


def test_every_figure_that_is_drawn_has_its_place(found):
    html = Path("report/index.html").read_text(encoding="utf-8")
    drawn = json.loads(re.search(r'id="figures">(.*?)</script>', html)[1])
    assert len(drawn) == 9 and all(f'id="figure-{name}"' in html for name in drawn)


def test_intervals_are_told_with_the_figures(found):
    told = json.loads(Path("report/headline.json").read_text())
    assert all(
        low - 1e-9 <= told["figures"][name] <= high + 1e-9
        for name, (low, high) in told["ci"].items()
    )
    assert {"information_captured", "accuracy", "f1_macro", "brier", "expected_log_loss"} <= set(
        told["ci"]
    )


def test_lengths_can_be_cut_where_one_likes(settings):
    cut = settings.model_copy(
        update={"report": settings.report.model_copy(update={"cuts": (5, 10_000)})}
    )
    run(cut)
    buckets = pd.read_csv("plots/buckets.csv")
    assert set(buckets.loc[buckets["kind"] == "length", "bucket"]) == {"medium"}
    assert "medium up to 10,000" in Path("report/report.md").read_text()


def test_real_votes_have_no_truth(settings):
    found = run(
        settings.model_copy(update={"data": settings.data.model_copy(update={"truth": None})})
    )
    assert not {"prior", "floor", "expected_log_loss", "information_captured"} & set(found)
    assert "simulated" not in Path("report/report.md").read_text().split("##")[0]


def test_only_one_fold_trained(settings):
    oof = pd.read_parquet("data/oof/uncalibrated.parquet")
    oof[oof["fold"] == 0].to_parquet("data/oof/uncalibrated.parquet", index=False)
    found = run(settings)
    assert found["n"] == 120 and found["class_prior"] == pytest.approx(1.09, abs=0.05)


def test_nothing_exported(settings):
    pd.read_parquet("data/oof/uncalibrated.parquet").iloc[:0].to_parquet(
        "data/oof/uncalibrated.parquet", index=False
    )
    found = run(settings)
    assert found["n"] == 120 and found["log_loss"] == found["log_loss_before"]
    assert pd.read_csv("plots/confusion.csv")["n"].sum() == 120
    assert "Probabilities were not calibrated" in Path("report/report.md").read_text()


def test_another_run_with_more_jobs_writes_the_same_bytes(found):
    first = {path: Path(path).read_bytes() for path in OUTS}
    run(alone(jobs=2))
    assert {path: Path(path).read_bytes() for path in OUTS} == first


def test_how_the_run_went_is_told_apart_from_the_page(found):
    told = Path("report/run.md").read_text()
    assert "12,346 | 321" in told and "| torch | 9.9.9 | train |" in told
    assert "9.9.9" not in Path("report/report.md").read_text()
    shown = {
        name: value for name, value, *_ in headline.rows(json.loads(headline.HEADLINE.read_text()))
    }
    assert shown["Training tokens/s"] == "12,346" and shown["Information captured"].endswith("%")


def test_the_table_at_the_terminal_loads_nothing_heavy():
    heavy = (
        "print([m for m in ('numpy', 'pandas', 'sklearn', 'plotly', 'torch') if m in sys.modules])"
    )
    code = f"import sys, pairpref.reporting.headline; {heavy}"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_the_table_at_the_terminal_without_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        headline.main()
    assert "dvc repro" in capsys.readouterr().err
