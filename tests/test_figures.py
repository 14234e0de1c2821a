"""The report's figures and drawings."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from report_view import VIEWS, empty_view, full_view, inception, network, plain, with_candidates

from collabdesign.deliver.report.diagram import draw_architecture
from collabdesign.deliver.report.figures import (
    calibration_figure,
    curves_figure,
    hypervolume_figure,
    importance_figure,
    prediction_figure,
)
from collabdesign.deliver.report.front_plot import front_figure
from collabdesign.design.architecture import Architecture, Head, Stem
from collabdesign.design.cost import METRICS, part_costs

# Figures


@pytest.mark.parametrize("axis", METRICS)
def test_only_what_was_trained_has_an_accuracy(axis: str) -> None:
    view = full_view()
    traces = front_figure(view, axis)["data"]
    plotted = {
        (x, y)
        for trace in traces
        if trace.get("yaxis") != "y2" and trace["mode"] != "lines" and "family" not in trace["name"]
        for x, y in zip(trace["x"], trace["y"], strict=True)
    }
    trained = {(each.cost[axis], each.accuracy) for each in view.record.candidates if each.accuracy}
    strip = {trace["name"]: trace["x"] for trace in traces if trace.get("yaxis") == "y2"}
    below = set(strip.pop("below 79%"))
    assert plotted | {pair for pair in trained if pair[0] in below} == trained
    assert len(plotted) == len(trained) - 1
    assert sorted(strip["rejected"]) == sorted(each.cost[axis] for each in view.rejections)
    assert len(strip["stopped or failed"]) == 5
    has_reference = axis in ("macs", "params")
    assert ("MobileNet-V1" in strip) == has_reference
    assert "SqueezeNet" not in strip


def test_front_line_is_the_best_at_no_more_than_its_cost() -> None:
    view = full_view()
    [line] = [
        trace for trace in front_figure(view, "params")["data"] if trace["name"].startswith("best")
    ]
    for cost, best in zip(line["x"], line["y"], strict=True):
        affordable = [each.accuracy for each in view.record.trained if each.cost.params <= cost]
        assert best == max(affordable)
    steps = line["y"][:-1]
    assert steps == sorted(set(steps))


def test_limit_and_goal_are_drawn_where_they_are() -> None:
    layout = front_figure(full_view(), "macs")["layout"]
    lines = [shape for shape in layout["shapes"] if shape["type"] == "line"]
    assert [(line["x0"], line["y0"]) for line in lines] == [(3_000_000, 0), (0, 0.88)]
    assert [plain(note["text"]) for note in layout["annotations"]] == [
        "limit 3M", "goal 88.0 %, judged on test",
    ]  # fmt: skip
    assert layout["annotations"][0]["x"] == pytest.approx(math.log10(3_000_000))
    without = front_figure(empty_view(), "macs")["layout"]
    assert without["shapes"] == without["annotations"] == []


@pytest.mark.parametrize("name", VIEWS)
def test_figures_are_valid_json(name: str) -> None:
    view = VIEWS[name]()
    figures: list[Any] = [front_figure(view, axis) for axis in METRICS]
    for part in ("family", "proxies"):
        figures += [curves_figure(view, part, quantity) for quantity in ("accuracy", "loss")]
    json.dumps(figures, allow_nan=False)


def test_stopped_curves_are_thin_and_end_where_they_stopped() -> None:
    traces = {
        trace["name"]: trace for trace in curves_figure(full_view(), "proxies", "loss")["data"]
    }
    assert traces["stopped early"]["line"]["width"] < traces["candidate"]["line"]["width"]
    assert traces["stopped early"]["x"] == [1, 2, 3, None] * 2
    assert set(traces["stopped early"]["customdata"]) == {12, 30}
    assert set(traces["failed"]["customdata"]) == {7, 21, 40}


def test_hypervolume_is_over_trials() -> None:
    figure = hypervolume_figure(full_view())
    assert figure["layout"]["xaxis"]["title"]["text"] == "trials"
    assert figure["data"][0]["x"] == list(range(1, 56))


def test_measured_accuracies_are_over_the_predicted_ones() -> None:
    view = full_view()
    known = [each for each in view.record.trained if each.number > 10]
    line, marks = prediction_figure(view)["data"]
    assert marks["y"] == [each.accuracy for each in known]
    assert marks["x"] == [each.predicted[0] for each in known if each.predicted]
    assert marks["error_x"]["array"] == [0.012] * len(known)
    assert line["x"] == line["y"] == [min(marks["x"] + marks["y"]), max(marks["x"] + marks["y"])]


def test_the_axis_of_predictions_ends_where_an_accuracy_does() -> None:
    view = full_view(20)
    unsure = [replace(each, predicted=(0.9, 0.3)) for each in view.record.candidates]
    axis = prediction_figure(with_candidates(view, *unsure))["layout"]["xaxis"]
    # 0.9 - 2 * 0.3 to 1, and a hundredth about it.
    assert axis["range"] == pytest.approx([0.29, 1.01])


def test_calibration_and_importance_are_drawn() -> None:
    view = full_view()
    assert view.calibration is not None
    [marks] = calibration_figure(view.calibration)["data"]
    assert (marks["x"][0], marks["y"][0]) == (0.62, 0.81)
    [bars] = importance_figure(view.importance)["data"]
    assert (bars["y"][-1], bars["x"][-1]) == ("stem", 0.5)  # the last is on top


# Drawings


def test_drawing_has_a_box_for_every_layer() -> None:
    module = inception(0, 8, 16, 2)
    architecture = Architecture(3, 32, 10, Stem(3, 1, 8), (module,), Head(0))
    drawing = ElementTree.fromstring(draw_architecture(architecture, 'a "<b>"'))
    space = "{http://www.w3.org/2000/svg}"
    boxes = [
        [text.text for text in group.iter(f"{space}text")]
        for group in drawing.iter(f"{space}g")
        if group.get("class") == "box"
    ]
    assert boxes == [
        ["conv 3\u00d73", "8 ch"],
        ["conv 1\u00d71 \u21932", "4 ch"],
        ["conv 1\u00d71", "4 ch"],
        ["conv 3\u00d73 \u21932", "8 ch"],
        ["pool 3\u00d73 \u21932", "8 ch"],
        ["conv 1\u00d71", "4 ch"],
        ["concat"],
        ["average pool", "16 values"],
        ["linear", "10 classes"],
    ]
    assert drawing.get("aria-label") == 'a "<b>"'
    shares = [
        text.text.split(" ")[0]
        for text in drawing.iter(f"{space}text")
        if text.get("class") == "value" and text.text
    ]
    costs = part_costs(architecture)
    macs, params = sum(each.macs for each in costs), sum(each.params for each in costs)
    assert shares == [
        f"{share:.0%}" for each in costs for share in (each.macs / macs, each.params / params)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_drawing_is_well_formed(seed: int) -> None:
    architecture = network(seed)
    drawing = ElementTree.fromstring(draw_architecture(architecture))
    rows = [each for each in drawing.iter() if each.get("class") == "row"]
    assert len(rows) == len(architecture.modules) + 2
