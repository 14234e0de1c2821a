"""What fits, before any training: beside the whole of a small space, and the advice followed."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from pictures import SHAPES, SIDE, draw_pictures
from requirements_files import SHIPPED
from tiny_search import TRIALS, write_tiny

from collabdesign.design.cost import METRICS, Cost, cost_of
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import NothingFits
from collabdesign.evaluate.data.images import load_data
from collabdesign.evaluate.plan import plan_training
from collabdesign.explore import feasible
from collabdesign.explore.check import check
from collabdesign.explore.feasible import (
    Feasibility,
    Share,
    default_params,
    explain,
    feasibility,
    require_possible,
    scale_of,
)

# 3 stem widths, 2 heads: 6 networks that can be listed.
SIX = (
    "prototype.stem={stride: 2, channels: [8, 4, 24]}",
    "prototype.head.features=[0, 32]",
    "prototype.modules.residual={layers: [conv3], depth: 1}",
    "prototype.stages=[{modules: 1, stride: 2, channels: 16, module: residual}]",
    "limits=",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path)


def looked_at(tiny: Path, *overrides: str) -> tuple[Feasibility, Requirements]:
    requirements = load_requirements(tiny, overrides)
    return feasibility(DesignSpace(requirements), requirements, samples=600), requirements


def all_costs(requirements: Requirements) -> list[Cost]:
    """Of every network of a space without conditions between its parameters."""
    space = DesignSpace(requirements)
    names = list(space.parameters)
    choices = [space.parameters[name].values for name in names]
    return [
        cost_of(space.decode(dict(zip(names, values, strict=True))))
        for values in itertools.product(*choices)
    ]


# -- the space --------------------------------------------------------------------------------


def test_smallest_and_largest_are_those_of_the_space(tiny: Path) -> None:
    found, requirements = looked_at(tiny, *SIX)
    costs = all_costs(requirements)
    assert len(costs) == found.parameter_sets == 6
    assert found.parameters == 2
    assert found.smallest == min(costs, key=lambda cost: cost.macs)
    assert found.largest == max(costs, key=lambda cost: cost.macs)
    scale = scale_of(DesignSpace(requirements), requirements)
    for name in ("macs", "params"):
        assert scale.lowest[name] == min(getattr(cost, name) for cost in costs)
        assert scale.highest[name] == max(getattr(cost, name) for cost in costs)
    assert scale.chance == 0.1


def test_shares_are_those_of_the_space(tiny: Path) -> None:
    requirements = load_requirements(tiny, SIX)
    macs = sorted(cost.macs for cost in all_costs(requirements))
    params = sorted(cost.params for cost in all_costs(requirements))
    # A third of the networks keep one limit, five in six the other.
    limits = (f"limits.macs={macs[1]}", f"limits.params={params[4]}")
    found, requirements = looked_at(tiny, *SIX, *limits)
    expected = {"macs": 2 / 6, "params": 5 / 6, "all": 2 / 6}
    for name, share in expected.items():
        low, high = found.fits[name].interval
        assert low <= share <= high  # of 600 draws; a fixed seed
        assert found.fits[name].of == 600
    assert found.binding == "macs"
    assert found.possible and not found.changes
    assert scale_of(DesignSpace(requirements), requirements).highest["macs"] == macs[1]


def test_what_binds_is_what_keeps_the_most_out_alone(tiny: Path) -> None:
    assert looked_at(tiny, "limits={macs: 10k, params: 100k}")[0].binding == "macs"
    assert looked_at(tiny, "limits={macs: 10M, params: 1k}")[0].binding == "params"
    found = looked_at(tiny, "limits={macs: 10M}")[0]
    assert found.binding is None
    assert found.fits["all"].value == 1


def test_shares_have_an_interval() -> None:
    share = Share(5, 10)
    assert share.value == 0.5
    assert share.interval == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_the_prototype_stage_by_stage(tiny: Path) -> None:
    found, _ = looked_at(tiny)
    assert [part.name for part in found.own] == ["stem", "stage 1, module 1", "head"]
    for name in ("macs", "params"):
        assert sum(getattr(part, name) for part in found.own) == getattr(found.own_cost, name)
    assert found.default == found.own  # it fits as it is drawn
    # A stem of 3x3x1 kernels and a scale and shift for each of 8 channels, at 4x4.
    assert (found.own[0].macs, found.own[0].params) == (4 * 4 * 9 * 8, 9 * 8 + 2 * 8)
    assert (found.own[0].resolution_in, found.own[0].resolution_out) == (8, 4)


def test_a_default_shrunk_to_the_limits(tiny: Path) -> None:
    found, requirements = looked_at(tiny, "limits.macs=5k")
    assert found.own_cost.macs > 5_000
    assert found.default_cost is not None and found.default_cost.macs <= 5_000
    space = DesignSpace(requirements)
    default = default_params(space, requirements)
    assert default is not None and cost_of(space.decode(default)) == found.default_cost


def test_almost_nothing_fits(tiny: Path) -> None:
    found, _ = looked_at(tiny, "limits.macs=1200")
    assert found.possible
    assert found.fits["all"].value < 0.01
    (change,) = found.changes
    factor = float(re.search(r"every limit times ([\d.]+)", change)[1])  # type: ignore[index]
    eased, _ = looked_at(
        tiny, f"limits.macs={round(1_200 * factor)}", f"limits.params={round(4_000 * factor)}"
    )
    assert 0.03 <= eased.fits["all"].value <= 0.08


# -- nothing fits: the advice, followed, does fit ---------------------------------------------

IMPOSSIBLE = [
    ("tiny", "limits.macs=900"),
    ("tiny", "limits.params=200"),
    ("tiny", "limits.macs=900", "limits.params=200"),
    ("tiny", "limits.macs=900", "limits.peak_activation_bytes=300"),
    ("tiny", "limits.weight_bytes=256", "deploy.precision=int8"),
    ("tiny", "limits.macs=1500", "prototype.head.features=64"),
    ("tiny", "limits.macs=1200", "prototype.stages.0.modules=[3, 2]"),
    ("digits", "limits.macs=10k"),
    ("digits", "limits.macs=25k", "limits.params=300"),
    ("digits", "limits.peak_activation_bytes=1KiB"),
]


def followed(change: str) -> list[str]:
    """What a person writes who follows an advice: overrides that are given together."""
    change = change.removesuffix(": then something fits")
    if change.startswith("raise "):
        raised = re.findall(r"(limits\.\w+) to (\w+\.?\w*)", change)
        return [f"{name}={value}" for name, value in raised]
    overrides = []
    for words in change.removeprefix("or in the prototype, ").removeprefix("all of: ").split("; "):
        found = re.fullmatch(r"let (\S+) (?:fall to|be) (\d+)(?: \(.*\))?", words)
        assert found, words
        key = re.sub(r"\[(\d+)\]", r".\1", found[1])
        overrides.append(f"prototype.{key}=[{found[2]}]")
    return overrides


@pytest.mark.parametrize("case", IMPOSSIBLE, ids=" ".join)
def test_each_advice_makes_something_fit(tiny: Path, case: tuple[str, ...]) -> None:
    file = tiny if case[0] == "tiny" else SHIPPED / "digits.yaml"
    asked = case[1:]
    requirements = load_requirements(file, asked)
    space = DesignSpace(requirements)
    with pytest.raises(NothingFits) as refused:
        require_possible(space, requirements)
    found = feasibility(space, requirements, samples=50)
    assert str(refused.value) == explain(found, requirements)
    assert not found.possible
    assert found.default is None
    assert found.fits["all"].count == 0
    budgets = [change for change in found.changes if change.startswith("raise ")]
    assert budgets, found.changes
    for change in found.changes:
        eased = load_requirements(file, [*asked, *followed(change)])
        assert eased != requirements
        require_possible(DesignSpace(eased), eased)


@pytest.mark.parametrize("name", ["macs", "params"])
def test_the_advice_is_the_smallest_of_a_listed_space(tiny: Path, name: str) -> None:
    least = min(getattr(cost, name) for cost in all_costs(load_requirements(tiny, SIX)))
    found, _ = looked_at(tiny, *SIX, f"limits.{name}={least - 1}")
    (advice,) = followed(found.changes[0])
    eased = load_requirements(tiny, [*SIX, advice])
    assert getattr(eased.limits, name) == least


def test_advice_about_the_prototype_is_given_where_it_helps(tiny: Path) -> None:
    found, _ = looked_at(tiny, "limits.macs=900")
    assert found.changes[1:] == (
        "or in the prototype, let stages[0].channels fall to 4 (at least 8 now): "
        "then something fits",
    )
    # 30 bytes hold no feature map of this input, whatever the prototype.
    found, _ = looked_at(tiny, "limits.peak_activation_bytes=30B")
    assert not any("prototype" in change for change in found.changes)


# -- the data and the machine -----------------------------------------------------------------


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    draw_pictures(tmp_path / "shapes", 20, strays=True)
    source = "{source: folder, train: shapes, test: 0.25, resolution: 16}"
    return write_tiny(tmp_path, ("{source: digits, train_images: 500}", source), ("30k", "300k"))


def test_the_data_of_a_folder(shapes: Path) -> None:
    requirements = load_requirements(shapes)
    found = check(requirements, device="cpu")
    assert found.possible
    (train,) = found.data
    assert (train.name, train.images, train.inspected) == ("train", 60, 60)
    assert train.per_class == dict.fromkeys(SHAPES, 20)
    assert train.sizes == {f"{SIDE}x{SIDE}": 60}
    assert not train.unreadable
    assert {Path(path).name for path in train.stray} == {
        "README.md",
        ".DS_Store",
        "__MACOSX",
        "Thumbs.db",
        ".hidden.png",
    }
    assert found.time is not None
    # 60 less a quarter for test is 45, less a fifth to choose by is 36.
    data = load_data(requirements.data)
    assert len(data.train_labels) == 36
    plan = plan_training(36, requirements.search.proxy)
    slow, middle, fast = found.time.images_per_second
    assert 0 < slow <= middle <= fast
    assert found.time.proxy_seconds == pytest.approx(plan.steps * plan.batch / middle)
    assert found.time.search_seconds == pytest.approx(
        tuple(TRIALS * plan.steps * plan.batch / speed for speed in (slow, middle, fast))
    )
    # Of each member one full training, as many again to find the smallest that meets the goal, and
    # one of each finalist but the one that wins.
    assert requirements.goals.accuracy is not None
    full = plan_training(36, requirements.family.training)
    size, finalists = requirements.family.size, requirements.family.finalists
    assert (size, finalists, requirements.family.training.seeds) == (3, 4, 1)
    assert found.time.family_seconds == pytest.approx(
        (3 + 3 + 4) * full.steps * full.batch / middle
    )


def test_unreadable_pictures_are_not_ready(shapes: Path) -> None:
    broken = shapes.parent / "shapes" / "disc" / "a.jpg"
    broken.write_text("I am text")
    found = check(load_requirements(shapes), device="cpu")
    assert not found.possible and found.feasibility.possible
    assert [path for path, _ in found.unreadable] == [str(broken)]
    assert found.time is None


def test_costs_are_reported_for_every_limit(tiny: Path) -> None:
    found, _ = looked_at(tiny)
    for cost in (found.smallest, found.median, found.largest, found.closest):
        assert all(getattr(cost, name) > 0 for name in METRICS)
    assert found.smallest.macs <= found.median.macs <= found.largest.macs


def test_what_random_proposals_keep_is_never_called_impossible(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where shrinking finds nothing and the descents end on a plateau."""
    requirements = load_requirements(tiny, ("limits.macs=5k",))
    space = DesignSpace(requirements)
    monkeypatch.setattr(feasible, "scaled_down", lambda space, fits: None)
    monkeypatch.setattr(DesignSpace, "descend", lambda self, params, *_, **__: params)
    assert requirements.violations(cost_of(space.decode(space.own())))["macs"] > 0
    found = default_params(space, requirements)
    assert found is not None
    assert max(requirements.violations(cost_of(space.decode(found))).values()) <= 0
    assert feasibility(space, requirements, 200).possible
