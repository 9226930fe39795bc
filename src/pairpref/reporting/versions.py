"""The versions in tables, figures and words: for the page, for report.md and for `python -m pairpref.versions table`."""

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pairpref.evaluation.comparison import Comparison, by_luck
from pairpref.reporting import figures
from pairpref.reporting.glossary import spaced, written
from pairpref.reporting.tables import Table
from pairpref.versions.catalog import COLUMNS, Catalog, spelled
from pairpref.versions.standing import Gap, Row, Standing

NONE = "·"
PERCENT = "\N{NO-BREAK SPACE}%"
VERDICTS = ("better", "worse", "not shown")
UNDOCUMENTED = 13
_ONE_SEED = "one seed of each, so that the luck of training is not in the interval"

_FIGURES = ("log_loss", "accuracy", "f1_macro")
# Section 9.2 of the documentation prints these names and no marks; what marks them here are the params.
_FEATURES = {
    "resume training": lambda p: p["train.resume"],
    "A/B augmentation": lambda p: p["augment.mode"] if p["augment.ab"] else False,
    "UTF-8 cleaning": lambda p: p["clean.utf8"],
    "list flattening": lambda p: p["clean.flatten"],
    "OOF export": lambda p: p["oof.enabled"],
    "early stopping": lambda p: p["train.patience"] is not None,
    "temperature": lambda p: p["calibrate.method"] != "none",
    "dual-order inference": lambda p: p["inference.dual_order"],
    "epochs": lambda p: str(p["train.epochs"]),
    "batch": lambda p: str(p["train.batch_size"]),
    "learning rate": lambda p: f"{p['train.lr']:.0e}",
}


def table(stood: Standing) -> Table:
    """Every version: measured mean ± std over seeds, as documented, and against the anchor."""
    anchor, rows = stood.catalog.anchor, []
    for row in stood.rows:
        published = row.version.published
        rows.append(
            (
                row.name,
                spread(row, "log_loss_final"),
                *_compared(row, anchor),
                spread(row, "log_loss") if _is_calibrated(row) else NONE,
                spread(row, "information_captured", ".1%"),
                spread(row, "accuracy", ".3f"),
                spread(row, "f1_macro", ".3f"),
                " / ".join(f"{getattr(published, name):g}" for name in _FIGURES)
                if published
                else NONE,
            )
        )
    compared = (f"minus {anchor}", "95 % interval", f"than {anchor}")
    columns = (
        "version",
        "log loss",
        *compared,
        "before calibration",
        "captured",
        "accuracy",
        "macro F1",
        "published",
    )
    return Table(columns, rows, (f"than {anchor}",))


def numbers(stood: Standing) -> pd.DataFrame:
    """The same as plain numbers, a row a version, for a spreadsheet or a notebook."""
    rows = []
    for row in stood.rows:
        line: dict[str, object] = {"version": row.name, "parent": row.version.parent} | (
            row.measured or {}
        )
        if row.version.published:
            line |= {f"{name}_published": getattr(row.version.published, name) for name in _FIGURES}
        if row.to_anchor:
            against = row.to_anchor
            line |= {
                "to_anchor": against.difference,
                "low": against.low,
                "high": against.high,
                "verdict": against.verdict,
            }
        rows.append(line)
    return pd.DataFrame(rows)


def trend(stood: Standing, name: str) -> pd.DataFrame:
    """A figure version by version: version, series (measured, published), value, low and high (mean ∓ std over seeds), in natural order."""
    rows = []
    for row in stood.rows:
        if row.measured:
            # The log loss of a version is that of its last word, as it is compared.
            kept = "log_loss_final" if name == "log_loss" else name
            mean, std = row.measured[kept], row.measured.get(f"{kept}_std", np.nan)
            rows.append((row.name, "measured", mean, mean - std, mean + std))
        if row.version.published:
            rows.append((row.name, "published", getattr(row.version.published, name), None, None))
    return pd.DataFrame(rows, columns=["version", "series", "value", "low", "high"]).astype(
        {"low": float, "high": float}
    )


def accuracy(stood: Standing) -> pd.DataFrame:
    """Accuracy and log loss of each version and series."""
    loss = trend(stood, "log_loss")
    return loss[["version", "series"]].assign(
        accuracy=trend(stood, "accuracy")["value"], log_loss=loss["value"]
    )


def drawn(stood: Standing) -> dict[str, go.Figure]:
    """Log loss and macro F1 by version, measured with mean ± std, and as documented; log loss against accuracy."""
    points = accuracy(stood)
    return {
        "versions-log-loss": figures.trend(trend(stood, "log_loss"), "log loss (nats)"),
        "versions-f1": figures.trend(trend(stood, "f1_macro"), "macro F1"),
        "versions-accuracy": figures.scatter(
            points[points["series"] == "measured"], "accuracy", "log_loss", "version"
        ),
    }


def words(stood: Standing) -> str:
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


def spread(row: Row, name: str, form: str = ".4f") -> str:
    """A measured figure: mean and, of several seeds, ± standard deviation."""
    if not row.measured or name not in row.measured:
        return NONE
    mean, std = written(row.measured[name], form), row.measured.get(f"{name}_std")
    return mean if std is None else f"{mean.removesuffix(PERCENT)} ± {written(std, form)}"


def said(found: Comparison) -> str:
    """A comparison in a line."""
    if found.difference == found.low == found.high == 0:
        return f"the same probabilities, to the last of {found.votes:,} votes"
    seeds = f"; {found.seeds} seeds" if found.seeds > 1 else f"; {_ONE_SEED}"
    return f"{found.verdict}: log loss {found.difference:+.4f} (95 % interval {found.low:+.4f} to {found.high:+.4f}{seeds})"


def luck(count: int) -> str:
    """What a table of several verdicts shows by chance."""
    expected = f"{by_luck(count):.1f}" if by_luck(count) >= 0.05 else "less than 0.1"
    of = f"Of {count} comparison{'s' * (count != 1)}"
    return f"{of}, luck alone would call about {expected} better and as many worse, if nothing made a difference."


def now(stood: Standing) -> str:
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
        f"{'higher' if found.difference > 0 else 'lower'} (95 % interval of the difference {found.low:+.4f} to {found.high:+.4f}{luck})."
    )


def matrix(catalog: Catalog) -> Table:
    """Which version has what."""
    names = catalog.ordered()
    params = [catalog.changes(name) for name in names]
    rows = [(feature, *(_mark(of(p)) for p in params)) for feature, of in _FEATURES.items()]
    return Table(("feature", *names), rows)


def changes(catalog: Catalog) -> Table:
    """Each version's modules as documented, its changes as params, its hypothesis, and what had to be assumed."""
    rows = []
    for name in catalog.ordered():
        version = catalog.versions[name]
        modules = "; ".join([*version.added, *(f"without {module}" for module in version.removed)])
        assumed = "; ".join(f"{what}: {why}" for what, why in version.assumed.items())
        rows.append(
            (
                name,
                version.parent or NONE,
                modules,
                spelled(version.changes),
                version.hypothesis,
                assumed or NONE,
            )
        )
    columns = ("version", "parent", "modules", "params changed", "hypothesis", "assumed")
    return Table(columns, rows, columns[1:])


def effects(stood: Standing) -> Table:
    """What each feature does, all else equal."""
    rows = []
    for effect in stood.effects:
        feature, loss = stood.catalog.features[effect.key], effect.log_loss
        f1, low, high = effect.f1_macro
        claim = feature.claimed
        mark = " †" if claim and claim.note else ""
        rows.append(
            (
                feature.name,
                f"{effect.with_:.4f}",
                f"{effect.without:.4f}",
                f"{loss.difference:+.4f}",
                f"{loss.low:+.4f} to {loss.high:+.4f}",
                loss.verdict,
                {"-": "lower", "0": "no difference", "+": "higher"}[feature.expect.sign],
                _agrees(feature.expect.sign, loss.verdict),
                f"{claim.log_loss:+.2f}{mark}" if claim else NONE,
                f"{f1:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
                f"{claim.f1_macro:+.2f}{mark}" if claim else NONE,
            )
        )
    columns = (
        "feature",
        "log loss with",
        "without",
        "difference",
        "95 % interval",
        "log loss is",
        "expected",
        "expectation",
        "claimed",
        "macro F1",
        "95 % interval ",
        "claimed ",
    )
    return Table(columns, rows, ("log loss is", "expected", "expectation"))


def effects_words(stood: Standing) -> str:
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


def _core(stood: Standing) -> str:
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


def milestones(stood: Standing) -> Table:
    """What the roadmap expects, and what was measured against the anchor."""
    rows = []
    for key, milestone in stood.catalog.milestones.items():
        row = next((row for row in stood.rows if row.version.milestone == key), None)
        measured = row.to_anchor if row else None
        adds = milestone.adds or (", ".join(row.version.added) if row else "")
        rows.append(
            (
                key,
                row.name if row else NONE,
                adds,
                milestone.expects,
                f"{measured.difference:+.4f}" if measured else NONE,
                f"{measured.low:+.4f} to {measured.high:+.4f}" if measured else NONE,
                measured.verdict
                if measured
                else "no version yet"
                if row is None
                else "not replayed",
            )
        )
    columns = ("milestone", "version", "adds", "expected", "log loss", "95 % interval", "verdict")
    return Table(columns, rows, ("version", "adds", "expected", "verdict"))


def logs(stood: Standing) -> Table:
    """Each version's training log, epoch by epoch: measured (first seed, fold 0) beside published."""
    rows = []
    for row in stood.rows:
        curve = stood.curves[row.name].to_dict("records") if row.name in stood.curves else []
        measured = {int(line["epoch"]): line for line in curve}
        documented = row.version.published.epochs if row.version.published else ()
        published = {line[0]: dict(zip(COLUMNS, line, strict=True)) for line in documented}
        for epoch in sorted({*measured, *published}):
            cells = [
                f"{source[epoch][name]:.4f}" if epoch in source else NONE
                for name in ("train_loss", "log_loss", "accuracy", "f1_macro")
                for source in (measured, published)
            ]
            rows.append((row.name, str(epoch), *cells))
    names = ("training loss", "log loss", "accuracy", "macro F1")
    return Table(
        (
            "version",
            "epoch",
            *(column for name in names for column in (name, f"{name}, published")),
        ),
        rows,
    )


def leaderboard(stood: Standing) -> Table:
    """Held-out log loss beside the leaderboard's, by version and regime."""
    rows = [
        (
            gap.version,
            gap.date,
            gap.regime,
            f"{gap.holdout:.4f}",
            _number(gap.public),
            _number(gap.private),
            f"{gap.gap:+.4f}",
            f"{gap.growth:+.4f}" if np.isfinite(gap.growth) else NONE,
            f"±{2 * gap.noise:.4f}" if np.isfinite(gap.noise) else NONE,
            "grows" if gap.grows else "",
            gap.note,
        )
        for gap in stood.gaps
    ]
    columns = (
        "version",
        "date",
        "regime",
        "holdout",
        "public",
        "private",
        "gap",
        "change",
        "luck",
        "warning",
        "note",
    )
    return Table(columns, rows, ("date", "regime", "warning", "note"))


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


def _is_calibrated(row: Row) -> bool:
    return bool(row.measured) and row.measured["log_loss_final"] != row.measured["log_loss"]


def _compared(row: Row, anchor: str) -> tuple[str, str, str]:
    found = row.to_anchor
    if found is None:
        return NONE, NONE, "the anchor" if row.name == anchor and row.measured else "not replayed"
    return f"{found.difference:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", found.verdict


def _agrees(sign: str, verdict: str) -> str:
    measured = {"better": "-", "worse": "+", "not shown": "0"}[verdict]
    if measured == "0":
        return "not contradicted" if sign == "0" else "not shown"
    return "confirmed" if sign == measured else "refuted"


def _mark(value: object) -> str:
    return value if isinstance(value, str) else "✓" if value else NONE


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else NONE


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
