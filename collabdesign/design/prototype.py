"""The human's network-level macro-architecture: stem, stages, head, and the freedoms.

What a module computes is said in :mod:`collabdesign.design.architecture`, how a value is
written in :mod:`collabdesign.design.freedoms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from collabdesign.design import freedoms
from collabdesign.design.files.values import Section
from collabdesign.design.layer_words import parse_token
from collabdesign.design.operators import ACTIVATIONS, ATTENTIONS, JOINS

Location = tuple[str | int, ...]


def _or(names: Iterable[str]) -> str:
    *few, last = names
    return f"{', '.join(few)} or {last}"


def _fixed(own: Any, description: str) -> Any:
    """A field that has one value where none is written."""
    return Field(default=own, description=description, validate_default=True)


class StemFreedoms(Section):
    """The first convolution."""

    kernel: freedoms.Kernel = _fixed(3, "Side of the kernel: 1, 3, 5, 7, 9 or 11.")
    stride: freedoms.Stride = _fixed(1, "1 keeps the resolution, 2 halves it.")
    channels: freedoms.Channels = Field(description="Output channels, at least 4.")
    activation: freedoms.Activation = _fixed("relu", f"{_or(ACTIVATIONS)}.")


class StageFreedoms(Section):
    """Modules at one resolution; the first of them reduces it by the stage's stride."""

    modules: freedoms.Count = Field(
        description="How many modules stand in the stage; 0 among the choices leaves it out."
    )
    stride: freedoms.Stride = _fixed(1, "1 keeps the resolution, 2 halves it.")
    channels: freedoms.Channels = Field(description="Output channels of every module, at least 4.")
    module: str = Field(description="Name of the kind of module, a key under `modules`.")


class HeadFreedoms(Section):
    """What follows the last module."""

    features: freedoms.Features = _fixed(
        0, "Channels of a 1x1 convolution before the pooling; 0 leaves it out."
    )
    activation: freedoms.Activation = _fixed("relu", "Of the 1x1 convolution.")


class ModuleFreedoms(Section):
    """One kind of module: what the machine may choose inside it."""

    shortcut: freedoms.Shortcut = _fixed("identity", "identity, projection or none.")
    branches: freedoms.Branches = _fixed(1, "Parallel branches, 1 to 3.")
    join: freedoms.Join = _fixed("add", f"How several branches join: {_or(JOINS)}.")
    depth: freedoms.Depth = Field(description="Layers in a branch, 1 to 4.")
    layers: freedoms.Layers = Field(
        description="Layers to choose from, such as pw, dw3, conv3/g4, pool3. One list "
        "for every position, or a list of lists, position by position."
    )
    widths: freedoms.Widths = _fixed(
        1.0,
        "Hidden widths, times the stage's channels; for concat also the branches' shares of them.",
    )
    attention: freedoms.Attention = _fixed("none", f"{_or(ATTENTIONS)}.")
    activation: freedoms.Activation = _fixed("relu", f"{_or(ACTIVATIONS)}.")
    output: freedoms.Output = _fixed("activated", "activated, or linear as in inverted residuals.")
    share: Literal["module", "stage"] = Field(
        default="module", description="A design for each module, or one for all modules of a stage."
    )

    def tokens(self, position: int) -> freedoms.Freedom:
        """The choices for the layer at ``position``, counted from 0."""
        return self.layers[min(position, len(self.layers) - 1)]


class Prototype(Section):
    """A network-level macro-architecture with freedoms."""

    stem: StemFreedoms
    stages: tuple[StageFreedoms, ...] = Field(min_length=1, max_length=16)
    head: HeadFreedoms = HeadFreedoms()
    modules: dict[str, ModuleFreedoms] = Field(
        min_length=1, description="The kinds of module, by name."
    )

    def problems(self, resolution: int) -> list[tuple[Location, str]]:
        """What no single value shows: where it stands, and what is wrong.

        Args:
            resolution: Side of the input in pixels.
        """
        return [
            *self._unknown_modules(),
            *self._nothing_but_a_stem(),
            *self._vanishing_resolution(resolution),
            *self._groups_that_never_divide(),
        ]

    def _unknown_modules(self) -> Iterator[tuple[Location, str]]:
        for index, stage in enumerate(self.stages):
            if stage.module not in self.modules:
                yield (
                    ("stages", index, "module"),
                    f"must name a module ({', '.join(self.modules)}), got {stage.module!r}",
                )
        used = {stage.module for stage in self.stages}
        for name in self.modules:
            if name not in used:
                yield ("modules", name), f"every module must be used by a stage, {name!r} is not"

    def _nothing_but_a_stem(self) -> Iterator[tuple[Location, str]]:
        if all(min(stage.modules.values) == 0 for stage in self.stages):
            yield (
                ("stages",),
                "at least one stage must always have a module, and 0 is allowed in each of them",
            )

    def _vanishing_resolution(self, resolution: int) -> Iterator[tuple[Location, str]]:
        steps: list[tuple[Location, freedoms.Freedom]] = [(("stem", "stride"), self.stem.stride)]
        steps += [
            (("stages", index, "stride"), stage.stride) for index, stage in enumerate(self.stages)
        ]
        reduction = 1
        for location, stride in steps:
            reduction *= max(stride.values)
            if resolution // reduction < 1:
                yield (
                    location,
                    f"the strides up to here reduce the {resolution}x{resolution} input by "
                    f"{reduction}, to 0x0; at most {resolution} is possible",
                )
                return

    def _groups_that_never_divide(self) -> Iterator[tuple[Location, str]]:
        for name, module in self.modules.items():
            counts = {
                freedoms.hidden_channels(width, channels)
                for stage in self.stages
                if stage.module == name
                for channels in stage.channels.values
                for width in (1.0, *module.widths.values)
            }
            for token in dict.fromkeys(t for freedom in module.layers for t in freedom.values):
                groups = parse_token(token).groups
                if counts and all(count % groups for count in counts):
                    yield (
                        ("modules", name, "layers"),
                        f"the groups of a layer must divide a channel count that its stages can "
                        f"have, but none of {_few(sorted(counts))} is a multiple of {groups}, "
                        f"got {token!r}",
                    )


def _few(values: list[int], most: int = 8) -> str:
    shown = ", ".join(map(str, values[:most]))
    return shown if len(values) <= most else f"{shown}, ..."
