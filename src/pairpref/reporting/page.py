"""The report as one self-contained page that works offline, and the same tables as Markdown."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from pairpref.reporting.sections import Section
from pairpref.reporting.tables import literal
from pairpref.reporting.tables import markdown as table_markdown

TITLE = "Which answer will people prefer?"


def html(opening: list[str], sections: list[Section]) -> str:
    """The page, the same bytes for the same arguments. All text is escaped; plotly.js (4.8 MB) is inlined once."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {
        name: figure.to_plotly_json()
        for section in sections
        for name, figure in section.figures.items()
    }
    template = environment.get_template("page.html.j2")
    return (
        template.render(
            title=TITLE, opening=opening, sections=sections, figures=drawn, plotlyjs=get_plotlyjs()
        )
        + "\n"
    )


def markdown(opening: list[str], sections: list[Section]) -> str:
    """Opening, and every section that says something without figures, for a pull request. What is folded on the page is folded here."""
    parts = [f"# {TITLE}", literal(" ".join(opening))]
    for section in sections:
        tables = [table_markdown(table) for table in section.tables]
        if tables and section.folded:
            parts += [f"<details><summary>{section.title}</summary>", *tables, "</details>"]
        elif tables or not (section.figures or section.examples):
            parts += [f"## {section.title}", *map(literal, section.text.split("\n\n")), *tables]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
