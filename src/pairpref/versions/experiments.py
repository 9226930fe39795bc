"""experiments.md, the dated log: what each version and feature was to show, what was measured, and the verdict.

Each entry's first part is generated, between markers; what is written below it by hand stays.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pairpref.files import write_text
from pairpref.versions import standing, tables
from pairpref.versions.catalog import Catalog, spelled
from pairpref.versions.history import TRAILER
from pairpref.versions.standing import Effect, Row
from pairpref.versions.tables import markdown

LOG, README = Path("experiments.md"), Path("README.md")
_OPENING = """# Experiments

What was tried, what it was to show, and what was measured, negatives included. Each entry begins with what `python -m pairpref.versions`
generates from the kept predictions; conclusions below that are written by hand and stay. Log losses are in nats, lower is better; the
figures are means over seeds on the votes of fold 0.
"""
_HEADING = re.compile(r"(?P<key>[\w.]+)[^\n]*, (?P<date>\S+)\n")
_GENERATED, _BY_HAND = "<!-- generated -->\n", "<!-- by hand -->\n"


def update(
    root: Path,
    catalog: Catalog,
    run: pd.DataFrame | None = None,
    versions: Mapping[str, str] = {},
    features: str | None = None,
) -> None:
    """Write the generated part of every replayed version's and measured feature's entry anew, and README's tables of them.

    What was written by hand stays.

    Args:
        run: predictions on the votes in question; None for those of the anchor.
        versions: dates of the versions that have just been replayed; the others keep theirs.
        features: date of all features, where they have just been measured.
    """
    path = root / LOG
    opening, *sections = (path.read_text(encoding="utf-8") if path.exists() else _OPENING).split(
        "\n## "
    )
    dates, prose, notes = {}, {}, []
    for section in sections:
        heading = _HEADING.match(section)
        if (
            heading
            and _BY_HAND in section
            and heading["key"] in {*catalog.versions, *catalog.features} - set(dates)
        ):
            dates[heading["key"]], prose[heading["key"]] = (
                heading["date"],
                section.split(_BY_HAND, 1)[1].strip(),
            )
        else:
            notes.append(section.strip())
    stood = standing.stand(catalog, run, root)
    measured = {row.name: _version(row) for row in stood.replayed} | {
        e.key: _feature(catalog, e) for e in stood.effects
    }
    now = {**versions, **({effect.key: features for effect in stood.effects} if features else {})}
    parts = []
    for key in (*catalog.ordered(), *catalog.features):
        if key in measured or prose.get(key):
            title = f"{key}: {catalog.features[key].name}" if key in catalog.features else key
            generated = measured.get(key, "- Not measured by the present code.\n")
            text = f"{title}, {now.get(key) or dates.get(key, 'undated')}\n\n{_GENERATED}{generated}{_BY_HAND}"
            parts.append(f"{text}\n{prose[key]}" if prose.get(key) else text.rstrip())
    write_text(path, "\n\n## ".join([opening.strip(), *parts, *notes]) + "\n")
    _tabulate(root / README, {"versions": tables.summary(stood), "features": tables.effects(stood)})


def _tabulate(path: Path, generated: Mapping[str, pd.DataFrame]) -> None:
    """Put tables where a Markdown file has a place for them: between <!-- name --> and <!-- /name -->."""
    text = old = path.read_text(encoding="utf-8") if path.exists() else ""
    for name, table in generated.items():
        place = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        text = place.sub(
            lambda found, table=table: (
                f"{found[1]}{markdown(table) if len(table) else ''}{found[2]}"
            ),
            text,
        )
    if text != old:
        write_text(path, text)


def message(row: Row) -> str:
    """The commit message of a replayed version, from which its tag is made."""
    other = row.version.parent or "the class shares"
    if row.to_parent is None:
        outcome = "replayed"
    elif row.to_parent.verdict == "not shown":
        outcome = f"no difference from {other} is shown"
    else:
        outcome = f"{row.to_parent.verdict} than {other}"
    return f"{row.name}: {outcome}\n\n{_version(row)}\n{TRAILER}: {row.name}\n"


def _version(row: Row) -> str:
    version, measured = row.version, row.measured or {}
    changes, seeds = spelled(version.changes), measured["seeds"]
    lines = [
        f"Hypothesis: {version.hypothesis}",
        f"Changes to {version.parent}: {changes}" if version.parent else f"The first: {changes}",
        f"Measured: log loss {tables.spread(row, 'log_loss_final')}, accuracy {tables.spread(row, 'accuracy')}, macro F1 "
        f"{tables.spread(row, 'f1_macro')} ({seeds:.0f} seed{'s' * (seeds > 1)}, {measured['n']:,.0f} votes)",
    ]
    if abs(measured["log_loss_final"] - measured["log_loss"]) > 1e-9:
        lines.append(f"Before calibration: log loss {tables.spread(row, 'log_loss')}")
    if version.published:
        p = version.published
        lines.append(
            f"Published, on other votes: log loss {p.log_loss:g}, accuracy {p.accuracy:g}, macro F1 {p.f1_macro:g}"
        )
    if row.to_parent:
        lines.append(
            f"Against {version.parent or 'the class shares'}: {tables.said(row.to_parent)}"
        )
    return "".join(f"- {line}\n" for line in lines)


def _feature(catalog: Catalog, effect: Effect) -> str:
    feature = catalog.features[effect.key]
    f1, low, high = effect.f1_macro
    expected = {"-": "a lower log loss", "0": "no difference", "+": "a higher log loss"}[
        feature.expect.sign
    ]
    lines = [
        f"Expected beforehand: {expected}, because {feature.expect.because}",
        f"Measured on {feature.of}, log loss with − without: {tables.said(effect.log_loss)}",
        f"Macro F1 with − without: {f1:+.4f} (95 % interval {low:+.4f} to {high:+.4f})",
    ]
    if feature.claimed:
        claim = feature.claimed
        note = f" ({claim.note})" if claim.note else ""
        lines.append(f"Claimed: log loss {claim.log_loss:+g}, macro F1 {claim.f1_macro:+g}{note}")
    return "".join(f"- {line}\n" for line in lines)
