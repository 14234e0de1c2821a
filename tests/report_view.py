"""A report's view for the tests: real architectures and costs, accuracies by a formula."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import replace

from collabdesign.deliver.report.view import (
    AskedView,
    CandidateView,
    CurvePoint,
    DataView,
    ImportanceView,
    PrototypeView,
    ReferenceView,
    RejectedView,
    ReportView,
    RequirementRow,
    VariantView,
)
from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.cost import Cost, cost_of
from collabdesign.explore.calibration import Budget, Calibration, Point
from collabdesign.explore.rank import Estimate

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


def dominated(one: CandidateView, others: list[CandidateView]) -> bool:
    return any(
        other.accuracy >= one.accuracy
        and other.cost.macs <= one.cost.macs
        and other.cost.params <= one.cost.params
        and other.number != one.number
        for other in others
        if other.accuracy is not None and one.accuracy is not None
    )


def variant(index: int, candidate: CandidateView, goal: float) -> VariantView:
    assert candidate.accuracy is not None
    select = candidate.accuracy + 0.055
    test = round(select - 0.004, 4)
    cost = candidate.cost
    rows = tuple(
        RequirementRow(
            limit,
            value,
            getattr(cost, limit),
            "counted from the architecture",
            getattr(cost, limit) <= value,
        )
        for limit, value in LIMITS.items()
    )
    judged = RequirementRow(
        "accuracy",
        goal,
        test,
        "share of right answers on 10,000 test images, read once",
        test >= goal,
        at_least=True,
    )
    return VariantView(
        name=f"attonet-{'abcd'[index]}",
        candidate=candidate.number,
        architecture=candidate.architecture,
        cost=cost,
        select_accuracies=(select - 0.003, select, select + 0.003),
        test_accuracy=test,
        test_images=10_000,
        test_readings=1,
        requirements=(*rows, judged),
        curve=curve(select, 40),
    )


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
            Budget(epochs, epochs, 125 * epochs, Estimate(value, low, 0.97), 3.3 * epochs)
            for epochs, value, low in budgets
        ),
        seconds=1800.0,
    )


def full_view(trials: int = 60) -> ReportView:
    """A finished search with everything in it."""
    candidates: list[CandidateView] = []
    rejected: list[RejectedView] = []
    over: dict[str, int] = dict.fromkeys(LIMITS, 0)
    seed = 0
    while len(candidates) < trials:
        seed += 1
        architecture = network(seed, width=12 + 4 * (seed % 6))
        cost = cost_of(architecture, "int8")
        proposal = RejectedView(cost, violations(cost))
        if proposal.broken:
            rejected.append(proposal)
            for limit in proposal.broken:
                over[limit] += 1
            continue
        number = len(candidates)
        accuracy = accuracy_of(cost, seed) - (0.35 if number == 33 else 0.0)
        candidate = CandidateView(
            number,
            architecture,
            cost,
            accuracy,
            "trained",
            curve=curve(accuracy, 6),
            proposed_by="prototype" if number == 0 else "human" if number == 5 else "machine",
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
    trained = [each for each in candidates if each.accuracy is not None]
    front = {each.number for each in trained if not dominated(each, trained)}
    candidates = [replace(each, on_front=each.number in front) for each in candidates]
    best_first = sorted(
        (each for each in candidates if each.on_front), key=lambda each: -(each.accuracy or 0)
    )
    chosen = [best_first[round(at * (len(best_first) - 1) / 3)] for at in range(4)]
    return ReportView(
        name="cifar10",
        created="2024-05-17 14:03 UTC",
        state="finished",
        asked=AskedView(
            limits=LIMITS,
            goals={"accuracy": 0.88},
            objectives=("accuracy", "macs", "params"),
            precision="int8",
            data=DataView(
                "a folder",
                (
                    "airplane",
                    "automobile",
                    "bird",
                    "cat",
                    "deer",
                    "dog",
                    "frog",
                    "horse",
                    "ship",
                    "truck",
                ),
                32,
                3,
                8000,
                2000,
                10_000,
            ),
            trials=trials,
            seed=0,
            proxy_epochs=6,
            family_epochs=40,
            family_seeds=3,
        ),
        candidates=tuple(candidates),
        rejected=tuple(rejected[:200]),
        rejected_count=len(rejected),
        rejected_by_limit=over,
        repeated_count=4,
        seconds=1893.0,
        prototype=PrototypeView(Cost(5_800_000, 181_000, 181_000, 65_536), 0, True),
        family=tuple(variant(index, each, 0.88) for index, each in enumerate(chosen)),
        family_rule="Chosen from the front, evenly spread in multiply-adds between the most "
        "accurate and the smallest.",
        family_folder="runs/cifar10/family",
        references=(
            ReferenceView("MobileNet-V1", 11_600_000, 3_217_226),
            ReferenceView("MobileNet-V2", 6_130_000, 2_236_682),
            ReferenceView("MobileNet-V3-small", 1_320_000, 1_528_106),
            ReferenceView("ShuffleNet-V2", 2_910_000, 1_263_854),
            ReferenceView(
                "SqueezeNet",
                None,
                None,
                "not applicable: the map is smaller than its pooling at 32 px",
            ),
        ),
        calibration=calibration(),
        calibrate_command="collabdesign calibrate runs/cifar10/requirements.yaml",
        importance=ImportanceView(
            55,
            0.41,
            (("stem", 0.5), ("stage 2, module 1", 0.3), ("stage 1 as a whole", 0.2)),
            (("stem: channels", 0.5), ("stage 2, module 1: branch 1 layer 2 width", 0.25)),
        ),
        hypervolume=tuple((n, 0.7 - 0.3 * math.exp(-n / 12)) for n in range(1, 56)),
        versions={"collabdesign": "0.1.0", "torch": "2.15.0", "device": "cpu, 2 cores"},
    )


def empty_view() -> ReportView:
    """Nothing proposed yet."""
    view = full_view(4)
    return ReportView(view.name, view.created, "running", replace(view.asked, limits={}, goals={}))


# Odd pages

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
