"""python -m stages.report

Everything the other stages found, for a person to read: one page, the same tables as Markdown, the headline as metrics.

data/clean/pairs.parquet, data/oof/oof.parquet, models/calibrator.json, metrics/{clean,train,test}.json, plots/train.csv
and data.truth where it is known -> report/index.html, report/report.md, metrics/report.json, plots/reliability.csv,
plots/confusion.csv and, no declared out because it holds times, report/run.md
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from pairpref import monitor
from pairpref.evaluation import metrics, truth, yardsticks
from pairpref.evaluation.calibration import CALIBRATED, Calibrator
from pairpref.evaluation.reliability import COLUMNS, reliability
from pairpref.files import write_text
from pairpref.monitor import Log
from pairpref.pairs import LABELS, TEXTS
from pairpref.params import Params
from pairpref.reporting import page, provenance, words
from pairpref.reporting.examples import surprising
from pairpref.reporting.glossary import HEADLINE
from pairpref.reporting.sections import Findings, sections

METRICS, PLOTS, REPORT = Path("metrics"), Path("plots"), Path("report")
PAIRS = Path("data/clean/pairs.parquet")
OOF = Path("data/oof/oof.parquet")
CALIBRATOR = Path("models/calibrator.json")


def report(params: Params, log: Log) -> None:
    pairs = pd.read_parquet(PAIRS, columns=["id", *TEXTS, "label", "fold"])
    oof = pd.read_parquet(OOF)
    calibrator = Calibrator.load(CALIBRATOR)

    headline = _yardsticks(pairs, oof["fold"].unique() if len(oof) else [0])
    curves, confusion, surprises = pd.DataFrame(columns=["stage", *COLUMNS]), None, []
    if len(oof):
        votes = oof[["id", "label"]].merge(pairs[["id", *TEXTS]], on="id", how="left", validate="one_to_one")
        labels = votes["label"].to_numpy(dtype=int)
        before, after = metrics.probabilities(oof), metrics.probabilities(oof, CALIBRATED)
        known = truth.read(params.data.truth, votes["id"]) if params.data.truth else None
        headline |= {"log_loss_before": metrics.scores(labels, before)["log_loss"], **metrics.scores(labels, after)}
        if known is not None:
            headline |= truth.captured(known, after)
        stages = {"before": before, "after": after}
        curves = pd.concat([reliability(labels, p, params.report.bins).assign(stage=name) for name, p in stages.items()])
        confusion = metrics.confusion(labels, after)
        surprises = surprising(votes, after, known)
    else:
        headline |= {name: value for name, value in _metrics("train").items() if name in HEADLINE}

    found = Findings(
        headline=headline,
        curves=pd.read_csv(PLOTS / "train.csv"),
        reliability=curves,
        confusion=confusion,
        calibrator=calibrator,
        clean=_metrics("clean"),
        test=_metrics("test"),
        surprises=surprises,
        params=_flat(params.model_dump(mode="json")),
        lossy=params.simulate.lossy > 0,
    )
    _write(found)
    log.say(f"log loss {headline['log_loss']:.4f}, class shares {headline['class_prior']:.4f}; read {REPORT / 'index.html'}")


def _yardsticks(pairs: pd.DataFrame, folds) -> dict[str, float]:
    rows = pairs["fold"].isin(folds).to_numpy()
    labels = pairs["label"].to_numpy(dtype=int)[rows]
    named = {"class_prior": yardsticks.class_prior, "length_only": yardsticks.length_only}
    return {name: metrics.scores(labels, predict(pairs)[rows])["log_loss"] for name, predict in named.items()}


def _metrics(stage: str) -> dict[str, float]:
    return json.loads((METRICS / f"{stage}.json").read_text(encoding="utf-8"))


def _flat(section: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in section.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _write(found: Findings) -> None:
    opening, parts = words.opening(found.headline, found.lossy), sections(found)
    texts = {
        REPORT / "index.html": page.html(opening, parts),
        REPORT / "report.md": page.markdown(opening, parts),
        REPORT / "run.md": provenance.markdown(),
        METRICS / "report.json": json.dumps(found.headline, indent=2) + "\n",
        PLOTS / "reliability.csv": found.reliability[["stage", *COLUMNS]].round(6).to_csv(index=False, lineterminator="\n"),
        PLOTS / "confusion.csv": _confusion_rows(found.confusion),
    }
    for path, text in texts.items():
        write_text(path, text)


def _confusion_rows(counts: np.ndarray | None) -> str:
    """A row a vote, as DVC's `confusion` template counts them itself; in order of label, which git packs to almost nothing."""
    cells = [] if counts is None else [(a, p, counts[i, j]) for i, a in enumerate(LABELS) for j, p in enumerate(LABELS)]
    return "actual,predicted\n" + "".join(f"{actual},{predicted}\n" * count for actual, predicted, count in cells)


if __name__ == "__main__":
    monitor.run("report", report)
