"""The versions in tables, figures and words: for the page, for report.md and for `python -m pairpref.versions table`."""

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from pairpref.evaluation.comparison import by_luck
from pairpref.reporting import figures
from pairpref.reporting.glossary import spaced
from pairpref.reporting.tables import Table
from pairpref.versions import tables
from pairpref.versions.catalog import Catalog
from pairpref.versions.results import Gap, VersionResults

VERDICTS = ("better", "worse", "not shown")
UNDOCUMENTED = 13
_ONE_SEED = "one seed of each, so that the luck of training is not in the interval"


def _shown(frame: pd.DataFrame, *text: str) -> Table:
    rows = list(frame.itertuples(index=False, name=None))
    return Table(tuple(frame.columns), rows, tuple(frame.columns[1:]) if text == ("*",) else text)


def table(stood: VersionResults) -> Table:
    return _shown(tables.summary(stood), f"than {stood.catalog.anchor}")


def effects(stood: VersionResults) -> Table:
    return _shown(tables.effects(stood), "log loss is", "expected", "expectation")


def milestones(stood: VersionResults) -> Table:
    return _shown(tables.milestones(stood), "version", "adds", "expected", "verdict")


def leaderboard(stood: VersionResults) -> Table:
    return _shown(tables.leaderboard(stood), "date", "regime", "warning", "note")


def matrix(catalog: Catalog) -> Table:
    return _shown(tables.matrix(catalog))


def changes(catalog: Catalog) -> Table:
    return _shown(tables.changes(catalog), "*")


def logs(stood: VersionResults) -> Table:
    return _shown(tables.logs(stood))


def drawn(stood: VersionResults) -> dict[str, go.Figure]:
    """Log loss and macro F1 by version, measured with mean ± std, and as documented; log loss against accuracy."""
    points = tables.accuracy(stood)
    return {
        "versions-log-loss": figures.trend(tables.trend(stood, "log_loss"), "log loss (nats)"),
        "versions-f1": figures.trend(tables.trend(stood, "f1_macro"), "macro F1"),
        "versions-accuracy": figures.scatter(
            points[points["series"] == "measured"], "accuracy", "log_loss", "version"
        ),
    }


def words(stood: VersionResults) -> str:
    """What the version table says, and what it cannot say."""
    catalog, replayed = stood.catalog, stood.replayed
    if stood.elsewhere and not replayed:
        return (
            f"{stood.elsewhere} versions were replayed on other votes than these, so they don't compare. "
            "`python -m pairpref.versions replay` runs them on the votes of params.yaml."
        )
    if not replayed:
        return "No version has been replayed. `python -m pairpref.versions replay` runs them all on the votes of params.yaml."
    best, first = (
        min(replayed, key=lambda row: row.measured["log_loss_final"]),
        replayed[0].measured,
    )
    sentences = [
        f"{len(replayed)} of {len(stood.rows)} versions have been replayed, each from {first['seeds']:.0f} seeds, and judged on the same "
        f"{first['n']:,.0f} votes of fold 0: mean ± standard deviation over seeds, after calibration where a version calibrates. "
        f"The lowest log loss is {best.name}'s, {best.measured['log_loss_final']:.4f}."
    ]
    if any(row.to_anchor for row in replayed):
        of = {
            verdict: _listed(
                [r.name for r in replayed if r.to_anchor and r.to_anchor.verdict == verdict]
            )
            for verdict in VERDICTS
        }
        sentences.append(
            f"Better than {catalog.anchor}: {of['better']}. Worse: {of['worse']}. No difference shown: {of['not shown']}. Compared vote "
            f"by vote and seed by seed. {luck(sum(row.to_anchor is not None for row in replayed))}"
        )
    sentences.append(
        "\n\nVersions differ in several things at once, so this table does not say what a feature is worth; the one on features does. "
        "The published figures are of other votes and another model: which version is better may compare, by how much does not. "
        f"Of the other {UNDOCUMENTED} of the 22 versions nothing is documented."
    )
    return spaced(" ".join(sentences).replace(" \n\n", "\n\n"))


def luck(count: int) -> str:
    """What a table of several verdicts shows by chance."""
    expected = f"{by_luck(count):.1f}" if by_luck(count) >= 0.05 else "less than 0.1"
    of = f"Of {count} comparison{'s' * (count != 1)}"
    return f"{of}, luck alone would call about {expected} better and as many worse, if nothing made a difference."


def now(stood: VersionResults) -> str:
    """The run in question against the anchor, in a sentence; empty where they were judged on different votes."""
    if stood.now is None:
        return ""
    found, anchor = stood.now, stood.catalog.anchor
    what = {
        "better": f"It is better than {anchor}",
        "worse": f"It is worse than {anchor}",
        "not shown": f"That it is better or worse than {anchor} is not shown",
    }
    luck = "" if found.seeds > 1 else f"; by {_ONE_SEED}"
    return spaced(
        f"{what[found.verdict]}: on the {found.votes:,} votes of fold 0 its log loss is {abs(found.difference):.4f} "
        f"{'higher' if found.difference > 0 else 'lower'} (95 % interval of the difference {found.ci[0]:+.4f} to {found.ci[1]:+.4f}{luck})."
    )


def effects_words(stood: VersionResults) -> str:
    """How to read the table of features, and what becomes of the documentation's core finding."""
    catalog = stood.catalog
    notes = [
        f"† {f.name}: {f.claimed.note}"
        for f in catalog.features.values()
        if f.claimed and f.claimed.note
    ]
    unchanging = ", ".join(
        f"{name} ({Path(test).name})" for name, test in catalog.unchanging.items()
    )
    return spaced(
        "Here two runs differ in one switch and in nothing else, on the same votes and from "
        f"{stood.effects[0].log_loss.seeds} seeds. A difference below 0 means that the feature lowers the log loss. The sign expected was "
        f"written down before the first measurement; the claimed figures are the documentation's. {luck(len(stood.effects))} "
        f"{_core(stood)}\n\n"
        f"{' '.join(f'{note}.' for note in notes)} What changes no probability by construction is shown by tests, not by seeds: "
        f"{unchanging}."
    )


def _core(stood: VersionResults) -> str:
    """The documentation's core findings, as hypotheses about these votes."""
    found = {effect.key: effect.log_loss for effect in stood.effects}
    parts = []
    for name, keys in (
        ("Data cleaning", ("utf8_clean", "flatten")),
        ("A/B augmentation", ("ab_both",)),
    ):
        verdicts = [found[key].verdict for key in keys if key in found]
        if verdicts:
            outcome = (
                "confirmed"
                if all(v == "better" for v in verdicts)
                else "refuted"
                if "worse" in verdicts
                else "not confirmed"
            )
            parts.append(f"“{name} is decisive”: {outcome} on these votes")
    return (
        "; ".join(parts) + ". (Confirmed: each of its switches lowers the log loss beyond luck.)"
        if parts
        else ""
    )


def leaderboard_words(gaps: list[Gap]) -> str:
    """What the gap between held-out votes and a leaderboard says."""
    growing = [gap.version for gap in gaps if gap.grows]
    regimes = {gap.regime for gap in gaps}
    simulated = (
        " In the regime “simulated” the arena's own solution file plays the leaderboard."
        if "simulated" in regimes
        else ""
    )
    unknown = (
        " Elsewhere the number of votes is not known here: the luck is that of as many as fold 0 has, on as many prompts."
        if regimes - {"simulated"}
        else ""
    )
    warning = (
        f"The gap grew beyond luck with {_listed(growing)}: what was gained on held-out votes was not gained there."
        if growing
        else "Nowhere has the gap grown beyond luck."
    )
    return spaced(
        "Log loss of the same model (first seed, after calibration where it calibrates) on held-out votes and on a leaderboard: private "
        "where known, public otherwise. A gap that grows from version to version means that versions are chosen to fit the votes at hand. "
        f"{warning} The luck is twice the standard error of the change, clustered by prompt.{simulated}{unknown}"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
