"""Design spaces, parameter sets and layers for the tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.prototype import Prototype
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace, Params

FOLDER = Path(__file__).parents[1] / "requirements" / "prototypes"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def written(name: str) -> dict[str, Any]:
    """A shipped prototype as its file says it."""
    data: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return data


def space_of(
    prototype: Prototype | dict[str, Any],
    resolution: int = 32,
    channels: int = 3,
    classes: int = 10,
) -> DesignSpace:
    data = {"source": "folder", "train": "images", "resolution": resolution}
    requirements = Requirements.model_validate(
        {
            "name": "test",
            "prototype": prototype,
            "data": {**data, "channels": channels, "classes": classes},
        }
    )
    return DesignSpace(requirements)


def small(module: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A prototype of one stage with one module of 8 channels, but for the changes."""
    stage = {"modules": 1, "channels": 8, "module": "m"}
    return {"stem": {"channels": 8}, "stages": [stage], "modules": {"m": module}, **changes}


RESOLUTIONS = {"tiny": 8, "residual": 32, "mixed": 32, "mobile": 96}
SPACES = {name: space_of(written(name), RESOLUTIONS.get(name, 64)) for name in SHIPPED}
# Tiny spaces, but with every kind of freedom, that can be enumerated.
CORNERS: dict[str, dict[str, Any]] = {
    "layers": small({"depth": [2, 1, 3], "layers": ["pw", "dw3", "conv3/g4"], "widths": [1, 2]}),
    "positions": small({"depth": [3, 1], "layers": [["pw", "pool3"], ["dw3", "pool3"], ["pw"]]}),
    "branches": small(
        {
            "branches": [1, 2, 3],
            "depth": 1,
            "layers": ["pw", "dw3"],
            "join": ["add", "concat"],
            "widths": [1, 2, 3],
            "attention": ["none", "squeeze_excite"],
        }
    ),
    "words": small(
        {
            "depth": 1,
            "layers": ["pw", "conv3"],
            "shortcut": ["identity", "none"],
            "activation": ["relu", "silu"],
            "output": ["linear", "activated"],
        },
        head={"features": [0, 16, 32], "activation": ["relu", "gelu"]},
    ),
    "modules": small(
        {"depth": [1, 2], "layers": ["pw", "conv3"], "widths": [1, 0.5]},
        stem={"kernel": [3, 5], "stride": [1, 2], "channels": {"low": 8, "high": 16, "step": 4}},
        stages=[{"modules": [1, 2], "stride": [1, 2], "channels": [8, 16], "module": "m"}],
    ),
    "shared": small(
        {"depth": [1, 2], "layers": ["pw", "conv3"], "share": "stage"},
        stages=[
            {"modules": {"low": 1, "high": 3, "step": 1}, "channels": 8, "module": "m"},
            {"modules": 1, "stride": 2, "channels": [12, 8], "module": "m"},
        ],
    ),
    "stages": small(
        {"depth": 1, "layers": ["pw", "conv3"]},
        stages=[
            {"modules": [1, 0], "stride": [1, 2], "channels": [8, 12], "module": "m"},
            {"modules": [1, 2], "channels": 8, "module": "m"},
            {"modules": [0, 1], "stride": 2, "channels": [8, 16], "module": "m"},
        ],
    ),
}
ALL_SPACES = {**SPACES, **{name: space_of(data, 16) for name, data in CORNERS.items()}}


class Drawn:
    """Draws from hypothesis what a trial would suggest."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        return low + step * self.draw(st.integers(0, (high - low) // step))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(choices))


@st.composite
def parameter_sets(draw: st.DrawFn, space: DesignSpace) -> Params:
    return space.suggest(Drawn(draw))


class Answers:
    """A trial that gives the answers it was made with, and then the first of all choices."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> Any:
        return self.suggest_categorical(name, tuple(range(low, high + 1, step)))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        assert len(choices) > 1, f"{name} has nothing to choose"
        self.asked.append(choices)
        if len(self.asked) > len(self.answers):
            self.answers.append(choices[0])
        return self.answers[len(self.asked) - 1]


def every_parameter_set(space: DesignSpace) -> Iterator[Params]:
    """By brute force: each way through the questions that a trial is asked."""
    beginnings: list[list[Any]] = [[]]
    while beginnings:
        given = beginnings.pop()
        fixed = len(given)
        trial = Answers(given)
        yield space.suggest(trial)
        for position in range(fixed, len(trial.asked)):
            for other in trial.asked[position][1:]:
                beginnings.append([*trial.answers[:position], other])


def conv(kernel: int, channels: int, stride: int = 1, groups: int = 1) -> Layer:
    return Layer("conv", kernel, stride, groups, channels)


def pool(kernel: int, channels: int, stride: int = 1) -> Layer:
    return Layer("pool", kernel, stride, 1, channels)


def module(*branches: Sequence[Layer], channels: int, **changes: Any) -> Module:
    """A module of stage 0 with added branches and nothing else, but for the changes."""
    plain = {
        "stage": 0,
        "stride": 1,
        "shortcut": "none",
        "join": "add",
        "attention": "none",
        "activation": "relu",
        "output": "activated",
    }
    return Module(
        **{**plain, **changes}, channels=channels, branches=tuple(map(Branch, map(tuple, branches)))
    )


def network(
    *modules: Module,
    input_channels: int = 3,
    resolution: int = 8,
    classes: int = 10,
    stem: Stem | None = None,
    features: int = 0,
) -> Architecture:
    """An architecture with a plain stem of 8 channels."""
    return Architecture(
        input_channels, resolution, classes, stem or Stem(3, 1, 8), modules, Head(features)
    )
