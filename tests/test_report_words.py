"""The report's words and numbers, and what it says was learnt."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest
from report_view import (
    all_failed_view,
    empty_view,
    full_view,
    network,
    one_candidate_view,
    plain,
    with_candidates,
    with_certificate,
    without_plotly,
)

from collabdesign.deliver.report.importance import (
    FEWEST,
    Importance,
    choice_label,
    encode,
    importance,
    module_label,
)
from collabdesign.deliver.report.page import (
    headline,
    outcome_counts,
    prediction_words,
    render_report,
)
from collabdesign.deliver.report.words import (
    describe,
    percent,
    short_bytes,
    short_count,
    short_time,
)
from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.cost import Cost, cost_of
from collabdesign.explore.aim import Aim
from collabdesign.explore.front import wilson_interval
from collabdesign.explore.record import Candidate

# Words and numbers


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
    cost = Cost(**{**view.family[0].certificate.cost, "macs": 120_000})
    best = with_certificate(view.family[0], test_accuracy=0.986, cost=cost)
    assert plain(headline(replace(view, family=(best,)))) == (
        "AttoNet-A: 98.6 % on test at 120k multiply-adds, all 4 requirements met."
    )
    *met, last = best.certificate.requirements
    missed = with_certificate(best, requirements=(*met, replace(last, met=False)))
    assert plain(headline(replace(view, family=(missed,)))) == (
        "AttoNet-A: 98.6 % on test at 120k multiply-adds, 3 of 4 requirements met: accuracy missed."
    )
    assert headline(all_failed_view()) == "No network was trained to the end: 6 stopped or failed."
    assert headline(empty_view()) == "Nothing was trained yet."
    empty = empty_view()
    over = replace(empty, record=replace(empty.record, attributes={"tail": {"rejected": 500}}))
    assert headline(over) == "Nothing was trained: 500 proposals were over a limit."
    assert headline(one_candidate_view()).startswith("1 proxy trained, the most accurate at ")


def test_members_statistics() -> None:
    member = with_certificate(full_view(20).family[0], select_accuracies=(0.90, 0.92, 0.94))
    known = member.certificate
    assert known.select_mean == pytest.approx(0.92)
    assert known.select_deviation == pytest.approx(0.02)  # sqrt((0.02^2 + 0 + 0.02^2) / 2)
    once = with_certificate(member, select_accuracies=(0.9,), name="attonet-c").certificate
    assert (once.select_deviation, once.title) == (None, "AttoNet-C")


# What was learnt


def test_counts_of_what_was_not_trained() -> None:
    view = full_view()
    assert outcome_counts(view) == "2 stopped early, 3 failed"
    assert outcome_counts(empty_view()) == ""
    # Two of 57 proxies of 6 epochs were stopped after 3.
    assert view.record.epochs_saved == pytest.approx(2 * 3 / (57 * 6))
    assert empty_view().record.epochs_saved == 0


def test_predictions_in_words() -> None:
    view = full_view(10)
    measured = [0.5, 0.6, 0.7, 0.8, 0.9]
    # Ranks differ by 1 and 1: 1 - 6 * 2 / 120. The last is 3 deviations off.
    means = [(0.61, 0.1), (0.60, 0.1), (0.7, 0.1), (0.8, 0.1), (1.2, 0.1)]
    candidates = [
        replace(view.record.candidates[0], number=number, accuracy=accuracy, predicted=mean)
        for number, (accuracy, mean) in enumerate(zip(measured, means, strict=True))
    ]
    words = plain(prediction_words(with_candidates(view, *candidates)))
    assert "proxy accuracy of 5 candidates" in words and "(Spearman): 0.90" in words
    assert "within two standard deviations of the prediction: 80 %" in words
    assert "do not rely" not in words
    assert prediction_words(with_candidates(view, *candidates[:4])) == ""


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
    assert few == Importance(FEWEST - 1)
    draw = random.Random(1)
    noise = importance(candidates_by(params, [draw.random() for _ in params]))
    assert noise.modules == noise.choices == ()
    assert noise.r2 is not None and noise.r2 <= 0.1
    assert importance(candidates_by(params, [0.5] * 60)) == Importance(60, 0.0)


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
    unpredicted = [replace(each, predicted=None) for each in view.record.candidates]
    bare = with_candidates(view, *unpredicted)
    bare = replace(bare, calibration=None, importance=Importance(7))
    page = without_plotly(render_report(bare))
    assert "The proxy was not calibrated" in page
    assert "<code>collabdesign calibrate runs/cifar10/requirements.yaml</code>" in page
    assert "needs 20 trained candidates; 7 are trained" in page
    assert "Predicted and measured" in render_report(view)
    assert "Predicted and measured" not in page
    weak = replace(view, importance=Importance(55, 0.04))
    assert "cross-validated r\u00b2 0.04" in render_report(weak)


def test_page_says_which_proxies_the_goal_asks_for() -> None:
    view = full_view()
    assert "the search aimed there" not in render_report(view)
    page = plain(render_report(replace(view, aim=Aim(0.88, 0.612))))
    assert "corresponds to a proxy accuracy of about 61.2 %: the search aimed there" in page


def test_page_says_how_networks_of_about_the_same_cost_are_ranked() -> None:
    view = full_view()
    page = plain(render_report(view))
    assert "within a factor of 1.3 of each other, 17 pairs" in page
    assert "Spearman 0.58" in page and "without any training, have a Spearman of 0.09" in page
    # No proxy of the calibration keeps 0.8 there but the longest, of 0.91 - 0.1.
    assert view.calibration is not None and view.calibration.cheapest_at_same_cost is not None
    assert view.calibration.cheapest_at_same_cost.epochs == 12
    assert page.count("the shortest with at least 0.8") == 2
    unknown = replace(view, calibration=replace(view.calibration, same_cost=None))
    assert "within a factor of 1.3" not in plain(render_report(unknown))


def test_page_says_how_many_began_with_the_weights_of_another() -> None:
    view = full_view()
    assert "began with the weights" not in render_report(view)
    first, second, *others = view.record.candidates
    second = replace(second, parent=first.number)
    page = plain(render_report(with_candidates(view, first, second, *others)))
    assert re.search(r"1 of \d+ candidates began with the weights of a similar one", page)
