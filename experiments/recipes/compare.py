"""What each part of a recipe is worth to a small network, on the held-out part of train.

    python experiments/recipes/compare.py REQUIREMENTS --set data.train=DIR --epochs 12 --seeds 3

Trains each network with each recipe and each seed, and writes a line of ``results.jsonl`` for
each training as soon as it has ended; those that stand there are not made again. Test is never
opened. One thread each, two trainings at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from collabdesign import DesignSpace, build_network, load_requirements
from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.recipes import RECIPES as FACTS
from collabdesign.design.requirements import Requirements, Training
from collabdesign.evaluate.augment import take_shifted
from collabdesign.evaluate.data.images import ImageData, load_data
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.muon import Muon
from collabdesign.evaluate.operators import ConvNorm
from collabdesign.evaluate.recipe import RECIPES, Recipe, only_mirrored
from collabdesign.evaluate.references import WellKnown, build_reference
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import passes
from collabdesign.explore.feasible import default_params

RESULTS = Path(__file__).parent / "results.jsonl"


# -- networks ---------------------------------------------------------------------------------


def drawn(requirements: Requirements) -> nn.Module:
    """Drawn by hand in a minute, for 32x32 at a tenth of MobileNet-V1's multiply-adds."""

    def module(stage: int, inside: int, channels: int, stride: int) -> Module:
        depthwise = Layer("conv", 3, stride, inside, inside)
        pointwise = Layer("conv", 1, 1, 1, channels)
        again = (Layer("conv", 3, 1, channels, channels), pointwise) if stride == 1 else ()
        attention = "squeeze_excite" if stride == 1 else "none"
        shortcut = "identity" if stride == 1 else "none"
        layers = (depthwise, pointwise, *again)
        return Module(
            stage, stride, channels, shortcut, "add", attention, "hardswish", "activated",
            (Branch(layers),),
        )  # fmt: skip

    data = requirements.data
    return build_network(
        Architecture(
            data.channels,
            data.resolution,
            data.classes,
            Stem(3, 2, 16, "hardswish"),
            (
                module(0, 16, 40, 2),
                module(0, 40, 40, 1),
                module(0, 40, 40, 1),
                module(1, 40, 96, 2),
                module(1, 96, 96, 1),
            ),
            Head(0),
        )
    )


def default(requirements: Requirements) -> nn.Module:
    """The prototype's own, scaled down to the limits."""
    space = DesignSpace(requirements)
    params = default_params(space, requirements)
    assert params is not None, "nothing fits"
    return build_network(space.decode(params))


def mobilenet_v1(requirements: Requirements) -> nn.Module:
    """As published."""
    data = requirements.data
    return build_reference(
        WellKnown("MobileNet-V1 1.0x", data.channels, data.resolution, data.classes)
    )


class Branched(nn.Module):
    """A convolution with a 1x1 beside it, and the identity where shapes allow, as in QARepVGG
    (arXiv 2212.01593): a normalisation inside, one after the sum; it folds into one convolution."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        inside, outside, groups = conv.in_channels, conv.out_channels, conv.groups
        self.conv, self.inner = conv, nn.BatchNorm2d(outside)
        self.point = nn.Conv2d(inside, outside, 1, conv.stride, groups=groups, bias=False)
        self.keeps_shape = conv.stride == (1, 1) and inside == outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(self.conv(x)) + self.point(x)
        return y + x if self.keeps_shape else y


def branched(requirements: Requirements) -> nn.Module:
    """The default, with branches beside its depthwise convolutions while it trains."""
    network = default(requirements)
    for module in network.modules():
        if isinstance(module, ConvNorm) and module.conv.groups > 1:
            module.conv = Branched(module.conv)
    return network


NETWORKS: dict[str, Callable[[Requirements], nn.Module]] = {
    "drawn": drawn,
    "default": default,
    "default, branched": branched,
    "MobileNet-V1": mobilenet_v1,
}

# -- recipes ----------------------------------------------------------------------------------


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and statistics."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def cosine(progress: float, warm_up: float) -> float:
    """Rises linearly, falls by half a cosine."""
    if progress < warm_up:
        return progress / warm_up
    return float(
        0.5 * (1 + torch.cos(torch.tensor((progress - warm_up) / (1 - warm_up) * torch.pi)))
    )


def with_muon(
    network: nn.Module, written: Training, rate: float, *, ratio: float, momentum: float
) -> torch.optim.Optimizer:
    return Muon(network, rate, ratio=ratio, momentum=momentum, weight_decay=written.weight_decay)


def shifted_by(data: ImageData, chosen: torch.Tensor, generator: Any, *, shift: int) -> Any:
    return take_shifted(data.train_images, chosen, generator, shift=shift, flip=data.flip)


_SGD = RECIPES["sgd"]


def _muon(ratio: float = 1 / 20, momentum: float = 0.9, **parts: Any) -> Recipe:
    return replace(_SGD, optimizer=partial(with_muon, ratio=ratio, momentum=momentum), **parts)


# By name: the recipe, and what a person would write. The learning rate is 0.4 unless said.
VARIANTS: dict[str, tuple[Recipe, dict[str, Any]]] = {
    "sgd": (_SGD, {}),
    "sgd, rate x2": (_SGD, {"learning_rate": 0.8}),
    "sgd, rate /2": (_SGD, {"learning_rate": 0.2}),
    "sgd, shift 2": (replace(_SGD, augment=partial(shifted_by, shift=2)), {}),
    "muon": (_muon(), {}),
    "muon, last passes whole": (_muon(last_augment=only_mirrored), {}),
    "muon, average 0.99": (_muon(average=partial(averaged, decay=0.99)), {}),
    "muon, ratio 1/8": (_muon(1 / 8), {}),
    "muon, ratio 1/40": (_muon(1 / 40), {}),
    "muon, ratio 1/80": (_muon(1 / 80), {}),
    "muon, rate /2": (_muon(1 / 10), {"learning_rate": 0.2}),
    "muon, rate /4": (_muon(1 / 5), {"learning_rate": 0.1}),
    "muon, momentum 0.95": (_muon(momentum=0.95), {}),
    "muon, shift 2": (_muon(augment=partial(shifted_by, shift=2)), {}),
    "muon, no smoothing": (_muon(), {"label_smoothing": 0.0}),
    "muon, decay 1e-4": (_muon(), {"weight_decay": 1e-4}),
    "muon, average 0.998": (_muon(average=partial(averaged, decay=0.998)), {}),
    "muon, cosine": (_muon(schedule=partial(cosine, warm_up=0.1)), {}),
    "muon, batch 128": (_muon(), {"batch": 128}),
}


def train(job: tuple[str, str, int], requirements: Requirements, data: ImageData) -> dict[str, Any]:
    name, variant, seed = job
    torch.set_num_threads(1)
    recipe, written = VARIANTS[variant]
    RECIPES["tried"], FACTS["tried"] = recipe, FACTS["sgd"]
    asked = requirements.search.proxy.model_copy(update={**written, "recipe": "tried"})
    # Of a network and its branched form the same, so that they are pairs.
    drawn_seed = seed_of(name.partition(",")[0], seed)
    network = NETWORKS[name](requirements)
    initialise(network, drawn_seed)
    made = passes(network, data, asked, seed=drawn_seed, device=torch.device("cpu"))
    curve = [each.record for each in made]
    return {
        "network": name,
        "recipe": variant,
        "seed": seed,
        "epochs": requirements.search.proxy.epochs,
        "asked": str(requirements.data.train_images),
        "accuracy": curve[-1].accuracy,
        "curve": [each.accuracy for each in curve],
        "seconds": round(sum(each.seconds for each in curve)),
    }


_shared: tuple[Requirements, ImageData] | None = None


def _begin(requirements: Requirements) -> None:
    global _shared
    _shared = requirements, load_data(requirements.data)


def _train(job: tuple[str, str, int]) -> dict[str, Any]:
    assert _shared is not None
    return train(job, *_shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--recipes", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, f"search.proxy.epochs={arguments.epochs}"]
    requirements = load_requirements(arguments.requirements, overrides)
    jobs = [
        (network, recipe, seed)
        for seed in range(arguments.seeds)
        for network in arguments.networks
        for recipe in arguments.recipes
    ]
    asked = str(requirements.data.train_images), arguments.epochs
    known = [_job(each) for each in results() if (each["asked"], each["epochs"]) == asked]
    left = [job for job in jobs if job not in known]
    with ProcessPoolExecutor(2, initializer=_begin, initargs=(requirements,)) as pool:
        pending = [pool.submit(_train, job) for job in left]
        for done in track(as_completed(pending), total=len(pending), description="training"):
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done.result()) + "\n")
    made = [each for each in results() if (each["asked"], each["epochs"]) == asked]
    show([each for each in made if _job(each) in jobs])


def results() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def _job(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["network"], row["recipe"], row["seed"]


def show(rows: Iterable[dict[str, Any]]) -> None:
    """A table in Markdown: held-out accuracy, mean and standard deviation of the seeds."""
    by: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        by.setdefault((row["recipe"], row["network"]), []).append(100 * row["accuracy"])
    networks = list(dict.fromkeys(network for _, network in by))
    print("| recipe | " + " | ".join(networks) + " |")
    print("| --- |" + " --- |" * len(networks))
    for recipe in dict.fromkeys(recipe for recipe, _ in by):
        cells = []
        for network in networks:
            found = by.get((recipe, network), [])
            spread = f" +- {statistics.stdev(found):.2f}" if len(found) > 1 else ""
            cells.append(f"{statistics.fmean(found):.2f}{spread} ({len(found)})" if found else "")
        print(f"| {recipe} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
