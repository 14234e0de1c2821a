"""The page, as it is written."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from report_view import LIMITS, VIEWS, full_view, hostile_view, plain, without_plotly
from tiny_search import edited

import collabdesign
from collabdesign.deliver.choice import RULE
from collabdesign.deliver.report.gather import gather
from collabdesign.deliver.report.page import render_report
from collabdesign.deliver.report.words import percent
from collabdesign.explore.lock import held
from collabdesign.explore.study import read_record

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
        "3 375 9.9 0.83 0.40 to 0.97 \u00b7 the shortest with at least 0.8",
        "cross-validated r\u00b2 0.41",
        "stem: channels (50&nbsp;%); stage 2, module 1: branch 1 layer 2 width (25&nbsp;%).",
        "all 4 met machine",
    ):  # fmt: skip
        assert words in text
    member = view.family[0]
    accuracy, lowest, highest = map(
        percent, (member.certificate.test_accuracy, *member.certificate.test_interval)
    )
    assert plain(f"{accuracy} {lowest} to {highest}") in plain(text)
    assert LIMITS["peak_activation_bytes"] == 128 * 1024


def test_no_torch_is_needed() -> None:
    code = "import collabdesign.deliver.report.page, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# From the run folder


def said_of(run_dir: Path, environment: dict[str, Any]) -> list[str]:
    """What the page says of software and devices, a text each."""
    (run_dir / "environment.json").write_text(json.dumps(environment))
    page = without_plotly(render_report(gather(run_dir)))
    return re.findall(r"<dt>(?:software, device|earlier)</dt><dd>(.*?)</dd>", page)


def test_every_environment_is_shown_the_newest_first(finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    old = {"collabdesign": "0.1.0", "torch": "2.1"}
    new = {"collabdesign": "0.2.0", "torch": "2.2"}
    assert said_of(run_dir, old) == ["collabdesign 0.1.0 \u00b7 torch 2.1"]
    runs = [{**old, "candidates": [0, 7]}, {**new, "candidates": [8, 13]}]
    assert said_of(run_dir, {"runs": runs}) == [
        "Candidates 8 to 13: collabdesign 0.2.0 \u00b7 torch 2.2",
        "Candidates 0 to 7: collabdesign 0.1.0 \u00b7 torch 2.1",
    ]
    # The last environment trains on until another one comes.
    runs[1]["candidates"] = [8, None]
    assert said_of(run_dir, {"runs": runs})[0].startswith("Candidates 8 to 13: ")
    # One environment trained them all.
    assert said_of(run_dir, {"runs": [{**old, "candidates": [0, None]}]}) == [
        "collabdesign 0.1.0 \u00b7 torch 2.1"
    ]
    # A run that has begun and trained nothing yet.
    assert said_of(run_dir, {"runs": [{**old, "candidates": None}]}) == [
        "collabdesign 0.1.0 \u00b7 torch 2.1"
    ]
    assert said_of(run_dir, {"runs": []}) == said_of(run_dir, {}) == []


def test_costs_are_shown_at_the_precision_of_today(finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    before = gather(run_dir)
    assert before.record == read_record(run_dir)
    precision = before.requirements.deploy.precision
    assert precision == "float32"
    with edited(run_dir) as study:
        study.execute(
            "UPDATE study_user_attributes SET value_json = replace(value_json, ?, ?) "
            "WHERE key = 'requirements'",
            ('"precision": "float32"', '"precision": "int8"'),
        )
    today = gather(run_dir)
    assert today.requirements.deploy.precision == "int8"
    for shown in (today.record.trained, today.front):
        assert shown and all(each.cost.weight_bytes == each.cost.params for each in shown)


def test_a_report_says_whether_a_search_is_at_work(finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    for state, at_work in (("finished", nullcontext()), ("running", held(run_dir))):
        with at_work:
            page = collabdesign.report(run_dir).read_text()
        assert f'<span class="state {state}">{state}</span>' in page


def test_the_rule_of_the_family_is_a_list(finished: Path) -> None:
    page = without_plotly(render_report(gather(finished / "run")))
    rule = page.split("How the members were chosen")[1].split("</ol>")[0]
    assert [plain(html.unescape(each)) for each in re.findall(r"<li>(.*?)</li>", rule)] == (
        RULE.splitlines()
    )
