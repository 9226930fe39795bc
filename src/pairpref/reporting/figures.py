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
_STYLES = (
    {"line": {"color": BLUE, "dash": "dot"}, "marker": {"symbol": "circle-open", "size": 8}},
    {"line": {"color": ORANGE, "dash": "solid"}, "marker": {"symbol": "square", "size": 7}},
    {"line": {"color": GREY, "dash": "dash"}, "marker": {"symbol": "diamond-open", "size": 8}},
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
        figure.add_scatter(x=_list(table[x]), y=_list(table[column]), name=name, mode="lines+markers", **style)
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
        figure.add_scatter(x=_list(part["predicted"]), y=_list(part["observed"]), name=name, mode="lines+markers", **style)
    end = [0, max((float(part[["predicted", "observed"]].max().max()) for part in parts.values()), default=1.0)]
    diagonal = {"color": GREY, "width": 1}
    figure.add_scatter(x=end, y=end, name="perfect", mode="lines", line=diagonal, hoverinfo="skip", showlegend=False)
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
        colorscale=[[0, "rgba(74,143,214,0.04)"], [1, "rgba(74,143,214,0.75)"]],
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


def _list(column: pd.Series) -> list[float]:
    return [round(float(value), 5) for value in column]
