"""python -m pairpref.reporting.headline

The last run in a dozen lines. Reads report/headline.json and logs/ only.
"""

import json

from rich.console import Console
from rich.table import Table

from pairpref.errors import UserError, command
from pairpref.paths import HEADLINE, PAGE
from pairpref.reporting import provenance
from pairpref.reporting.page import headline_rows

_ROOM_FOR_MEANINGS = 120


def rows(told: dict) -> list[tuple[str, str, str, str]]:
    """Name, value, interval and meaning of every figure there is, and how fast it went."""
    found = headline_rows(told["figures"], told["ci"])
    if spent := provenance.seconds():
        found.append(("Seconds", f"{spent:,.0f}", "", "of all stages, each at its last run here"))
    if rate := provenance.tokens_per_second():
        found.append(("Training tokens/s", f"{rate:,.0f}", "", "of the last training run here"))
    return found


def show() -> None:
    """Print the table.

    Raises:
        UserError: there is no finished run.
    """
    try:
        told = json.loads(HEADLINE.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise UserError(
            f"{HEADLINE}: missing or damaged. `dvc repro` makes it; run from the repository's root."
        ) from None
    console = Console()
    roomy = console.width >= _ROOM_FOR_MEANINGS
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column("95 % CI", no_wrap=True)
    table.add_column(style="dim")
    for *figures, meaning in rows(told):
        table.add_row(*figures, meaning if roomy else "")
    console.print(table)
    if told["versions"]:
        console.print(f"\n{told['versions']}", highlight=False)
    more = "" if roomy else ", which says what each figure means"
    console.print(f"\nThe whole report: {PAGE}{more}", highlight=False)


def main() -> None:
    with command("headline"):
        show()


if __name__ == "__main__":
    main()
