"""The versions as tables of ready-to-print strings."""

import re

import numpy as np
import pandas as pd

from pairpref.evaluation.comparison import Comparison
from pairpref.versions.catalog import COLUMNS, Catalog, spelled
from pairpref.versions.standing import Row, Standing

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


def summary(stood: Standing) -> pd.DataFrame:
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
    return _frame(columns, rows, (f"than {anchor}",))


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
                "low": against.ci[0],
                "high": against.ci[1],
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


def spread(row: Row, name: str, form: str = ".4f") -> str:
    """A measured figure: mean and, of several seeds, ± standard deviation."""
    if not row.measured or name not in row.measured:
        return NONE
    mean, std = written(row.measured[name], form), row.measured.get(f"{name}_std")
    return mean if std is None else f"{mean.removesuffix(PERCENT)} ± {written(std, form)}"


def said(found: Comparison) -> str:
    """A comparison in a line."""
    if found.difference == found.ci[0] == found.ci[1] == 0:
        return f"the same probabilities, to the last of {found.votes:,} votes"
    seeds = f"; {found.seeds} seeds" if found.seeds > 1 else f"; {_ONE_SEED}"
    return f"{found.verdict}: log loss {found.difference:+.4f} (95 % interval {found.ci[0]:+.4f} to {found.ci[1]:+.4f}{seeds})"


def matrix(catalog: Catalog) -> pd.DataFrame:
    """Which version has what."""
    names = catalog.ordered()
    params = [catalog.changes(name) for name in names]
    rows = [(feature, *(_mark(of(p)) for p in params)) for feature, of in _FEATURES.items()]
    return _frame(("feature", *names), rows)


def changes(catalog: Catalog) -> pd.DataFrame:
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
    return _frame(columns, rows, columns[1:])


def effects(stood: Standing) -> pd.DataFrame:
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
                f"{loss.ci[0]:+.4f} to {loss.ci[1]:+.4f}",
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
    return _frame(columns, rows, ("log loss is", "expected", "expectation"))


def milestones(stood: Standing) -> pd.DataFrame:
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
                f"{measured.ci[0]:+.4f} to {measured.ci[1]:+.4f}" if measured else NONE,
                measured.verdict
                if measured
                else "no version yet"
                if row is None
                else "not replayed",
            )
        )
    columns = ("milestone", "version", "adds", "expected", "log loss", "95 % interval", "verdict")
    return _frame(columns, rows, ("version", "adds", "expected", "verdict"))


def logs(stood: Standing) -> pd.DataFrame:
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
    return _frame(
        (
            "version",
            "epoch",
            *(column for name in names for column in (name, f"{name}, published")),
        ),
        rows,
    )


def leaderboard(stood: Standing) -> pd.DataFrame:
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
    return _frame(columns, rows, ("date", "regime", "warning", "note"))


def _frame(columns, rows, text=()) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[column.strip() for column in columns])


def spaced(text: str) -> str:
    return re.sub(r"\s*%", PERCENT, text)


def written(value: float, form: str) -> str:
    return spaced(format(value, form))


def markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def plain(table: pd.DataFrame) -> str:
    return table.to_string(index=False)


def _is_calibrated(row: Row) -> bool:
    return bool(row.measured) and row.measured["log_loss_final"] != row.measured["log_loss"]


def _compared(row: Row, anchor: str) -> tuple[str, str, str]:
    found = row.to_anchor
    if found is None:
        return NONE, NONE, "the anchor" if row.name == anchor and row.measured else "not replayed"
    return f"{found.difference:+.4f}", f"{found.ci[0]:+.4f} to {found.ci[1]:+.4f}", found.verdict


def _agrees(sign: str, verdict: str) -> str:
    measured = {"better": "-", "worse": "+", "not shown": "0"}[verdict]
    if measured == "0":
        return "not contradicted" if sign == "0" else "not shown"
    return "confirmed" if sign == measured else "refuted"


def _mark(value: object) -> str:
    return value if isinstance(value, str) else "✓" if value else NONE


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else NONE
