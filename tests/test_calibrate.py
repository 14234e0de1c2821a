"""Calibration of the proxy: what is trained and what comes of it, and small ones to their end."""

from __future__ import annotations

import html
import json
import math
import os
import re
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from tiny_search import begin, finish, kill, run, search_words, snapshot, wait_until, write_tiny

from collabdesign.cli.search import show_calibrated
from collabdesign.design.cost import cost_of
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import GoalsNotMet, InputError, NothingFits
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.begin import prepare
from collabdesign.explore.calibrate import CalibrateProgress, Outlook, calibrate, compare
from collabdesign.explore.calibration import (
    CALIBRATION,
    SAME_COST,
    Calibration,
    CalibrationFile,
    Key,
    Trained,
    calibration_of,
    noted_calibration,
    proxy_goal,
    read_calibration,
)
from collabdesign.explore.calibration_plan import (
    PROXY_SEEDS,
    Planned,
    plan_trainings,
    proxy_recipes,
    spread_networks,
)
from collabdesign.explore.executors.executor import Event, Failed, PassEnded, Task
from collabdesign.explore.executors.executor import Trained as TrainingEnded
from collabdesign.explore.feasible import default_params
from collabdesign.explore.proposals import Proposals
from collabdesign.explore.rank import Estimate
from collabdesign.explore.record import Candidate
from collabdesign.explore.study import read_record

NETWORKS = 4
IMAGES = 400  # of the tiny digits, after a fifth of 500 is held out


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path)


def words(folder: Path, *more: str) -> list[str]:
    at = ["--run-dir", str(folder / "run"), "--device", "cpu", "--threads", "1", "--workers", "1"]
    return ["calibrate", str(folder / "tiny.yaml"), "--networks", str(NETWORKS), *at, *more]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a calibration in ``run``, and what was said."""
    folder = tmp_path_factory.mktemp("calibrated")
    write_tiny(folder)
    code, said = run(words(folder), folder)
    assert code == 0, said
    return folder, said


# -- what is trained --------------------------------------------------------------------------


def chosen(requirements: Requirements, count: int) -> list[str]:
    return [each.id for each in spread_networks(DesignSpace(requirements), requirements, count)]


def test_networks_are_spread_over_what_fits(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    space = DesignSpace(requirements)
    networks = spread_networks(space, requirements, 12)
    assert len({each.id for each in networks}) == 12
    costs = [cost_of(each) for each in networks]
    assert all(v <= 0 for cost in costs for v in requirements.violations(cost).values())
    macs = [cost.macs for cost in costs]
    assert macs == sorted(macs)
    default = default_params(space, requirements)
    assert default is not None and space.decode(default) in networks
    # Against the quartiles of random networks that fit.
    rng = np.random.default_rng(5)
    drawn = [cost_of(space.decode(space.sample(rng))) for _ in range(500)]
    fitting = [c.macs for c in drawn if max(requirements.violations(c).values()) <= 0]
    low, _, high = np.percentile(fitting, [25, 50, 75])
    assert 2 <= sum(each < low for each in macs) <= 4
    assert 2 <= sum(each > high for each in macs) <= 4


def near_limit(requirements: Requirements, count: int) -> list[bool]:
    networks = spread_networks(DesignSpace(requirements), requirements, count)
    limit = requirements.limits.macs
    assert limit is not None
    return [SAME_COST * cost_of(each).macs >= limit for each in networks]


def test_a_third_is_near_the_limit(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    for count in (4, 12, 20):
        assert sum(near_limit(requirements, count)) == count // 3
    # Where another limit keeps networks far below it, the largest that fit are taken.
    requirements = load_requirements(tiny, ("limits.macs=10M",))
    networks = spread_networks(DesignSpace(requirements), requirements, 12)
    macs = sorted(cost_of(each).macs for each in networks)
    assert macs[-1] < 1e6 and macs[-1] <= SAME_COST * macs[-4]


def test_variations_come_near_a_limit_that_random_proposals_do_not(tiny: Path) -> None:
    requirements = load_requirements(tiny, ("limits.macs=90k", "limits.params=100k"))
    space = DesignSpace(requirements)
    rng = np.random.default_rng(0)
    drawn = [cost_of(space.decode(space.sample(rng))) for _ in range(200)]
    assert sum(90_000 / SAME_COST <= each.macs <= 90_000 for each in drawn) < 20
    assert sum(near_limit(requirements, 12)) == 4


def test_networks_are_a_function_of_the_seed(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    assert chosen(requirements, 8) == chosen(requirements, 8)
    assert chosen(requirements, 8) != chosen(load_requirements(tiny, ("search.seed=1",)), 8)


def test_where_little_fits(tiny: Path) -> None:
    rare = load_requirements(tiny, ("limits.macs=1200",))
    assert 4 <= len(chosen(rare, 12)) <= 12
    with pytest.raises(NothingFits, match="at least 4 different networks"):
        chosen(load_requirements(tiny, ("limits.macs=1066",)), 12)


def test_proxy_lengths(tiny: Path) -> None:
    def lengths(*overrides: str) -> dict[int, tuple[int, int]]:
        recipes = proxy_recipes(load_requirements(tiny, overrides), IMAGES)
        plans = {recipe.epochs: plan_training(IMAGES, recipe) for recipe in recipes}
        return {asked: (plan.batch, plan.epochs) for asked, plan in plans.items()}

    # A quarter of 3 is 1, the half 2, and 400 images are 12 steps of 32.
    assert lengths() == {1: (32, 1), 2: (32, 2), 3: (32, 3), 6: (32, 6)}
    # None as long as the full training, but the one that was asked for.
    assert list(lengths("family.training.epochs=6")) == [1, 2, 3]
    assert list(lengths("family.training.epochs=3")) == [1, 2, 3]
    # 40 steps are 4 epochs of 12: asking for fewer gives the same proxy.
    assert list(lengths("search.proxy.min_steps=40")) == [3, 6]


def test_plan(tiny: Path) -> None:
    requirements = load_requirements(tiny, ("family.training.seeds=2", "search.seed=7"))
    networks = spread_networks(DesignSpace(requirements), requirements, 5)
    plan = plan_trainings(networks, requirements, IMAGES)
    assert len({each.key for each in plan}) == len(plan)
    for network in networks:
        mine = [each.key for each in plan if each.task.architecture == network]
        assert [(key.kind, key.epochs, key.seed) for key in mine] == [
            *(("proxy", 1, 7), ("proxy", 2, 7), ("proxy", 3, 7), ("proxy", 3, 8)),
            *(("proxy", 6, 7), ("full", 12, 7), ("full", 12, 8)),
        ]
    full = plan_training(IMAGES, requirements.family.training)
    assert plan[-1].images == full.steps * full.batch


# -- what comes of it -------------------------------------------------------------------------


def made_up(
    requirements: Requirements, full: list[float], proxy: dict[int, list[float]], gap: float
) -> tuple[tuple[Planned, ...], dict[Key, Trained]]:
    """Trainings with these accuracies; two seeds of the proxy are ``gap`` to either side."""
    networks = spread_networks(DesignSpace(requirements), requirements, len(full))
    place = {each.id: number for number, each in enumerate(networks)}
    plan = plan_trainings(networks, requirements, IMAGES)
    known = {}
    for each in plan:
        accuracy = (full if each.key.kind == "full" else proxy[each.key.epochs])[
            place[each.key.architecture]
        ]
        if each.key.kind == "proxy" and each.key.epochs == 3:
            accuracy += gap if each.key.seed else -gap
        known[each.key] = Trained(each.key, accuracy, float(each.key.epochs))
    return plan, known


FULL = [0.5, 0.6, 0.7, 0.8, 0.9]
PROXY = {
    1: [0.3, 0.2, 0.1, 0.5, 0.4],  # ranks 3 2 1 5 4: 1 - 6 * (4 + 0 + 4 + 1 + 1) / 120
    2: [0.1, 0.2, 0.4, 0.3, 0.5],  # 1 - 6 * 2 / 120
    3: [0.2, 0.1, 0.4, 0.3, 0.5],  # 1 - 6 * 4 / 120
    6: [0.1, 0.2, 0.3, 0.4, 0.5],
}


def test_statistics_of_made_up_trainings(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    plan, known = made_up(requirements, FULL, PROXY, gap=0.01)
    found = compare(plan, known, requirements)
    assert (found.spearman.value, found.kendall.value) == pytest.approx((0.8, 0.6))
    assert [each.epochs for each in found.budgets] == [1, 2, 3, 6]
    correlations = [each.spearman.value for each in found.budgets]
    assert correlations == pytest.approx([0.5, 0.9, 0.8, 1.0])
    assert [(each.steps, each.seconds) for each in found.budgets] == [
        (12, 1.0), (24, 2.0), (36, 3.0), (72, 6.0),
    ]  # fmt: skip
    assert found.cheapest is not None and found.cheapest.asked == 2
    # Two at a distance of 0.02 have a variance of 0.0002 each.
    assert found.noise == pytest.approx(math.sqrt(0.0002))
    assert found.noise_points == pytest.approx(1.96 * 2 * 100 * 0.01)
    assert found.noise_sentence == "differences under 3.9 points are noise"
    assert [point.proxy for point in found.points] == pytest.approx(PROXY[3])
    assert [point.full for point in found.points] == FULL
    assert found.seconds == 5 * (1 + 2 + 2 * 3 + 6 + 12)
    assert TypeAdapter(Calibration).validate_json(json.dumps(asdict(found))) == found


def test_statistics_at_about_the_same_cost(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    proxy = {**PROXY, 3: [*PROXY[6][:3], 0.5, 0.4]}
    plan, known = made_up(requirements, FULL, proxy, gap=0.01)
    found = compare(plan, known, requirements)
    macs = [point.macs for point in found.points]
    pairs = [
        (one, other)
        for one in range(5)
        for other in range(one)
        if macs[one] <= SAME_COST * macs[other]
    ]
    same = found.same_cost
    assert same is not None and same.pairs == len(pairs) > 0
    # Full accuracies are in the order of the networks, so that they rank as their places do; of the
    # pairs the proxy has only the last two the other way round.
    wrong = pairs.count((4, 3))
    assert same.kendall.value == pytest.approx(1 - 2 * wrong / len(pairs))
    gaps = [(one - other) ** 2 for one, other in pairs]
    places = [0, 1, 2, 4, 3]
    products = [(one - other) * (places[one] - places[other]) for one, other in pairs]
    others = [(places[one] - places[other]) ** 2 for one, other in pairs]
    expected = sum(products) / math.sqrt(sum(gaps) * sum(others))
    assert same.spearman.value == pytest.approx(expected)
    # The networks stand in order of their multiply-adds.
    assert found.macs_alone is not None and found.macs_alone.value == pytest.approx(1)
    assert same.macs_alone.value == pytest.approx(1)
    assert [each.same_cost is not None for each in found.budgets] == [True] * 4
    # With fewer pairs than four networks make, nothing is said of the cheapest.
    assert found.cheapest_at_same_cost is None
    assert f"takes 6 pairs of them, got {len(pairs)}" in found.why_none_at_same_cost
    more = replace(found, same_cost=replace(same, pairs=6))
    assert more.cheapest_at_same_cost is not None
    low = replace(
        more,
        budgets=tuple(replace(each, same_cost=Estimate(0.7, 0.1, 0.9)) for each in more.budgets),
    )
    assert low.cheapest_at_same_cost is None and low.cheapest is not None
    assert "0.8 among networks of about the same cost" in low.why_none_at_same_cost


def test_one_of_an_earlier_version_is_read(tiny: Path) -> None:
    """It knew nothing of networks of about the same cost."""
    requirements = load_requirements(tiny)
    plan, known = made_up(requirements, FULL, PROXY, gap=0.01)
    found = asdict(compare(plan, known, requirements))
    for key in ("macs_alone", "same_cost"):
        del found[key]
    for each in found["budgets"]:
        del each["same_cost"]
    read = TypeAdapter(Calibration).validate_python(found)
    assert read.same_cost is None and read.cheapest_at_same_cost is None
    assert read.cheapest is not None and read.cheapest.asked == 2


def test_none_is_cheap_enough(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    plan, known = made_up(requirements, FULL, dict.fromkeys((1, 2, 3, 6), FULL[::-1]), gap=0)
    found = compare(plan, known, requirements)
    assert found.spearman == Estimate(-1.0, -1.0, found.spearman.high)
    assert found.cheapest is None
    assert "full trainings (50.0 to 90.0 %) lie too close" in found.why_none
    assert found.noise == 0


def test_failed_trainings_are_left_out(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    plan, known = made_up(requirements, FULL, PROXY, gap=0)
    first, second, *_ = dict.fromkeys(each.key.architecture for each in plan)
    for name, fewer in ((first, 1), (second, 2)):
        key = next(k for k in known if k.architecture == name and k.kind == "full")
        known[key] = known[key]._replace(accuracy=None, reason="diverged: in pass 2")
        if fewer == 1:
            found = compare(plan, known, requirements)
            assert (len(found.points), found.failed) == (4, 1)
            assert first not in {point.architecture for point in found.points}
        else:
            with pytest.raises(GoalsNotMet, match=r"3 of 5 could; .* diverged"):
                compare(plan, known, requirements)


# -- as a person runs it ----------------------------------------------------------------------


def test_calibrate_on_digits(calibrated: tuple[Path, str]) -> None:
    folder, said = calibrated
    file = read_calibration(folder / "run")
    assert file is not None and file.result is not None
    found = file.result
    assert len(found.points) == NETWORKS
    # Proxies of 1, 2, 3 (twice) and 6 epochs, and the full one.
    assert len(file.trained) == NETWORKS * (4 + PROXY_SEEDS)
    assert all(each.accuracy is not None and each.seconds > 0 for each in file.trained)
    assert "4 networks, each as proxies of 1, 2, 3, 6 epochs and fully of 12: 24 trainings" in said
    assert f"Spearman {found.spearman.value:.2f} (95 % interval " in said
    assert f"Kendall {found.kendall.value:.2f} (95 % interval " in said
    assert found.noise_sentence in said
    assert "Estimated from 4 networks" in said
    assert "of multiply-adds alone, without training: Spearman" in said
    assert ("Among networks of about the same cost" in said) == (found.same_cost is not None)
    assert {path.name for path in (folder / "run").iterdir()} == {CALIBRATION, "calibration.lock"}


def test_the_same_again_trains_nothing(calibrated: tuple[Path, str]) -> None:
    folder, _ = calibrated
    before = read_calibration(folder / "run")
    code, said = run(words(folder, "--json"), folder)
    assert code == 0
    assert "24 trainings, 24 of them done" in said
    assert read_calibration(folder / "run") == before
    answer = json.loads(said[said.index("\n{") :])
    assert before is not None and before.result is not None
    assert TypeAdapter(Calibration).validate_python(answer) == before.result
    assert answer["noise_points"] == before.result.noise_points


def test_a_kill_costs_one_training(calibrated: tuple[Path, str], tiny: Path) -> None:
    folder, _ = calibrated
    run_dir = tiny.parent / "run"

    def trained() -> int:
        file = read_calibration(run_dir)
        return 0 if file is None else len(file.trained)

    process = begin(words(tiny.parent), tiny.parent)
    assert wait_until(lambda: trained() >= 9, process)
    kill(process)
    before = trained()
    assert 9 <= before < 24
    code, said = run(words(tiny.parent), tiny.parent)
    assert code == 0, said
    assert f"24 trainings, {before} of them done" in said
    whole, again = (read_calibration(each / "run") for each in (folder, tiny.parent))
    assert whole is not None and again is not None

    def accuracies(file: object) -> dict[Key, float | None]:
        return {each.key: each.accuracy for each in file.trained}  # type: ignore[attr-defined]

    assert accuracies(again) == accuracies(whole)
    assert again.result is not None and whole.result is not None
    assert again.result.points == whole.result.points


def test_two_trainings_at_a_time_come_to_the_same(calibrated: tuple[Path, str], tiny: Path) -> None:
    folder, _ = calibrated
    code, said = run(words(tiny.parent, "--workers", "2"), tiny.parent)
    assert code == 0, said
    one, two = (read_calibration(each / "run") for each in (folder, tiny.parent))
    assert one is not None and two is not None and one.result is not None
    assert two.result is not None and two.result.points == one.result.points
    assert {path.name for path in (tiny.parent / "run").iterdir()} == {
        CALIBRATION,
        "calibration.lock",
    }


def test_a_second_one_says_who_calibrates(tiny: Path) -> None:
    process = begin(words(tiny.parent), tiny.parent)
    assert wait_until((tiny.parent / "run" / CALIBRATION).is_file, process)
    (tiny.parent / "elsewhere").mkdir()
    code, said = run(words(tiny.parent), tiny.parent / "elsewhere")
    assert (code, process.exitcode) == (2, None)
    folder = str(tiny.parent / "run")
    assert f"one process at a time calibrates in a run folder, and {folder!r} has one" in said
    assert f"process {process.pid} on " in said and "collabdesign calibrate" in said
    kill(process)


def test_ctrl_c_says_how_to_go_on(tiny: Path) -> None:
    process = begin(words(tiny.parent), tiny.parent)
    assert wait_until((tiny.parent / "run" / CALIBRATION).is_file, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert finish(process) == 130
    said = (tiny.parent / "said.txt").read_text()
    assert f"To continue: collabdesign calibrate {tiny}" in said
    assert "Traceback" not in said


def test_other_requirements_are_refused(calibrated: tuple[Path, str]) -> None:
    folder, _ = calibrated
    before = snapshot(folder / "run")
    code, said = run(words(folder, "--set", "limits.macs=20k"), folder)
    assert code == 2
    assert "limits.macs: 30k -> 20k" in said and f"remove its {CALIBRATION}" in said
    code, said = run(words(folder, "--set", "data.train_images=400"), folder)
    assert code == 2
    assert "the images are others" in said
    after = snapshot(folder / "run")
    assert after[CALIBRATION] == before[CALIBRATION]
    assert {name: text for name, (_, text) in after.items()} == {
        name: text for name, (_, text) in before.items()
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}', '{"version": 1}'])
def test_a_foreign_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(InputError, match="must be a calibration of this version"):
        read_calibration(tmp_path)


def test_bad_words_end_without_a_traceback(tiny: Path) -> None:
    for more, code, message in (
        (("--networks", "3"), 2, "is not in the range"),
        (("--set", "limits.macs=900"), 3, "raise limits.macs"),
        (("--device", "tpu"), 2, "the device must be cpu or cuda"),
        (("--set", "search.proxy.epochs=12"), 2, "shorter than the full training"),
    ):
        ended, said = run(words(tiny.parent, *more), tiny.parent)
        assert (ended, "Traceback" in said) == (code, False), said
        assert message in said


# -- what the search and the report make of it ------------------------------------------------


def test_a_search_uses_it(calibrated: tuple[Path, str]) -> None:
    folder, _ = calibrated
    requirements = load_requirements(folder / "tiny.yaml")
    code, said = run(search_words(folder, "--set", "search.trials=3"), folder)
    assert code == 0, said
    record = read_record(folder / "run")
    found, _ = calibration_of(folder / "run", requirements, record.attributes["data_fingerprint"])
    assert found is not None
    assert noted_calibration(record) == found
    assert "calibrated: Spearman" in said and found.noise_sentence in said
    assert "--set search.proxy.epochs" not in said  # the file says how many
    page = (folder / "run" / "report.html").read_text()
    assert found.noise_sentence in page and "was not calibrated" not in page


def test_one_of_something_else_is_named_with_what_helps(tiny: Path) -> None:
    other = load_requirements(tiny, ["limits.macs=20k"])
    plan, known = made_up(other, FULL, PROXY, gap=0.01)
    run_dir = tiny.parent / "run"
    run_dir.mkdir()
    CalibrationFile(other, "images", (), compare(plan, known, other)).write(run_dir)
    code, said = run(search_words(tiny.parent, "--set", "search.trials=3"), tiny.parent)
    assert code == 0, said
    assert "not used: limits.macs: 20k -> 30k; data: the images are others" in said
    helps = re.search(r"The proxy was not calibrated: (rm .* && collabdesign calibrate .*)", said)
    assert helps and html.escape(helps[1]) in (run_dir / "report.html").read_text()
    assert str(run_dir / CALIBRATION) in helps[1]


@pytest.mark.parametrize("named", [True, False])
def test_a_better_budget_is_told_unless_one_is_written(
    tmp_path: Path, named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = () if named else (("epochs: 3, batch", "batch"),)
    requirements = load_requirements(write_tiny(tmp_path, *changes))
    assert requirements.search.proxy.epochs == (3 if named else 6)
    plan, known = made_up(load_requirements(write_tiny(tmp_path)), FULL, PROXY, gap=0.01)
    found = compare(plan, known, load_requirements(write_tiny(tmp_path)))
    CalibrationFile(requirements, "images", (), found).write(tmp_path)
    show_calibrated(tmp_path, requirements, "images")
    said = capsys.readouterr().err
    assert found.noise_sentence in said
    assert ("--set search.proxy.epochs=2" in said) != named
    # What is found for other images says nothing of these.
    show_calibrated(tmp_path, requirements, "others")
    said = capsys.readouterr().err
    assert "not used: data: the images are others" in said and found.noise_sentence not in said


def test_a_report_says_where_there_is_none(finished: Path) -> None:
    page = (finished / "run" / "report.html").read_text()
    assert "The proxy was not calibrated" in page
    assert f"collabdesign calibrate {finished / 'run' / 'requirements.yaml'}" in page


def test_check_proposes_it(tiny: Path) -> None:
    code, said = run(["check", str(tiny), "--threads", "1"], tiny.parent)
    assert code == 0
    assert f"collabdesign calibrate {tiny}" in said.splitlines()[-1]


def on_a_line(intercept: float, slope: float, requirements: Requirements) -> Calibration:
    """Of networks whose full training is such a function of their proxy, but for one outlier;
    a correlation that is surely positive."""
    plan, known = made_up(requirements, FULL, PROXY, gap=0.01)
    found = compare(plan, known, requirements)
    points = [
        each._replace(full=intercept + slope * each.proxy if number != 2 else 0.99)
        for number, each in enumerate(found.points)
    ]
    return replace(found, points=tuple(points), spearman=Estimate(0.9, 0.4, 1.0))


def test_the_proxy_that_comes_to_an_accuracy(tiny: Path) -> None:
    requirements = load_requirements(tiny)
    found = on_a_line(0.5, 0.8, requirements)  # proxies of 0.1 to 0.5
    assert found.proxy_for(0.5 + 0.8 * 0.25) == pytest.approx(0.25)
    assert found.proxy_for(0.95) == pytest.approx(0.5)  # nothing beyond was seen
    assert found.proxy_for(0.2) == pytest.approx(0.1)
    assert on_a_line(0.5, -0.8, requirements).proxy_for(0.7) is None
    unsure = replace(found, spearman=Estimate(0.4, -0.2, 0.8))
    assert unsure.proxy_for(0.7) is None
    assert proxy_goal(requirements, found) == pytest.approx(0.1)  # the file asks 0.2
    assert proxy_goal(requirements, None) is None
    changed = load_requirements(tiny, ["search.proxy.epochs=6"])
    assert proxy_goal(changed, found) is None  # other proxies, of which nothing is known
    assert proxy_goal(load_requirements(tiny, ["search.sampler=random"]), found) is None


def test_what_the_goal_means_for_proxies_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = load_requirements(write_tiny(tmp_path), ["goals.accuracy=0.7"])
    found = on_a_line(0.5, 0.8, asked)
    CalibrationFile(asked, "images", (), found).write(tmp_path)
    show_calibrated(tmp_path, asked, "images")
    said = capsys.readouterr().err.replace("\N{NO-BREAK SPACE}", " ")
    assert "goals.accuracy 70.0 % needs a proxy_accuracy of about 25.0 %" in said
    more = load_requirements(tmp_path / "tiny.yaml", ["goals.accuracy=0.995"])
    show_calibrated(tmp_path, more, "images")
    said = capsys.readouterr().err.replace("\N{NO-BREAK SPACE}", " ")
    assert "99.5 % was reached by no network" in said and "from 50.0 %" in said


class TenSecondsAPass:
    """Trains nothing: each pass takes ten seconds, and one network fails after its first."""

    slots, ahead, where = 1, 0, "nowhere"

    def __init__(self, failing: str) -> None:
        self.failing = failing
        self.events: list[Event] = []
        self.passes_left = 0

    def submit(self, task: Task) -> None:
        passes = range(1, task.recipe.epochs + 1)
        fails = task.architecture.id == self.failing and len(passes) > 1
        self.passes_left += len(passes)
        for epoch in passes[:1] if fails else passes:
            record = EpochRecord(epoch, 1.0, 0.5 + self.passes_left / 1e4, 10.0)
            self.events.append(PassEnded(task.key, record, b"" if task.keeps else None))
        if fails:
            self.events.append(Failed(task.key, "diverged: loss"))
        else:
            self.events.append(TrainingEnded(task.key, None))

    def wait(self, seconds: float) -> Event | None:
        event = self.events.pop(0)
        if isinstance(event, PassEnded):
            self.passes_left -= 1
        elif isinstance(event, Failed):
            self.passes_left -= int(event.key.split("-")[3]) - 1
        return event

    def cancel(self, key: str) -> None:
        raise AssertionError

    def close(self) -> None:
        pass


def test_the_time_left_counts_of_a_failed_training_what_it_trained(
    tiny: Path, tmp_path: Path
) -> None:
    requirements = load_requirements(tiny)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    prepared = prepare(requirements, run_dir, device="cpu")
    executor = TenSecondsAPass(chosen(requirements, 5)[0])
    told = 0

    def on_event(event: Outlook | CalibrateProgress) -> None:
        nonlocal told
        if isinstance(event, CalibrateProgress):
            told += 1
            assert event.seconds_left == pytest.approx(10 * executor.passes_left)

    found = calibrate(requirements, run_dir, prepared, executor, networks=5, on_event=on_event)
    assert told > 0 and (len(found.points), found.failed) == (4, 1)


def searched(requirements: Requirements, aim: float | None) -> list[Candidate]:
    """40 candidates whose accuracy grows with their size, as the sampler proposes them."""
    space = DesignSpace(requirements)
    lowest, highest = 4e3, 30e3
    proposals = Proposals(space, requirements)
    history: list[Candidate] = []
    for index in range(40):
        proposer = proposals.at(index, history, aim)
        params = proposer.ask()
        proposer.accept()
        architecture = space.decode(params)
        cost = cost_of(architecture, requirements.deploy.precision)
        accuracy = math.log(cost.macs / lowest) / math.log(highest / lowest)
        history.append(
            Candidate(
                index,
                index,
                params,
                architecture,
                cost,
                "machine",
                outcome="trained",
                accuracy=min(max(accuracy, 0.0), 1.0),
            )
        )
    return history


def test_an_accuracy_that_is_asked_steers_the_proposals(tiny: Path) -> None:
    """Where a calibration says which proxies come to it; the small end of the front is left."""
    requirements = load_requirements(tiny)

    def there(aim: float | None) -> int:
        late = searched(requirements, aim)[15:]
        return sum(each.accuracy is not None and each.accuracy >= 0.6 for each in late)

    # The cheapest that come to it gain most, so that many come just short of it.
    assert there(0.7) >= 20
    assert there(None) <= 10
