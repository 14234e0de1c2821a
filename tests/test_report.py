"""The report: words and numbers, figures, drawings, and the page in a real browser."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from report_view import LIMITS, curve, empty_view, full_view, inception, network

from collabdesign.deliver.diagram import draw_architecture
from collabdesign.deliver.figures import (
    calibration_figure,
    curves_figure,
    hypervolume_figure,
    importance_figure,
    prediction_figure,
)
from collabdesign.deliver.front_plot import AXES, front_figure
from collabdesign.deliver.importance import (
    FEWEST,
    choice_label,
    encode,
    importance,
    module_label,
)
from collabdesign.deliver.report import (
    headline,
    outcome_counts,
    prediction_words,
    render_report,
)
from collabdesign.deliver.view import (
    CurvePoint,
    ImportanceView,
    ReferenceView,
    ReportView,
    wilson_interval,
)
from collabdesign.deliver.words import describe, percent, short_bytes, short_count, short_time
from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.cost import cost_of, part_costs
from collabdesign.explore.record import Candidate

HOSTILE = """</script><script>window.hostile=1</script><img src=x onerror="window.hostile=1">'&"""


def all_failed_view() -> ReportView:
    view = full_view(6)
    failed = tuple(
        replace(each, accuracy=None, outcome="failed", reason="diverged", on_front=False)
        for each in view.candidates
    )
    return replace(view, candidates=failed, family=(), hypervolume=())


def one_candidate_view() -> ReportView:
    view = full_view(4)
    only = replace(view.candidates[0], on_front=True, curve=())
    return replace(
        view,
        state="interrupted",
        candidates=(only,),
        rejected=(),
        rejected_count=0,
        family=(),
        continue_command="collabdesign search cifar10.yaml",
        references=(),
        hypervolume=(),
    )


def hostile_view() -> ReportView:
    view = full_view(20)
    failed = replace(
        view.candidates[1],
        accuracy=None,
        outcome="failed",
        reason=HOSTILE,
        on_front=False,
        curve=(CurvePoint(1, math.nan, 0.1), CurvePoint(2, math.inf, 0.1)),
    )
    first = replace(
        view.family[0],
        name=HOSTILE,
        requirements=(replace(view.family[0].requirements[0], measured=HOSTILE),),
    )
    data = replace(view.asked.data, source=HOSTILE, classes=(HOSTILE, "b"))
    return replace(
        view,
        name=HOSTILE,
        asked=replace(view.asked, data=data),
        family=(first,),
        candidates=(view.candidates[0], failed, *view.candidates[2:]),
        references=(
            ReferenceView(HOSTILE, 10_000_000, 10),
            ReferenceView("S", None, None, HOSTILE),
        ),
        family_rule=HOSTILE,
        family_folder=HOSTILE,
        versions={HOSTILE: HOSTILE},
    )


def widest_architecture() -> Architecture:
    """Three branches of four layers with long labels, attention and a projection."""
    branch = Branch(
        (
            Layer("conv", 1, 1, 1, 1024),
            Layer("conv", 11, 2, 32, 1024),
            Layer("pool", 11, 1, 1, 1024),
            Layer("conv", 3, 1, 512, 1024),
        )
    )
    module = Module(
        0, 2, 1024, "projection", "add", "squeeze_excite", "hardswish", "linear", (branch,) * 3
    )
    same = replace(
        module, stage=11, channels=3072, join="concat", shortcut="projection", output="activated"
    )
    head = Head(2048, "hardswish")
    return Architecture(3, 512, 1000, Stem(11, 1, 512, "hardswish"), (module, same), head)


VIEWS: dict[str, Callable[[], ReportView]] = {
    "full": full_view,
    "empty": empty_view,
    "all failed": all_failed_view,
    "one candidate": one_candidate_view,
    "hostile": hostile_view,
}


# Words and numbers


def plain(text: str) -> str:
    """With plain spaces where no line may break."""
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_interval_as_published(right: int, images: int, low: float, high: float) -> None:
    assert wilson_interval(right / images, images) == pytest.approx((low, high), abs=5e-5)


def test_numbers_in_words() -> None:
    assert [short_count(each) for each in (0, 7, 999, 1000, 1_234_567, 320_000, 999_600)] == [
        "0", "7", "999", "1k", "1.23M", "320k", "1M",
    ]  # fmt: skip
    assert [plain(short_bytes(each)) for each in (87, 512 * 1024, 1_200_000, 1023)] == [
        "87 B", "512 KiB", "1.14 MiB", "1 KiB",
    ]  # fmt: skip
    assert [short_time(each) for each in (41.6, 200, 7500)] == ["42 s", "3 min 20 s", "2 h 05 min"]


def test_a_near_miss_never_reads_as_the_goal() -> None:
    assert plain(percent(0.96999)) == "96.9 %"
    # Every share of 10,000 images that one digit tells exactly, whatever its binary fraction.
    assert all(plain(percent(n / 1000)) == f"{n // 10}.{n % 10} %" for n in range(1001))


def test_structure_in_words() -> None:
    bottleneck = Branch(
        (Layer("conv", 1, 1, 1, 64), Layer("conv", 3, 2, 64, 64), Layer("conv", 1, 1, 1, 32))
    )
    tail = Branch((Layer("conv", 1, 1, 4, 16), Layer("pool", 3, 1, 1, 16)))
    modules = (
        Module(0, 2, 32, "projection", "add", "none", "silu", "linear", (bottleneck,)),
        *[Module(1, 1, 32, "identity", "concat", "squeeze_excite", "relu", "activated",
                 (tail, Branch((Layer("conv", 5, 1, 1, 16),))))] * 2,
    )  # fmt: skip
    words = describe(Architecture(3, 33, 10, Stem(3, 2, 16), modules, Head(128)))
    assert words == (
        "stem, 17 px: conv3(16)/2",
        "stage 1, 9 px, 32 ch: pw(64) - dw3/2 - pw(32) + projection (silu, linear)",
        "stage 2, 9 px, 32 ch: "
        "2 \u00d7 concat[ pw/g4(16) - pool3 | conv5(16) ] \u00b7 SE + identity",
        "head: pw(128) - average - linear(10)",
    )


def test_headline() -> None:
    view = full_view(20)
    best = replace(
        view.family[0], test_accuracy=0.986, cost=replace(view.family[0].cost, macs=120_000)
    )
    assert plain(headline(replace(view, family=(best,)))) == (
        "AttoNet-A: 98.6 % on test at 120k multiply-adds, all 4 requirements met."
    )
    missed = replace(
        best, requirements=(*best.requirements[:3], replace(best.requirements[3], met=False))
    )
    assert plain(headline(replace(view, family=(missed,)))) == (
        "AttoNet-A: 98.6 % on test at 120k multiply-adds, 3 of 4 requirements met: accuracy missed."
    )
    assert headline(all_failed_view()) == "No network was trained to the end: 6 stopped or failed."
    assert headline(empty_view()) == "Nothing was trained yet."
    over = replace(empty_view(), rejected_count=500)
    assert headline(over) == "Nothing was trained: 500 proposals were over a limit."
    assert headline(one_candidate_view()).startswith("1 proxy trained, the most accurate at ")


def test_members_statistics() -> None:
    member = replace(full_view(20).family[0], select_accuracies=(0.90, 0.92, 0.94))
    assert member.select_mean == pytest.approx(0.92)
    assert member.select_deviation == pytest.approx(0.02)  # sqrt((0.02^2 + 0 + 0.02^2) / 2)
    assert replace(member, select_accuracies=(0.9,)).select_deviation is None
    assert replace(member, name="attonet-c").title == "AttoNet-C"


# Figures


@pytest.mark.parametrize("axis", AXES)
def test_only_what_was_trained_has_an_accuracy(axis: str) -> None:
    view = full_view()
    traces = front_figure(view, axis)["data"]
    plotted = {
        (x, y)
        for trace in traces
        if trace.get("yaxis") != "y2" and trace["mode"] != "lines" and "family" not in trace["name"]
        for x, y in zip(trace["x"], trace["y"], strict=True)
    }
    trained = {
        (getattr(each.cost, axis), each.accuracy) for each in view.candidates if each.accuracy
    }
    strip = {trace["name"]: trace["x"] for trace in traces if trace.get("yaxis") == "y2"}
    below = set(strip.pop("below 79%"))
    assert plotted | {pair for pair in trained if pair[0] in below} == trained
    assert len(plotted) == len(trained) - 1
    assert sorted(strip["rejected"]) == sorted(getattr(each.cost, axis) for each in view.rejected)
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
        affordable = [
            each.accuracy for each in view.candidates if each.accuracy and each.cost.params <= cost
        ]
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
    figures: list[Any] = [front_figure(view, axis) for axis in AXES]
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


def test_predictions_are_over_what_came() -> None:
    view = full_view()
    known = [each for each in view.candidates if each.number > 10 and each.accuracy is not None]
    line, marks = prediction_figure(view)["data"]
    assert marks["y"] == [each.accuracy for each in known]
    assert marks["x"] == [each.predicted[0] for each in known if each.predicted]
    assert marks["error_x"]["array"] == [0.012] * len(known)
    assert line["x"] == line["y"] == [min(marks["x"] + marks["y"]), max(marks["x"] + marks["y"])]


def test_calibration_and_importance_are_drawn() -> None:
    view = full_view()
    assert view.calibration is not None and view.importance is not None
    [marks] = calibration_figure(view.calibration)["data"]
    assert (marks["x"][0], marks["y"][0]) == (0.62, 0.81)
    [bars] = importance_figure(view.importance)["data"]
    assert (bars["y"][-1], bars["x"][-1]) == ("stem", 0.5)  # the last is on top


# What was learnt


def test_counts_of_what_was_not_trained() -> None:
    view = full_view()
    assert outcome_counts(view) == "2 stopped early, 3 failed"
    assert outcome_counts(empty_view()) == ""
    # Two of 57 proxies of 6 epochs were stopped after 3.
    assert view.epochs_saved == pytest.approx(2 * 3 / (57 * 6))
    assert empty_view().epochs_saved == 0


def test_predictions_in_words() -> None:
    view = full_view(10)
    came = [0.5, 0.6, 0.7, 0.8, 0.9]
    # Ranks differ by 1 and 1: 1 - 6 * 2 / 120. The last is 3 deviations off.
    means = [(0.61, 0.1), (0.60, 0.1), (0.7, 0.1), (0.8, 0.1), (1.2, 0.1)]
    candidates = tuple(
        replace(view.candidates[0], number=number, accuracy=accuracy, predicted=mean)
        for number, (accuracy, mean) in enumerate(zip(came, means, strict=True))
    )
    words = plain(prediction_words(replace(view, candidates=candidates)))
    assert "5 candidates' proxy accuracy" in words and "(Spearman): 0.90" in words
    assert "Within two deviations of the prediction: 80 %" in words
    assert prediction_words(replace(view, candidates=candidates[:4])) == ""


def candidates_by(params: list[dict[str, Any]], accuracies: list[float]) -> list[Candidate]:
    architecture = network(0)
    return [
        Candidate(
            number, number, each, architecture, cost_of(architecture), "machine",
            outcome="trained", accuracy=accuracy,
        )
        for number, (each, accuracy) in enumerate(zip(params, accuracies, strict=True))
    ]  # fmt: skip


def drawn_params(count: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    return [
        {
            "stem.channels": draw.choice((4, 8, 12)),
            "stage1.module1.attention": draw.choice(("none", "squeeze_excite")),
            "stage1.module1.shortcut": draw.choice(("identity", "projection")),
            "head.features": draw.choice((0, 32)),
        }
        for _ in range(count)
    ]


def test_importance_finds_what_decided() -> None:
    params = drawn_params(60)
    accuracies = [
        0.5 + 0.02 * each["stem.channels"] + 0.08 * (each["stage1.module1.attention"] != "none")
        for each in params
    ]
    found = importance(candidates_by(params, accuracies))
    assert found.candidates == 60 and found.r2 is not None and found.r2 > 0.9
    shares = dict(found.modules)
    assert [label for label, _ in found.modules][:2] == ["stem", "stage 1, module 1"]
    assert sum(shares.values()) == pytest.approx(1)
    # In variances: 0.02^2 * 32 / 3 to 0.08^2 / 4.
    assert shares["stem"] == pytest.approx(0.0043 / (0.0043 + 0.0016), abs=0.12)
    assert [label for label, _ in found.choices][:2] == [
        "stem: channels", "stage 1, module 1: attention",
    ]  # fmt: skip
    assert importance(candidates_by(params, accuracies)) == found


def test_importance_keeps_silent_where_it_knows_nothing() -> None:
    params = drawn_params(60)
    few = importance(candidates_by(params[: FEWEST - 1], [0.5] * (FEWEST - 1)))
    assert few == ImportanceView(FEWEST - 1)
    draw = random.Random(1)
    noise = importance(candidates_by(params, [draw.random() for _ in params]))
    assert noise.modules == noise.choices == ()
    assert noise.r2 is not None and noise.r2 <= 0.1
    assert importance(candidates_by(params, [0.5] * 60)) == ImportanceView(60, 0.0)


def test_choices_as_numbers() -> None:
    columns = encode([{"a": 1, "b": "x"}, {"a": 1, "b": "y", "c": 0.5}, {"a": 1, "b": "x"}])
    assert {name: column.tolist() for name, column in columns.items()} == {
        "b": [[1, 0], [0, 1], [1, 0]],
        "c": [[-1], [0.5], [-1]],
    }


def test_choices_in_words() -> None:
    for name, module, choice in (
        ("stem.channels", "stem", "stem: channels"),
        ("stage1.modules", "stage 1 as a whole", "stage 1 as a whole: modules"),
        (
            "stage2.module1.branch1.layer2.width",
            "stage 2, module 1",
            "stage 2, module 1: branch 1 layer 2 width",
        ),
        (
            "stage3.design.attention",
            "stage 3, module design",
            "stage 3, module design: attention",
        ),
    ):
        assert (module_label(name), choice_label(name)) == (module, choice)


def test_page_without_what_older_records_lack() -> None:
    view = full_view()
    bare = replace(
        view,
        candidates=tuple(replace(each, predicted=None) for each in view.candidates),
        calibration=None,
        importance=ImportanceView(7),
    )
    page = without_plotly(render_report(bare))
    assert "The proxy was not calibrated" in page
    assert "<code>collabdesign calibrate runs/cifar10/requirements.yaml</code>" in page
    assert "estimated from 20 trained candidates on; 7 are trained" in page
    assert "What was predicted" not in page
    weak = replace(view, importance=ImportanceView(55, 0.04))
    assert "cross-validated r\u00b2 0.04" in render_report(weak)


def test_page_says_which_proxies_the_goal_asks_for() -> None:
    view = full_view()
    assert "the search aimed there" not in render_report(view)
    aiming = replace(view, asked=replace(view.asked, proxy_goal=0.612))
    page = render_report(aiming).replace("\N{NO-BREAK SPACE}", " ")
    assert "lets proxies be expected from about 61.2 %: the search aimed there" in page


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


# The page


def without_plotly(page: str) -> str:
    return re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize("name", VIEWS)
def test_page_is_whole_and_names_no_other_place(name: str) -> None:
    page = without_plotly(render_report(VIEWS[name]()))
    assert len(page) < 1_500_000 and page.rstrip().endswith("</html>")
    links = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.findall(r"url\(|@import|fetch\(|XMLHttpRequest", page)


def test_what_a_person_wrote_is_escaped() -> None:
    page = without_plotly(render_report(hostile_view()))
    assert "window.hostile" in page
    assert "<script>window" not in page and "<img" not in page


def test_page_says_what_was_asked_and_found() -> None:
    view = full_view()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", without_plotly(render_report(view))))
    for words in (
        "at most 3M", "at most 100k", "at most 128KiB at int8", "at least 88.0 % on test",
        "55, 2 stopped early, 3 failed of 60 planned",
        "not applicable: the map is smaller than its pooling at 32 px",
        "diverged: the loss was not a number in epoch 3",
        "cd runs/cifar10/family/attonet-a",
        "Readings of the test set: AttoNet-A 1, AttoNet-B 1, AttoNet-C 1, AttoNet-D 1.",
        "torch 2.15.0",
        "Of 60 trials: 2 stopped early, 3 failed.",
        "differences under 2.2 points are noise",
        "3 375 9.9 0.83 0.40 to 0.97 \u00b7 the cheapest that keeps 0.8",
        "cross-validated r\u00b2 0.41",
        "stem: channels (50&nbsp;%); stage 2, module 1: branch 1 layer 2 width (25&nbsp;%).",
        "all 4 met machine",
    ):  # fmt: skip
        assert words in text
    member = view.family[0]
    low, high = member.test_interval or (0.0, 0.0)
    assert (
        f"{plain(percent(member.test_accuracy or 0))} {100 * low:.1f} to {100 * high:.1f}" in text
    )
    assert LIMITS["peak_activation_bytes"] == 128 * 1024


def test_no_torch_is_needed() -> None:
    code = "import collabdesign.deliver.report, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# The page in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic",
        "no-first-run", "disable-background-networking", "disable-component-update",
        "disable-sync", "window-size=1280,1000",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(driver)
    opened = webdriver.Chrome(options=options, service=service)
    yield opened
    opened.quit()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Callable[[str], Any]:
    """Opens a page at 1280 pixels and waits until its plots are drawn."""

    def opened(page: str) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        path = tmp_path / "report.html"
        path.write_text(page, encoding="utf-8")
        browser.set_window_size(1280, 1000)
        browser.get("about:blank")
        for log in ("browser", "performance"):
            browser.get_log(log)  # what came before is not this page's
        browser.get(path.as_uri())
        if 'id="figures"' in page:
            WebDriverWait(browser, 30).until(
                lambda driver: driver.execute_script("return document.body.className == 'drawn'")
            )
        return browser

    return opened


def requests_of(browser: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def test_the_watch_sees_requests_and_errors(open_page: Callable[[str], Any]) -> None:
    browser = open_page("<img src='http://127.0.0.1:9/x'><script>console.error('seen')</script>")
    assert "http://127.0.0.1:9/x" in requests_of(browser)
    assert any("seen" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("name", VIEWS)
def test_page_opens_offline_without_errors(name: str, open_page: Callable[[str], Any]) -> None:
    browser = open_page(render_report(VIEWS[name]()))
    places = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map(e => e.querySelector('svg') != null)"
    )
    assert all(places) and (name == "empty" or places)
    sent = requests_of(browser)
    assert sent and all(url.startswith(("file:", "data:", "blob:")) for url in sent)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hostile") is None
    buttons = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)"
    )
    assert not [title for title in buttons if "cloud" in title.lower() or "share" in title.lower()]


def test_hover_tells_the_structure(open_page: Callable[[str], Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    view = full_view()
    browser = open_page(render_report(view))
    best = max(view.with_outcome("trained"), key=lambda each: each.accuracy or 0.0)
    names = [trace["name"] for trace in front_figure(view, "macs")["data"]]
    traces = browser.find_elements(By.CSS_SELECTOR, "#front .scatterlayer .trace")
    assert len(traces) == len(names)
    front = front_figure(view, "macs")["data"][names.index("on the front")]
    points = traces[names.index("on the front")].find_elements(By.CSS_SELECTOR, "path.point")
    point = points[front["y"].index(best.accuracy)]
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", point
    )
    script = "return [...document.querySelectorAll('#front .hovertext')].map(e => e.textContent)"
    assert browser.execute_script(script) == []
    ActionChains(browser).move_to_element(point).perform()
    [label] = WebDriverWait(browser, 10).until(lambda driver: driver.execute_script(script))
    assert f"candidate {best.number}" in label
    seen = re.sub(r"\s", "", label)
    assert all(re.sub(r"\s", "", line) in seen for line in describe(best.architecture))


def test_selector_changes_the_cost(open_page: Callable[[str], Any]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    browser = open_page(render_report(full_view()))
    title = "return document.querySelector('#front .xtitle').textContent"
    assert browser.execute_script(title) == "multiply-adds (log scale)"
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-for=front]")).select_by_value(
        "peak_activation_bytes"
    )
    assert browser.execute_script(title) == "peak activation memory (bytes, log scale)"
    ticks = browser.execute_script(
        "return [...document.querySelectorAll('#front .xtick')].map(e => e.textContent)"
    )
    assert "16 KiB" in [plain(tick) for tick in ticks]
    assert browser.get_log("browser") == []


OVERFLOWING = """
const out = [];
for (const box of document.querySelectorAll("svg.architecture .box")) {
  const around = box.querySelector("rect").getBBox();
  for (const text of box.querySelectorAll("text")) {
    const inside = text.getBBox();
    if (inside.x < around.x || inside.x + inside.width > around.x + around.width)
      out.push(text.textContent + ": " + inside.width + " in " + around.width);
  }
}
for (const drawing of document.querySelectorAll("svg.architecture")) {
  const [, , width, height] = drawing.getAttribute("viewBox").split(" ").map(Number);
  for (const text of drawing.querySelectorAll("text")) {
    const inside = text.getBBox();
    const place = text.closest(".row");
    const down = place ? place.transform.baseVal[0].matrix.f : 0;
    if (inside.x + inside.width > width || inside.y + inside.height + down > height)
      out.push(text.textContent + " leaves the drawing");
  }
}
return out;
"""


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_overflows(width: int, open_page: Callable[[str], Any]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    view = full_view(20)
    widest = widest_architecture()
    wide = replace(view.family[0], architecture=widest, cost=cost_of(widest), curve=curve(0.9, 3))
    browser = open_page(render_report(replace(view, family=(wide, *view.family[1:]))))
    browser.set_window_size(width, 1000)
    # Plots follow the window's width a moment later.
    WebDriverWait(browser, 10).until(
        lambda driver: driver.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        )
    )
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.querySelectorAll('.box').length") > 40
    assert browser.execute_script(OVERFLOWING) == []
