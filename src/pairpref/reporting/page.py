"""The report as one self-contained page that works offline, and the same tables as Markdown."""

import html as html_text
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from pairpref.evaluation.report import EvaluationReport

SHOWN = 600  # characters of a vote's text on the page
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Content:
    """What the templates show."""

    report: "EvaluationReport"
    versions: Any  # a VersionResults
    params: dict[str, object]  # dotted key to value
    tables: "dict[str, pd.DataFrame]"  # ready-to-print strings
    figures: "dict[str, go.Figure]"
    exact: bool = True  # trained by algorithms that give the same bits again


def html(content: Content) -> str:
    """The page, the same bytes for the same content. Text is escaped; plotly.js is inlined."""
    from plotly.offline import get_plotlyjs

    drawn = {name: figure.to_plotly_json() for name, figure in content.figures.items()}
    return _render("index.html.j2", content, drawn=drawn, plotlyjs=get_plotlyjs())


def markdown(content: Content) -> str:
    """The sections that say something without figures, for a pull request. Text is escaped."""
    return re.sub(r"\n{3,}", "\n\n", _render("report.md.j2", content))


def words() -> Any:
    """The variables and macros of captions.j2 as attributes; its texts are not escaped."""
    return environment(False).get_template("captions.j2").module


def sentence(macro: str, *arguments: object) -> str:
    """A macro of captions.j2 as one line of plain text."""
    return " ".join(getattr(words(), macro)(*arguments).split())


@cache
def environment(escaped: bool) -> Environment:
    """Where templates are compiled, with or without escaping for HTML."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (num, ci, literal, kinds, paragraphs, shortened)
    made.filters |= {function.__name__: function for function in filters}
    return made


def _render(name: str, content: Content, **more: object) -> str:
    from pairpref.evaluation.buckets import FEW
    from pairpref.evaluation.comparison import by_luck

    template = environment(name.endswith(".html.j2")).get_template(name)
    return template.render(**vars(content), **more, by_luck=by_luck, few_prompts=FEW)


def headline_rows(
    figures: dict[str, float], intervals: dict[str, tuple[float, float]]
) -> list[tuple[str, str, str, str]]:
    """Name, value, 95% CI ("" if there is none) and meaning of the figures that there are."""
    named = words()
    known = {
        key: (name, ".4f", f"log loss of {what}")
        for key, (name, _, what) in named.baselines.items()
    }
    known |= named.figures
    rows = []
    for key in sorted(figures, key=lambda key: [*known, key].index(key)):
        name, form, meaning = known.get(key, (named.level(key), ".4f", ""))
        interval = ci(intervals[key], form) if key in intervals else ""
        rows.append((name, num(figures[key], form), interval, meaning))
    return rows


def num(value: float, form: str) -> str:
    """A number as people write it; a percent sign follows a space that no line breaks at."""
    return re.sub(r"\s*%", "\N{NO-BREAK SPACE}%", format(value, form))


def ci(interval: tuple[float, float], form: str) -> str:
    """An interval as people write it."""
    return f"{num(interval[0], form)} to {num(interval[1], form)}"


def plain(value: object) -> str:
    """A param's value as text."""
    return value if isinstance(value, str) else json.dumps(value)


def literal(text: str) -> str:
    """A paragraph or a cell as Markdown that shows it as it is."""
    escaped = html_text.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{c}" if c in r"\`*_[]|~" else c for c in escaped)


def paragraphs(text: str) -> list[str]:
    """The parts of a text between empty lines."""
    return [part for part in text.split("\n\n") if part.strip()]


def shortened(text: str) -> str:
    """The beginning of a text, and how much was left out."""
    left_out = len(text) - SHOWN
    return f"{text[:SHOWN]} … ({left_out:,} more characters)" if left_out > 0 else text or "(empty)"


def kinds(table: "pd.DataFrame") -> list[str]:
    """How each column is set: name (the first), word or number, by what its cells hold."""
    columns = [table.iloc[:, i] for i in range(1, table.shape[1])]
    hold = [any(_WORD.search(cell) for cell in column) for column in columns]
    return ["name", *("word" if words else "number" for words in hold)]
