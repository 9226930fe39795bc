"""python -m stages.report

Everything the other stages found, for a person to read: one page, the same tables as Markdown, the headline as JSON.

Judges the out-of-fold export, or fold 0 where nothing is exported. Reads data/clean/pairs.parquet, data/tokens/ (how long a pair is),
data/oof/, models/calibrator.json, data/clean/counts.json, data/test.json, plots/train.csv, data.truth where it is known, and what is
measured of the versions: versions/. Writes report/index.html, report/report.md,
report/headline.json, plots/{reliability,confusion,buckets,baselines,versions_*}.csv and, no declared out because
it holds times, report/run.md.
"""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pairpref import monitor
from pairpref.evaluation import buckets, truth
from pairpref.evaluation.calibration import CALIBRATED, Calibrator
from pairpref.evaluation.metrics import answers, probabilities
from pairpref.files import write_json, write_text
from pairpref.monitor import Log
from pairpref.pairs import LABELS, TEXTS
from pairpref.params import Params, flat
from pairpref.reporting import page, provenance, versions, words
from pairpref.reporting.findings import Findings, Votes, find, orders_of
from pairpref.reporting.glossary import NAMES
from pairpref.reporting.sections import sections
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.text.compose import composed_lengths
from pairpref.versions import catalog, tables
from pairpref.versions.predictions import collect_predictions
from pairpref.versions.results import VersionResults

PLOTS, REPORT = Path("plots"), Path("report")
PAIRS, TOKENS, TOKENIZER = (
    Path("data/clean/pairs.parquet"),
    Path("data/tokens"),
    Path("models/tokenizer"),
)
OOF = Path("data/oof")
FIGURES = {
    "clean": Path("data/clean/counts.json"),
    "calibrate": OOF / "calibration.json",
    "test": Path("data/test.json"),
}
CALIBRATOR = Path("models/calibrator.json")


def report(params: Params, log: Log) -> None:
    by_seed = pd.read_parquet(OOF / "seeds.parquet")
    votes = _votes(params, by_seed)
    baselines = pd.read_parquet(OOF / "baselines.parquet")
    simple = {
        name: probabilities(
            votes.frame[["id"]].merge(table, on="id", how="left", validate="one_to_one")
        )
        for name, table in baselines.groupby("baseline", sort=False)
    }
    log.say(f"judging {len(votes.frame):,} votes")
    found = find(
        votes,
        simple,
        answers(by_seed, params.inference.dual_order),
        params.report.bins,
        curves=pd.read_csv(PLOTS / "train.csv"),
        calibrator=Calibrator.load(CALIBRATOR),
        **{stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in FIGURES.items()},
        versions=VersionResults.load(catalog.load(), collect_predictions(params)),
        params=_told(params.model_dump(mode="json")),
        defaults=_told(
            yaml.safe_load(
                resources.files("pairpref.reporting").joinpath("defaults.yaml").read_text("utf-8")
            )
        ),
    )
    _write(found)
    best = found.baselines[-1]
    log.say(
        f"log loss {found.headline['log_loss']:.4f}, best baseline ({best.name.replace('_', ' ')}) {best.log_loss:.4f}; "
        f"read {REPORT / 'index.html'}"
    )


def _told(params: dict) -> dict[str, object]:
    """Params by their dotted names, but for parallel.*: how many jobs there were changes no byte, of the report neither."""
    return {key: value for key, value in flat(params).items() if not key.startswith("parallel.")}


def _votes(params: Params, by_seed: pd.DataFrame) -> Votes:
    uncalibrated = pd.read_parquet(OOF / "uncalibrated.parquet")
    if len(uncalibrated):
        after = probabilities(pd.read_parquet(OOF / "oof.parquet"), CALIBRATED)
    else:
        uncalibrated = by_seed[by_seed["seed"] == params.train.seeds[0]]
        after = probabilities(answers(uncalibrated, params.inference.dual_order))
    pairs = pd.read_parquet(PAIRS, columns=["id", *TEXTS, "group", "turns"])
    # Cut where all votes fall into three equal parts: the same for every model of these votes, however many folds it has.
    lengths = _lengths()
    cuts = (
        buckets.length_cuts(lengths["tokens"].to_numpy())
        if params.report.cuts == "thirds"
        else params.report.cuts
    )
    frame = uncalibrated[["id", "label"]]
    for known in (pairs, lengths):
        frame = frame.merge(known, on="id", how="left", validate="one_to_one")
    lengths = frame["tokens"].to_numpy()
    return Votes(
        frame=frame[["id", *TEXTS, "label"]],
        groups=frame["group"].to_numpy(),
        folds=uncalibrated["fold"].to_numpy(),
        before=probabilities(answers(uncalibrated, params.inference.dual_order)),
        after=after,
        orders=orders_of(uncalibrated),
        truth=truth.read(params.data.truth, frame["id"]) if params.data.truth else None,
        kinds={
            "length": buckets.by_length(lengths, cuts),
            "turns": np.where(frame["turns"] > 1, "several", "one"),
            "truncated": np.where(lengths > params.model.max_length, "yes", "no"),
        },
        cuts=cuts,
    )


def _lengths() -> pd.DataFrame:
    tokens, template = (
        token_files.load(TOKENS),
        tokenizers.Template.of(tokenizers.load(str(TOKENIZER))),
    )
    return pd.DataFrame(
        {"id": tokens.ids, "tokens": composed_lengths(tokens.lengths(), tokens.single, template)}
    )


def _write(found: Findings) -> None:
    opening, parts = words.opening(found), sections(found)
    write_text(REPORT / "index.html", page.html(opening, parts))
    write_text(REPORT / "report.md", page.markdown(opening, parts))
    write_text(REPORT / "run.md", provenance.markdown())
    write_json(
        REPORT / "headline.json",
        {"figures": found.headline, "ends": found.ends, "versions": versions.now(found.versions)},
    )
    confusion = [
        (a, p, found.confusion[i, j]) for i, a in enumerate(LABELS) for j, p in enumerate(LABELS)
    ]
    levels = [(NAMES[y.name], y.log_loss, *y.ends) for y in found.baselines]
    if floor := found.headline.get("floor"):
        levels.append(("floor", floor, floor, floor))
    levels += [
        (name, found.headline[key], *found.ends[key])
        for name, key in (("model uncalibrated", "log_loss_before"), ("model", "log_loss"))
    ]
    curves = found.reliability
    if found.calibrator.method == "none":
        curves = curves[curves["stage"] == "after"].assign(stage="no")
    plots = {
        "reliability": curves,
        "confusion": pd.DataFrame(confusion, columns=["actual", "predicted", "n"]),
        "buckets": found.buckets,
        "baselines": pd.DataFrame(levels, columns=["name", "log_loss", "low", "high"]),
        "versions_log_loss": tables.trend(found.versions, "log_loss"),
        "versions_f1": tables.trend(found.versions, "f1_macro"),
        "versions_accuracy": tables.accuracy(found.versions),
    }
    for name, table in plots.items():
        write_text(PLOTS / f"{name}.csv", table.round(6).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    monitor.run("report", report)
