"""The report's curves as plotly figures in plain data.

A figure is traces and a layout; ``report.js`` styles and draws it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from collabdesign.deliver.certificate import Certificate
from collabdesign.deliver.report.importance import Importance
from collabdesign.deliver.report.view import ReportView
from collabdesign.deliver.report.words import short_count
from collabdesign.explore.calibration import Calibration
from collabdesign.explore.record import Candidate, CurvePoint

Figure = dict[str, Any]

# Okabe and Ito's palette, which keeps apart for colour-blind eyes; shapes tell the same.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PINK, SKY, INK, GREY, PALE = "#cc79a7", "#56b4e9", "#1f2933", "#7b8794", "#cbd2d9"
MEMBER_COLOURS = (RED, BLUE, GREEN, PINK, ORANGE, SKY)

HELD_OUT = "accuracy, held-out part of train"


def curves_figure(view: ReportView, part: str, quantity: str) -> Figure:
    """Learning curves of the ``family`` or of the ``proxies``; ``accuracy`` or ``loss``."""
    if part == "family":
        traces = [
            _family_curve(index, member.certificate, quantity)
            for index, member in enumerate(view.family)
        ]
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
    y = share_axis(HELD_OUT) if quantity == "accuracy" else axis_of("training loss")
    layout = layout_of(320, axis_of("epoch", rangemode="tozero"), y, top=44)
    return {"data": [trace for trace in traces if trace["x"]], "layout": layout}


def hypervolume_figure(view: ReportView) -> Figure:
    """The front's hypervolume over the number of trials."""
    trials, values = zip(*view.hypervolume, strict=True)
    x = axis_of("trials", rangemode="tozero")
    line = {"shape": "hv", "color": BLUE, "width": 2}
    trace = scatter("lines", trials, map(_finite, values), "after %{x} trials: %{y:.4g}", line=line)
    layout = layout_of(240, x, axis_of("hypervolume"), showlegend=False)
    return {"data": [trace], "layout": layout}


def prediction_figure(view: ReportView) -> Figure:
    """The measured accuracy of each candidate over the predicted one, with two deviations, and
    the line where the two are equal."""
    known, means, deviations, measured = zip(*view.predictions, strict=True)
    figure = _against(
        "predicted proxy accuracy",
        "measured proxy accuracy",
        means,
        measured,
        [f"candidate {each.number}" for each in known],
    )
    errors = [2 * each for each in deviations]
    # A bar may reach beyond what an accuracy can be.
    low = min(*measured, *(x - error for x, error in zip(means, errors, strict=True)))
    high = max(*measured, *(x + error for x, error in zip(means, errors, strict=True)))
    figure["layout"]["xaxis"]["range"] = [max(-0.01, low - 0.01), min(1.01, high + 0.01)]
    bars = {"type": "data", "array": errors, "color": PALE, "thickness": 1.2, "width": 0}
    figure["data"][0]["error_x"] = bars
    ends = [min(*means, *measured), max(*means, *measured)]
    line = {"color": PALE, "width": 1.4, "dash": "dash"}
    figure["data"].insert(0, scatter("lines", ends, ends, line=line))
    return figure


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
    labels, values = zip(*importance.modules[::-1], strict=True)
    x = share_axis("share of the importance for proxy accuracy", rangemode="tozero")
    y = {"automargin": True, "ticks": "", "showline": False}
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": labels,
        "marker": {"color": BLUE},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    layout = layout_of(64 + 24 * len(labels), x, y, left=10, top=4, showlegend=False)
    return {"data": [trace], "layout": layout}


def _against(
    x_title: str, y_title: str, xs: Sequence[float], ys: Sequence[float], texts: Sequence[str]
) -> Figure:
    """Two accuracies of the same networks."""
    marker = {"color": BLUE, "size": 7}
    text = [escape(each) for each in texts]
    marks = scatter("markers", xs, ys, "%{text}: %{x:.1%}, %{y:.1%}", text=text, marker=marker)
    layout = layout_of(320, share_axis(x_title), share_axis(y_title), showlegend=False)
    return {"data": [marks], "layout": layout}


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity, which a diverged loss has."""
    return value if math.isfinite(value) else None


def _family_curve(index: int, certificate: Certificate, quantity: str) -> Figure:
    name = escape(certificate.title)
    colour = MEMBER_COLOURS[index % len(MEMBER_COLOURS)]
    dash = ("solid", "dash", "dot", "dashdot")[index % 4]
    line = {"color": colour, "width": 2, "dash": dash}
    return _curve(certificate.curve, quantity, f"<b>{name}</b>", name=name, line=line)


def _proxy_curves(
    name: str, candidates: Sequence[Candidate], quantity: str, line: Figure
) -> Figure:
    """Many curves as one trace: a gap after each."""
    points = [point for each in candidates for point in (*each.curve, None)]
    numbers = [each.number for each in candidates for _ in (*each.curve, None)]
    said = "candidate %{customdata}"
    return _curve(points, quantity, said, customdata=numbers, name=name, line=line)


def _curve(points: Sequence[CurvePoint | None], quantity: str, said: str, **more: Any) -> Figure:
    """``accuracy`` or ``loss`` over the epochs, a gap at each None."""
    xs = [None if point is None else point.epoch for point in points]
    ys = [None if point is None else _finite(getattr(point, quantity)) for point in points]
    y_format = "%{y:.1%}" if quantity == "accuracy" else "%{y:.3f}"
    return scatter("lines", xs, ys, f"{said} · epoch %{{x}}: {y_format}", **more)


# -- what all figures share -----------------------------------------------------------------


def scatter(
    mode: str, xs: Iterable[Any], ys: Iterable[Any], hover: str = "", **more: Any
) -> Figure:
    """A trace of marks or lines; nothing is said over it where ``hover`` is empty."""
    said = {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    return {"type": "scatter", "mode": mode, "x": list(xs), "y": list(ys), **said, **more}


def axis_of(title: str, **more: Any) -> Figure:
    """An axis."""
    return {"title": {"text": title}, **more}


def share_axis(title: str, **more: Any) -> Figure:
    """An axis of shares of 1, in per cent."""
    return axis_of(title, tickformat="~%", **more)


def layout_of(
    height: int, x: Figure, y: Figure, *, left: int = 66, top: int = 12, **more: Any
) -> Figure:
    """A figure's own layout; what all have in common stands in ``report.js``."""
    margin = {"l": left, "r": 44, "t": top, "b": 52}
    return {"height": height, "margin": margin, "xaxis": x, "yaxis": y, **more}
