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
from collabdesign.design.cost import METRICS
from collabdesign.explore.record import Candidate, Rejection

LANE_PIXELS = 19
PLOT_PIXELS = 400
MARGIN = {"l": 150, "r": 44, "t": 62, "b": 56}

# The mark of a candidate that is nothing more.
RING = {"symbol": "circle-open", "size": 8, "color": GREY, "line": {"width": 1.4}}

# Of hover labels.
FOLD = TextWrapper(75, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def front_figure(view: ReportView, axis: str) -> Figure:
    """Accuracy over one cost: candidates, their front, family, limit and goal.

    Args:
        view: What was gathered.
        axis: A metric of the cost.
    """
    trained = view.record.trained
    on_front = {each.number for each in view.front}
    floor = _floor(view, trained)
    above = [each for each in trained if each.proxy_accuracy >= floor]
    below = [each for each in trained if each.proxy_accuracy < floor]
    others = [each for each in above if each.number not in on_front]
    best = [each for each in above if each.number in on_front]
    default = [each for each in above if each == view.default]
    dot = {"symbol": "circle", "size": 9, "color": BLUE}
    square = {"symbol": "square-open", "size": 15, "color": ORANGE, "line": {"width": 2.4}}
    traces = [
        _candidates(others, axis, "candidate", RING),
        _front_line(trained, axis),
        _candidates(best, axis, "on the front", dot),
        _candidates(default, axis, "prototype's default", square),
        *_family_traces(view, axis),
    ]
    traces = [trace for trace in traces if trace["x"]]
    lanes = _lanes(view, axis, below, floor)
    return {
        "data": [*traces, *lanes],
        "layout": _front_layout(view, axis, traces, lanes, floor),
    }


def _floor(view: ReportView, trained: Sequence[Candidate]) -> float:
    """Lowest accuracy of the plot: outliers below it move to the strip (Tukey's fence)."""
    accuracies = [each.proxy_accuracy for each in trained]
    if len(accuracies) < 8:
        return 0.0
    low, _, high = statistics.quantiles(accuracies, n=4)
    shown = [each.select_mean for each in view.family]
    shown += [each.proxy_accuracy for each in trained if each == view.default]
    goal = view.requirements.goals.accuracy
    fence = min([low - 1.5 * (high - low), *shown, *([] if goal is None else [goal])])
    return math.floor(max(0.0, fence) * 100) / 100 if min(accuracies) < fence else 0.0


def _costs_line(cost: Mapping[str, int]) -> str:
    return " · ".join(
        f"{short_quantity(name, value)} {HEADS[name]}" for name, value in cost.items()
    )


def _structure(lines: Iterable[str]) -> str:
    """Lines for a hover label, folded where they are long."""
    folded = [part for line in lines for part in FOLD.wrap(line)]
    return "<br>".join(escape(line).replace("    ", "&nbsp;" * 4) for line in folded)


def _hover(candidate: Candidate) -> str:
    if candidate.accuracy is not None:
        found = f"{percent(candidate.accuracy)} as a proxy"
    else:
        found = f"{candidate.outcome}: {candidate.reason or 'no reason on record'}"
    by = {"prototype": "the prototype's default", "human": "proposed by a human"}
    who = by.get(candidate.proposed_by, "")
    head = f"<b>candidate {candidate.number}</b> · {escape(found)}"
    structure = _structure(describe(candidate.architecture))
    return "<br>".join([f"{head} · {who}" if who else head, _costs_line(candidate.cost), structure])


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


def _rejection_hover(rejection: Rejection) -> str:
    over = ", ".join(
        f"{QUANTITIES.get(limit, limit)} {by:+.0%}"
        for limit, by in rejection.violations.items()
        if by > 0
    )
    return f"<b>rejected</b>, never trained: {over}<br>{_costs_line(rejection.cost)}"


def _candidates(some: Sequence[Candidate], axis: str, name: str, marker: Figure) -> Figure:
    return scatter(
        "markers",
        [each.cost[axis] for each in some],
        [each.accuracy for each in some],
        "%{text}",
        text=[_hover(each) for each in some],
        name=name,
        marker=marker,
    )


def _front_line(trained: Sequence[Candidate], axis: str) -> Figure:
    """The best accuracy at no more than this cost, as a step."""
    xs: list[int] = []
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
    lift = scatter(
        "lines",
        xs,
        ys,
        name="from proxy to full training",
        line={"color": RED, "width": 1.2, "dash": "dot"},
        showlegend=False,
    )
    edge = {"color": "white", "width": 1}
    marks = scatter(
        "markers+text",
        [member.certificate.cost[axis] for member in members],
        [member.select_mean for member in members],
        "%{customdata}",
        customdata=[_member_hover(member) for member in members],
        name="family, fully trained",
        text=[member.title.removeprefix("AttoNet-") for member in members],
        textposition="middle center",
        textfont={"color": "white", "size": 11, "weight": 700},
        cliponaxis=False,
        marker={"symbol": "hexagon2", "size": 20, "color": RED, "line": edge},
    )
    return [lift, marks]


def _lanes(view: ReportView, axis: str, below: Sequence[Candidate], floor: float) -> list[Figure]:
    """The strip under the plot: from top to bottom, what has a cost and no accuracy in the plot."""
    lanes: list[Figure] = []

    def add(label: str, some: Iterable[tuple[Mapping[str, int], str]], marker: Figure) -> None:
        known = [(cost[axis], text) for cost, text in some if axis in cost]
        xs, texts = [x for x, _ in known], [text for _, text in known]
        more = {"yaxis": "y2", "showlegend": False, "cliponaxis": False}
        if known:
            at = [label] * len(xs)
            lanes.append(
                scatter("markers", xs, at, "%{text}", text=texts, name=label, marker=marker, **more)
            )

    ended = [each for each in view.record.finished if each.outcome != "trained"]
    cross = {"symbol": "x-thin", "size": 7, "line": {"width": 1.8, "color": RED}}
    tick = {"symbol": "line-ns", "size": 10, "line": {"width": 1, "color": GREY}, "opacity": 0.6}
    square = {"symbol": "square-open", "size": 11, "color": ORANGE, "line": {"width": 2}}
    diamond = {"symbol": "diamond", "size": 9, "color": INK}
    add(f"below {floor:.0%}", [(each.cost, _hover(each)) for each in below], RING)
    add("stopped or failed", [(each.cost, _hover(each)) for each in ended], cross)
    add("rejected", [(each.cost, _rejection_hover(each)) for each in view.rejections], tick)
    if view.drawn is not None:
        text = f"<b>the prototype as drawn</b>, over the limits<br>{_costs_line(view.drawn)}"
        add("prototype as drawn", [(view.drawn, text)], square)
    for reference in view.references:
        if reference.macs is not None and reference.params is not None:
            name = escape(reference.name)
            cost = {"macs": reference.macs, "params": reference.params}
            text = f"<b>{name}</b>, cost only: not trained here<br>{_costs_line(cost)}"
            add(name, [(cost, text)], diamond)
    return lanes


def _front_layout(
    view: ReportView, axis: str, traces: Sequence[Figure], lanes: Sequence[Figure], floor: float
) -> Figure:
    limit = view.limits.get(axis)
    goal = view.requirements.goals.accuracy
    xs = [x for trace in (*lanes, *traces) for x in trace["x"] if x is not None]
    xs += [limit] if limit else []
    left, right = _x_range([x for x in xs if x > 0])

    strip = LANE_PIXELS * len(lanes)
    inside = PLOT_PIXELS + strip
    split = (strip + 14) / (inside + 14) if lanes else 0.0
    unit = "bytes, log scale" if METRICS[axis].unit == "bytes" else "log scale"
    x = axis_of(
        f"{QUANTITIES[axis]} ({unit})",
        type="log",
        range=[left, right],
        anchor="y2" if lanes else "y",
        **_x_ticks(axis, left, right),
    )
    heights = [y for trace in traces for y in trace["y"] if y is not None and y >= floor]
    y = share_axis(HELD_OUT, domain=[split, 1.0], range=_y_range(heights, goal))
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
    wide, high = {"xref": "paper", "x0": 0, "x1": 1}, {"yref": "paper", "y0": 0, "y1": 1}
    ground = {"type": "rect", "layer": "below", "line": {"width": 0}}
    # Above the grid, whose lines it often falls on, and below the marks.
    line = {"type": "line", "layer": "between"}
    note = {"showarrow": False, "font": {"size": 11, "color": RED}, "yanchor": "bottom"}
    if split:
        shapes.append({**ground, **wide, **high, "y1": split, "fillcolor": "#f5f7f9"})
    if limit:
        at = {"xref": "x", "x0": limit, "x1": limit}
        over = {"x1": 10**right, "fillcolor": "rgba(213,94,0,0.06)"}
        shapes.append({**ground, **high, **at, **over})
        shapes.append({**line, **high, **at, "line": {"color": RED, "width": 1.4}})
        text = f"limit {short_quantity(axis, limit)}"
        place = {"x": math.log10(limit), "xref": "x", "y": 1, "yref": "paper"}
        notes.append({**note, **place, "text": text})
    if goal is not None:
        at = {"yref": "y", "y0": goal, "y1": goal}
        shapes.append(
            {**line, **wide, **at, "line": {"color": GREEN, "width": 1.4, "dash": "dash"}}
        )
        text = f"goal {percent(goal)}, judged on test"
        # On the left, where networks are small and seldom reach it.
        place = {"x": 0.005, "xref": "paper", "xanchor": "left", "y": goal, "yref": "y"}
        style = {"bgcolor": "rgba(255,255,255,0.8)", "borderpad": 0}
        font = {"size": 11, "color": GREEN}
        notes.append({**note, **place, **style, "font": font, "text": text})
    return shapes, notes


def _x_range(xs: Sequence[int]) -> tuple[float, float]:
    """Decimal logarithms with a margin; two decades where there is nothing to show."""
    if not xs:
        return 4.0, 6.0
    low, high = math.log10(min(xs)), math.log10(max(xs))
    margin = max(0.06 * (high - low), 0.08)
    return low - margin, high + margin


def _x_ticks(axis: str, left: float, right: float) -> Figure:
    """Bytes are marked at powers of two, counts in plotly's own way with SI suffixes."""
    if METRICS[axis].unit != "bytes":
        dtick = "D1" if right - left < 0.8 else "D2" if right - left < 2.5 else 1
        return {"tickformat": "~s", "dtick": dtick}
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
