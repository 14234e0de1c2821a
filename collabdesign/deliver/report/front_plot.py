"""The plot of the front as a plotly figure in plain data: accuracy over one cost.

A number that does not exist is left out: what was never trained stands in a strip under the
plot, at its cost alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from textwrap import TextWrapper
from typing import Any

from collabdesign.deliver.report.figures import (
    BLUE,
    GREEN,
    GREY,
    HELD_OUT,
    INK,
    ORANGE,
    RED,
    Figure,
    axis_of,
    layout_of,
    scatter,
    share_axis,
)
from collabdesign.deliver.report.view import ReportView, Variant
from collabdesign.deliver.report.words import (
    HEADS,
    QUANTITIES,
    describe,
    percent,
    short_quantity,
)
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import QUANTITIES as COSTS
from collabdesign.explore.record import Candidate, Rejection

LANE_PIXELS = 19
PLOT_PIXELS = 400
MARGIN = {"l": 150, "r": 44, "t": 62, "b": 56}

# The marks, by what they stand for.
RING = {"symbol": "circle-open", "size": 8, "color": GREY, "line": {"width": 1.4}}
DOT = {"symbol": "circle", "size": 9, "color": BLUE}
DEFAULT = {"symbol": "square-open", "size": 15, "color": ORANGE, "line": {"width": 2.4}}
MEMBER = {"symbol": "hexagon2", "size": 20, "color": RED, "line": {"color": "white", "width": 1}}
CROSS = {"symbol": "x-thin", "size": 7, "line": {"width": 1.8, "color": RED}}
TICK = {"symbol": "line-ns", "size": 10, "line": {"width": 1, "color": GREY}, "opacity": 0.6}
DRAWN = {"symbol": "square-open", "size": 11, "color": ORANGE, "line": {"width": 2}}
DIAMOND = {"symbol": "diamond", "size": 9, "color": INK}

# Shapes over the whole plot. A line is above the grid, whose lines it often falls on, and below
# the marks.
ALL = {"xref": "paper", "x0": 0, "x1": 1, "yref": "paper", "y0": 0, "y1": 1}
GROUND = {**ALL, "type": "rect", "layer": "below", "line": {"width": 0}}
LINE = {**ALL, "type": "line", "layer": "between"}
NOTE = {"showarrow": False, "font": {"size": 11, "color": RED}, "yanchor": "bottom"}

# Of hover labels.
FOLD = TextWrapper(75, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def front_figure(view: ReportView, axis: str) -> Figure:
    """Accuracy over one cost: candidates, their front, family, limit and goal.

    Args:
        view: What was gathered.
        axis: A quantity of the cost.
    """
    trained = view.record.trained
    floor = _floor(view, trained)
    above = [each for each in trained if each.proxy_accuracy >= floor]
    on_front = {each.number for each in view.front}
    kinds = {
        "candidate": (RING, [each for each in above if each.number not in on_front]),
        "on the front": (DOT, [each for each in above if each.number in on_front]),
        "prototype's default": (DEFAULT, [each for each in above if each == view.default]),
    }
    traces = [
        _marks(name, marker, axis, [(each.cost, each.accuracy, _hover(each)) for each in some])
        for name, (marker, some) in kinds.items()
    ]
    traces.insert(1, _front_line(trained, axis))
    traces += _family_traces(view, axis)
    traces = [trace for trace in traces if trace["x"]]
    lanes = _lanes(view, axis, floor)
    layout = _front_layout(view, axis, traces, lanes, floor)
    return {"data": [*traces, *lanes], "layout": layout}


def _floor(view: ReportView, trained: Sequence[Candidate]) -> float:
    """Lowest accuracy of the plot: outliers below it move to the strip (Tukey's fence)."""
    accuracies = [each.proxy_accuracy for each in trained]
    if len(accuracies) < 8:
        return 0.0
    low, _, high = statistics.quantiles(accuracies, n=4)
    shown = [each.certificate.select_mean for each in view.family]
    shown += [each.proxy_accuracy for each in trained if each == view.default]
    goal = view.requirements.goals.accuracy
    fence = min([low - 1.5 * (high - low), *shown, *([] if goal is None else [goal])])
    return math.floor(max(0.0, fence) * 100) / 100 if min(accuracies) < fence else 0.0


def _label(head: str, cost: Mapping[str, float], architecture: Architecture | None = None) -> str:
    """A hover label: what it is, its costs, and its structure, folded where lines are long."""
    costs = [f"{short_quantity(name, value)} {HEADS[name]}" for name, value in cost.items()]
    lines = describe(architecture) if architecture else ()
    folded = [escape(part) for line in lines for part in FOLD.wrap(line)]
    indented = [part.replace("    ", "&nbsp;" * 4) for part in folded]
    return "<br>".join([head, " · ".join(costs), *indented])


def _hover(candidate: Candidate) -> str:
    if candidate.accuracy is not None:
        found = f"{percent(candidate.accuracy)} as a proxy"
    else:
        found = escape(f"{candidate.outcome}: {candidate.reason or 'no reason on record'}")
    by = {"prototype": " · the prototype's default", "human": " · proposed by a human"}
    head = f"<b>candidate {candidate.number}</b> · {found}{by.get(candidate.proposed_by, '')}"
    return _label(head, candidate.cost, candidate.architecture)


def _member_hover(member: Variant) -> str:
    known = member.certificate
    head = (
        f"<b>{escape(known.title)}</b> · {percent(known.select_mean)} on the held-out part of "
        f"train · {percent(known.test_accuracy)} on test<br>candidate {known.candidate}, fully "
        "trained"
    )
    return _label(head, known.cost, member.architecture)


def _rejection_hover(rejection: Rejection) -> str:
    over = ", ".join(
        f"{QUANTITIES.get(limit, limit)} {by:+.0%}"
        for limit, by in rejection.violations.items()
        if by > 0
    )
    return _label(f"<b>rejected</b>, never trained: {over}", rejection.cost)


def _marks(
    name: str,
    marker: Figure,
    axis: str,
    some: Iterable[tuple[Mapping[str, float], float | str | None, str]],
    **more: Any,
) -> Figure:
    """Each with a cost, a height or a lane, and a hover label; those without this cost left out."""
    known = [(cost[axis], y, text) for cost, y, text in some if axis in cost]
    xs, ys, texts = ([each[part] for each in known] for part in range(3))
    return scatter("markers", xs, ys, "%{text}", text=texts, name=name, marker=marker, **more)


def _front_line(trained: Sequence[Candidate], axis: str) -> Figure:
    """The best accuracy at no more than this cost, as a step."""
    xs: list[float] = []
    ys: list[float] = []
    for each in sorted(trained, key=lambda each: (each.cost[axis], -each.proxy_accuracy)):
        if not ys or each.proxy_accuracy > ys[-1]:
            xs.append(each.cost[axis])
            ys.append(each.proxy_accuracy)
    if xs:  # the last step reaches as far as there are candidates
        xs.append(max(each.cost[axis] for each in trained))
        ys.append(ys[-1])
    line = {"shape": "hv", "color": BLUE, "width": 1.6}
    return scatter("lines", xs, ys, name="best accuracy up to this cost", line=line)


def _family_traces(view: ReportView, axis: str) -> list[Figure]:
    proxies = {each.number: each.accuracy for each in view.record.trained}
    members = [(each.certificate, _member_hover(each)) for each in view.family]
    lifted = [each for each, _ in members if each.candidate in proxies]
    lift = scatter(
        "lines",
        [x for each in lifted for x in (each.cost[axis], each.cost[axis], None)],
        [y for each in lifted for y in (proxies[each.candidate], each.select_mean, None)],
        name="from proxy to full training",
        line={"color": RED, "width": 1.2, "dash": "dot"},
        showlegend=False,
    )
    marks = scatter(
        "markers+text",
        [each.cost[axis] for each, _ in members],
        [each.select_mean for each, _ in members],
        "%{customdata}",
        customdata=[hover for _, hover in members],
        name="family, fully trained",
        text=[each.title.removeprefix("AttoNet-") for each, _ in members],
        textposition="middle center",
        textfont={"color": "white", "size": 11, "weight": 700},
        cliponaxis=False,
        marker=MEMBER,
    )
    return [lift, marks]


def _lanes(view: ReportView, axis: str, floor: float) -> list[Figure]:
    """The strip under the plot: from top to bottom, what has a cost and no accuracy in the plot."""
    below = [each for each in view.record.trained if each.proxy_accuracy < floor]
    ended = [each for each in view.record.finished if each.outcome != "trained"]
    kinds: list[tuple[str, Figure, list[tuple[Mapping[str, float], str]]]] = [
        (f"below {floor:.0%}", RING, [(each.cost, _hover(each)) for each in below]),
        ("stopped or failed", CROSS, [(each.cost, _hover(each)) for each in ended]),
        ("rejected", TICK, [(each.cost, _rejection_hover(each)) for each in view.rejections]),
    ]
    if view.drawn is not None:
        text = _label("<b>the prototype as drawn</b>, over the limits", view.drawn)
        kinds.append(("prototype as drawn", DRAWN, [(view.drawn, text)]))
    for reference in view.references:
        if reference.macs is not None and reference.params is not None:
            name = escape(reference.name)
            cost = {"macs": reference.macs, "params": reference.params}
            said = "cost only: not trained here" if reference in view.untrained else "cost only"
            text = _label(f"<b>{name}</b>, {said}", cost)
            kinds.append((name, DIAMOND, [(cost, text)]))
    more = {"yaxis": "y2", "showlegend": False, "cliponaxis": False}
    lanes = [
        _marks(name, marker, axis, [(cost, name, text) for cost, text in some], **more)
        for name, marker, some in kinds
    ]
    return [lane for lane in lanes if lane["x"]]


def _front_layout(
    view: ReportView, axis: str, traces: Sequence[Figure], lanes: Sequence[Figure], floor: float
) -> Figure:
    xs = [x for trace in (*lanes, *traces) for x in trace["x"]] + [view.limits.get(axis)]
    left, right = _x_range([x for x in xs if x])

    strip = LANE_PIXELS * len(lanes)
    inside = PLOT_PIXELS + strip
    split = (strip + 14) / (inside + 14) if lanes else 0.0
    unit = "log scale" if COSTS[axis].unit == "count" else f"{COSTS[axis].unit}, log scale"
    x = axis_of(
        f"{QUANTITIES[axis]} ({unit})",
        type="log",
        range=[left, right],
        anchor="y2" if lanes else "y",
        **_x_ticks(axis, left, right),
    )
    heights = [y for trace in traces for y in trace["y"] if y is not None and y >= floor]
    y_range = _y_range(heights, view.requirements.goals.accuracy)
    y = share_axis(HELD_OUT, domain=[split, 1.0], range=y_range)
    layout = layout_of(inside + MARGIN["t"] + MARGIN["b"] + 14, x, y, margin=dict(MARGIN))
    if lanes:
        layout["yaxis2"] = {
            "domain": [0.0, strip / (inside + 14)],
            "type": "category",
            "categoryorder": "array",
            "categoryarray": [lane["name"] for lane in lanes][::-1],
            "range": [-0.5, len(lanes) - 0.5],
            "fixedrange": True,
            "showgrid": False,
            "showline": False,
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
        shapes.append({**GROUND, "y1": split, "fillcolor": "#f5f7f9"})
    if limit:
        over = {"xref": "x", "x0": limit, "x1": 10**right, "fillcolor": "rgba(213,94,0,0.06)"}
        line = {"xref": "x", "x0": limit, "x1": limit, "line": {"color": RED, "width": 1.4}}
        shapes += [{**GROUND, **over}, {**LINE, **line}]
        place = {"x": math.log10(limit), "xref": "x", "y": 1, "yref": "paper"}
        notes.append({**NOTE, **place, "text": f"limit {short_quantity(axis, limit)}"})
    if goal is not None:
        line = {"color": GREEN, "width": 1.4, "dash": "dash"}
        shapes.append({**LINE, "yref": "y", "y0": goal, "y1": goal, "line": line})
        # On the left, where networks are small and seldom reach it.
        place = {"x": 0.005, "xref": "paper", "xanchor": "left", "y": goal, "yref": "y"}
        style = {"bgcolor": "rgba(255,255,255,0.8)", "font": {"size": 11, "color": GREEN}}
        text = f"goal {percent(goal)}, judged on test"
        notes.append({**NOTE, **place, **style, "borderpad": 0, "text": text})
    return shapes, notes


def _x_range(xs: Sequence[float]) -> tuple[float, float]:
    """Decimal logarithms with a margin; two decades where there is nothing to show."""
    if not xs:
        return 4.0, 6.0
    low, high = math.log10(min(xs)), math.log10(max(xs))
    margin = max(0.06 * (high - low), 0.08)
    return low - margin, high + margin


def _x_ticks(axis: str, left: float, right: float) -> Figure:
    """Bytes are marked at powers of two, counts in plotly's own way with SI suffixes, milliseconds
    without."""
    if COSTS[axis].unit != "bytes":
        dtick = "D1" if right - left < 0.8 else "D2" if right - left < 2.5 else 1
        return {"tickformat": "~s" if COSTS[axis].unit == "count" else "~g", "dtick": dtick}
    powers = range(math.ceil(left / math.log10(2)), math.floor(right / math.log10(2)) + 1)
    step = 1 if len(powers) <= 11 else 2
    values = [2.0**power for power in powers if power % step == 0]
    return {"tickvals": values, "ticktext": [short_quantity(axis, each) for each in values]}


def _y_range(ys: Sequence[float], goal: float | None) -> list[float]:
    if not ys:
        return [0.0, 1.0]
    known = [*ys, *([] if goal is None else [goal])]
    low, high = min(known), max(known)
    margin = max(0.08 * (high - low), 0.015)
    return [max(-0.02, low - margin), high + 1.5 * margin]
