"""The report's curves as plotly figures in plain data, and the style that all figures share.

A figure is traces and a layout; nothing is drawn yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from collabdesign.deliver.report.importance import Importance
from collabdesign.deliver.report.view import ReportView, Variant
from collabdesign.deliver.report.words import short_count
from collabdesign.explore.calibration import Calibration
from collabdesign.explore.record import Candidate, CurvePoint

Figure = dict[str, Any]

# Okabe and Ito's palette, which keeps apart for colour-blind eyes; shapes tell the same.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PINK, SKY, INK, GREY, PALE = "#cc79a7", "#56b4e9", "#1f2933", "#7b8794", "#cbd2d9"
MEMBER_COLOURS = (RED, BLUE, GREEN, PINK, ORANGE, SKY)

# As in report.css.
FONT = (
    'Inter, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, '
    "system-ui, sans-serif"
)
MONOSPACE = 'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace'
HELD_OUT = "accuracy, held-out part of train"


def curves_figure(view: ReportView, part: str, quantity: str) -> Figure:
    """Learning curves of the ``family`` or of the ``proxies``; ``accuracy`` or ``loss``."""
    assert part in ("family", "proxies") and quantity in ("accuracy", "loss"), (part, quantity)
    if part == "family":
        traces = [_family_curve(*pair, quantity) for pair in enumerate(view.family)]
    else:
        on_front = {each.number for each in view.front}
        others = [each for each in view.record.trained if each.number not in on_front]
        stopped, failed = view.record.stopped, view.record.failed
        traces = [
            _proxy_curves("candidate", others, quantity, {"color": PALE, "width": 1}),
            _proxy_curves("stopped early", stopped, quantity, {"color": ORANGE, "width": 0.7}),
            _proxy_curves("failed", failed, quantity, {"color": RED, "width": 1.2, "dash": "dot"}),
            _proxy_curves("on the front", view.front, quantity, {"color": BLUE, "width": 1.6}),
        ]
    title = HELD_OUT if quantity == "accuracy" else "training loss"
    layout = layout_style(320)
    layout["margin"] = {"l": 66, "r": 44, "t": 44, "b": 52}
    layout["xaxis"] = {**axis_style("epoch"), "rangemode": "tozero"}
    layout["yaxis"] = axis_style(title)
    if quantity == "accuracy":
        layout["yaxis"]["tickformat"] = "~%"
    return {"data": [trace for trace in traces if trace["x"]], "layout": layout}


def hypervolume_figure(view: ReportView) -> Figure:
    """The front's hypervolume over the number of trials."""
    layout = layout_style(240)
    layout["margin"] = {"l": 66, "r": 44, "t": 12, "b": 52}
    layout["showlegend"] = False
    layout["xaxis"] = {**axis_style("trials"), "rangemode": "tozero"}
    layout["yaxis"] = axis_style("hypervolume")
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": [count for count, _ in view.hypervolume],
        "y": [_finite(value) for _, value in view.hypervolume],
        "line": {"shape": "hv", "color": BLUE, "width": 2},
        "hovertemplate": "after %{x} trials: %{y:.4g}<extra></extra>",
    }
    return {"data": [trace], "layout": layout}


def prediction_figure(view: ReportView) -> Figure:
    """The measured accuracy of each candidate over the predicted one, with two deviations."""
    known = view.predictions
    return _against(
        "predicted proxy accuracy",
        "measured proxy accuracy",
        [mean for _, mean, _, _ in known],
        [measured for *_, measured in known],
        [f"candidate {each.number}" for each, *_ in known],
        [2 * deviation for _, _, deviation, _ in known],
    )


def calibration_figure(calibration: Calibration) -> Figure:
    """Full training over the proxy, a mark a network."""
    points = calibration.points
    return _against(
        f"proxy, {calibration.proxy_epochs} epochs",
        f"full training, {calibration.full_epochs} epochs",
        [point.proxy for point in points],
        [point.full for point in points],
        [f"{point.architecture}, {short_count(point.macs)} MACs" for point in points],
    )


def importance_figure(importance: Importance) -> Figure:
    """A bar a module, the most important on top."""
    labels = [label for label, _ in importance.modules][::-1]
    layout = layout_style(64 + 24 * len(labels))
    layout["margin"] = {"l": 10, "r": 44, "t": 4, "b": 52}
    layout["showlegend"] = False
    layout["xaxis"] = {
        **axis_style("share of the importance for proxy accuracy"),
        "rangemode": "tozero",
        "tickformat": "~%",
    }
    layout["yaxis"] = {"automargin": True, "tickfont": {"size": 12}, "ticks": ""}
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [value for _, value in importance.modules][::-1],
        "y": labels,
        "marker": {"color": BLUE},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    return {"data": [trace], "layout": layout}


def _against(
    x_title: str,
    y_title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    texts: Sequence[str],
    errors: Sequence[float] | None = None,
) -> Figure:
    """Two accuracies of the same networks; with errors, also the line where they are equal."""
    layout = layout_style(320)
    layout["margin"] = {"l": 66, "r": 44, "t": 12, "b": 52}
    layout["showlegend"] = False
    layout["xaxis"] = {**axis_style(x_title), "tickformat": "~%"}
    layout["yaxis"] = {**axis_style(y_title), "tickformat": "~%"}
    ends = [min(*xs, *ys), max(*xs, *ys)]
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": ends,
        "y": ends,
        "line": {"color": PALE, "width": 1.4, "dash": "dash"},
        "hoverinfo": "skip",
    }
    marks: Figure = {
        "type": "scatter",
        "mode": "markers",
        "x": list(xs),
        "y": list(ys),
        "text": [escape(text) for text in texts],
        "marker": {"color": BLUE, "size": 7},
        "hovertemplate": "%{text}: %{x:.1%}, %{y:.1%}<extra></extra>",
    }
    if errors is None:
        return {"data": [marks], "layout": layout}
    # A bar may reach beyond what an accuracy can be.
    low = min(x - error for x, error in zip(xs, errors, strict=True))
    high = max(x + error for x, error in zip(xs, errors, strict=True))
    layout["xaxis"]["range"] = [max(-0.01, min(low, *ys) - 0.01), min(1.01, max(high, *ys) + 0.01)]
    marks["error_x"] = {
        "type": "data",
        "array": list(errors),
        "color": PALE,
        "thickness": 1.2,
        "width": 0,
    }
    return {"data": [diagonal, marks], "layout": layout}


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity, which a diverged loss has."""
    return value if math.isfinite(value) else None


def _family_curve(index: int, member: Variant, quantity: str) -> Figure:
    colour = MEMBER_COLOURS[index % len(MEMBER_COLOURS)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escape(member.title),
        "x": [point.epoch for point in member.certificate.curve],
        "y": [_finite(getattr(point, quantity)) for point in member.certificate.curve],
        "line": {
            "color": colour,
            "width": 2,
            "dash": ("solid", "dash", "dot", "dashdot")[index % 4],
        },
        "hovertemplate": f"<b>{escape(member.title)}</b> · epoch %{{x}}: {_y_format(quantity)}"
        "<extra></extra>",
    }


def _proxy_curves(
    name: str, candidates: Sequence[Candidate], quantity: str, line: Figure
) -> Figure:
    """Many curves as one trace: a gap after each."""
    gap = CurvePoint(0, math.nan, math.nan)
    points = [(each, point) for each in candidates for point in (*each.curve, gap)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [None if point is gap else point.epoch for _, point in points],
        "y": [_finite(getattr(point, quantity)) for _, point in points],
        "customdata": [each.number for each, _ in points],
        "line": line,
        "hovertemplate": "candidate %{customdata} · epoch %{x}: "
        + _y_format(quantity)
        + "<extra></extra>",
    }


def _y_format(quantity: str) -> str:
    return "%{y:.1%}" if quantity == "accuracy" else "%{y:.3f}"


def axis_style(title: str) -> Figure:
    """What every axis looks like."""
    return {
        "title": {"text": title, "font": {"size": 13}, "standoff": 10},
        "showline": True,
        "linecolor": PALE,
        "gridcolor": "#e9edf1",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": PALE,
        "ticklen": 4,
        "tickfont": {"size": 12},
    }


def layout_style(height: int) -> Figure:
    """What every figure looks like."""
    return {
        "height": height,
        "autosize": True,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": INK},
        "hovermode": "closest",
        "hoverlabel": {
            "align": "left",
            "bgcolor": "white",
            "bordercolor": PALE,
            "font": {"family": MONOSPACE, "size": 12, "color": INK},
            "namelength": -1,
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "yref": "container",
        },
        "dragmode": "zoom",
        "modebar": {
            "orientation": "v",
            "bgcolor": "rgba(0,0,0,0)",
            "color": "#9aa5b1",
            "activecolor": INK,
        },
    }
