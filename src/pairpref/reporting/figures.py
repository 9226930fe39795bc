"""The page's figures. They draw what `evaluation` computed.

Colours are mid-tones that work on white and on black; lines also differ in dash and marker. The
page sets text and grid to its own ink when it draws (see templates/index.html.j2).
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pairpref.evaluation import buckets
from pairpref.evaluation.report import EvaluationReport
from pairpref.pairs import LABELS
from pairpref.reporting.page import num, words

BLUE, ORANGE, GREY = "#4a8fd6", "#d06a26", "#8a8f98"
_LAYOUT: dict[str, Any] = {
    "template": "none",
    "height": 300,
    "margin": {"l": 52, "r": 12, "t": 40, "b": 44},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    "dragmode": False,
}
_CELLS = {
    "colorscale": [[0, "rgba(74,143,214,0.04)"], [1, "rgba(74,143,214,0.75)"]],
    "showscale": False,
    "hoverinfo": "skip",
    "xgap": 2,
    "ygap": 2,
}
_STYLES: tuple[dict[str, Any], ...] = (
    {"line": {"color": BLUE, "dash": "dot"}, "marker": {"symbol": "circle-open", "size": 8}},
    {"line": {"color": ORANGE, "dash": "solid"}, "marker": {"symbol": "square", "size": 7}},
)


def figures(report: EvaluationReport) -> dict[str, go.Figure]:
    """The figures of a report, by the names the templates use."""
    losses = {"train_loss": "training loss", "log_loss": "log loss on fold 0"}
    scores = {"accuracy": "accuracy", "f1_macro": "macro F1"}
    return {
        "baselines": _levels(report.levels),
        **{f"reliability-{c.lower()}": _reliability(report, c) for c in words().curves},
        "buckets": _buckets(report.buckets),
        "confusion": _confusion(report),
        "training-loss": _curves(report.training, losses, "nats"),
        "training-scores": _curves(report.training, scores, "share"),
    }


def of_versions(
    log_loss: pd.DataFrame, f1_macro: pd.DataFrame, accuracy: pd.DataFrame
) -> dict[str, go.Figure]:
    """The figures of the versions, from their trends and accuracy (see `versions.tables`)."""
    return {
        "versions-log-loss": _trend(log_loss, "log loss (nats)"),
        "versions-f1": _trend(f1_macro, "macro F1"),
        "versions-accuracy": _scatter(accuracy[accuracy["series"] == "measured"]),
    }


def _curves(table: pd.DataFrame, lines: dict[str, str], y: str) -> go.Figure:
    figure = go.Figure(layout=_LAYOUT)
    for (column, name), style in zip(lines.items(), _STYLES, strict=True):
        _add(figure, table["epoch"], table[column], name=name, **style)
    figure.update_xaxes(title="epoch", dtick=max(1, len(table) // 8))
    return figure.update_yaxes(title=y)


def _reliability(report: EvaluationReport, curve: str) -> go.Figure:
    """Observed share over predicted probability; bars on the last stage alone, for legibility."""
    points = report.reliability[report.reliability["class"] == curve]
    stages = words().stages if report.calibrated else {"after": "as reported"}
    points = points[points["stage"].isin(stages)]
    figure = go.Figure(layout=_LAYOUT | {"height": 320})
    for (stage, name), style in zip(stages.items(), _STYLES, strict=False):
        part = points[points["stage"] == stage]
        bars = part["margin"] if stage == "after" else None
        _add(figure, part["predicted"], part["observed"], bars, name=name, **style)
    end = [0, float(points[["predicted", "observed"]].max().max())]
    line = {"color": GREY, "width": 1}
    diagonal = {"name": "perfect", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(x=end, y=end, line=line, **diagonal)
    figure.update_xaxes(title=f"predicted: {words().curves[curve]}", rangemode="tozero")
    return figure.update_yaxes(title="observed share", rangemode="tozero")


def _confusion(report: EvaluationReport) -> go.Figure:
    """Votes by label (down) and most likely label (across), shaded by share of the row."""
    counts = report.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = go.Figure(layout=_LAYOUT)
    names = list(LABELS)
    figure.add_heatmap(z=shares.tolist(), x=names, y=names, zmin=0, zmax=1, **_CELLS)
    for i, voted in enumerate(LABELS):
        for j, likely in enumerate(LABELS):
            text = f"{counts[i, j]:,}<br>{num(shares[i, j], '.0%')}"
            figure.add_annotation(x=likely, y=voted, text=text, showarrow=False)
    figure.update_xaxes(title="most likely", showgrid=False)
    return figure.update_yaxes(title="voted", autorange="reversed", showgrid=False)


def _levels(levels: pd.DataFrame) -> go.Figure:
    """Log losses with intervals, one below the other; the last one, the model, stands out."""
    floor = levels.loc[levels["name"] == "floor", "log_loss"]
    rows = levels[levels["name"] != "floor"]
    figure = go.Figure(layout=_LAYOUT | {"height": 60 + 34 * len(rows), "showlegend": False})
    for row in rows.itertuples():
        last, name = row.name == "log_loss", str(words().level(row.name))
        symbol, color = ("square", ORANGE) if last else ("circle-open", BLUE)
        marker = {"symbol": symbol, "color": color, "size": 9}
        up, down = (round(abs(end - row.log_loss), 5) for end in (row.high, row.low))
        spread = {"type": "data", "symmetric": False, "array": [up], "arrayminus": [down]}
        x = [round(row.log_loss, 5)]
        figure.add_scatter(x=x, y=[name], error_x=spread, mode="markers", marker=marker)
        text = {"text": f"{row.log_loss:.4f}", "xanchor": "left", "xshift": 6}
        figure.add_annotation(x=row.high, y=name, showarrow=False, **text)
    for x in floor:
        line = {"color": GREY, "width": 1, "dash": "dash"}
        figure.add_vline(x=x, line=line, annotation_text="floor", annotation_position="top")
    low, high = levels["low"].min(), levels["high"].max()
    width = (high - low) or 1.0
    room = [round(low - 0.04 * width, 5), round(high + 0.14 * width, 5)]
    figure.update_xaxes(title="log loss (nats)", range=room)
    return figure.update_yaxes(autorange="reversed", type="category")


def _trend(points: pd.DataFrame, title: str) -> go.Figure:
    figure = go.Figure(layout=_LAYOUT | {"height": 320})
    for series, style in zip(("measured", "published"), _STYLES[::-1], strict=True):
        part = points[points["series"] == series]
        bars = part["high"] - part["value"] if part["high"].notna().any() else None
        _add(figure, part["version"], part["value"], bars, name=series, **style)
    # As categories: v17.0 is beside v14.0, not three units on.
    order = {"categoryorder": "array", "categoryarray": list(dict.fromkeys(points["version"]))}
    figure.update_xaxes(type="category", **order)
    return figure.update_yaxes(title=title)


def _scatter(points: pd.DataFrame) -> go.Figure:
    figure = go.Figure(layout=_LAYOUT | {"height": 320, "showlegend": False})
    named = {"mode": "markers+text", "textposition": "top center", "cliponaxis": False}
    marker = _STYLES[1]["marker"] | {"color": ORANGE}
    text = list(points["version"])
    _add(figure, points["accuracy"], points["log_loss"], text=text, marker=marker, **named)
    figure.update_xaxes(title="accuracy")
    return figure.update_yaxes(title="log loss")


def _buckets(table: pd.DataFrame) -> go.Figure:
    """Log loss by part of the votes (down) and label (across); darker is worse."""
    names = [words().bucket(row.kind, row.bucket) for row in table.itertuples()]
    grid = table.assign(name=names).pivot(index="name", columns="label", values="log_loss")
    grid = grid.reindex(index=list(dict.fromkeys(names)), columns=[buckets.ALL, *LABELS])
    size = {"height": 100 + 44 * len(grid), "margin": {**_LAYOUT["margin"], "t": 70, "b": 10}}
    figure = go.Figure(layout=_LAYOUT | size)
    shades = grid.round(5).astype(object).where(grid.notna(), None).to_numpy().tolist()
    figure.add_heatmap(z=shades, x=list(grid.columns), y=list(grid.index), **_CELLS)
    for name, row in zip(names, table.itertuples(), strict=True):
        text = f"{row.log_loss:.3f}<br>{row.n:,.0f} votes"
        figure.add_annotation(x=row.label, y=name, text=text, showarrow=False)
    figure.update_xaxes(title="voted", showgrid=False, side="top", type="category")
    return figure.update_yaxes(autorange="reversed", showgrid=False, type="category")


def _add(
    figure: go.Figure, x: pd.Series, y: pd.Series, bars: pd.Series | None = None, **style: object
) -> None:
    """Add points, with bars of the given half length; numbers rounded so that the page is small."""
    error = None
    if bars is not None:
        error = {"type": "data", "array": bars.round(5).tolist(), "thickness": 1}
    figure.add_scatter(
        x=(x.round(5) if pd.api.types.is_numeric_dtype(x) else x).tolist(),
        y=y.round(5).tolist(),
        error_y=error,
        **{"mode": "lines+markers"} | style,
    )
