"""The page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_view import VIEWS, curve, full_view, plain, widest_architecture, with_certificate

from collabdesign.deliver.report.front_plot import front_figure
from collabdesign.deliver.report.page import (
    render_report,
)
from collabdesign.deliver.report.words import describe
from collabdesign.design.cost import cost_of

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
    best = max(view.record.trained, key=lambda each: each.accuracy or 0.0)
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


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_nothing_overflows(
    width: int, browser: Any, open_page: Callable[[str], Any], request: pytest.FixtureRequest
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    view = full_view(20)
    widest = widest_architecture()
    wide = replace(view.family[0], architecture=widest)
    wide = with_certificate(wide, cost=cost_of(widest), curve=curve(0.9, 3))
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    request.addfinalizer(
        lambda: browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    )
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    open_page(render_report(replace(view, family=(wide, *view.family[1:]))))
    # Plots follow the window's width a moment later.
    WebDriverWait(browser, 10).until(
        lambda driver: driver.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        )
    )
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.querySelectorAll('.box').length") > 40
    assert browser.execute_script(OVERFLOWING) == []
