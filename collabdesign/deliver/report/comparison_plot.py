"""The networks of a comparison as a plotly figure in plain data: test accuracy over what they
cost."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from collabdesign.deliver.comparison import Comparison, Row
from collabdesign.deliver.report.figures import (
    GREEN,
    INK,
    ORANGE,
    PALE,
    RED,
    Figure,
    axis_of,
    layout_of,
    scatter,
    share_axis,
)
from collabdesign.deliver.report.words import percent, short_count

# By kind: in the legend, and the mark.
KINDS: dict[str, tuple[str, Figure]] = {
    "well-known": ("well-known network", {"symbol": "diamond", "size": 9, "color": INK}),
    "prototype": (
        "prototype's default",
        {"symbol": "square-open", "size": 13, "color": ORANGE, "line": {"width": 2.4}},
    ),
    "random": ("best of a random search", {"symbol": "triangle-up", "size": 12, "color": GREEN}),
    "member": ("family", {"symbol": "hexagon2", "size": 14, "color": RED}),
}

# By what is on the axis: its title and how ticks are written.
AXES = {
    "macs": ("multiply-adds (log scale)", "~s"),
    "onnx_ms": ("milliseconds for one image, onnxruntime on one thread (log scale)", "~g"),
}


def comparison_figure(comparison: Comparison, axis: str) -> Figure:
    """Mean test accuracy with its deviation over ``macs`` or ``onnx_ms``; a row that lacks either
    is left out."""
    shown = [
        row for row in comparison.rows if row.mean is not None and getattr(row, axis) is not None
    ]
    side = _sides(shown, axis)
    traces = []
    for kind, (name, marker) in KINDS.items():
        rows = [row for row in shown if row.kind == kind]
        if not rows:
            continue
        bars = [row.deviation or 0.0 for row in rows]
        traces.append(
            scatter(
                "markers+text",
                [getattr(row, axis) for row in rows],
                [row.mean for row in rows],
                "%{customdata}",
                customdata=[_hover(row) for row in rows],
                text=[escape(row.name) for row in rows],
                textposition=[side[row.name] for row in rows],
                textfont={"size": 10},
                name=name,
                marker=marker,
                error_y={"type": "data", "array": bars, "color": PALE, "thickness": 1.2},
                cliponaxis=False,
            )
        )
    title, ticks = AXES[axis]
    x = axis_of(title, type="log", tickformat=ticks, dtick="D2")
    layout = layout_of(460, x, share_axis("accuracy on test, mean over seeds"), top=44)
    return {"data": traces, "layout": layout}


def _sides(rows: Sequence[Row], axis: str) -> dict[str, str]:
    """Where each name stands, so that two networks of about the same cost keep apart."""
    by_cost = sorted(rows, key=lambda row: getattr(row, axis))
    sides = {}
    for index, row in enumerate(by_cost):
        others = by_cost[max(0, index - 1) : index] + by_cost[index + 1 : index + 2]
        cost = getattr(row, axis)
        nearest = min(others, key=lambda each: abs(getattr(each, axis) - cost), default=row)
        is_above = (row.mean or 0.0) >= (nearest.mean or 0.0)
        sides[row.name] = "top center" if is_above else "bottom center"
    return sides


def _hover(row: Row) -> str:
    assert row.mean is not None and row.macs is not None and row.params is not None
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.1f}"
    parts = [
        f"{short_count(row.macs)} MACs",
        f"{short_count(row.params)} params",
        f"{row.epochs} epochs",
    ]
    if row.onnx_ms is not None:
        parts.append(f"{row.onnx_ms:.3g} ms")
    head = f"<b>{escape(row.name)}</b> · {percent(row.mean)}{spread}, n = {len(row.seeds)}"
    return f"{head}<br>{' · '.join(parts)}"
