"""versions/LOG.md: what was tried, measured and concluded. It is written here and never read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pairpref.files import write_text
from pairpref.paths import LOG
from pairpref.versions.catalog import Catalog, spelled
from pairpref.versions.git import TRAILER, Repository
from pairpref.versions.results import Row, VersionResults
from pairpref.versions.tables import spread

FEATURES = "Measured"  # trailer of the commit that holds the features' predictions
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
_TEMPLATES.filters |= {"spelled": spelled, "spread": spread}


def write(catalog: Catalog, root: Path = Path(), dates: Mapping[str, str] = {}) -> None:
    """Write the log of what is measured in a repository.

    Args:
        dates: of what is not committed yet, such as {"features": "2026-11-23"}.
    """
    git, results = Repository(root), VersionResults.load(catalog, root=root)
    commits = git.versions() | git.versions(FEATURES)
    committed = {name: day(int(commit.committer[2].split()[0])) for name, commit in commits.items()}
    effects = {effect.key: effect for effect in results.effects}
    text = _TEMPLATES.get_template("LOG.md.j2").render(
        rows=[row for row in results.rows if row.measured or row.version.conclusion],
        features=[
            (key, feature, effects.get(key))
            for key, feature in catalog.features.items()
            if key in effects or feature.conclusion
        ],
        dates={**committed, **dates},
    )
    write_text(root / LOG, text)


def commit_message(row: Row) -> str:
    """The message of a replayed version's commit, from which its tag is made."""
    other, outcome = row.version.parent or "the class shares", "replayed"
    if row.to_parent:
        verdict = row.to_parent.verdict
        shown = verdict != "not shown"
        outcome = f"{verdict} than {other}" if shown else f"no difference from {other} is shown"
    template: Any = _TEMPLATES.get_template("LOG.md.j2")
    module = template.make_module({"rows": [], "features": [], "dates": {}})
    return f"{row.name}: {outcome}\n\n{module.version(row)}\n{TRAILER}: {row.name}\n"


def day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
