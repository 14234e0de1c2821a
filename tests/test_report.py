"""The page, as it is written."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from report_view import LIMITS, VIEWS, full_view, hostile_view, plain, without_plotly

from collabdesign.deliver.report.page import (
    render_report,
)
from collabdesign.deliver.report.words import percent

# The page


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
    accuracy, lowest, highest = map(percent, (member.test_accuracy or 0.0, low, high))
    assert plain(f"{accuracy} {lowest} to {highest}") in plain(text)
    assert LIMITS["peak_activation_bytes"] == 128 * 1024


def test_no_torch_is_needed() -> None:
    code = "import collabdesign.deliver.report.page, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
