"""python -m stages.report

Everything the other stages found, for a person to read: one page, the same tables as Markdown, the
headline as JSON, plots for DVC.

Judges the out-of-fold predictions, or fold 0 if none are exported. Reads the outs of the other
stages and what is kept of the versions. Also writes report/run.md, which is no out as it has times.
"""

import json

import numpy as np
import pandas as pd

from pairpref import monitor, paths
from pairpref.evaluation import buckets, fusion, truth
from pairpref.evaluation.calibration import CALIBRATED, Calibrator
from pairpref.evaluation.metrics import answers, probabilities
from pairpref.evaluation.position import orders_of
from pairpref.evaluation.report import EvaluationReport, Votes, evaluate
from pairpref.files import write_json, write_text
from pairpref.monitor import Log
from pairpref.pairs import TEXTS
from pairpref.params import Params, in_arena
from pairpref.reporting import figures, page, provenance, tables
from pairpref.text import tokens as token_files
from pairpref.text.compose import Cut, composed_lengths, windows
from pairpref.text.tokenizer import Template
from pairpref.typed_yaml import flat
from pairpref.versions import catalog
from pairpref.versions import tables as version_tables
from pairpref.versions.predictions import collect_predictions
from pairpref.versions.results import VersionResults

_BINS = 15  # of equal mass, in the reliability curves


def report(params: Params, log: Log) -> None:
    by_seed = pd.read_parquet(paths.SEEDS)
    votes = _votes(params, by_seed)
    ids, baselines = votes.frame[["id"]], pd.read_parquet(paths.BASELINES)
    log.say(f"judging {len(ids):,} votes")
    found = evaluate(
        votes,
        {
            name: probabilities(ids.merge(rows, on="id", how="left", validate="1:1"))
            for name, rows in baselines.groupby("baseline", sort=False)
        },
        answers(by_seed, params.inference.dual_order),
        _BINS,
        _members(params, ids["id"]),
        training=pd.read_csv(paths.TRAINING_CURVES),
        calibrator=Calibrator.load(paths.CALIBRATOR),
        calibration=json.loads(paths.CALIBRATION.read_text("utf-8"))
        | json.loads(paths.FEATURES_FIGURES.read_text("utf-8")),
        clean=json.loads(paths.CLEAN_COUNTS.read_text("utf-8")),
        test=json.loads(paths.TEST_SCORES.read_text("utf-8")),
    )
    long = ids["id"][votes.kinds["length"] == "long"]
    versions = VersionResults.load(catalog.load(), collect_predictions(params), long=long)
    _write(found, versions, params)
    best = f"best baseline ({page.sentence('level', found.best.name)}) {found.best.log_loss:.4f}"
    log.say(f"log loss {found.figures['log_loss']:.4f}, {best}; read {paths.PAGE}")


def _votes(params: Params, by_seed: pd.DataFrame) -> Votes:
    predictions = pd.read_parquet(paths.UNCALIBRATED)
    if len(predictions):
        after = probabilities(pd.read_parquet(paths.OOF), CALIBRATED)
    else:
        predictions = by_seed[by_seed["seed"] == params.train.seeds[0]]
        after = probabilities(answers(predictions, params.inference.dual_order))
    lengths, wanted = _lengths(params), params.report.cuts
    # Thirds of all votes: the same for every model of them, whatever its folds.
    cuts = buckets.length_cuts(lengths["tokens"].to_numpy()) if wanted == "thirds" else wanted
    frame = predictions[["id", "label"]]
    for known in (pd.read_parquet(paths.PAIRS, columns=["id", *TEXTS, "group", "turns"]), lengths):
        frame = frame.merge(known, on="id", how="left", validate="1:1")
    tokens = frame["tokens"].to_numpy()
    return Votes(
        frame=frame[["id", *TEXTS, "label"]],
        groups=frame["group"].to_numpy(),
        folds=predictions["fold"].to_numpy(),
        before=probabilities(answers(predictions, params.inference.dual_order)),
        after=after,
        orders=orders_of(predictions),
        truth=truth.read(params.data.truth, frame["id"]) if params.data.truth else None,
        kinds={
            "length": buckets.by_length(tokens, cuts),
            "turns": np.where(frame["turns"] > 1, "several", "one"),
            "truncated": np.where(tokens > _longest(params), "yes", "no"),
        },
        cuts=cuts,
        windows=frame["windows"].to_numpy(),
    )


def _members(params: Params, ids: pd.Series) -> dict[str, np.ndarray]:
    """Each member's p, where several are fused."""
    oof = pd.read_parquet(paths.OOF)
    if len(params.fusion.members) < 2 or not len(oof):
        return {}
    exports = pd.read_parquet(paths.MEMBERS), pd.read_parquet(paths.FEATURES_OOF)
    home, _ = fusion.answers_of(oof, *exports, params.train.seeds[0])
    return dict(zip(*fusion.stacked(ids, home), strict=True))


def _longest(params: Params) -> int:
    return params.inference.other_length or params.model.max_length


def _lengths(params: Params) -> pd.DataFrame:
    """Of each pair its id, tokens, and the windows it is read in."""
    tokens = token_files.load(paths.TOKENS)
    template = Template(**json.loads(paths.TEMPLATE.read_text("utf-8")))
    text = params.text
    cut = Cut(text.truncation, text.windows.most, text.windows.stride)
    return pd.DataFrame(
        {
            "id": tokens.ids,
            "tokens": composed_lengths(tokens.lengths(), tokens.single, template),
            "windows": [
                windows(lengths, _longest(params), template, cut)
                for lengths in tokens.part_lengths()
            ],
        }
    )


def _shown(params: Params) -> dict[str, object]:
    """Params by dotted names that say something of this run: parallel.* changes no byte."""
    named = flat(params.model_dump(mode="json"))
    hidden = ("parallel.",) if in_arena(params.data.train) else ("parallel.", "simulate.")
    return {key: value for key, value in named.items() if not key.startswith(hidden)}


def _write(found: EvaluationReport, versions: VersionResults, params: Params) -> None:
    of_versions = {
        "versions_log_loss": version_tables.trend(versions, "log_loss"),
        "versions_f1": version_tables.trend(versions, "f1_macro"),
        "versions_accuracy": version_tables.accuracy(versions),
    }
    shown, defaults = _shown(params), _shown(Params())
    content = page.Content(
        report=found,
        versions=versions,
        params=shown,
        exact=json.loads((paths.FOLD_0 / "classifier.json").read_text("utf-8"))["exact"],
        tables=tables.tables(found, shown, defaults) | version_tables.tables(versions),
        figures=figures.figures(found)
        | (figures.of_versions(*of_versions.values()) if versions.replayed else {}),
    )
    write_text(paths.PAGE, page.html(content))
    write_text(paths.REPORT / "report.md", page.markdown(content))
    write_text(paths.REPORT / "run.md", provenance.markdown())
    now = page.sentence("now", versions)
    write_json(paths.HEADLINE, {"figures": found.figures, "ci": found.ci, "versions": now})
    for name, table in (tables.plots(found) | of_versions).items():
        text = table.round(6).to_csv(index=False, lineterminator="\n")
        write_text(paths.PLOTS / f"{name}.csv", text)


if __name__ == "__main__":
    monitor.run("report", report)
