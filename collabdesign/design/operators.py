"""The tables of what a network is made of: one row a kind of layer, a join, an attention.

A row says everything but how torch computes it: the words that a person writes, what may be
chosen, what becomes of it where it cannot be built as drawn, what it costs, how it is drawn.
:mod:`collabdesign.evaluate.operators` has the same rows as torch modules. Reading, the design
space, costs, pictures and ``model.py`` walk these tables and know no kind by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

CONVOLUTION = "conv"
"""The operator that stem, projection and features are made of."""

OWN_ACTIVATION = "activation"
"""The setting by which a layer has another activation than its module."""

NO_ACTIVATION = "none"

# What stands where nothing is to choose: for one branch alone, and where nothing is activated.
JOIN_OF_ONE = "add"
UNUSED_ACTIVATION = "relu"


class Layer(Protocol):
    """What a row may read of a :class:`collabdesign.design.architecture.Layer`."""

    @property
    def kernel(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def settings(self) -> tuple[tuple[str, int | str], ...]: ...


Work = tuple[int, int, int]
"""Of one layer: its MACs, its parameters, and the most tensor elements that are alive beside its
input while it runs, its output among them."""


@dataclass(frozen=True)
class Look:
    """How something is drawn: the name in the legend, the fill and the border of its box."""

    legend: str
    fill: str
    border: str


@dataclass(frozen=True, kw_only=True)
class Word:
    """One way to write an operator, in YAML (``dw3``) and in ``model.py`` (``dw(3, 48)``).

    Attributes:
        meaning: One sentence.
        box: Text in a drawing; ``{k}`` stands for the side of the kernel.
        look: Of its box.
        kernels: Sides to choose from. Where there is only one, it is not written.
        chooses_channels: Whether its output channels are free; else it keeps its input's.
        depthwise: Whether each channel is a group of its own.
        settings: What may follow behind a slash; names of ``SETTINGS``.
        becomes: The word that takes its place where it must change the channels or take the
            stride and cannot. Empty: it stays, with as many groups as divide both channels.
    """

    meaning: str
    box: str
    look: Look
    kernels: tuple[int, ...] = (3, 5, 7, 9, 11)
    chooses_channels: bool = False
    depthwise: bool = False
    settings: tuple[str, ...] = ()
    becomes: str = ""

    @property
    def has_kernel(self) -> bool:
        """Whether there is a kernel to choose."""
        return len(self.kernels) > 1

    def names(self, layer: Layer, in_channels: int) -> bool:
        """Whether a layer of its operator is written with this word."""
        least = self.kernels[0]
        return (
            (layer.kernel >= least if self.has_kernel else layer.kernel == least)
            and (not self.depthwise or 1 < layer.groups == in_channels == layer.channels)
            and all(name in self.settings for name, _ in layer.settings)
        )


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A kind of layer.

    Attributes:
        words: The ways to write it, by word; a layer is named by the first that fits.
        work: What one layer costs, from the layer, its input channels and its output pixels.
            None: what a convolution does, with normalisation and without a bias; that stands in
            :mod:`collabdesign.design.cost`, in line, since nearly all layers are convolutions.
        is_activated: Whether the module's activation follows it inside a branch.
        takes_stride: Whether it can halve the resolution.
    """

    words: Mapping[str, Word]
    work: Callable[[Layer, int, int], Work] | None = None
    is_activated: bool = False
    takes_stride: bool = True

    @cached_property
    def least_kernel(self) -> int:
        """The smallest side of its kernel."""
        return min(word.kernels[0] for word in self.words.values())

    @cached_property
    def has_kernel(self) -> bool:
        """Whether layers differ in their kernel."""
        return len({side for word in self.words.values() for side in word.kernels}) > 1

    @cached_property
    def has_groups(self) -> bool:
        """Whether a layer may have more than one group."""
        return any(word.depthwise or "groups" in word.settings for word in self.words.values())

    @cached_property
    def keeps_channels(self) -> bool:
        """Whether no layer of it can change the number of channels."""
        return not any(word.chooses_channels for word in self.words.values())

    def settings_at(self, kernel: int) -> set[str]:
        """Names of what a layer with this kernel may set beside its groups."""
        return {
            name
            for word in self.words.values()
            if (kernel >= word.kernels[0] if word.has_kernel else kernel == word.kernels[0])
            for name in word.settings
            if name != "groups"
        }


@dataclass(frozen=True)
class Setting:
    """What may follow a word behind a slash: ``/g4``.

    Attributes:
        letter: Before the value; empty where the value is a word of its own.
        values: What it may be; any number from 1 where empty.
        default: What it is where it is not written; None where the module decides.
        example: As it is written.
    """

    letter: str
    values: tuple[int | str, ...]
    default: int | str | None
    example: str

    def allows(self, value: object) -> bool:
        """Whether a layer may have this value."""
        if not self.values:
            return type(value) is int and value >= 1
        return any(type(each) is type(value) and each == value for each in self.values)

    def read(self, text: str) -> int | str | None:
        """The value of what stands behind a slash, None where it is another setting's."""
        if not self.letter:
            return text if text in self.values else None
        digits = text.removeprefix(self.letter)
        return int(digits) if digits != text and digits.isdecimal() else None


@dataclass(frozen=True)
class Join:
    """How the outputs of a module's branches become one map.

    Attributes:
        splits_channels: True: each branch has a part of the module's channels, their order
            matters, and all are held until they are copied into one map. False: each branch has
            all channels, their order does not matter, and each is joined to those before it as
            soon as it is there.
    """

    splits_channels: bool


@dataclass(frozen=True)
class Attention:
    """What scales the joined map of a module.

    Attributes:
        label: In words and drawings.
        look: Of its box.
        work: What it costs, from the channels and the elements of the map.
    """

    label: str
    look: Look
    work: Callable[[int, int], Work]


def _pooling(layer: Layer, in_channels: int, pixels: int) -> Work:
    return 0, 0, layer.channels * pixels


def _squeeze_excite(channels: int, elements: int) -> Work:
    """Two linear layers with biases.

    Beside the map are alive: its means and the squeezed, the squeezed and the gate, and at last
    the gate and the scaled map.
    """
    squeezed = channels // 4 if channels > 16 else 4
    weights = 2 * channels * squeezed + squeezed + channels
    return weights, weights, channels + (elements if elements > squeezed else squeezed)


def _squeeze_excite_layer(layer: Layer, in_channels: int, pixels: int) -> Work:
    return _squeeze_excite(layer.channels, layer.channels * pixels)


# Okabe and Ito's hues, lightened; the text in a box tells the kind without its colour.
IN_GROUPS = Look("in groups", "#f9ddcf", "#d55e00")
_POOLING = Look("pooling", "#e9ebee", "#7b8794")
_EXCITED = Look("squeeze-and-excitation", "#f3e0ec", "#b3608f")

ACTIVATIONS: tuple[str, ...] = ("relu", "hardswish", "silu", "gelu")

SETTINGS: dict[str, Setting] = {
    "groups": Setting("g", (), 1, "/g4"),
    "dilation": Setting("d", (1, 2, 3, 4), 1, "/d2"),
    OWN_ACTIVATION: Setting("", (NO_ACTIVATION, *ACTIVATIONS), None, "/none"),
}

OPERATORS: dict[str, Operator] = {
    "conv": Operator(
        words={
            "pw": Word(
                meaning="A 1x1 convolution.",
                box="conv {k}\u00d7{k}",
                look=Look("1\u00d71 convolution", "#dcebf7", "#0072b2"),
                kernels=(1,),
                chooses_channels=True,
                settings=("groups", OWN_ACTIVATION),
            ),
            "dw": Word(
                meaning="A convolution of each channel by itself.",
                box="dw {k}\u00d7{k}",
                look=Look("depthwise", "#d6efe6", "#009e73"),
                depthwise=True,
                settings=("dilation", OWN_ACTIVATION),
            ),
            "conv": Word(
                meaning="A convolution.",
                box="conv {k}\u00d7{k}",
                look=Look("convolution", "#fbe9cc", "#c98500"),
                chooses_channels=True,
                settings=("groups", "dilation", OWN_ACTIVATION),
            ),
        },
        is_activated=True,
    ),
    "pool": Operator(
        words={
            "pool": Word(
                meaning="Max pooling, which keeps the channels.",
                box="pool {k}\u00d7{k}",
                look=_POOLING,
                becomes="pw",
            ),
        },
        work=_pooling,
    ),
    "avgpool": Operator(
        words={
            "avgpool": Word(
                meaning="Average pooling, which keeps the channels.",
                box="average {k}\u00d7{k}",
                look=_POOLING,
                becomes="pw",
            ),
        },
        work=_pooling,
    ),
    "se": Operator(
        words={
            "se": Word(
                meaning="Squeeze-and-excitation, which scales the channels.",
                box="SE",
                look=_EXCITED,
                kernels=(1,),
                becomes="pw",
            ),
        },
        work=_squeeze_excite_layer,
        takes_stride=False,
    ),
}

JOINS: dict[str, Join] = {
    "add": Join(splits_channels=False),
    "concat": Join(splits_channels=True),
}

ATTENTIONS: dict[str, Attention | None] = {
    "none": None,
    "squeeze_excite": Attention("SE", _EXCITED, _squeeze_excite),
}
