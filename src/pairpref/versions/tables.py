"""The versions as tables: ready-to-print strings for people, numbers for spreadsheets and plots."""

import numpy as np
import pandas as pd

from pairpref.evaluation.comparison import Comparison
from pairpref.versions.catalog import EPOCH, spelled
from pairpref.versions.results import Row, VersionResults

NONE = "·"
_PUBLISHED = ("log_loss", "accuracy", "f1_macro")
_LOGGED = {
    "train_loss": "training loss",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "f1_macro": "macro F1",
}
_EXPECTED = {"-": "lower", "0": "no difference", "+": "higher"}
# Section 9.2 of the documentation names these features without marks; the params give the marks.
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
    "backbone": lambda p: p.get("model.backbone", NONE),
    "windows": lambda p: p.get("text.windows.most", 1) > 1,
    "folds": lambda p: str(p.get("oof.folds", NONE)),
    "members": lambda p: " ".join(p.get("fusion.members", ())) or NONE,
}


def tables(results: VersionResults) -> dict[str, pd.DataFrame]:
    """The tables of the report, by the names its templates use."""
    shown = (summary, effects, milestones, leaderboard, matrix, changes, logs)
    return {function.__name__: function(results) for function in shown}


def summary(results: VersionResults) -> pd.DataFrame:
    """Every version: mean ± std over seeds, against the anchor, and as published."""
    anchor, rows = results.catalog.anchor, []
    for row in results.rows:
        measured, published = row.measured or {}, row.version.published
        calibrated = measured.get("log_loss_final") != measured.get("log_loss")
        no_verdict = "the anchor" if measured and row.name == anchor else "not replayed"
        rows.append(
            {
                "version": row.name,
                "log loss": spread(row, "log_loss_final"),
                **_compared(row.to_anchor, f"minus {anchor}", f"than {anchor}", no_verdict),
                "before calibration": spread(row, "log_loss") if calibrated else NONE,
                "captured": spread(row, "information_captured"),
                "accuracy": spread(row, "accuracy", ".3f"),
                "macro F1": spread(row, "f1_macro", ".3f"),
                "published": " / ".join(f"{getattr(published, name):g}" for name in _PUBLISHED)
                if published
                else NONE,
            }
        )
    return pd.DataFrame(rows)


def effects(results: VersionResults) -> pd.DataFrame:
    """What each feature does, all else equal, as expected, as measured and as claimed."""
    rows = []
    for effect in results.effects:
        feature = results.catalog.features[effect.key]
        claim, (f1, *f1_ci) = feature.claimed, effect.f1_macro
        mark = " †" if claim and claim.note else ""
        rows.append(
            {
                "feature": feature.name,
                "log loss with": f"{effect.with_:.4f}",
                "without": f"{effect.without:.4f}",
                **_compared(effect.log_loss, "difference", "log loss is"),
                "expected": _EXPECTED[feature.expect.sign],
                "expectation": _agrees(feature.expect.sign, effect.log_loss.verdict),
                "claimed": f"{claim.log_loss:+.2f}{mark}" if claim else NONE,
                "macro F1": f"{f1:+.4f}",
                "macro F1, 95 % interval": _interval(f1_ci),
                "macro F1, claimed": f"{claim.f1_macro:+.2f}{mark}" if claim else NONE,
            }
        )
    return pd.DataFrame(rows)


def milestones(results: VersionResults) -> pd.DataFrame:
    """What the roadmap expects, and what was measured against the anchor."""
    by_milestone = {row.version.milestone: row for row in results.rows}
    rows = []
    for key, milestone in results.catalog.milestones.items():
        row = by_milestone.get(key)
        long = row.on_long if row else None
        rows.append(
            {
                "milestone": key,
                "version": row.name if row else NONE,
                "adds": milestone.adds or (", ".join(row.version.added) if row else ""),
                "expected": milestone.expects,
                **_compared(
                    row.to_anchor if row else None,
                    "log loss",
                    "verdict",
                    "not replayed" if row else "no version yet",
                ),
                "on long pairs": f"{long.difference:+.4f} ({_interval(long.ci)})" if long else NONE,
            }
        )
    return pd.DataFrame(rows)


def leaderboard(results: VersionResults) -> pd.DataFrame:
    """Log loss on held-out votes beside the leaderboard's, by version and regime."""
    rows = [
        {
            "version": gap.version,
            "date": gap.date,
            "regime": gap.regime,
            "holdout": f"{gap.holdout:.4f}",
            "public": _number(gap.public),
            "private": _number(gap.private),
            "gap": f"{gap.gap:+.4f}",
            "change": _number(gap.growth, "+.4f"),
            "luck": _number(2 * gap.noise, ".4f", "±"),
            "warning": "grows" if gap.grows else "",
            "note": gap.note,
        }
        for gap in results.gaps
    ]
    return pd.DataFrame(rows)


def matrix(results: VersionResults) -> pd.DataFrame:
    """Which version has which feature."""
    catalog = results.catalog
    table = pd.DataFrame({"feature": list(_FEATURES)})
    for name in catalog.ordered():
        marks = [mark(catalog.changes(name)) for mark in _FEATURES.values()]
        table[name] = [m if isinstance(m, str) else "✓" if m else NONE for m in marks]
    return table


def changes(results: VersionResults) -> pd.DataFrame:
    """What each version changes, should show, and assumes."""
    rows = []
    for row in results.rows:
        version = row.version
        assumed = "; ".join(f"{what}: {why}" for what, why in version.assumed.items())
        rows.append(
            {
                "version": row.name,
                "parent": version.parent or NONE,
                "modules": "; ".join(version.modules),
                "params changed": spelled(version.changes),
                "hypothesis": version.hypothesis,
                "assumed": assumed or NONE,
            }
        )
    return pd.DataFrame(rows)


def logs(results: VersionResults) -> pd.DataFrame:
    """Each version's training log: measured (first seed, fold 0) beside published."""
    rows = []
    for row in results.rows:
        measured, published = {}, {}
        if row.name in results.curves:
            measured = results.curves[row.name].set_index("epoch").to_dict("index")
        for line in row.version.published.epochs if row.version.published else ():
            published[line[0]] = dict(zip(EPOCH, line, strict=True))
        for epoch in sorted({*measured, *published}):
            cells = {"version": row.name, "epoch": str(epoch)}
            for key, title in _LOGGED.items():
                cells[title] = _number(measured.get(epoch, {}).get(key))
                cells[f"{title}, published"] = _number(published.get(epoch, {}).get(key))
            rows.append(cells)
    return pd.DataFrame(rows)


def trend(results: VersionResults, name: str) -> pd.DataFrame:
    """A figure by version: version, series (measured, published), value, low and high.

    low and high are mean ∓ std over seeds. "log_loss" is the final one, which is compared.
    """
    rows = []
    for row in results.rows:
        if row.measured:
            kept = "log_loss_final" if name == "log_loss" else name
            mean, std = row.measured[kept], row.measured.get(f"{kept}_std", np.nan)
            rows.append((row.name, "measured", mean, mean - std, mean + std))
        if row.version.published:
            value = getattr(row.version.published, name)
            rows.append((row.name, "published", value, np.nan, np.nan))
    table = pd.DataFrame(rows, columns=["version", "series", "value", "low", "high"])
    return table.astype({"low": float, "high": float})


def accuracy(results: VersionResults) -> pd.DataFrame:
    """Accuracy and log loss of each version and series."""
    loss = trend(results, "log_loss")
    return loss[["version", "series"]].assign(
        accuracy=trend(results, "accuracy")["value"], log_loss=loss["value"]
    )


def spread(row: Row, name: str, form: str = ".4f") -> str:
    """A measured figure: the mean and, of several seeds, ± standard deviation."""
    if not row.measured or name not in row.measured:
        return NONE
    scale, unit = 1, ""
    if name == "information_captured":
        scale, unit, form = 100, "\N{NO-BREAK SPACE}%", ".1f"
    std = row.measured.get(f"{name}_std")
    deviation = "" if std is None else f" ± {scale * std:{form}}"
    return f"{scale * row.measured[name]:{form}}{deviation}{unit}"


def _compared(
    found: Comparison | None, difference: str, verdict: str, otherwise: str = ""
) -> dict[str, str]:
    """Three cells: the difference, its interval and the verdict, under the given headings."""
    if found is None:
        return {difference: NONE, "95 % interval": NONE, verdict: otherwise}
    return {
        difference: f"{found.difference:+.4f}",
        "95 % interval": _interval(found.ci),
        verdict: found.verdict,
    }


def _interval(ci: tuple[float, float] | list[float]) -> str:
    return f"{ci[0]:+.4f} to {ci[1]:+.4f}"


def _agrees(sign: str, verdict: str) -> str:
    if verdict == "not shown":
        return "not contradicted" if sign == "0" else "not shown"
    return "confirmed" if sign == {"better": "-", "worse": "+"}[verdict] else "refuted"


def _number(value: float | None, form: str = ".4f", sign: str = "") -> str:
    return NONE if value is None or np.isnan(value) else f"{sign}{value:{form}}"
