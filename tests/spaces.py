"""Design spaces, parameter sets and layers for the tests."""

from __future__ import annotations

from collections.abc import Sequence
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
