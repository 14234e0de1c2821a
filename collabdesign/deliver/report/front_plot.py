"""The plot of the front as a plotly figure in plain data: accuracy over one cost.

A number that does not exist is left out: what was never trained stands in a strip under the
plot, at its cost alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from html import escape

from collabdesign.deliver.report.figures import (
    BLUE,
    GREEN,
    GREY,
    HELD_OUT,
    INK,
    ORANGE,
    RED,
    Figure,
    axis_style,
    layout_style,
)
from collabdesign.deliver.report.view import ReportView, Variant
from collabdesign.deliver.report.words import (
    QUANTITIES,
    describe,
    percent,
    short_count,
    short_quantity,
)
from collabdesign.design.cost import Cost
from collabdesign.design.requirements import LIMITS
from collabdesign.explore.record import Candidate

AXES = LIMITS

LANE_PIXELS = 19
PLOT_PIXELS = 400
MARGIN = {"l": 150, "r": 44, "t": 62, "b": 56}

Lane = tuple[str, Figure]  # its label and its trace


def front_figure(view: ReportView, axis: str) -> Figure:
    """Accuracy over one cost: candidates, their front, family, limit and goal.

    Args:
        view: What was gathered.
        axis: One of :data:`AXES`.
    """
    trained = view.record.trained
    on_front = {each.number for each in view.front}
    default = view.default
    floor = _floor(view, trained)
    above = [each for each in trained if _accuracy(each) >= floor]
    below = [each for each in trained if _accuracy(each) < floor]

    traces: list[Figure] = [
        _markers(
            "candidate",
            [each for each in above if each.number not in on_front],
            axis,
            {"symbol": "circle-open", "size": 8, "color": GREY, "line": {"width": 1.4}},
        ),
        _front_line(trained, axis),
        _markers(
            "on the front",
            [each for each in above if each.number in on_front],
            axis,
            {"symbol": "circle", "size": 9, "color": BLUE},
        ),
        _markers(
            "prototype's default",
            [each for each in above if default and each.number == default.number],
            axis,
            {"symbol": "square-open", "size": 15, "color": ORANGE, "line": {"width": 2.4}},
        ),
        *_family_traces(view, axis),
    ]
    traces = [trace for trace in traces if trace["x"]]
    lanes = _lanes(view, axis, below, floor)
    return {
        "data": [*traces, *(trace for _, trace in lanes)],
        "layout": _front_layout(view, axis, traces, lanes, floor),
    }


def _accuracy(candidate: Candidate) -> float:
    assert candidate.accuracy is not None, candidate.number
    return candidate.accuracy


def _floor(view: ReportView, trained: Sequence[Candidate]) -> float:
    """Lowest accuracy of the plot: outliers below it move to the strip (Tukey's fence)."""
    accuracies = [_accuracy(each) for each in trained]
    if len(accuracies) < 8:
        return 0.0
    low, _, high = statistics.quantiles(accuracies, n=4)
    fence = low - 1.5 * (high - low)
    shown = [each.select_mean for each in view.family]
    shown += [_accuracy(each) for each in trained if each == view.default]
    goal = view.requirements.goals.accuracy
    fence = min([fence, *shown, *([] if goal is None else [goal])])
    return math.floor(max(0.0, fence) * 100) / 100 if min(accuracies) < fence else 0.0


def _costs_line(cost: Cost) -> str:
    return (
        f"{short_quantity('macs', cost.macs)} MACs · {short_count(cost.params)} params · "
        f"{short_quantity('weight_bytes', cost.weight_bytes)} weights · "
        f"{short_quantity('peak_activation_bytes', cost.peak_activation_bytes)} peak"
    )


def _structure(lines: Iterable[str], width: int = 76) -> str:
    """Lines for a hover label, folded where they are long."""
    folded = []
    for line in lines:
        while len(line) > width:
            cut = line.rfind(" ", 0, width)
            if cut <= 4:
                break
            folded.append(line[:cut])
            line = "    " + line[cut + 1 :]
        folded.append(line)
    return "<br>".join(escape(line).replace("    ", "&nbsp;" * 4) for line in folded)


def _hover(candidate: Candidate) -> str:
    if candidate.accuracy is not None:
        found = f"{percent(candidate.accuracy)} as a proxy"
    else:
        found = f"{candidate.outcome}: {candidate.reason or 'no reason on record'}"
    by = {"prototype": "the prototype's default", "human": "proposed by a human"}
    who = by.get(candidate.proposed_by, "")
    head = f"<b>candidate {candidate.number}</b> · {escape(found)}"
    return "<br>".join(
        [
            head + (f" · {who}" if who else ""),
            _costs_line(candidate.cost),
            _structure(describe(candidate.architecture)),
        ]
    )


def _markers(name: str, candidates: Sequence[Candidate], axis: str, marker: Figure) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [each.cost[axis] for each in candidates],
        "y": [each.accuracy for each in candidates],
        "text": [_hover(each) for each in candidates],
        "marker": marker,
        "hovertemplate": "%{text}<extra></extra>",
    }


def _front_line(trained: Sequence[Candidate], axis: str) -> Figure:
    """The best accuracy at no more than this cost, as a step."""
    xs: list[int] = []
    ys: list[float] = []
    for each in sorted(trained, key=lambda each: (each.cost[axis], -_accuracy(each))):
        if not ys or _accuracy(each) > ys[-1]:
            xs.append(each.cost[axis])
            ys.append(_accuracy(each))
    if xs:  # the last step reaches as far as there are candidates
        xs.append(max(each.cost[axis] for each in trained))
        ys.append(ys[-1])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best accuracy up to this cost",
        "x": xs,
        "y": ys,
        "line": {"shape": "hv", "color": BLUE, "width": 1.6},
        "hoverinfo": "skip",
    }


def _family_traces(view: ReportView, axis: str) -> list[Figure]:
    members = view.family
    proxies = {each.number: each.accuracy for each in view.record.trained}
    xs: list[int | None] = []
    ys: list[float | None] = []
    for member in members:
        certificate = member.certificate
        if certificate.candidate in proxies:
            cost = certificate.cost[axis]
            xs += [cost, cost, None]
            ys += [proxies[certificate.candidate], member.select_mean, None]
    lift = {
        "type": "scatter",
        "mode": "lines",
        "name": "from proxy to full training",
        "x": xs,
        "y": ys,
        "line": {"color": RED, "width": 1.2, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    marks = {
        "type": "scatter",
        "mode": "markers+text",
        "name": "family, fully trained",
        "x": [member.certificate.cost[axis] for member in members],
        "y": [member.select_mean for member in members],
        "text": [member.title.removeprefix("AttoNet-") for member in members],
        "textposition": "middle center",
        "textfont": {"color": "white", "size": 11, "weight": 700},
        "cliponaxis": False,
        "customdata": [_member_hover(member) for member in members],
        "marker": {
            "symbol": "hexagon2",
            "size": 20,
            "color": RED,
            "line": {"color": "white", "width": 1},
        },
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return [lift, marks]


def _member_hover(member: Variant) -> str:
    certificate = member.certificate
    return "<br>".join(
        [
            f"<b>{escape(member.title)}</b> · {percent(member.select_mean)} on the held-out part "
            f"of train · {percent(certificate.test_accuracy)} on test",
            f"candidate {certificate.candidate}, fully trained",
            _costs_line(certificate.cost),
            _structure(describe(member.architecture)),
        ]
    )


def _lanes(view: ReportView, axis: str, below: Sequence[Candidate], floor: float) -> list[Lane]:
    """The strip under the plot: from top to bottom, what has a cost and no accuracy in the plot."""
    lanes: list[Lane] = []

    def add(label: str, xs: list[int], texts: list[str], marker: Figure) -> None:
        if xs:
            lanes.append((label, _lane(label, xs, texts, marker)))

    ended = [each for each in view.record.finished if each.outcome != "trained"]
    cross = {"symbol": "x-thin", "size": 7, "line": {"width": 1.8, "color": RED}}
    ring = {"symbol": "circle-open", "size": 8, "color": GREY, "line": {"width": 1.4}}
    tick = {"symbol": "line-ns", "size": 10, "line": {"width": 1, "color": GREY}, "opacity": 0.6}
    square = {"symbol": "square-open", "size": 11, "color": ORANGE, "line": {"width": 2}}
    diamond = {"symbol": "diamond", "size": 9, "color": INK}
    add(
        f"below {floor:.0%}",
        [each.cost[axis] for each in below],
        [_hover(each) for each in below],
        ring,
    )
    add(
        "stopped or failed",
        [each.cost[axis] for each in ended],
        [_hover(each) for each in ended],
        cross,
    )
    add(
        "rejected",
        [each.cost[axis] for each in view.rejections],
        [
            "<b>rejected</b>, never trained: "
            + ", ".join(
                f"{QUANTITIES.get(limit, limit)} {over:+.0%}"
                for limit, over in each.violations.items()
                if over > 0
            )
            + f"<br>{_costs_line(each.cost)}"
            for each in view.rejections
        ],
        tick,
    )
    if view.drawn is not None:
        text = f"<b>the prototype as drawn</b>, over the limits<br>{_costs_line(view.drawn)}"
        add("prototype as drawn", [view.drawn[axis]], [text], square)
    if axis in ("macs", "params"):
        for reference in view.references:
            value = getattr(reference, axis)
            if value is not None:
                text = (
                    f"<b>{escape(reference.name)}</b>, cost only: not trained here<br>"
                    f"{short_count(reference.macs or 0)} MACs · "
                    f"{short_count(reference.params or 0)} params"
                )
                add(escape(reference.name), [value], [text], diamond)
    return lanes


def _lane(label: str, xs: list[int], texts: list[str], marker: Figure) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label,
        "x": xs,
        "y": [label] * len(xs),
        "yaxis": "y2",
        "text": texts,
        "marker": marker,
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
        "cliponaxis": False,
    }


def _front_layout(
    view: ReportView, axis: str, traces: Sequence[Figure], lanes: Sequence[Lane], floor: float
) -> Figure:
    limit = view.limits.get(axis)
    goal = view.requirements.goals.accuracy
    xs = [x for _, trace in lanes for x in trace["x"]]
    xs += [x for trace in traces for x in trace["x"] if x is not None]
    xs += [limit] if limit else []
    left, right = _x_range([x for x in xs if x > 0])

    strip = LANE_PIXELS * len(lanes)
    inside = PLOT_PIXELS + strip
    split = (strip + 14) / (inside + 14) if lanes else 0.0
    layout = layout_style(inside + MARGIN["t"] + MARGIN["b"] + 14)
    layout["margin"] = dict(MARGIN)
    unit = "bytes, log scale" if axis.endswith("_bytes") else "log scale"
    layout["xaxis"] = {
        **axis_style(f"{QUANTITIES[axis]} ({unit})"),
        "type": "log",
        "range": [left, right],
        "anchor": "y2" if lanes else "y",
        **_x_ticks(axis, left, right),
    }
    layout["yaxis"] = {
        **axis_style(HELD_OUT),
        "domain": [split, 1.0],
        "range": _y_range([y for trace in traces for y in trace["y"]], goal, floor),
        "tickformat": "~%",
    }
    if lanes:
        labels = [label for label, _ in lanes]
        layout["yaxis2"] = {
            "domain": [0.0, strip / (inside + 14)],
            "type": "category",
            "categoryorder": "array",
            "categoryarray": labels[::-1],
            "range": [-0.5, len(lanes) - 0.5],
            "fixedrange": True,
            "showgrid": False,
            "zeroline": False,
            "tickfont": {"size": 11, "color": GREY},
            "ticks": "",
        }
    layout["shapes"], layout["annotations"] = _lines(view, axis, right, split)
    return layout


def _lines(
    view: ReportView, axis: str, right: float, split: float
) -> tuple[list[Figure], list[Figure]]:
    """Limit, goal, and the strip's ground. On a log axis annotations want logarithms."""
    limit = view.limits.get(axis)
    goal = view.requirements.goals.accuracy
    shapes: list[Figure] = []
    notes: list[Figure] = []
    if split:
        shapes.append(
            _shape("rect", {"x0": 0, "x1": 1, "xref": "paper", "y0": 0, "yref": "paper"})
            | {"y1": split, "fillcolor": "#f5f7f9", "line": {"width": 0}}
        )
    if limit:
        over = {"xref": "x", "x0": limit, "yref": "paper", "y0": 0, "y1": 1}
        shapes.append(
            _shape("rect", over)
            | {"x1": 10**right, "fillcolor": "rgba(213,94,0,0.06)", "line": {"width": 0}}
        )
        line = {"x1": limit, "line": {"color": RED, "width": 1.4}}
        shapes.append(_shape("line", over) | {"layer": "between"} | line)
        notes.append(
            _note(f"limit {short_quantity(axis, limit)}")
            | {"x": math.log10(limit), "xref": "x", "y": 1, "yref": "paper", "yanchor": "bottom"}
        )
    if goal is not None:
        across = {"xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": goal, "y1": goal}
        shapes.append(
            _shape("line", across)
            # Above the grid, whose lines it often falls on, and below the marks.
            | {"layer": "between", "line": {"color": GREEN, "width": 1.4, "dash": "dash"}}
        )
        notes.append(
            _note(f"goal {percent(goal)}, judged on test")
            # On the left, where networks are small and seldom reach it.
            | {"font": {"size": 11, "color": GREEN}, "xref": "paper", "x": 0.005}
            | {"yref": "y", "y": goal, "xanchor": "left", "yanchor": "bottom"}
            | {"bgcolor": "rgba(255,255,255,0.8)", "borderpad": 0}
        )
    return shapes, notes


def _shape(kind: str, place: Figure) -> Figure:
    return {"type": kind, "layer": "below", **place}


def _note(text: str) -> Figure:
    return {"text": text, "showarrow": False, "font": {"size": 11, "color": RED}}


def _x_range(xs: Sequence[int]) -> tuple[float, float]:
    """Decimal logarithms with a margin; two decades where there is nothing to show."""
    if not xs:
        return 4.0, 6.0
    low, high = math.log10(min(xs)), math.log10(max(xs))
    margin = max(0.06 * (high - low), 0.08)
    return low - margin, high + margin


def _x_ticks(axis: str, left: float, right: float) -> Figure:
    """Bytes are marked at powers of two, counts in plotly's own way with SI suffixes."""
    if not axis.endswith("_bytes"):
        dtick = "D1" if right - left < 0.8 else "D2" if right - left < 2.5 else 1
        return {"tickformat": "~s", "dtick": dtick}
    powers = range(math.ceil(left / math.log10(2)), math.floor(right / math.log10(2)) + 1)
    step = 1 if len(powers) <= 11 else 2
    values = [2.0**power for power in powers if power % step == 0]
    return {"tickvals": values, "ticktext": [short_quantity(axis, each) for each in values]}


def _y_range(ys: Sequence[float | None], goal: float | None, floor: float) -> list[float]:
    known = [y for y in ys if y is not None and y >= floor]
    if not known:
        return [0.0, 1.0]
    known += [goal] if goal is not None else []
    low, high = min(known), max(known)
    margin = max(0.08 * (high - low), 0.015)
    return [max(-0.02, low - margin), high + 1.5 * margin]
