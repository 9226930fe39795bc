"""The page's figures. Colours are mid-tones that stand on white and on black; lines also differ in dash and marker.

Text and grid take the page's own ink, which the page sets when it draws (see page.html.j2).
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pairpref.pairs import LABELS
from pairpref.reporting.glossary import spaced

BLUE, ORANGE, GREY = "#4a8fd6", "#d06a26", "#8a8f98"
_LAYOUT = {
    "template": "none",
    "height": 300,
    "margin": {"l": 52, "r": 12, "t": 40, "b": 44},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    "dragmode": False,
}
_SHADES = [[0, "rgba(74,143,214,0.04)"], [1, "rgba(74,143,214,0.75)"]]
_STYLES = (
    {"line": {"color": BLUE, "dash": "dot"}, "marker": {"symbol": "circle-open", "size": 8}},
    {"line": {"color": ORANGE, "dash": "solid"}, "marker": {"symbol": "square", "size": 7}},
    {"line": {"color": GREY, "dash": "dash"}, "marker": {"symbol": "diamond-open", "size": 14}},
)


def curves(table: pd.DataFrame, x: str, lines: dict[str, str], y: str) -> go.Figure:
    """Columns of a table over another, e.g. losses over epochs.

    Args:
        table: numeric columns.
        x: name of the column along the bottom.
        lines: column to the name in the legend, at most three.
        y: title of the vertical axis.
    """
    figure = go.Figure(layout=_LAYOUT)
    for (column, name), style in zip(lines.items(), _STYLES, strict=False):
        figure.add_scatter(
            x=_list(table[x]), y=_list(table[column]), name=name, mode="lines+markers", **style
        )
    figure.update_xaxes(title=x, dtick=max(1, len(table) // 8))
    figure.update_yaxes(title=y)
    return figure


def reliability(parts: dict[str, pd.DataFrame], title: str) -> go.Figure:
    """Observed share over predicted probability; a perfect model lies on the diagonal.

    Args:
        parts: name in the legend to a table with columns predicted and observed, at most two.
        title: what happened or not, e.g. "A wins".
    """
    figure = go.Figure(layout=_LAYOUT | {"height": 320})
    for (name, part), style in zip(parts.items(), _STYLES, strict=False):
        # The last part alone has bars of chance, two standard errors: on both they would hide each other.
        chance = (
            _list(2 * np.sqrt(part["observed"] * (1 - part["observed"]) / part["n"]))
            if name == list(parts)[-1]
            else None
        )
        bars = {"type": "data", "array": chance, "thickness": 1} if chance else None
        figure.add_scatter(
            x=_list(part["predicted"]),
            y=_list(part["observed"]),
            error_y=bars,
            name=name,
            mode="lines+markers",
            **style,
        )
    end = [
        0,
        max(
            (float(part[["predicted", "observed"]].max().max()) for part in parts.values()),
            default=1.0,
        ),
    ]
    diagonal = {"color": GREY, "width": 1}
    figure.add_scatter(
        x=end,
        y=end,
        name="perfect",
        mode="lines",
        line=diagonal,
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(title=f"predicted: {title}", rangemode="tozero")
    figure.update_yaxes(title="observed share", rangemode="tozero")
    return figure


def confusion(counts: np.ndarray) -> go.Figure:
    """Votes by what was voted (down) and what was most likely (across), written out and shaded by share of the row.

    Args:
        counts: shape (3, 3), rows voted, columns predicted.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = go.Figure(layout=_LAYOUT)
    figure.add_heatmap(
        z=shares.tolist(),
        x=list(LABELS),
        y=list(LABELS),
        zmin=0,
        zmax=1,
        colorscale=_SHADES,
        showscale=False,
        hoverinfo="skip",
        xgap=2,
        ygap=2,
    )
    for i, voted in enumerate(LABELS):
        for j, predicted in enumerate(LABELS):
            text = spaced(f"{counts[i, j]:,}<br>{shares[i, j]:.0%}")
            figure.add_annotation(x=predicted, y=voted, text=text, showarrow=False)
    figure.update_xaxes(title="most likely", showgrid=False)
    figure.update_yaxes(title="voted", autorange="reversed", showgrid=False)
    return figure


def levels(
    rows: list[tuple[str, float, tuple[float, float]]], title: str, floor: float | None
) -> go.Figure:
    """Values with intervals, one below the other; the last row, the model itself, stands out by colour and marker.

    Args:
        rows: name, value and interval.
        floor: what nothing can be better than; a dashed line.
    """
    figure = go.Figure(layout=_LAYOUT | {"height": 60 + 34 * len(rows), "showlegend": False})
    last = len(rows) - 1
    for i, (name, value, (low, high)) in enumerate(rows):
        marker = {
            "symbol": "square" if i == last else "circle-open",
            "size": 9,
            "color": ORANGE if i == last else BLUE,
        }
        spread = {
            "type": "data",
            "symmetric": False,
            "array": [round(high - value, 5)],
            "arrayminus": [round(value - low, 5)],
        }
        figure.add_scatter(
            x=[round(value, 5)], y=[name], error_x=spread, mode="markers", marker=marker
        )
        figure.add_annotation(
            x=high, y=name, text=f"{value:.4f}", showarrow=False, xanchor="left", xshift=6
        )
    figure.update_xaxes(title=title)
    figure.update_yaxes(autorange="reversed", type="category")
    if floor is not None:
        line = {"color": GREY, "width": 1, "dash": "dash"}
        figure.add_vline(x=floor, line=line, annotation_text="floor", annotation_position="top")
    figure.update_xaxes(range=_room(rows, floor))
    return figure


def _room(rows: list[tuple[str, float, tuple[float, float]]], floor: float | None) -> list[float]:
    ends = [end for *_, pair in rows for end in pair] + ([] if floor is None else [floor])
    width = max(ends) - min(ends) or 1.0
    return [round(min(ends) - 0.04 * width, 5), round(max(ends) + 0.14 * width, 5)]


def trend(points: pd.DataFrame, title: str) -> go.Figure:
    """A figure from version to version, in the order of the rows, with bars where its ends are known.

    Args:
        points: version, series, value, low, high.
        title: of the vertical axis.
    """
    figure = go.Figure(layout=_LAYOUT | {"height": 320})
    for (name, part), style in zip(
        points.groupby("series", sort=True), _STYLES[1::-1], strict=False
    ):
        known = part["high"].notna().any()
        bars = (
            {"type": "data", "array": _list(part["high"] - part["value"]), "thickness": 1}
            if known
            else None
        )
        figure.add_scatter(
            x=list(part["version"]),
            y=_list(part["value"]),
            error_y=bars,
            name=name,
            mode="lines+markers",
            **style,
        )
    # Versions are no numbers: v17.0 stands beside v14.0, not three units on.
    order = list(dict.fromkeys(points["version"]))
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_yaxes(title=title)
    return figure


def scatter(points: pd.DataFrame, x: str, y: str, name: str) -> go.Figure:
    """Two figures against each other, each point with its name."""
    figure = go.Figure(layout=_LAYOUT | {"height": 320, "showlegend": False})
    figure.add_scatter(
        x=_list(points[x]),
        y=_list(points[y]),
        text=list(points[name]),
        mode="markers+text",
        textposition="top center",
        cliponaxis=False,
        marker=_STYLES[1]["marker"] | {"color": ORANGE},
    )
    figure.update_xaxes(title=x.replace("_", " "))
    figure.update_yaxes(title=y.replace("_", " "))
    return figure


def heat(grid: pd.DataFrame) -> go.Figure:
    """Log loss by part of the votes (down) and by what was voted (across), written out with the number of votes; darker is worse.

    Args:
        grid: rows parts of the votes; columns (log_loss or n, label).
    """
    loss, n = grid["log_loss"], grid["n"]
    figure = go.Figure(
        layout=_LAYOUT
        | {"height": 100 + 44 * len(grid), "margin": {**_LAYOUT["margin"], "t": 70, "b": 10}}
    )
    figure.add_heatmap(
        z=loss.round(5).astype(object).where(loss.notna(), None).to_numpy().tolist(),
        x=list(loss.columns),
        y=list(loss.index),
        colorscale=_SHADES,
        showscale=False,
        hoverinfo="skip",
        xgap=2,
        ygap=2,
    )
    for length in loss.index:
        for label in loss.columns:
            if pd.notna(loss.loc[length, label]):
                text = f"{loss.loc[length, label]:.3f}<br>{n.loc[length, label]:,.0f} votes"
                figure.add_annotation(x=label, y=length, text=text, showarrow=False)
    figure.update_xaxes(title="voted", showgrid=False, side="top", type="category")
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return figure


def _list(column: pd.Series) -> list[float]:
    return [round(float(value), 5) for value in column]
