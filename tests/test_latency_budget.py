"""Latency and file size as budgets: measured before training, predicted for proposals, kept."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import SPACES, conv, module, network, parameter_sets, pool
from tiny_search import (
    begin,
    certificates,
    kill,
    outcomes,
    rows,
    run,
    search_words,
    wait_until,
    write_tiny,
)

from collabdesign.deliver.certificate import judge
from collabdesign.deliver.report.front_plot import front_figure
from collabdesign.deliver.report.gather import gather
from collabdesign.deliver.report.page import render_report
from collabdesign.deliver.report.words import exact_quantity, short_quantity
from collabdesign.design.architecture import Architecture, Stem
from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements, resolved_yaml
from collabdesign.design.space import DesignSpace
from collabdesign.design.workload import Workload, workload_of
from collabdesign.errors import InputError, NothingFits, NotMeasured
from collabdesign.evaluate import latency
from collabdesign.evaluate.build import build
from collabdesign.evaluate.device_command import command_milliseconds
from collabdesign.evaluate.latency import missing_packages
from collabdesign.evaluate.measure import Measurement, measure, require_measurable, ways
from collabdesign.evaluate.onnx_file import onnx_bytes
from collabdesign.explore.calibration_plan import spread_networks
from collabdesign.explore.feasible import default_params, feasibility, require_possible
from collabdesign.explore.first_networks import NETWORKS, pricing_of
from collabdesign.explore.measurements import (
    CALIBRATION,
    DEFAULT,
    FIRST,
    MEASUREMENTS,
    Measurements,
    Meter,
    read_measurements,
    ways_of,
)
from collabdesign.explore.predictor import fit
from collabdesign.explore.pricing import Pricing
from collabdesign.explore.study import read_record
from collabdesign.pipeline import Machine, search

needs_onnx = pytest.mark.skipif("onnx" in missing_packages(), reason="needs onnx")
needs_runtime = pytest.mark.skipif(bool(missing_packages()), reason="needs onnx and onnxruntime")

SHORT = ("search.proxy.epochs=1", "data.train_images=200", "goals=")
ONE = Machine(device="cpu", workers=1, threads=1)

# A millisecond for each 1000 bytes of the file. It writes down which file it was given.
DEVICE = """\
#!/bin/sh
cksum < "$1" >> calls
echo "warming up" >&2
size=$(wc -c < "$1")
echo "the device is ready"
echo "median: $((size / 1000)).$(printf %03d $((size % 1000))) ms"
echo
"""


def with_device(folder: Path, script: str = DEVICE, limit: str = "7") -> Path:
    """The tiny requirements with a limit that a script in the folder measures."""
    limits = f"limits: {{macs: 30k, params: 4k, latency_ms: {limit}}}"
    file = write_tiny(folder, ("limits: {macs: 30k, params: 4k}", limits))
    file.write_text(file.read_text() + "latency: {command: './device.sh {onnx}', timeout: 20}\n")
    (folder / "device.sh").write_text(script)
    (folder / "device.sh").chmod(0o755)
    return file


def calls(folder: Path) -> list[str]:
    """Checksums of the files that the device was given."""
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def measured(folder: Path) -> dict[str, float]:
    """Milliseconds by architecture, as the run folder remembers them."""
    found = list(read_measurements(folder / MEASUREMENTS))
    assert len({row.architecture for row in found}) == len(found), "each network once"
    return {row.architecture: row.values["latency_ms"] for row in found}


# -- the work in a network --------------------------------------------------------------------


def test_the_work_in_a_network() -> None:
    plain = network(
        module([conv(3, 16), conv(3, 16, groups=16), pool(3, 16)], channels=16, stride=1),
        module(
            [conv(1, 16)], [conv(3, 16, groups=4)], channels=16, shortcut="identity",
            activation="hardswish",
        ),
        resolution=4,
    )  # fmt: skip
    pixels = 4 * 4
    stem, first, depthwise = 9 * 3 * 8, 9 * 8 * 16, 9 * 16
    pointwise, grouped, linear = 16 * 16, 9 * 4 * 16, 16 * 10 + 10
    found = workload_of(plain)
    assert found.networks == 1
    # Stem; two convolutions and the pool; two branches, their sum, the shortcut's, a hardswish at
    # the end; average and linear. Branches end without an activation, ReLUs are within.
    assert found.operations == 1 + 3 + (2 + 1 + 1 + 1) + 2
    assert found.dense_macs == (stem + first + pointwise) * pixels + linear
    assert found.grouped_macs == grouped * pixels
    assert found.depthwise_macs == depthwise * pixels
    assert found.activated == 16 * pixels
    assert found.params == cost_of(plain).params
    moved = (3 + 8) + (8 + 16) + 2 * 16 + 2 * 16 + 2 * (16 + 16) + 2 * (32 + 16) + 2 * 16
    assert found.moved == moved * pixels + (16 * pixels + 16) + (16 + 10)


def test_other_activations_are_work_of_their_own() -> None:
    def operations(stem: str, inside: str) -> float:
        design = module([conv(3, 8), conv(3, 8)], channels=8, activation=inside, output="linear")
        return workload_of(network(design, stem=Stem(3, 1, 8, stem))).operations

    assert operations("relu", "relu") == 5
    assert operations("hardswish", "relu") == operations("relu", "silu") == 6


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SPACES)))
def test_work_agrees_with_the_cost(data: st.DataObject, name: str) -> None:
    space = SPACES[name]
    architecture = space.decode(data.draw(parameter_sets(space)))
    work, cost = workload_of(architecture), cost_of(architecture)
    assert work.dense_macs + work.grouped_macs + work.depthwise_macs == cost.macs
    assert work.params == cost.params
    assert all(number >= 0 for number in work)
    assert work.moved > work.activated


# -- the predictor ----------------------------------------------------------------------------


def work_of(rng: np.random.Generator, count: int) -> list[Workload]:
    scale = (0.0, 30, 1e7, 1e6, 1e6, 1e6, 1e5, 1e5)
    drawn = rng.uniform(0.2, 1, (count, len(scale))) * scale
    return [Workload(1.0, *map(float, row[1:])) for row in drawn]


PARTS = (0.05, 0.002, 2e-8, 9e-8, 0.0, 3e-8, 0.0, 1e-7)


def took(work: Workload) -> float:
    return math.fsum(part * kind for part, kind in zip(PARTS, work, strict=True))


def test_a_sum_over_the_work_is_found_again() -> None:
    work = work_of(np.random.default_rng(0), 40)
    known, others = work[:24], work[24:]
    found = fit(known, [took(each) for each in known])
    assert found.networks == 24
    assert found.error < 0.02
    for each in others:
        assert found.predict(each) == pytest.approx(took(each), rel=0.05)
    assert fit(known, [took(each) for each in known]) == found, "a function of the numbers"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 20), noise=st.floats(0, 1))
def test_predictions_are_above_zero_and_grow_with_the_work(
    seed: int, count: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    work = work_of(rng, count)
    times = [took(each) * math.exp(noise * rng.normal()) for each in work]
    found = fit(work, times)
    assert all(part >= 0 for part in found.parts)
    assert found.error >= 0 and math.isfinite(found.error)
    for each in work:
        assert 0 < found.predict(each) <= found.at_most(each)
        more = Workload(*(kind * 1.5 for kind in each))
        assert found.predict(more) >= found.predict(each)
    # In other units it is the same fit.
    in_seconds = fit(work, [each / 1000 for each in times])
    assert in_seconds.predict(work[0]) == pytest.approx(found.predict(work[0]) / 1000, rel=1e-6)


def test_the_error_is_what_unknown_networks_are_missed_by() -> None:
    rng = np.random.default_rng(1)
    work = work_of(rng, 300)
    times = [took(each) * math.exp(0.2 * rng.normal()) for each in work]
    found = fit(work[:40], times[:40])
    misses = [
        math.log(seen / found.predict(each))
        for each, seen in zip(work[40:], times[40:], strict=True)
    ]
    assert found.error == pytest.approx(float(np.sqrt(np.mean(np.square(misses)))), rel=0.3)


# -- measurements, and what is known when ----------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Requirements:
    return load_requirements(with_device(tmp_path))


def meter(scale: float = 1.0, bend: float = 1.0) -> tuple[Meter, list[str]]:
    """Tells times that no sum over the work tells exactly, and what it was asked for."""
    asked: list[str] = []

    def tell(architecture: Architecture) -> dict[str, Measurement]:
        asked.append(architecture.id)
        return {"latency_ms": Measurement(scale * took(workload_of(architecture)) ** bend)}

    return Meter(tell, {"latency_ms": "told"}), asked


def networks_of(requirements: Requirements, count: int) -> list[Architecture]:
    space, rng = DesignSpace(requirements), np.random.default_rng(3)
    found = {each.id: each for each in (space.decode(space.sample(rng)) for _ in range(4 * count))}
    return list(found.values())[:count]


def test_a_network_is_measured_once_also_after_a_kill(tiny: Requirements, tmp_path: Path) -> None:
    some = networks_of(tiny, 5)
    telling, asked = meter()
    file = tmp_path / "new" / MEASUREMENTS
    first = Measurements(telling, file)
    values = [first.of(each, index).values for index, each in enumerate(some)]
    assert [first.of(each, 9).values for each in some] == values
    assert asked == [each.id for each in some]
    # A kill cut the last line short.
    file.write_bytes(file.read_bytes()[:-20])
    again = Measurements(telling, file)
    assert [row.architecture for row in again.before(9)] == asked[:4]
    assert again.of(some[4], 4).values == values[4]
    assert asked[5:] == [some[4].id]
    third = Measurements(telling, file)
    assert [(row.architecture, row.at) for row in third.before(9)] == [
        (each.id, index) for index, each in enumerate(some)
    ]
    # What was measured in another way does not count.
    assert not Measurements(replace(telling, ways={"latency_ms": "otherwise"}), file).before(9)
    assert ways_of(file, some[0].id, {"macs": 1, **values[0]}) == {"latency_ms": "told"}
    assert ways_of(file, some[0].id, {"latency_ms": 99.0}) == {}


def test_what_is_expected_follows_from_what_was_known_before(tiny: Requirements) -> None:
    some = networks_of(tiny, 32)
    measurements = Measurements(meter()[0])
    for each in some[:12]:
        measurements.of(each, FIRST)
    before = Pricing(tiny, measurements, DEFAULT)
    assert before.predictor is not None
    for index, each in enumerate(some[12:22]):
        measurements.of(each, index)
    measurements.of(some[22], CALIBRATION)
    # The same networks, the same predictor; fitted anew with a quarter more: to 12, 15, 19, 24.
    assert Pricing(tiny, measurements, DEFAULT).predictor is before.predictor
    fitted = [Pricing(tiny, measurements, at) for at in range(11)]
    sizes = [each.predictor.fits["latency_ms"].networks for each in fitted if each.predictor]
    assert sizes == [12, 12, 12, 15, 15, 15, 15, 19, 19, 19, 19]
    # Within a moment, by what is asked for in it: also where it is known already.
    asked = fitted[0]
    for each in some[12:15]:
        asked.known(each)
    assert asked.predictor is fitted[3].predictor
    assert asked.expected(some[0]).latency_ms == measurements.of(some[0], 0).values["latency_ms"]


def test_nothing_measured_is_nothing_but_arithmetic(tmp_path: Path) -> None:
    plain = load_requirements(write_tiny(tmp_path))
    pricing = pricing_of(DesignSpace(plain), plain, tmp_path / "run")
    each = networks_of(plain, 1)[0]
    for cost in (pricing.known(each), pricing.expected(each), pricing.cautious(each)):
        assert cost == cost_of(each)
    assert pricing.judged(each) == (cost_of(each), plain.violations(cost_of(each)))
    assert pricing.predictor is None and not (tmp_path / "run").exists()


def test_what_is_far_over_is_not_measured(tiny: Requirements) -> None:
    some = networks_of(tiny, 40)
    telling, asked = meter()
    measurements = Measurements(telling)
    times = [measurements.of(each, FIRST).values["latency_ms"] for each in some[:12]]
    limits = {"macs": None, "params": None, "latency_ms": min(times) / 3}
    low = tiny.model_copy(update={"limits": tiny.limits.model_copy(update=limits)})
    pricing = Pricing(low, measurements, DEFAULT)
    cost, violations = pricing.judged(some[20])
    assert violations["latency_ms"] > 0 and "latency_ms" not in cost
    assert len(asked) == 12


# -- the default network and what check says --------------------------------------------------


@pytest.mark.parametrize(("bend", "share"), [(0.7, 0.3), (1.0, 0.5), (1.4, 0.05), (1.4, 0.9)])
def test_the_default_network_is_within_the_measured_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bend: float, share: float
) -> None:
    telling, asked = meter(10.0, bend)
    file = write_tiny(tmp_path, ("limits: {macs: 30k, params: 4k}", "limits: {latency_ms: 1}"))
    free = load_requirements(file, ["limits=", "objectives=[accuracy, macs]"])
    space = DesignSpace(free)

    def tell(architecture: Architecture) -> float:
        return telling.measure(architecture)["latency_ms"].value

    own = tell(space.decode(space.own()))
    least = tell(space.decode(space.descend(space.own(), tell)))
    limit = least + share * (own - least)
    requirements = load_requirements(file, [f"limits.latency_ms={limit}"])
    monkeypatch.setattr(Meter, "of", lambda requirements: telling)
    asked.clear()
    pricing = pricing_of(space, requirements)
    assert len(asked) == NETWORKS
    params = default_params(space, requirements, pricing)
    assert params is not None
    within = tell(space.decode(params))
    assert within <= limit
    assert default_params(space, requirements, pricing) == params
    found = feasibility(space, requirements, samples=100, pricing=pricing)
    assert found.possible and found.default_cost is not None
    assert found.default_cost.latency_ms == within
    assert found.expectations["latency_ms"].way == "told"
    networks = spread_networks(space, requirements, 6, pricing)
    assert all(tell(each) <= limit for each in networks)


def test_where_nothing_fits_the_smallest_is_told_with_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling, _ = meter(10.0)
    monkeypatch.setattr(Meter, "of", lambda requirements: telling)
    file = with_device(tmp_path, limit="0.2")
    requirements = load_requirements(file)
    space = DesignSpace(requirements)
    with pytest.raises(NothingFits, match="the closest was measured and has latency_ms") as caught:
        require_possible(space, requirements, pricing_of(space, requirements))
    (advice,) = [line for line in str(caught.value).splitlines() if "raise limits.lat" in line]
    raised = advice.split(" to ")[1].split(":")[0]
    eased = load_requirements(file, [f"limits.latency_ms={raised}"])
    require_possible(space, eased, pricing_of(space, eased))


@needs_onnx
def test_check_says_what_was_measured_and_what_is_expected(tmp_path: Path) -> None:
    with_device(tmp_path)
    words = ["check", "tiny.yaml", "--set", "limits.file_bytes=20kB", "--device", "cpu"]
    code, said = run(words, tmp_path)
    assert code == 0, said
    assert "Latency of the prototype's default: " in said
    assert "ms, measured by the command './device.sh {onnx}', float32" in said
    assert "File size of the prototype's default: " in said
    assert said.count("of random proposals are expected to fit") == 2
    assert "predicted from 12 measured networks" in said
    assert len(set(calls(tmp_path))) == len(calls(tmp_path)) >= NETWORKS


# -- the command ------------------------------------------------------------------------------


def test_the_last_line_is_the_time(tmp_path: Path) -> None:
    def prints(*lines: str) -> float:
        text = "\n".join(lines)
        return command_milliseconds(f"cat {{onnx}}; echo; echo '{text}'", b"x", timeout=10)

    assert prints("2.5") == prints("2.5ms") == prints("9", "median = 2.5 ms", "", " ") == 2.5
    assert prints("1e-2") == 0.01
    for wrong in ("", "fast", "-3", "0", "2.5 s", "2.5 ms or so", "1e99", "nan"):
        with pytest.raises(NotMeasured, match="must print milliseconds above 0"):
            prints("before", wrong or "nothing")


def test_the_file_is_where_the_command_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "a folder; with 'signs'"
    spaced.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spaced))
    for place in ("{onnx}", '"{onnx}"', "'{onnx}'"):
        assert command_milliseconds(f"wc -c < {place}", b"12345", timeout=10) == 5.0
    assert not list(spaced.iterdir())
    (tmp_path / "say.sh").write_text("echo 7\n")
    assert command_milliseconds("sh say.sh {onnx}", b"", timeout=10, folder=tmp_path) == 7.0
    with pytest.raises(NotMeasured, match=r"latency\.folder"):
        command_milliseconds("echo 1 {onnx}", b"", timeout=10, folder=tmp_path / "gone")


def test_a_failed_command_is_told_with_what_it_printed() -> None:
    line = "echo flashing {onnx}; echo no device on ttyUSB0 >&2; exit 3"
    with pytest.raises(NotMeasured) as caught:
        command_milliseconds(line, b"", timeout=10)
    said = str(caught.value)
    assert "must end with exit code 0, and ended with 3" in said
    assert "to stdout:\n        flashing" in said
    assert "to stderr:\n        no device on ttyUSB0" in said
    assert caught.value.exit_code == 2
    with pytest.raises(NotMeasured, match="was ended by SIGSEGV"):
        command_milliseconds("kill -SEGV $$; echo {onnx}", b"", timeout=10)
    with pytest.raises(NotMeasured, match=r"(?s)aaaa.*\[\.\.\.\].*bbbb") as caught:
        many = "printf 'a%.0s' $(seq 3000); printf 'b%.0s' $(seq 3000)"
        command_milliseconds(f"{many}; exit 1; {{onnx}}", b"", timeout=10)
    assert len(str(caught.value)) < 2000


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "hang.sh").write_text("sleep 600 &\necho $! > child\necho waiting\nwait\n")
    started = time.monotonic()
    with pytest.raises(NotMeasured, match=r"must end within latency\.timeout, 0\.5 seconds") as at:
        command_milliseconds("sh hang.sh {onnx}", b"", timeout=0.5, folder=tmp_path)
    assert time.monotonic() - started < 5
    assert "to stdout:\n        waiting" in str(at.value)
    child = int((tmp_path / "child").read_text())

    def is_gone() -> bool:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(child, 0)
            return "\nState:\tZ" in Path(f"/proc/{child}/status").read_text()
        return True

    end = time.monotonic() + 5
    while not is_gone():
        assert time.monotonic() < end, "the child lives on"
        time.sleep(0.01)


def test_the_command_runs_beside_the_file(tmp_path: Path) -> None:
    file = with_device(tmp_path / "there")
    requirements = load_requirements(file)
    assert requirements.latency.folder == tmp_path / "there"
    # Of the resolved file in a run folder too, which says it.
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(requirements))
    assert load_requirements(tmp_path / "resolved.yaml") == requirements
    (tmp_path / "there" / "dev").mkdir()
    elsewhere = load_requirements(file, ["latency.folder=" + str(tmp_path / "there" / "dev")])
    assert elsewhere.latency.folder == tmp_path / "there" / "dev"
    given = load_requirements(file, ["latency.command=./mine {onnx}"])
    assert given.latency.folder == Path.cwd()


# -- what can be measured here ----------------------------------------------------------------


@needs_runtime
def test_measured_here(tmp_path: Path) -> None:
    asked = load_requirements(
        write_tiny(tmp_path), ["limits.latency_ms=1", "limits.file_bytes=1MB"]
    )
    one = networks_of(asked, 1)[0]
    state = torch.get_rng_state()
    found = measure(one, asked)
    assert torch.equal(state, torch.get_rng_state())
    low, high = found["latency_ms"].quartiles or (0, 0)
    assert 0 < low <= found["latency_ms"].value <= high
    # As of a trained network, no two of whose layers are alike.
    trained = build(one)
    with torch.no_grad():
        for tensor in [*trained.parameters(), *trained.buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    side = asked.data.resolution
    size = len(onnx_bytes(trained, (asked.data.channels, side, side)))
    assert found["file_bytes"].value == pytest.approx(size, abs=16)
    assert "one thread" in ways(asked)["latency_ms"]


def test_what_is_missing_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = with_device(tmp_path)
    by_command = load_requirements(file)
    here = load_requirements(file, ["latency="])
    for gone, requirements, missing in (
        ({"onnxruntime"}, by_command, None),
        ({"onnxruntime"}, here, "needs onnxruntime, which"),
        ({"onnx", "onnxruntime"}, here, "needs onnx and onnxruntime, which"),
        ({"onnx", "onnxruntime"}, by_command, "needs onnx, which"),
    ):
        monkeypatch.setattr(
            latency, "find_spec", lambda name, gone=gone: None if name in gone else name
        )
        if missing is None:
            require_measurable(requirements)
            continue
        with pytest.raises(InputError, match=missing) as caught:
            search(requirements, tmp_path / "run", machine=ONE)
        assert "pip install 'collabdesign[export]'" in str(caught.value)
        assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists() and not calls(tmp_path)


def test_half_precision_is_not_measured(tmp_path: Path) -> None:
    file = with_device(tmp_path)
    with pytest.raises(InputError, match="must be float32 or int8 where latency_ms is limited"):
        search(load_requirements(file, ["deploy.precision=float16"]), tmp_path / "run", machine=ONE)
    plain = load_requirements(file, ["limits.latency_ms=", "deploy.precision=float16"])
    require_measurable(plain)


@needs_runtime
def test_int8_is_measured_as_it_is_written(tmp_path: Path) -> None:
    file = write_tiny(tmp_path, ("macs: 30k,", "macs: 30k, file_bytes: 1MB,"))
    sizes = []
    for precision in ("float32", "int8"):
        requirements = load_requirements(file, [f"deploy.precision={precision}"])
        space = DesignSpace(requirements)
        found = measure(space.decode(space.own()), requirements)
        sizes.append(found["file_bytes"].value)
    # A byte a weight instead of four, and what each tensor between layers needs besides.
    assert sizes[1] < 0.8 * sizes[0]


# -- searches ---------------------------------------------------------------------------------


@needs_runtime
@pytest.mark.parametrize("sampler", ["generative", "random"])
def test_a_search_measured_here_keeps_its_limits(tmp_path: Path, sampler: str) -> None:
    limits = ("limits.file_bytes=12kB", "limits.latency_ms=0.05")
    objectives = "objectives=[accuracy, latency_ms]"
    requirements = load_requirements(
        write_tiny(tmp_path),
        [*SHORT, *limits, objectives, f"search.sampler={sampler}", "search.trials=5"],
    )
    record = search(requirements, tmp_path / "run", machine=ONE)
    assert len(record.trained) == 5
    known = {row.architecture: row for row in read_measurements(tmp_path / "run" / MEASUREMENTS)}
    for each in record.candidates:
        assert each.cost.file_bytes <= 12_000 and each.cost.latency_ms <= 0.05
        assert known[each.architecture.id].values.items() <= each.cost.items()
    assert record.candidates[0].proposed_by == "prototype"
    assert record.attributes["scale"]["highest"] == {"latency_ms": 0.05}
    view = gather(tmp_path / "run", running=False)
    assert 0 <= view.hypervolume[-1][1] <= 1
    # What broke a counted limit was not measured, and is shown without.
    assert sampler == "generative" or any("latency_ms" not in e.cost for e in view.rejections)
    assert "file size" in render_report(view)
    assert front_figure(view, "file_bytes")["data"]


@pytest.fixture(scope="module")
def by_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search with a command that measures, and its family; to look at."""
    folder = tmp_path_factory.mktemp("device")
    with_device(folder)
    code, said = run(search_words(folder, *overrides()), folder)
    assert code == 0, said
    return folder


def overrides(*more: str) -> list[str]:
    short = (*SHORT, "search.trials=7", "family.size=2", "family.finalists=1", *more)
    return [word for each in (*short, "family.training.epochs=2") for word in ("--set", each)]


@needs_onnx
def test_a_search_by_command_trains_nothing_over_the_limit(by_device: Path) -> None:
    record, known = read_record(by_device / "run"), measured(by_device / "run")
    assert len(record.finished) == 7
    for each in record.candidates:
        assert each.cost.latency_ms == known[each.architecture.id] <= 7
    assert len(calls(by_device)) == len(set(calls(by_device))) == len(known)
    for rejection in (row for each in record.candidates for row in each.rejections):
        assert max(rejection.violations.values()) > 0


@needs_onnx
def test_what_was_measured_is_shown_like_any_other_limit(by_device: Path) -> None:
    family = certificates(by_device / "run")
    assert family
    for each in family.values():
        (row,) = [row for row in each["requirements"] if row["name"] == "latency_ms"]
        assert row["required"] == 7 and row["met"] and row["value"] == each["cost"]["latency_ms"]
        assert row["measured"] == "measured by the command './device.sh {onnx}', float32"
    with (by_device / "run" / "front.csv").open() as file:
        front = list(csv.DictReader(file))
    assert front and all(0 < float(row["latency_ms"]) <= 7 for row in front)
    view = gather(by_device / "run", running=False)
    assert view.limits["latency_ms"] == 7
    figure = front_figure(view, "latency_ms")
    assert figure["layout"]["xaxis"]["title"]["text"] == "latency (ms, log scale)"
    assert figure["layout"]["xaxis"]["tickformat"] == "~g"
    assert any(
        note["text"] == "limit 7\N{NO-BREAK SPACE}ms" for note in figure["layout"]["annotations"]
    )
    page = render_report(view)
    assert '<option value="latency_ms">latency</option>' in page
    assert "at most 7\N{NO-BREAK SPACE}ms" in page
    log = (by_device / "run" / "search.log").read_text()
    assert " latency_ms, " in log
    code, said = run(["show", str(by_device / "run"), "0"], by_device)
    assert code == 0 and "latency_ms: " in said
    code, said = run(["status", str(by_device / "run")], by_device)
    count = len(measured(by_device / "run"))
    assert code == 0 and f"{count} networks measured: latency at most 7 ms" in said


@needs_onnx
def test_a_killed_search_measures_nothing_twice_and_finds_the_same(
    by_device: Path, tmp_path: Path
) -> None:
    with_device(tmp_path)
    words = search_words(tmp_path, *overrides())
    moments: list[Callable[[], bool]] = [
        lambda: len(calls(tmp_path)) >= 5,  # of the first networks
        lambda: len(rows(tmp_path / "run", "SELECT number FROM trials")) >= 4,
    ]
    for moment in moments:
        process = begin(words, tmp_path)
        assert wait_until(moment, process)
        kill(process)
    before = len(calls(tmp_path))
    code, said = run(words, tmp_path)
    assert code == 0, said
    assert outcomes(tmp_path / "run") == outcomes(by_device / "run")
    # A kill between the device's answer and the file costs that one measurement, no more.
    known = measured(tmp_path / "run")
    assert known == measured(by_device / "run")
    assert len(calls(tmp_path)) - len(set(calls(tmp_path))) <= len(moments)
    assert len(set(calls(tmp_path)[before:])) == len(calls(tmp_path)[before:])


BROKEN = DEVICE.replace(
    "size=", 'if [ $(wc -l < calls) -gt 15 ]; then echo "adb: device offline"; exit 1; fi\nsize='
)


@needs_onnx
def test_a_device_that_fails_ends_the_search_and_once_mended_it_goes_on(tmp_path: Path) -> None:
    with_device(tmp_path, BROKEN)
    longer = overrides("search.proxy.epochs=10")
    code, said = run(search_words(tmp_path, *longer, "--workers", "2"), tmp_path)
    assert code == 2
    assert "collabdesign: latency.command './device.sh {onnx}' must end with exit code 0" in said
    assert "adb: device offline" in said and "Traceback" not in said
    known = measured(tmp_path / "run")
    assert len(known) == 15
    # Trainings under way are given back.
    states = rows(tmp_path / "run", "SELECT state FROM trials")
    assert ("FAIL",) in states and set(states) <= {("FAIL",), ("COMPLETE",)}
    (tmp_path / "device.sh").write_text(DEVICE)
    # How long it may take is free to change.
    changes = ["--set", "latency.timeout=30", "--set", "search.trials=4"]
    code, said = run(search_words(tmp_path, *longer, *changes), tmp_path)
    assert code == 0, said
    record = read_record(tmp_path / "run")
    assert len(record.trained) == 4
    assert measured(tmp_path / "run").items() >= known.items()
    again = len(calls(tmp_path)) - len(set(calls(tmp_path)))
    assert again <= 1, "at most the network that failed"


@needs_onnx
def test_a_run_keeps_its_way_to_measure(by_device: Path) -> None:
    file, folder = by_device / "tiny.yaml", by_device / "run"
    asked = [*SHORT, "search.trials=7", "family.size=2", "family.finalists=1"]
    asked += ["family.training.epochs=2"]
    before = sorted((path.name, path.read_bytes()) for path in folder.glob("*.json*"))
    for change, words in (
        ("latency.command=./other.sh {onnx}", "a run keeps its way to measure ./device.sh"),
        ("limits.latency_ms=", "a run keeps its measured limits latency_ms, got none"),
        ("limits.file_bytes=9kB", "a run keeps its measured limits latency_ms, got latency_ms, fi"),
    ):
        for consent in (False, True):
            with pytest.raises(InputError, match=words):
                search(
                    load_requirements(file, [*asked, change]),
                    folder,
                    machine=ONE,
                    accept_changes=consent,
                )
    assert sorted((path.name, path.read_bytes()) for path in folder.glob("*.json*")) == before


# -- numbers ----------------------------------------------------------------------------------


def test_milliseconds_and_certificates_in_words(tiny: Requirements) -> None:
    space = "\N{NO-BREAK SPACE}"
    assert short_quantity("latency_ms", 2.5) == f"2.5{space}ms"
    assert short_quantity("latency_ms", 0.031249) == f"0.0312{space}ms"
    assert short_quantity("latency_ms", 1234.4) == f"1234{space}ms"
    assert short_quantity("file_bytes", 2048) == f"2{space}KiB"
    assert exact_quantity("latency_ms", 2.5) == "2.5000 ms"
    assert exact_quantity("file_bytes", 2048) == "2,048 bytes"
    assert exact_quantity("macs", 1_234_567) == "1,234,567"
    cost = Cost(macs=1, params=1, latency_ms=7.5)
    last = judge(tiny, cost, 0.9, ways={"latency_ms": "by hand"})[2]
    assert (last.name, last.required, last.value, last.met) == ("latency_ms", 7, 7.5, False)
    assert last.measured == "by hand"
    assert Cost.from_json(json.loads(json.dumps(dict(cost)))) == cost


def test_milliseconds_below_one_are_told_apart_by_size(tmp_path: Path) -> None:
    from collabdesign.explore.rungs import _size

    assert _size((0.25, 100.0)) == pytest.approx(math.log(5.0))
    assert _size((0.0, 100.0)) == pytest.approx(math.log(10.0))
