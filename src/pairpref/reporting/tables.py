"""Tables as plain rows of text, so that the page and the Markdown show the same."""

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of text. Columns after the first are numbers and stand right, unless `text` names them.

    Attributes:
        columns: headings.
        rows: cells, as many a row as there are columns.
        text: headings of further columns that hold words.
    """

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    text: tuple[str, ...] = ()

    def kind(self, column: int) -> str:
        """name, number or word: how the cells of a column are set."""
        return "name" if column == 0 else "word" if self.columns[column] in self.text else "number"


def markdown(table: Table) -> str:
    """The table as GitHub Markdown, with whatever its cells hold taken literally."""
    rule = ["---:" if table.kind(i) == "number" else "---" for i in range(len(table.columns))]
    lines = [map(literal, table.columns), rule, *(map(literal, row) for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def plain(table: Table) -> str:
    """The table for a terminal, its columns aligned."""
    rows = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    numbers = [table.kind(i) == "number" for i in range(len(widths))]
    lines = (
        "  ".join(
            f"{cell:{'>' if number else '<'}{width}}"
            for cell, width, number in zip(row, widths, numbers, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def literal(text: str) -> str:
    """A paragraph or a cell as Markdown that shows it as it is."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{c}" if c in r"\`*_[]|~" else c for c in escaped)
