"""python -m pairpref.reporting.headline

The last run in a dozen lines: how good, against what, how fast, and where the page is. Reads metrics/report.json and logs/ only.
"""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pairpref.reporting import glossary, provenance

METRICS = Path("metrics/report.json")
PAGE = Path("report/index.html")


def rows() -> list[tuple[str, str, str]]:
    """Name, value and meaning of every figure there is; on real votes those that need the truth are not there."""
    found = glossary.headline(json.loads(METRICS.read_text(encoding="utf-8")))
    if spent := provenance.seconds():
        found.append(("Seconds", f"{spent:,.0f}", "all stages together, each at its last run on this machine"))
    if rate := provenance.tokens_per_second():
        found.append(("Training tokens/s", f"{rate:,.0f}", "of the last training run on this machine"))
    return found


def main() -> None:
    if not METRICS.exists():
        sys.exit(f"{METRICS}: no such file. `dvc repro` makes it; run from the repository's root.")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for row in rows():
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"\nThe whole report: {PAGE}", highlight=False)


if __name__ == "__main__":
    main()
