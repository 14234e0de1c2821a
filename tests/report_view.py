"""A report's view for the tests: real architectures and costs, accuracies by a formula."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from collabdesign.deliver.certificate import Certificate, Judged
from collabdesign.deliver.comparison import Comparison, Kind, Row, differences
from collabdesign.deliver.references import ReferenceCost
from collabdesign.deliver.report.importance import Importance
from collabdesign.deliver.report.view import ReportView, Variant
from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.requirements import Goals, Limits, Requirements
from collabdesign.explore.calibration import Budget, Calibration, Point, SameCost
from collabdesign.explore.rank import Estimate
from collabdesign.explore.record import Candidate, CurvePoint, Record, Rejection

LIMITS = {"macs": 3_000_000, "params": 100_000, "peak_activation_bytes": 128 * 1024}


def conv(kernel: int, channels: int, stride: int = 1, groups: int = 1) -> Layer:
    return Layer("conv", kernel, stride, groups, channels)


def inverted_residual(stage: int, inside: int, channels: int, stride: int) -> Module:
    hidden = 3 * inside
    same = stride == 1 and inside == channels
    layers = (conv(1, hidden), conv(3, hidden, stride, hidden), conv(1, channels))
    shortcut = "identity" if same else "none"
    return Module(
        stage,
        stride,
        channels,
        shortcut,
        "add",
        "squeeze_excite",
        "hardswish",
        "linear",
        (Branch(layers),),
    )


def inception(stage: int, inside: int, channels: int, stride: int) -> Module:
    quarter = channels // 4
    branches = (
        Branch((conv(1, quarter, stride),)),
        Branch((conv(1, quarter), conv(3, 2 * quarter, stride))),
        Branch((Layer("pool", 3, stride, 1, inside), conv(1, channels - 3 * quarter))),
    )
    return Module(stage, stride, channels, "none", "concat", "none", "relu", "activated", branches)


def resnext(stage: int, inside: int, channels: int, stride: int) -> Module:
    half = channels // 2
    layers = (conv(1, half), conv(3, half, stride, 4), conv(1, channels))
    return Module(
        stage,
        stride,
        channels,
        "projection",
        "add",
        "none",
        "relu",
        "activated",
        (Branch(layers),),
    )


def two_lanes(stage: int, inside: int, channels: int, stride: int) -> Module:
    branches = (
        Branch((conv(3, inside, stride, inside), conv(1, channels))),
        Branch(
            (
                conv(1, channels),
                conv(5, channels, stride, channels),
                conv(1, 2 * channels),
                conv(1, channels),
            )
        ),
    )
    shortcut = "identity" if stride == 1 and inside == channels else "projection"
    return Module(stage, stride, channels, shortcut, "add", "none", "relu", "activated", branches)


MODULES = (inverted_residual, inception, resnext, two_lanes)


def network(seed: int, width: int = 16) -> Architecture:
    """Three stages of one or two modules each, at 32x32 with ten classes."""
    random_ = random.Random(seed)
    channels = 8 * random_.randint(1, 2)
    stem, modules = Stem(3, 1, channels), []
    for stage, wide in enumerate((width, 2 * width, 3 * width)):
        wide = 8 * max(1, round(wide * random_.uniform(0.5, 1.5) / 8))
        for position in range(random_.randint(1, 2)):
            make = random_.choice(MODULES)
            modules.append(make(stage, channels, wide, 2 if position == 0 else 1))
            channels = wide
    return Architecture(3, 32, 10, stem, tuple(modules), Head(random_.choice((0, 128)), "relu"))


def accuracy_of(cost: Cost, seed: int) -> float:
    noise = random.Random(seed).gauss(0, 0.025)
    return round(min(0.95, 0.30 + 0.092 * math.log10(cost.macs) + noise), 4)


def curve(last: float, epochs: int) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            epoch,
            2.3 * math.exp(-2.2 * epoch / epochs) + 0.4,
            last * (1 - 0.75 * math.exp(-4 * epoch / epochs)),
        )
        for epoch in range(1, epochs + 1)
    )


def violations(cost: Cost) -> dict[str, float]:
    return {limit: getattr(cost, limit) / value - 1 for limit, value in LIMITS.items()}


def dominated(one: Candidate, others: list[Candidate]) -> bool:
    return any(
        other.accuracy >= one.accuracy
        and other.cost.macs <= one.cost.macs
        and other.cost.params <= one.cost.params
        and other.number != one.number
        for other in others
        if other.accuracy is not None and one.accuracy is not None
    )


def variant(index: int, candidate: Candidate, goal: float) -> Variant:
    assert candidate.accuracy is not None
    select = candidate.accuracy + 0.055
    test = round(select - 0.004, 4)
    cost = candidate.cost
    counted, share = "counted from the architecture", "share of right answers on 10,000 test images"
    rows = [
        Judged(limit, value, cost[limit], counted, cost[limit] <= value, at_least=False)
        for limit, value in LIMITS.items()
    ]
    rows.append(Judged("accuracy", goal, test, share, test >= goal, at_least=True))
    certificate = Certificate(
        name=f"attonet-{'abcd'[index]}",
        candidate=candidate.number,
        architecture=candidate.architecture.id,
        cost=cost,
        precision="int8",
        select_accuracies=(select - 0.003, select, select + 0.003),
        seeds=(0, 1, 2),
        delivered_seed=2,
        test_accuracy=test,
        test_images=10_000,
        test_readings=1,
        requirements=tuple(rows),
        curve=curve(select, 40),
        epochs=40,
        weights_sha256="0" * 64,
        data={},
        environment={},
    )
    return Variant(certificate, candidate.architecture)


def with_certificate(member: Variant, **changes: Any) -> Variant:
    """The member with other values in its certificate."""
    return replace(member, certificate=replace(member.certificate, **changes))


def with_candidates(view: ReportView, *candidates: Candidate) -> ReportView:
    """The view of a study with these candidates and nothing else."""
    return replace(view, record=replace(view.record, candidates=candidates))


def calibration() -> Calibration:
    """Twelve networks whose full training adds less the more a proxy has."""
    proxies = [0.62 + 0.018 * index for index in range(12)]
    budgets = ((2, 0.61, 0.1), (3, 0.83, 0.4), (6, 0.86, 0.5), (12, 0.91, 0.6))
    return Calibration(
        points=tuple(
            Point(f"{index:012x}", 400_000 * (index + 1), proxy, 0.5 + 0.5 * proxy)
            for index, proxy in enumerate(proxies)
        ),
        failed=1,
        asked=6,
        proxy_epochs=6,
        proxy_seeds=2,
        full_epochs=40,
        full_seeds=1,
        spearman=Estimate(0.86, 0.52, 0.97),
        kendall=Estimate(0.71, 0.4, 0.92),
        noise=0.008,
        budgets=tuple(
            Budget(
                *(epochs, epochs, 125 * epochs, Estimate(value, low, 0.97), 3.3 * epochs),
                same_cost=Estimate(value - 0.1, low - 0.2, 0.9),
            )
            for epochs, value, low in budgets
        ),
        seconds=1800.0,
        macs_alone=Estimate(0.93, 0.71, 0.99),
        same_cost=SameCost(
            17, Estimate(0.58, 0.11, 0.84), Estimate(0.47, 0.06, 0.77), Estimate(0.09, -0.4, 0.55)
        ),
    )


REQUIREMENTS = {
    "name": "cifar10",
    "prototype": {
        "stem": {"channels": 8},
        "stages": [{"modules": 1, "stride": 2, "channels": 16, "module": "plain"}],
        "modules": {"plain": {"depth": 1, "layers": ["conv3"]}},
    },
    "data": {
        "source": "folder", "train": "cifar10/train", "test": "cifar10/test",
        "resolution": 32, "channels": 3, "classes": 10,
    },
    "limits": LIMITS,
    "deploy": {"precision": "int8"},
    "goals": {"accuracy": 0.88},
    "search": {"seed": 0, "proxy": {"epochs": 6}},
    "family": {"training": {"epochs": 40, "seeds": 3}},
}  # fmt: skip

RULE = (
    "Members come from the front.\nThey are evenly spread in multiply-adds between the most "
    "accurate and the smallest."
)


def compared(
    name: str, kind: Kind, macs: int, params: int, accuracy: float, milliseconds: float, **more: Any
) -> Row:
    """A row with three seeds."""
    found = tuple(accuracy + shift for shift in (-0.004, 0.0, 0.005))
    row = Row(
        name, kind, "somewhere", name, macs, params, 0.4, 45, (0, 1, 2), found, found, (1, 1, 1),
        (), milliseconds, (0.9 * milliseconds, 1.2 * milliseconds),
    )  # fmt: skip
    return replace(row, **more)


def comparison(members: Sequence[Variant], name: str = "") -> Comparison:
    """Of these members with a few others; ``name`` is one of the others'."""
    rows = [
        compared(
            each.certificate.title,
            "member",
            each.certificate.cost.macs,
            each.certificate.cost.params,
            each.certificate.test_accuracy,
            0.03 + each.certificate.cost.macs / 4e7,
            network=each.architecture.id,
        )
        for each in members
    ]
    rows += [
        compared("prototype's default", "prototype", 2_700_000, 80_000, 0.861, 0.09),
        compared("random search", "random", 2_400_000, 71_000, 0.874, 0.08),
        compared("MobileNet-V1 1.0x", "well-known", 11_596_298, 3_217_226, 0.842, 0.41),
        compared("MobileNet-V1 0.25x", "well-known", 834_698, 215_642, 0.741, 0.09),
        compared("MobileNet-V2 1.0x", "well-known", 6_124_938, 2_236_682, 0.836, 0.39),
        compared("ShuffleNet-V2 0.5x", "well-known", 815_402, 352_042, 0.752, 0.24),
        compared("ResNet-20", "well-known", 40_813_194, 272_474, 0.917, 0.71),
        compared(
            "ResNet-8",
            "well-known",
            12_587_658,
            78_186,
            0.874,
            0.22,
            onnx_ms=None,
            onnx_ms_quartiles=None,
        ),
        Row("SqueezeNet 1.1", "well-known", "torchvision", "s", note="not applicable: too small"),
    ]
    if name:
        rows.append(compared(name, "well-known", 1_000_000, 1_000, 0.5, 1.0, note=name))
    return Comparison(
        "2026-11-27 12:00", 3, 45_000, 5_000, 10_000, {}, f"{RULE}{name}",
        f"onnxruntime 1.32.0, one thread{name}", "d", "t", {}, tuple(rows), differences(rows),
    )  # fmt: skip


def full_view(trials: int = 60) -> ReportView:
    """A finished search with everything in it."""
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    seed = 0
    while len(candidates) < trials:
        seed += 1
        architecture = network(seed, width=12 + 4 * (seed % 6))
        cost = cost_of(architecture, "int8")
        proposal = Rejection({}, cost, violations(cost))
        if any(over > 0 for over in proposal.violations.values()):
            rejected.append(proposal)
            continue
        number = len(candidates)
        accuracy = accuracy_of(cost, seed) - (0.35 if number == 33 else 0.0)
        candidate = Candidate(
            number,
            number,
            {},
            architecture,
            cost,
            "prototype" if number == 0 else "human" if number == 5 else "machine",
            outcome="trained",
            accuracy=accuracy,
            curve=curve(accuracy, 6),
            seconds=20.0,
            predicted=(accuracy + 0.004 * (number % 7 - 3), 0.006) if number > 10 else None,
        )
        if number in (7, 21, 40):
            candidate = replace(
                candidate,
                accuracy=None,
                outcome="failed",
                curve=candidate.curve[:2],
                reason="diverged: the loss was not a number in epoch 3",
            )
        if number in (12, 30):
            candidate = replace(
                candidate,
                accuracy=None,
                outcome="stopped",
                curve=candidate.curve[:3],
                reason="after 3 epochs behind all of 5 cheaper candidates",
            )
        candidates.append(candidate)
    broken = [limit for each in rejected for limit, over in each.violations.items() if over > 0]
    candidates[0] = replace(
        candidates[0],
        rejected=len(rejected),
        rejected_by={limit: broken.count(limit) for limit in LIMITS},
        rejections=tuple(rejected[:200]),
        repeated=4,
    )
    attributes = {
        "data": {
            "train_images": 8000, "select_images": 2000, "proxy_epochs": 6, "family_epochs": 40,
        },
        "family_rule": RULE,
        "command": "collabdesign search cifar10.yaml",
    }  # fmt: skip
    trained = [each for each in candidates if each.accuracy is not None]
    front = [each for each in trained if not dominated(each, trained)]
    best_first = sorted(front, key=lambda each: -(each.accuracy or 0))
    chosen = [best_first[round(at * (len(best_first) - 1) / 3)] for at in range(4)]
    members = tuple(variant(index, each, 0.88) for index, each in enumerate(chosen))
    written = {**REQUIREMENTS, "search": {**REQUIREMENTS["search"], "trials": trials}}
    return ReportView(
        created="2024-05-17 14:03 UTC",
        state="finished",
        requirements=Requirements.model_validate(written),
        record=Record(attributes, tuple(candidates), killed=0),
        front=tuple(front),
        rejections=candidates[0].rejections,
        drawn=Cost(5_800_000, 181_000, 181_000, 65_536),
        family=members,
        family_folder="runs/cifar10/family",
        references=(
            ReferenceCost("MobileNet-V1", 11_600_000, 3_217_226),
            ReferenceCost("MobileNet-V2", 6_130_000, 2_236_682),
            ReferenceCost("MobileNet-V3-small", 1_320_000, 1_528_106),
            ReferenceCost("ShuffleNet-V2", 2_910_000, 1_263_854),
            ReferenceCost(
                "SqueezeNet",
                None,
                None,
                "not applicable: the map is smaller than its pooling at 32 px",
            ),
        ),
        comparison=comparison(members),
        compare_command="collabdesign compare runs/cifar10",
        calibration=calibration(),
        calibrate_command="collabdesign calibrate runs/cifar10/requirements.yaml",
        importance=Importance(
            55,
            0.41,
            (("stem", 0.5), ("stage 2, module 1", 0.3), ("stage 1 as a whole", 0.2)),
            (("stem: channels", 0.5), ("stage 2, module 1: branch 1 layer 2 width", 0.25)),
        ),
        hypervolume=tuple((n, 0.7 - 0.3 * math.exp(-n / 12)) for n in range(1, 56)),
        environments=("collabdesign 0.1.0 \u00b7 torch 2.15.0 \u00b7 device cpu, 2 cores",),
    )


def empty_view() -> ReportView:
    """Nothing proposed yet."""
    view = full_view(4)
    unset = {"limits": Limits(), "goals": Goals()}
    return ReportView(
        view.created,
        "running",
        view.requirements.model_copy(update=unset),
        replace(view.record, candidates=()),
        Importance(0),
    )


# Odd pages

HOSTILE = """</script><script>window.hostile=1</script><img src=x onerror="window.hostile=1">'&"""


def failed(candidate: Candidate, **more: Any) -> Candidate:
    return replace(candidate, accuracy=None, outcome="failed", **more)


def all_failed_view() -> ReportView:
    view = full_view(6)
    candidates = [failed(each, reason="diverged") for each in view.record.candidates]
    return replace(
        with_candidates(view, *candidates), front=(), family=(), hypervolume=(), comparison=None
    )


def one_candidate_view() -> ReportView:
    view = full_view(4)
    only = replace(view.record.candidates[0], curve=(), rejected=0, rejected_by=None, rejections=())
    return replace(
        with_candidates(view, only),
        state="interrupted",
        front=(only,),
        rejections=(),
        family=(),
        references=(),
        comparison=None,
        hypervolume=(),
    )


def hostile_view() -> ReportView:
    view = full_view(20)
    endless = (CurvePoint(1, math.nan, 0.1), CurvePoint(2, math.inf, 0.1))
    first, second, *others = view.record.candidates
    second = failed(second, reason=HOSTILE, curve=endless)
    member = with_certificate(
        view.family[0],
        name=HOSTILE,
        requirements=(replace(view.family[0].certificate.requirements[0], measured=HOSTILE),),
    )
    data = view.requirements.data.model_copy(update={"dataset": HOSTILE})
    return replace(
        view,
        requirements=view.requirements.model_copy(update={"name": HOSTILE, "data": data}),
        record=replace(
            view.record,
            attributes={**view.record.attributes, "family_rule": f"{HOSTILE}\n{HOSTILE}"},
            candidates=(replace(first, proposed_by=HOSTILE), second, *others),
        ),
        front=tuple(each for each in view.front if each.number != second.number),
        family=(member,),
        references=(
            ReferenceCost(HOSTILE, 10_000_000, 10),
            ReferenceCost("S", None, None, HOSTILE),
        ),
        family_folder=HOSTILE,
        comparison=comparison([member], HOSTILE),
        compare_command=HOSTILE,
        environments=(f"{HOSTILE} {HOSTILE}",),
    )


VIEWS: dict[str, Callable[[], ReportView]] = {
    "full": full_view,
    "empty": empty_view,
    "all failed": all_failed_view,
    "one candidate": one_candidate_view,
    "hostile": hostile_view,
}


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


# What of a page is compared


def plain(text: str) -> str:
    """With plain spaces where no line may break."""
    return text.replace("\u00a0", " ")


def without_plotly(page: str) -> str:
    return re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)
