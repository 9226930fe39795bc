"""The report's sections in order of reading, each a function of what was found; one without anything to show is left out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from pairpref.evaluation import buckets
from pairpref.evaluation.reliability import CONFIDENCE, CURVES
from pairpref.pairs import LABELS
from pairpref.reporting import figures, glossary, versions, words
from pairpref.reporting.examples import Example
from pairpref.reporting.findings import Findings
from pairpref.reporting.glossary import between, spaced, written
from pairpref.reporting.tables import Table


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: paragraphs parted by empty lines, figures, tables, votes to look at.

    Tables beside figures are folded, unless the section is open: they are the same in numbers.
    """

    id: str
    title: str
    text: str
    figures: dict[str, go.Figure] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    examples: tuple[tuple[str, list[Example]], ...] = ()
    folded: bool = False
    open: bool = False


def sections(found: Findings) -> list[Section]:
    """All sections in order of reading."""
    makers = (
        _run,
        _headline,
        _baselines,
        _truth,
        _reliability,
        _buckets,
        _confusion,
        _order,
        _training,
        _seeds,
        _test,
        _versions,
        _impact,
        _milestones,
        _leaderboard,
        _history,
        _examples,
        _clean,
        _params,
    )
    return [section for make in makers for section in make(found)]


def _run(found: Findings) -> Iterator[Section]:
    changed = [
        (key, _value(value), _value(found.defaults.get(key, "not there")))
        for key, value in found.params.items()
        # The arena's own files go with its votes: without them there is nothing to say.
        if value != found.defaults.get(key) and not (value is None and key.startswith("data."))
    ]
    kept, train = found.clean.get("kept", 0), found.params["data.train"]
    p = found.params
    text = (
        f"{kept:,} usable votes on {found.clean.get('prompts', 0):,} different prompts, from {train}. {p.get('model.backbone')}, up to "
        f"{p.get('train.epochs')} epochs, {len(found.folds)} of {p.get('data.folds')} folds trained; how long it took, on what machine and "
        "with which versions stands in run.md beside this page. "
    ) + (
        "These parameters differ from the default:"
        if changed
        else "All parameters are the default's."
    )
    tables = (
        (Table(("parameter", "here", "default"), changed, ("here", "default")),) if changed else ()
    )
    yield Section("run", "What was run", text, tables=tables)


def _headline(found: Findings) -> Iterator[Section]:
    rows = glossary.headline(found.headline, found.ends)
    text = (
        "All log losses are in nats. No vote is judged by a model, a calibration or a baseline that was fitted on it or its prompt; only "
        "when to stop training early (train.patience) is decided by the fold that is judged. The interval says how far the figure moves "
        "with the luck of the votes: whole groups of votes on one prompt are drawn again, a thousand times. The luck of training is not "
        "in it; see “Was it luck?”."
    ) + (
        f" With only {found.gain.groups:,} groups of prompts the intervals of this table are too narrow."
        if found.gain.groups < _ENOUGH
        else ""
    )
    yield Section(
        "headline",
        "In figures",
        text,
        tables=(Table(("figure", "value", "95 % interval", "meaning"), rows, ("meaning",)),),
    )


def _versions(found: Findings) -> Iterator[Section]:
    stood = found.versions
    drawn = versions.drawn(stood) if stood.replayed else {}
    tables = (versions.table(stood),) if stood.replayed else ()
    yield Section(
        "versions", "How do the versions compare?", versions.words(stood), drawn, tables, open=True
    )


def _impact(found: Findings) -> Iterator[Section]:
    if found.versions.effects:
        text = versions.effects_words(found.versions)
        yield Section(
            "impact",
            "What is each feature worth?",
            text,
            tables=(versions.effects(found.versions),),
        )


def _milestones(found: Findings) -> Iterator[Section]:
    if not found.versions.replayed:
        return
    anchor = found.versions.catalog.anchor
    text = f"Gains that the roadmap expects over {anchor}, and what was measured: log loss after calibration, on the votes of fold 0."
    if count := sum(
        row.to_anchor is not None and bool(row.version.milestone) for row in found.versions.rows
    ):
        text += f" {versions.luck(count)}"
    yield Section(
        "milestones",
        "Did the milestones deliver?",
        text,
        tables=(versions.milestones(found.versions),),
    )


def _leaderboard(found: Findings) -> Iterator[Section]:
    if found.versions.gaps:
        text = versions.leaderboard_words(found.versions.gaps)
        yield Section(
            "leaderboard",
            "Does the leaderboard agree?",
            text,
            tables=(versions.leaderboard(found.versions),),
        )


def _history(found: Findings) -> Iterator[Section]:
    stood = found.versions
    if not stood.replayed:
        return
    text = "From the params of versions/catalog.yaml."
    yield Section("matrix", "What each version has", text, tables=(versions.matrix(stood.catalog),))
    text = "As documented, and as params. What has no param is structural, and not replayed."
    title = "What each version changed, and what had to be assumed"
    yield Section("changes", title, text, tables=(versions.changes(stood.catalog),), folded=True)
    text = "Fold 0, first seed, before calibration; beside it what was published, of other votes. A dot: not run, or not documented."
    yield Section(
        "logs", "The versions' training logs", text, tables=(versions.logs(stood),), folded=True
    )


def _baselines(found: Findings) -> Iterator[Section]:
    rows = []
    for baseline in found.baselines:
        against = baseline.against
        rows.append(
            (
                glossary.NAMES.get(baseline.name, baseline.name),
                written(baseline.log_loss, ".4f"),
                f"{against.difference:+.4f}",
                f"{against.ci[0]:+.4f} to {against.ci[1]:+.4f}",
                written(against.favour, ".1%"),
                against.verdict,
            )
        )
    table = Table(
        (
            "baseline",
            "its log loss",
            "model minus it",
            "95 % interval",
            "better in",
            "the model is",
        ),
        rows,
        ("the model is",),
    )
    levels = [(glossary.NAMES.get(y.name, y.name), y.log_loss, y.ends) for y in found.baselines]
    levels += [
        (name, found.headline[key], found.ends[key])
        for name, key in (("model, uncalibrated", "log_loss_before"), ("model", "log_loss"))
    ]
    drawn = {"baselines": figures.levels(levels, "log loss (nats)", found.headline.get("floor"))}
    yield Section(
        "baselines", "Does it beat simple answers?", words.baselines(found), drawn, (table,)
    )


def _truth(found: Findings) -> Iterator[Section]:
    if "expected_log_loss" not in found.headline:
        return
    yield Section("truth", "How close to the best any model could be?", words.truth(found))


def _reliability(found: Findings) -> Iterator[Section]:
    titles = dict(zip(CURVES, ("A wins", "B wins", "a tie", "best guess is right"), strict=True))
    stages = ("before", "after") if found.calibrator.method != "none" else ("after",)
    names = {"before": "before calibration", "after": "after" if len(stages) > 1 else "as reported"}
    drawn, rows = {}, []
    for curve in (CONFIDENCE, *LABELS):
        of_curve = found.reliability[found.reliability["class"] == curve]
        parts = {names[stage]: of_curve[of_curve["stage"] == stage] for stage in stages}
        drawn[f"reliability-{curve.lower()}"] = figures.reliability(parts, titles[curve])
        for stage in stages:
            error = found.errors[
                (found.errors["class"] == curve) & (found.errors["stage"] == stage)
            ].iloc[0]
            ends = between((error["low"], error["high"]), ".1%")
            rows.append((f"{titles[curve]}, {names[stage]}", written(error["error"], ".1%"), ends))
    table = Table(("calibration error", "off by", "95 % interval"), rows)
    yield Section(
        "reliability",
        "Can the probabilities be taken at their word?",
        words.calibration(found),
        drawn,
        (table,),
    )


def _buckets(found: Findings) -> Iterator[Section]:
    table = found.buckets
    shown = table.assign(name=_bucket(table["kind"], table["bucket"]))
    above = {(part.kind, part.bucket): part.against.difference for part in found.parts}
    rows = [
        (
            row.name,
            row.label,
            f"{row.n:,}" + (" (few)" if row.groups < buckets.FEW else ""),
            f"{row.log_loss:.4f}",
            between((row.log_loss_low, row.log_loss_high), ".3f"),
            f"{row.f1:.3f}",
            between((row.f1_low, row.f1_high), ".3f"),
            f"{above[row.kind, row.bucket]:+.4f}"
            if row.label == buckets.ALL and row.kind != buckets.ALL
            else "",
        )
        for row in shown.itertuples(index=False)
    ]
    reference = "above the truth" if "floor" in found.headline else "minus class shares"
    columns = (
        "votes",
        "voted",
        "n",
        "log loss",
        "95 % interval",
        "F1",
        "95 % interval ",
        reference,
    )
    grid = shown.pivot(index="name", columns="label", values=["log_loss", "n"]).reindex(
        index=shown["name"].unique()
    )
    grid = grid.reindex(
        columns=pd.MultiIndex.from_product([["log_loss", "n"], [buckets.ALL, *LABELS]])
    )
    drawn = {"buckets": figures.heat(grid)}
    yield Section(
        "buckets",
        "Where is it weak?",
        words.weakness(found),
        drawn,
        (Table(columns, rows, ("voted",)),),
    )


def _confusion(found: Findings) -> Iterator[Section]:
    rows = [
        (voted, *(f"{count:,}" for count in row))
        for voted, row in zip(LABELS, found.confusion, strict=True)
    ]
    table = Table(("voted", *(f"most likely {label}" for label in LABELS)), rows)
    text = (
        "Every vote once: what was voted, and what the model held most likely. The percentages are of the row. A tie can be likely "
        "without being the most likely answer, so judge ties by their reliability curve as well."
    )
    yield Section(
        "confusion",
        "What is taken for what",
        text,
        {"confusion": figures.confusion(found.confusion)},
        (table,),
    )


def _order(found: Findings) -> Iterator[Section]:
    if found.orders is None:
        return
    names = {
        "A first": "asked once, A first",
        "B first": "asked once, B first",
        "average": "asked both ways, averaged",
    }
    rows = [
        (
            names[name],
            f"{row['log_loss']:.4f}",
            f"{row['mean_distance']:.4f}",
            f"{row['largest_distance']:.4f}",
            written(row["flipped"], ".1%"),
        )
        for name, row in found.orders.items()
    ]
    columns = (
        "before calibration",
        "log loss",
        "mean change when swapped",
        "largest change",
        "verdicts flipped",
    )
    yield Section(
        "order",
        "Does it matter which answer comes first?",
        words.order(found),
        tables=(Table(columns, rows),),
    )


def _training(found: Findings) -> Iterator[Section]:
    curves = found.curves
    columns = {"train_loss": "training loss", "log_loss": "log loss on fold 0"}
    drawn = {
        "training-loss": figures.curves(curves, "epoch", columns, "nats"),
        "training-scores": figures.curves(
            curves, "epoch", {"accuracy": "accuracy", "f1_macro": "macro F1"}, "share"
        ),
    }
    rows = [
        tuple(f"{value:g}" if name == "epoch" else f"{value:.4f}" for name, value in row.items())
        for row in curves.to_dict("records")
    ]
    text = (
        "The model of fold 0 after each epoch: trained on the other folds, judged on fold 0, before calibration. Where its log loss "
        "there rises while training loss falls, it has begun to overfit. In the table, validation_loss is of A shown first, log_loss of "
        "both orders' mean."
    )
    yield Section("training", "Training", text, drawn, (Table(tuple(curves.columns), rows),))


def _seeds(found: Findings) -> Iterator[Section]:
    table = found.seeds.scores
    rows = [
        (f"{row.seed:g}", *(f"{v:.4f}" for v in (row.log_loss, row.accuracy, row.f1_macro)))
        for row in table.itertuples()
    ]
    if len(table) > 1:
        columns = ["log_loss", "accuracy", "f1_macro"]
        spread = zip(table[columns].mean(), table[columns].std(ddof=1), strict=True)
        rows.append(("mean ± std", *(f"{mean:.4f} ± {std:.4f}" for mean, std in spread)))
    tables = []
    if len(found.folds) > 1:
        names = {
            "log_loss": "log loss",
            "accuracy": "accuracy",
            "f1_macro": "macro F1",
            "above_truth": "above the truth",
        }
        names = {key: name for key, name in names.items() if key in found.folds}
        by_fold = [
            (f"{row['fold']:.0f}", *(f"{row[key]:.4f}" for key in names))
            for row in found.folds.to_dict("records")
        ]
        tables.append(Table(("fold, after calibration", *names.values()), by_fold))
    if len(table) > 1:
        tables.append(
            Table(("seed, fold 0, before calibration", "log loss", "accuracy", "macro F1"), rows)
        )
    yield Section("luck", "Was it luck?", words.seeds(found), tables=tuple(tables))


def _test(found: Findings) -> Iterator[Section]:
    if not found.test.get("n"):
        return
    rows = [
        (name, written(found.test[key], form))
        for key, (name, form) in glossary.TEST.items()
        if key in found.test
    ]
    yield Section(
        "test",
        "On the test file",
        words.test(found.test),
        tables=(Table(("figure", "value"), rows),),
    )


def _examples(found: Findings) -> Iterator[Section]:
    if not found.surprises:
        return
    text = (
        "The votes that surprised the model most: some are its faults, others are votes that few would have cast. And those of "
        "which it was least sure. (The votes themselves are on the page only.)"
    )
    yield Section(
        "examples",
        "Votes to look at",
        text,
        examples=(("Most surprising", found.surprises), ("Hardest", found.hard)),
    )


def _clean(found: Findings) -> Iterator[Section]:
    rows = [(_spoken(key), f"{value:,}") for key, value in found.clean.items()]
    text = (
        "What was read, repaired and set aside before anything was learned. Rows set aside stand in data/clean/quarantine.csv, "
        "each with the reason."
    )
    yield Section("clean", "What cleaning found", text, tables=(Table(("what", "how many"), rows),))


def _params(found: Findings) -> Iterator[Section]:
    rows = [(key, _value(value)) for key, value in found.params.items()]
    yield Section(
        "params",
        "All parameters",
        "As in params.yaml, without parallel.*, which changes no figure.",
        tables=(Table(("key", "value"), rows, ("value",)),),
        folded=True,
    )


_ENOUGH = 100  # prompt groups from which percentile intervals cover what they say


def _bucket(kinds: pd.Series, names: pd.Series) -> list[str]:
    spoken = {"length": "{}", "turns": "{} turn{s}", "truncated": "{cut}"}
    return [
        "all votes"
        if kind == buckets.ALL
        else spoken.get(kind, f"{kind}: {{}}").format(
            name, s="s" * (name != "one"), cut="cut to fit" if name == "yes" else "fit whole"
        )
        for kind, name in zip(kinds, names, strict=True)
    ]


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _spoken(key: str) -> str:
    return spaced(key.replace("bad_", "set aside: ").replace("_", " "))
