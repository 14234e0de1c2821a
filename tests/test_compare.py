"""A family beside other networks: what is trained, read on test, written down and shown."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_search import certificates, run, write_tiny

import collabdesign
from collabdesign import Machine
from collabdesign.cli.compare import compare as command
from collabdesign.deliver.baselines import CompareProgress
from collabdesign.deliver.compare import random_member
from collabdesign.deliver.comparison import (
    COMPARISON,
    Comparison,
    Difference,
    Row,
    differences,
    read_comparison,
)
from collabdesign.deliver.report.gather import gather
from collabdesign.deliver.tuning import Setting, tune
from collabdesign.design.files.reading import load_requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.latency import missing_packages
from collabdesign.explore.front import netscore
from collabdesign.explore.full_training import FamilyProgress
from collabdesign.explore.progress import PROGRESS
from collabdesign.explore.record import requirements_of
from collabdesign.explore.study import read_record

HERE = Machine("cpu", workers=1, threads=1)
NETWORKS = ("ResNet-8", "prototype", "lcnet 0.5x")
SEEDS = 2
SHORT = ("search.trials=4", "family.size=2", "family.finalists=1", "family.training.epochs=2")


def searched(folder: Path, *more: str) -> Path:
    requirements = load_requirements(write_tiny(folder), (*SHORT, *more))
    return collabdesign.run(requirements, folder / "run", machine=HERE).run_dir


def compared(run_dir: Path, seeds: int = SEEDS, **more: Any) -> Comparison:
    return collabdesign.compare(run_dir, networks=NETWORKS, seeds=seeds, machine=HERE, **more)


def readings(run_dir: Path) -> dict[str, Any]:
    found = {}
    for folder in ("family", "compare"):
        found |= json.loads((run_dir / folder / "readings.json").read_text())
    return found


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a family and no comparison; to copy."""
    return searched(tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module")
def after(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a comparison; to look at or copy."""
    run_dir = tmp_path_factory.mktemp("after") / "run"
    shutil.copytree(before, run_dir)
    compared(run_dir)
    return run_dir


@pytest.fixture
def copy(after: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(after, tmp_path / "run"))


def rows(run_dir: Path) -> dict[str, Row]:
    found = read_comparison(run_dir)
    assert found is not None
    # Another measurement has other milliseconds.
    return {row.name: row for row in found.rows}


def test_rows(after: Path) -> None:
    found = rows(after)
    names = ["AttoNet-A", "AttoNet-B", "prototype's default", "LCNet 0.5x", "ResNet-8"]
    assert list(found) == names
    assert [row.kind for row in found.values()] == [
        *["member"] * 2, "prototype", *["well-known"] * 2,
    ]  # fmt: skip
    # Its reason is another where timm is not installed.
    lcnet = found.pop("LCNet 0.5x")
    assert lcnet.macs is None and not lcnet.seeds
    assert lcnet.note.startswith(("not applicable: it reduces", "needs timm"))
    for row in found.values():
        assert row.seeds == (0, 1)
        assert len(row.select_accuracies) == len(row.test_accuracies) == SEEDS
        assert row.test_readings == (1, 1)
        assert row.mean == statistics.fmean(row.test_accuracies)
        assert row.deviation == statistics.stdev(row.test_accuracies)
        assert row.macs is not None and row.params is not None
        assert row.netscore == netscore(row.mean, row.params, row.macs)
        percent, giga, million = 100 * row.mean, row.macs / 1e9, row.params / 1e6
        assert row.netscore == pytest.approx(
            20 * math.log10(percent**2 / math.sqrt(giga * million))
        )


def test_a_member_is_the_one_that_was_delivered(after: Path) -> None:
    found = rows(after)
    for certificate in certificates(after).values():
        name = f"AttoNet-{certificate['name'][-1].upper()}"
        row = found[name]
        assert row.tried == ()
        assert row.epochs == certificate["epochs"] == 2
        # The family has one seed: its weights are judged once, for both.
        assert row.select_accuracies[0] == certificate["select_accuracies"][0]
        assert row.test_accuracies[0] == certificate["test_accuracy"]


def test_a_baseline_has_the_setting_of_the_rule(after: Path) -> None:
    found = read_comparison(after)
    assert found is not None
    for row in found.rows:
        if row.kind == "member" or row.macs is None:
            continue
        tried = {Setting(each.learning_rate, each.epochs): each for each in row.tried}
        own = Setting(found.members[0].learning_rate or 0, 2)
        rates = {setting.learning_rate for setting in tried if setting.epochs == 2}
        assert rates >= {own.learning_rate, own.learning_rate / 2, own.learning_rate * 2}
        known = {setting: each.select_accuracy for setting, each in tried.items()}
        chosen = tune(own, known, found.select_images, classes=10)
        assert chosen.wanted == ()
        assert chosen.best == Setting(row.learning_rate or 0, row.epochs or 0)
        assert row.select_accuracies[0] == known[chosen.best]


def test_differences_are_arithmetic_of_the_rows(after: Path) -> None:
    plain = json.loads((after / COMPARISON).read_text())
    by_name = {row["name"]: row for row in plain["rows"]}
    assert len(plain["differences"]) == 2 * 2
    for each in plain["differences"]:
        ours = by_name[each["member"]]["test_accuracies"]
        theirs = by_name[each["baseline"]]["test_accuracies"]
        first, second = (a - b for a, b in zip(ours, theirs, strict=True))
        assert each["seeds"] == 2
        assert each["mean"] == pytest.approx((first + second) / 2)
        # Of two values the deviation of the mean is half their distance; t with one degree of
        # freedom is 12.706.
        half = 12.7062 * abs(first - second) / 2
        assert each["low"] == pytest.approx(each["mean"] - half, abs=1e-4)
        assert each["high"] == pytest.approx(each["mean"] + half, abs=1e-4)


def test_one_seed_has_no_interval() -> None:
    member = Row("A", "member", "", "a", seeds=(0, 1), test_accuracies=(0.8, 0.9))
    other = Row("R", "well-known", "", "r", seeds=(1,), test_accuracies=(0.7,))
    none = Row("N", "well-known", "", "n")
    (found,) = differences([member, other, none])
    assert found == Difference("A", "R", 1, pytest.approx(0.2), None, None)
    assert found.words == "+20.0"


def test_the_same_again_trains_and_reads_nothing(copy: Path) -> None:
    was, ledger, events = rows(copy), readings(copy), list[Any]()
    compared(copy, on_event=events.append)
    assert not [each for each in events if isinstance(each, CompareProgress | FamilyProgress)]
    assert rows(copy) == was
    assert readings(copy) == ledger
    # Two networks of each kind with two seeds each, every one of them read once.
    assert [each["readings"] for each in ledger.values()] == [1] * 8
    assert not list((copy / "compare" / "training").glob("*.pt"))


def test_another_seed_trains_that_alone(copy: Path) -> None:
    was, kinds = rows(copy), set()

    def see(event: object) -> None:
        if isinstance(event, CompareProgress):
            kinds.add(event.kind)

    compared(copy, seeds=SEEDS + 1, on_event=see)
    assert kinds == {"seeds"}
    for name, row in rows(copy).items():
        assert row.test_accuracies[:SEEDS] == was[name].test_accuracies
        assert len(row.seeds) in (0, SEEDS + 1)
    assert [each["readings"] for each in readings(copy).values()] == [1] * 12


def test_cut_off_again_and_again(before: Path, after: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(before, tmp_path / "run"))
    seen, told = 0, set()

    def cut(event: object) -> None:
        nonlocal seen
        if isinstance(event, CompareProgress | FamilyProgress):
            told.add(json.loads((run_dir / PROGRESS).read_text())["stage"])
        if isinstance(event, CompareProgress):
            seen += 1
            if seen % 8 == 0:
                raise KeyboardInterrupt

    cuts = 0
    while True:
        try:
            compared(run_dir, on_event=cut)
            break
        except KeyboardInterrupt:
            cuts += 1
    assert cuts >= 3
    # What those who watch are told.
    assert told == {"FamilyProgress", "CompareProgress"}

    def without_times(run_dir: Path) -> list[dict[str, Any]]:
        found = json.loads((run_dir / COMPARISON).read_text())["rows"]
        return [{k: v for k, v in row.items() if not k.startswith("onnx")} for row in found]

    assert without_times(run_dir) == without_times(after)
    assert readings(run_dir) == readings(after)


def test_time_is_measured_or_said_to_be_missing(after: Path) -> None:
    found = read_comparison(after)
    assert found is not None
    times = [row.onnx_ms for row in found.rows if row.macs is not None]
    times += [row.onnx_int8_ms for row in found.rows if row.macs is not None]
    if missing := missing_packages():
        assert times == [None] * len(times)
        assert found.onnx.startswith(f"not measured: needs {' and '.join(missing)}")
    else:
        assert all(time is not None and time > 0 for time in times)
        assert found.onnx.startswith("onnxruntime ")


def test_a_faster_network_that_is_less_accurate_is_named(after: Path) -> None:
    found = read_comparison(after)
    assert found is not None

    def row(name: str, kind: Any, accuracy: float, ms: float, in_int8: float | None) -> Row:
        return Row(
            name, kind, "", name, test_accuracies=(accuracy,), onnx_ms=ms, onnx_int8_ms=in_int8
        )

    rows = (
        row("ours", "member", 0.8, 2.0, 3.0),
        row("better", "well-known", 0.9, 1.0, 1.0),
        row("slower", "well-known", 0.7, 2.5, 3.5),
        row("faster", "well-known", 0.7, 1.5, None),
        row("faster in int8", "prototype", 0.7, 2.0, 2.5),
        Row("not trained", "well-known", "", "n", onnx_ms=0.1),
    )
    slower = replace(found, rows=rows).slower
    assert [(each.member, each.baseline, each.precision) for each in slower] == [
        ("ours", "faster", "float32"),
        ("ours", "faster in int8", "int8"),
    ]
    assert slower[0].words == "ours in float32 takes 2 ms, faster 1.5 ms"


def test_the_report_shows_it(after: Path) -> None:
    page = (after / "report.html").read_text()
    for text in ("ResNet-8", "Members less the others", "How the others were trained", "NetScore"):
        assert text in page
    assert '<div class="plot" id="compare_macs">' in page
    has_times = '<div class="plot" id="compare_onnx_ms">' in page
    assert has_times == (not missing_packages())
    view = gather(after)
    assert not view.is_of_earlier_family
    assert "MobileNet-V1 1.0x" in {each.name for each in view.untrained}


def test_the_report_says_what_would_compare(before: Path) -> None:
    assert f"collabdesign compare {before}" in (before / "report.html").read_text()


def test_the_best_of_a_random_search(copy: Path, tmp_path: Path) -> None:
    other = searched(tmp_path / "random", "search.sampler=random", "search.seed=5")
    found = compared(copy, random_run=other)
    (row,) = [each for each in found.rows if each.kind == "random"]
    best = certificates(other)["attonet-a"]
    assert row.network == best["architecture"]
    assert row.test_accuracies and row.tried
    with pytest.raises(InputError, match=r"must name a run with search\.sampler: random"):
        compared(copy, random_run=copy)
    asked = requirements_of(read_record(copy))
    longer = asked.search.model_copy(update={"trials": 5})
    with pytest.raises(InputError, match=r"search\.trials: 5 -> 4\n    the images are others"):
        random_member(other, asked.model_copy(update={"search": longer}), "of other images")


def test_refused(before: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--network must name prototype, .*; got AlexNet"):
        collabdesign.compare(before, networks=("AlexNet",), machine=HERE)
    run_dir = Path(shutil.copytree(before, tmp_path / "run"))
    shutil.rmtree(run_dir / "family")
    with pytest.raises(InputError, match=r"is the family of a run, and .* has none"):
        collabdesign.compare(run_dir, machine=HERE)
    (run_dir / COMPARISON).write_text("{}")
    with pytest.raises(InputError, match="must be a comparison"):
        gather(run_dir)


def test_the_command(copy: Path, tmp_path: Path) -> None:
    names = [word for name in NETWORKS for word in ("--network", name)]
    words = ["compare", str(copy), *names, "--seeds", "2", "--device", "cpu", "--workers", "1"]
    code, said = run(words, tmp_path)
    assert code == 0, said
    for text in ("AttoNet-A less", "ResNet-8", "NetScore (arXiv", "Nothing is chosen by test."):
        assert text in said


def test_the_answer_as_json(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(copy, NETWORKS, SEEDS, None, True, device="cpu", workers=1, threads=1)
    assert json.loads(capsys.readouterr().out) == json.loads((copy / COMPARISON).read_text())
