"""The report's sections, each a function of what was found; a section without anything to show is left out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pairpref.evaluation.calibration import Calibrator
from pairpref.evaluation.reliability import CONFIDENCE, CURVES
from pairpref.pairs import LABELS
from pairpref.reporting import figures, glossary, words
from pairpref.reporting.examples import Example
from pairpref.reporting.tables import Table


@dataclass(frozen=True)
class Findings:
    """All that the report tells, as the stages measured it.

    Attributes:
        headline: metrics/report.json.
        curves: plots/train.csv.
        reliability: plots/reliability.csv; no rows where nothing was exported.
        confusion: shape (3, 3), rows voted, columns predicted; or None.
        calibrator: as used by predict.
        clean, test: the metrics of these stages.
        surprises: votes to look at.
        params: dotted key to value.
        lossy: whether simulated text was destroyed after the vote.
    """

    headline: dict[str, float]
    curves: pd.DataFrame
    reliability: pd.DataFrame
    confusion: np.ndarray | None
    calibrator: Calibrator
    clean: dict[str, float]
    test: dict[str, float]
    surprises: list[Example]
    params: dict[str, object]
    lossy: bool = False


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it. Tables beside figures are folded: they are the same in numbers."""

    id: str
    title: str
    text: str
    figures: dict[str, go.Figure] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    examples: list[Example] = field(default_factory=list)
    folded: bool = False


def sections(found: Findings) -> list[Section]:
    """All sections in order of reading."""
    return [
        section
        for make in (_headline, _test, _training, _reliability, _confusion, _clean, _surprises, _params)
        for section in make(found)
    ]


def _headline(found: Findings) -> Iterator[Section]:
    text = "All log losses are in nats. Nothing here was measured on votes that the figure in question was fitted on."
    yield Section(
        "headline",
        "In figures",
        text,
        tables=(Table(("figure", "value", "meaning"), glossary.headline(found.headline), ("meaning",)),),
    )


def _test(found: Findings) -> Iterator[Section]:
    if found.test.get("n"):
        text = "Predictions for the test file, made by all trained folds together and scored as a leaderboard would."
        yield Section("test", "On the test file", text, tables=(_plain(found.test, "figure"),))


def _training(found: Findings) -> Iterator[Section]:
    curves = found.curves
    columns = {"train_loss": "training loss", "validation_loss": "validation loss", "log_loss": "log loss, as reported"}
    drawn = {
        "training-loss": figures.curves(curves, "epoch", columns, "nats"),
        "training-scores": figures.curves(curves, "epoch", {"accuracy": "accuracy", "f1_macro": "macro F1"}, "share"),
    }
    rows = [
        tuple(f"{value:g}" if name == "epoch" else f"{value:.4f}" for name, value in row.items())
        for row in curves.to_dict("records")
    ]
    text = (
        "The model of fold 0 after each epoch: trained on the other folds, judged on fold 0. Where validation loss rises while "
        "training loss falls, it has begun to learn its votes by heart. Validation loss is of A shown first; the log loss as "
        "reported is of the final answer, which averages both orders where inference.dual_order is on."
    )
    yield Section("training", "Training", text, drawn, (Table(tuple(curves.columns), rows),))


def _reliability(found: Findings) -> Iterator[Section]:
    if found.reliability.empty:
        return
    titles = dict(zip(CURVES, ("A wins", "B wins", "a tie", "best guess is right"), strict=True))
    stages = ("before", "after") if found.calibrator.method != "none" else ("after",)
    names = {"before": "before calibration", "after": "after" if len(stages) > 1 else "as reported"}
    drawn = {}
    for curve in (CONFIDENCE, *LABELS):
        of_curve = found.reliability[found.reliability["class"] == curve]
        parts = {names[stage]: of_curve[of_curve["stage"] == stage] for stage in stages}
        drawn[f"reliability-{curve.lower()}"] = figures.reliability(parts, titles[curve])
    text = words.calibration(found.calibrator, found.headline, int(found.reliability["n"].min()))
    yield Section("reliability", "Can the probabilities be taken at their word?", text, drawn)


def _confusion(found: Findings) -> Iterator[Section]:
    if found.confusion is None:
        return
    rows = [(voted, *(f"{count:,}" for count in row)) for voted, row in zip(LABELS, found.confusion, strict=True)]
    table = Table(("voted", *(f"most likely {label}" for label in LABELS)), rows)
    text = (
        "Every vote once: what was voted, and what the model held most likely. The percentages are of the row. A tie is seldom "
        "the most likely answer even where its probability is right, so a weak TIE column is no fault in itself."
    )
    yield Section("confusion", "What is taken for what", text, {"confusion": figures.confusion(found.confusion)}, (table,))


def _clean(found: Findings) -> Iterator[Section]:
    text = (
        "What was read, repaired and set aside before anything was learned. Rows set aside stand in data/clean/quarantine.csv, "
        "each with the reason."
    )
    yield Section("clean", "What cleaning found", text, tables=(_plain(found.clean, "count"),))


def _surprises(found: Findings) -> Iterator[Section]:
    if found.surprises:
        text = "The votes that surprised the model most. Some are its faults; others are votes that few would have cast."
        yield Section("surprises", "Most surprising votes", text, examples=found.surprises)


def _params(found: Findings) -> Iterator[Section]:
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in found.params.items()]
    yield Section(
        "params", "Parameters of this run", "As in params.yaml.", tables=(Table(("key", "value"), rows, ("value",)),), folded=True
    )


def _plain(metrics: dict[str, float], what: str) -> Table:
    rows = [(_spoken(key), f"{value:,}" if isinstance(value, int) else f"{value:.4f}") for key, value in metrics.items()]
    return Table((what, "value"), rows)


def _spoken(key: str) -> str:
    return "votes" if key == "n" else key.replace("bad_", "set aside: ").replace("_", " ")
