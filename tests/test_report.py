"""The report: words and numbers, figures, drawings, and the page in a real browser."""

from __future__ import annotations

import json
import math
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
from collabdesign.deliver.figures import curves_figure
from collabdesign.deliver.front_plot import AXES, front_figure
from collabdesign.deliver.report import headline, render_report
from collabdesign.deliver.view import CurvePoint, ReferenceView, ReportView, wilson_interval
from collabdesign.deliver.words import describe, percent, short_bytes, short_count, short_time
from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.cost import cost_of, part_costs

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
        "55, and 5 stopped or failed of 60 planned",
        "not applicable: the map is smaller than its pooling at 32 px",
        "diverged: the loss was not a number in epoch 3",
        "cd runs/cifar10/family/attonet-a",
        "Readings of the test set: AttoNet-A 1, AttoNet-B 1, AttoNet-C 1, AttoNet-D 1.",
        "torch 2.15.0",
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
