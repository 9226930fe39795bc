"""The report's tables as frames of ready-to-print strings, by the names the templates use."""

from typing import Any

import pandas as pd

from pairpref.evaluation import buckets
from pairpref.evaluation.report import EvaluationReport
from pairpref.pairs import LABELS
from pairpref.reporting.page import ci, headline_rows, num, plain, words


def tables(
    report: EvaluationReport, params: dict[str, object], defaults: dict[str, object]
) -> dict[str, pd.DataFrame]:
    """Every table; "changed" only if a param differs from its default, "order" only of pairs,
    "members" only of several, "learning" and "shortcuts" only of the features member.

    Args:
        params, defaults: dotted key to value.
    """
    named = words()
    headline = headline_rows(report.figures, report.ci)
    test = named.test_figures.items()
    found = {
        "headline": pd.DataFrame(headline, columns=["figure", "value", named.CI, "meaning"]),
        "baselines": _baselines(report),
        "reliability": _reliability(report),
        "buckets": _buckets(report),
        "confusion": pd.DataFrame(
            [[LABELS[k], *map("{:,}".format, row)] for k, row in enumerate(report.confusion)],
            columns=["voted", *(f"most likely {label}" for label in LABELS)],
        ),
        "training": pd.DataFrame(
            [[f"{epoch:g}", *map("{:.4f}".format, row)] for epoch, *row in report.training.values],
            columns=report.training.columns,
        ),
        "folds": _scores(report.folds, "fold").rename(columns={"fold": "fold, after calibration"}),
        "seeds": _seeds(report),
        "test": pd.DataFrame(
            [(name, num(report.test[k], form)) for k, (name, form) in test if k in report.test],
            columns=["figure", "value"],
        ),
        "clean": pd.DataFrame(
            [(_spoken(key), f"{count:,}") for key, count in report.clean.items()],
            columns=["what", "how many"],
        ),
        "params": pd.DataFrame(
            [(key, plain(value)) for key, value in params.items()], columns=["key", "value"]
        ),
    }
    if report.members:
        found["members"] = _members(report)
    if learning := report.calibration.get("learning"):
        found["learning"] = pd.DataFrame(
            [
                (f"{votes:,}", num(loss, ".4f"))
                for votes, loss in zip(learning["votes"], learning["log_loss"], strict=True)
            ],
            columns=["votes fitted to", "log loss, features, fold 0"],
        )
    if suspects := report.calibration.get("shortcuts", {}).get("named"):
        found["shortcuts"] = pd.DataFrame(map(_shortcut, suspects))
    if report.orders:
        found["order"] = pd.DataFrame([_order(*item) for item in report.orders.items()])
    changed = [
        {"parameter": key, "here": plain(value), "default": plain(defaults.get(key, "not there"))}
        for key, value in params.items()
        # The arena's own files go with its votes; without them there is nothing to tell.
        if value != defaults.get(key) and not (value is None and key.startswith("data."))
    ]
    return found | ({"changed": pd.DataFrame(changed)} if changed else {})


def plots(report: EvaluationReport) -> dict[str, pd.DataFrame]:
    """What plots/<name>.csv hold."""
    curves, levels = report.reliability.drop(columns="margin"), report.levels
    if not report.calibrated:
        curves = curves[curves["stage"] == "after"].assign(stage="no")
    confusion = pd.DataFrame(report.confusion, LABELS, LABELS).stack()
    return {
        "reliability": curves,
        "confusion": confusion.rename_axis(["actual", "predicted"]).reset_index(name="n"),
        "buckets": report.buckets,
        "baselines": levels.assign(name=levels["name"].map(words().level)),
    }


def _baselines(report: EvaluationReport) -> pd.DataFrame:
    named = words()
    return pd.DataFrame(
        {
            "baseline": named.level(baseline.name),
            "log loss": num(baseline.log_loss, ".4f"),
            "model minus it": num(baseline.against.difference, "+.4f"),
            named.CI: ci(baseline.against.ci, "+.4f"),
            "better in resamples": num(baseline.against.favour, ".1%"),
            "the model is": named.verdicts[baseline.against.verdict],
        }
        for baseline in report.baselines
    )


def _members(report: EvaluationReport) -> pd.DataFrame:
    named, known = words(), report.calibration["members"]
    return pd.DataFrame(
        {
            "member": named.member(member.name),
            "log loss": num(member.log_loss, ".4f"),
            "all minus it": num(member.against.difference, "+.4f"),
            named.CI: ci(member.against.ci, "+.4f"),
            "away from home": num(known[member.name].get("away", float("nan")), ".4f"),
            "weight, winner": num(known[member.name]["winner"], ".2f"),
            "weight, tie": num(known[member.name]["tie"], ".2f"),
        }
        for member in report.members
    ).replace("nan", "")


def _shortcut(row: dict[str, Any]) -> dict[str, str]:
    places = {"home": "at home", "away": "away from home"}
    shares = {
        f"variance explained {place}": f"{num(row[key], '.1%')} ± {num(row[f'{key}_error'], '.1%')}"
        for key, place in places.items()
    }
    return {"feature": _spoken(row["feature"]), "target": words().targets[row["target"]]} | shares


def _reliability(report: EvaluationReport) -> pd.DataFrame:
    named = words()
    stages = named.stages if report.calibrated else {"after": "as reported"}
    rows = report.errors[report.errors["stage"].isin(stages)]
    return pd.DataFrame(
        {
            "calibration error": f"{named.curves[row['class']]}, {stages[row['stage']]}",
            "off by": num(row["error"], ".1%"),
            named.CI: ci((row["low"], row["high"]), ".1%"),
        }
        for curve in named.curves
        for row in rows[rows["class"] == curve].to_dict("records")
    )


def _buckets(report: EvaluationReport) -> pd.DataFrame:
    named = words()
    reference = "above the truth" if "floor" in report.figures else "minus class shares"
    above = {(part.kind, part.bucket): part.against.difference for part in report.parts}
    return pd.DataFrame(
        {
            "votes": named.bucket(row.kind, row.bucket),
            "voted": row.label,
            "n": f"{row.n:,}" + (" *" if row.groups < buckets.FEW else ""),
            "log loss": f"{row.log_loss:.4f}",
            named.CI: ci((row.log_loss_low, row.log_loss_high), ".3f"),
            "F1": f"{row.f1:.3f}",
            f"{named.CI} of F1": ci((row.f1_low, row.f1_high), ".3f"),
            reference: f"{above[row.kind, row.bucket]:+.4f}"
            if row.label == buckets.ALL and row.kind != buckets.ALL
            else "",
        }
        for row in report.buckets.itertuples()
    )


def _order(name: str, row: dict[str, float]) -> dict[str, str]:
    return {
        "before calibration": words().orders[name],
        "log loss": f"{row['log_loss']:.4f}",
        "mean change when swapped": f"{row['mean_distance']:.4f}",
        "largest change": f"{row['largest_distance']:.4f}",
        "most likely answer changed": num(row["flipped"], ".1%"),
    }


def _scores(scores: pd.DataFrame, key: str) -> pd.DataFrame:
    columns = {k: name for k, name in words().scores.items() if k in scores}
    found = scores[list(columns)].map("{:.4f}".format).rename(columns=columns)
    found.insert(0, key, scores[key].map("{:g}".format))
    return found


def _seeds(report: EvaluationReport) -> pd.DataFrame:
    mean, std = (_scores(report.seeds.agg([row]), "seed").iloc[0] for row in ("mean", "std"))
    spread = pd.DataFrame([mean + " ± " + std]).assign(seed="mean ± std")
    found = pd.concat([_scores(report.seeds, "seed"), spread], ignore_index=True)
    return found.rename(columns={"seed": "seed, fold 0, before calibration"})


def _spoken(key: str) -> str:
    """A key of counts.json; `bad_` marks reasons, which may begin so themselves."""
    aside = "set aside: " if key.startswith("bad_") else ""
    return aside + key.removeprefix("bad_").replace("_", " ")
