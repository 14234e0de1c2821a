"""AttoNet-B: 10 classes, colour pictures of 32x32 pixels.

438,214 multiply-adds and 11,014 parameters. Designed by collabdesign as architecture
9a7726dda51e; needs torch alone (and Pillow to open pictures).

    network = load()                          # weights.pt beside this file
    logits = network(preprocess(image))       # a PIL image
    print(CLASSES[logits.argmax()])

`python model.py` checks the network against what is recorded here;
`python model.py picture.jpg` prints the most probable classes of a picture.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from PIL.Image import Image


# fmt: off
CLASSES: tuple[str, ...] = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
# fmt: on

# Of each channel of the training pictures, pixels running from 0 to 1.
MEAN = (0.49173533490349264, 0.48252007735906866, 0.4469025646254596)
STD = (0.24515612406218915, 0.24273165758115856, 0.2605157782262869)

# What the network had when it was written; `python model.py` compares. CPUs add up floats in
# different orders: the check value may differ by TOLERANCE, relative where it is above 1.
PARAMETERS = 11014
CHECK_VALUE = -0.4338120371103287
TOLERANCE = 1e-3


class Layer(NamedTuple):
    """One layer; ``settings`` are pairs of a name and a value."""

    op: str
    kernel: int
    channels: int
    stride: int = 1
    groups: int = 1
    settings: tuple[tuple[str, Any], ...] = ()


class Branch(NamedTuple):
    layers: tuple[Layer, ...]


class Module(NamedTuple):
    """Branches that are added or concatenated, then attention, shortcut and activation."""

    channels: int
    branches: tuple[Branch, ...]
    stride: int = 1
    shortcut: str = "none"
    join: str = "add"
    attention: str = "none"
    activation: str = "relu"
    output: str = "activated"


class Stem(NamedTuple):
    kernel: int
    stride: int
    channels: int
    activation: str


class Head(NamedTuple):
    """A 1x1 convolution to this many features (none for 0), pooling, a linear layer."""

    features: int
    activation: str


class Architecture(NamedTuple):
    input_channels: int
    resolution: int
    classes: int
    stem: Stem
    modules: tuple[Module, ...]
    head: Head


def module(channels: int, *branches: Branch, **choices: Any) -> Module:
    return Module(channels, branches, **choices)


def branch(*layers: Layer) -> Branch:
    return Branch(layers)


def pw(channels: int, stride: int = 1, groups: int = 1) -> Layer:
    """A 1x1 convolution."""
    return Layer("conv", 1, channels, stride, groups)


def dw(kernel: int, channels: int, stride: int = 1) -> Layer:
    """A convolution of each channel by itself."""
    return Layer("conv", kernel, channels, stride, channels)


# One entry a module, in order.
# fmt: off
ARCHITECTURE = Architecture(
    input_channels=3,
    resolution=32,
    classes=10,
    stem=Stem(kernel=3, stride=2, channels=24, activation="hardswish"),
    modules=(
        # stage 1, module 1: 16x16 to 8x8, 26% of the multiply-adds
        module(24,
               branch(dw(3, 24, stride=2), pw(24), dw(3, 24), dw(3, 24)),
               stride=2, shortcut="projection", attention="squeeze_excite", activation="hardswish",
               output="linear"),
        # stage 1, module 2: 8x8 to 8x8, 18% of the multiply-adds
        module(24,
               branch(dw(3, 24), pw(24), dw(3, 24), dw(3, 24)),
               shortcut="identity", attention="squeeze_excite", activation="hardswish",
               output="linear"),
        # stage 2, module 1: 8x8 to 4x4, 18% of the multiply-adds
        module(96,
               branch(dw(3, 24, stride=2), pw(96)),
               stride=2, shortcut="projection", output="linear"),
    ),
    head=Head(features=0, activation="relu"),
)
# fmt: on


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and an activation if one is named."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, stride, padding, dilation, groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)
        if activation != "none":
            self.act = ACTIVATIONS[activation]()


def convolution(layer: Layer, in_channels: int, activation: str) -> nn.Module:
    settings: dict[str, Any] = {"activation": activation, **dict(layer.settings)}
    return ConvNorm(
        in_channels, layer.channels, layer.kernel, layer.stride, layer.groups, **settings
    )


class Add(nn.ModuleList):
    """Branches whose outputs are added."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self[0](x)
        for number, branch in enumerate(self):
            if number > 0:  # torch.jit.script knows no slice of modules that are called
                y = y + branch(x)
        return y


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate computed from the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // 4)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = self.reduce(nn.functional.adaptive_avg_pool2d(x, 1)).relu()
        gate: torch.Tensor = self.expand(squeezed).sigmoid()
        return x * gate


OPERATORS: dict[str, Any] = {
    "conv": convolution,
}


JOINS: dict[str, Any] = {
    "add": Add,
}


ATTENTIONS: dict[str, Any] = {
    "none": nn.Identity,
    "squeeze_excite": SqueezeExcite,
}


ACTIVATIONS: dict[str, Any] = {
    "relu": nn.ReLU,
    "hardswish": nn.Hardswish,
}


class DesignedModule(nn.Module):
    """Parallel branches, joined; attention; shortcut; activation."""

    def __init__(self, in_channels: int, design: Module) -> None:
        super().__init__()
        self.branches = JOINS[design.join](
            self._branch(in_channels, branch.layers, design.activation)
            for branch in design.branches
        )
        self.attention = ATTENTIONS[design.attention](design.channels)
        self.has_shortcut = design.shortcut != "none"
        self.shortcut: nn.Module = nn.Identity()
        if design.shortcut == "projection":
            self.shortcut = ConvNorm(in_channels, design.channels, stride=design.stride)
        activated = design.output == "activated"
        self.act = ACTIVATIONS[design.activation]() if activated else nn.Identity()

    @staticmethod
    def _branch(in_channels: int, layers: tuple[Layer, ...], activation: str) -> nn.Sequential:
        steps: list[nn.Module] = []
        for number, layer in enumerate(layers, start=1):
            follows = activation if number < len(layers) else "none"
            steps.append(OPERATORS[layer.op](layer, in_channels, follows))
            in_channels = layer.channels
        return nn.Sequential(*steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(self.branches(x))
        if self.has_shortcut:
            y = y + self.shortcut(x)
        activated: torch.Tensor = self.act(y)
        return activated


class AttoNet(nn.Module):
    """Stem, modules, features, global average pooling, classifier."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stem, head = architecture.stem, architecture.head
        self.stem = ConvNorm(
            architecture.input_channels,
            stem.channels,
            stem.kernel,
            stem.stride,
            activation=stem.activation,
        )
        channels = stem.channels
        modules = []
        for design in architecture.modules:
            modules.append(DesignedModule(channels, design))
            channels = design.channels
        self.body = nn.Sequential(*modules)
        self.features: nn.Module = nn.Identity()
        if head.features:
            self.features = ConvNorm(channels, head.features, activation=head.activation)
            channels = head.features
        self.classifier = nn.Linear(channels, architecture.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(self.body(self.stem(x)))
        logits: torch.Tensor = self.classifier(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def load(weights: str | Path = "weights.pt") -> AttoNet:
    """The network with its weights, on the CPU, in evaluation mode.

    A relative name is looked up beside this file.
    """
    path = Path(__file__).resolve().parent / weights
    network = AttoNet(ARCHITECTURE)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def as_shown(image: Image) -> Image:
    """A picture as a viewer shows it: turned as its orientation mark says, on grey where it is
    transparent, since both dark and light drawings can be seen on that. Of an animation this is
    the frame that it stands at, the first of an opened file.
    """
    from PIL import Image

    image.load()
    try:
        mark = image.getexif().get(0x0112)
    except Exception:  # broken marks raise nearly anything; viewers pass over them
        mark = None
    flips = Image.Transpose
    turns = {
        2: flips.FLIP_LEFT_RIGHT,
        3: flips.ROTATE_180,
        4: flips.FLIP_TOP_BOTTOM,
        5: flips.TRANSPOSE,
        6: flips.ROTATE_270,
        7: flips.TRANSVERSE,
        8: flips.ROTATE_90,
    }
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(behind, image)
    return image.transpose(turns[mark]) if mark in turns else image


def fit_image(image: Image, side: int, channels: int) -> Image:
    """A picture of any mode and size in the form that a network is judged on.

    It is converted to RGB (3 channels) or L (1 channel), its shorter side is resized to ``side``
    pixels with antialiased bilinear interpolation, and the centre square is cut out. A picture of
    that form already is unchanged.
    """
    from PIL import Image

    image = image.convert("RGB" if channels == 3 else "L")
    width, height = image.size
    short = min(width, height)
    if short != side:
        width, height = round(width * side / short), round(height * side / short)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def preprocess(image: Image) -> torch.Tensor:
    """From a PIL image to the network's input, a float tensor 1 x channels x side x side.

    The picture is turned as its orientation mark says and put on grey where it is transparent;
    the shorter side is resized to the network's, the centre is cut out.
    """
    side, channels = ARCHITECTURE.resolution, ARCHITECTURE.input_channels
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"a picture must have at most 8 bits a channel, got mode {image.mode}")
    image = fit_image(as_shown(image), side, channels)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    pixels = pixels.view(1, side, side, channels).permute(0, 3, 1, 2)
    shape = (1, channels, 1, 1)
    return (pixels.float() / 255 - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)


def check_value(network: nn.Module, channels: int, resolution: int) -> float:
    """One number that says whether a network computes what it should.

    The input is a fixed pattern of whole numbers, scaled to -1..1. The logits are summed with
    weights that rise from class to class, so that neither their signs nor their order can
    change unseen.
    """
    count = channels * resolution * resolution
    pattern = (torch.arange(count) * 37 % 101 / 50 - 1).view(1, channels, resolution, resolution)
    with torch.inference_mode():
        logits = network(pattern)[0].double()
    return float((logits * torch.arange(1, len(logits) + 1)).sum() / len(logits))


def check(network: nn.Module) -> bool:
    """Print what the network has beside what is recorded; whether they agree."""
    channels, side = ARCHITECTURE.input_channels, ARCHITECTURE.resolution
    parameters = sum(parameter.numel() for parameter in network.parameters())
    with torch.inference_mode():
        shape = tuple(network(torch.zeros(1, channels, side, side)).shape)
    value = check_value(network, channels, side)
    close = abs(value - CHECK_VALUE) <= TOLERANCE * max(1, abs(CHECK_VALUE))
    rows = (
        ("parameters", parameters, PARAMETERS, parameters == PARAMETERS),
        ("output shape", shape, (1, len(CLASSES)), shape == (1, len(CLASSES))),
        ("check value", f"{value:.6f}", f"{CHECK_VALUE:.6f}", close),
    )
    for what, got, recorded, agrees in rows:
        print(f"{what:13} {got}" + ("" if agrees else f"  DIFFERS from the recorded {recorded}"))
    return all(agrees for *_, agrees in rows)


def top_classes(network: nn.Module, image: Image, most: int = 5) -> list[tuple[str, float]]:
    """The most probable classes of a picture with their probabilities, the best first."""
    with torch.inference_mode():
        probabilities = network(preprocess(image))[0].softmax(0)
    best = probabilities.argsort(descending=True)[:most].tolist()
    return [(CLASSES[index], float(probabilities[index])) for index in best]


def main(pictures: list[str]) -> None:
    if pictures and pictures[0].startswith("-"):
        print(__doc__)
        return
    try:
        network = load()
    except FileNotFoundError as error:
        sys.exit(f"the weights must stand beside model.py, got no {error.filename}")
    except Exception as error:  # a broken file raises nearly anything
        sys.exit(f"weights.pt does not hold this network's weights: {error}")
    if not pictures:
        if not check(network):
            sys.exit("this is not the network that was written: model.py or weights.pt changed")
        return
    try:
        from PIL import Image
    except ImportError:
        sys.exit("Pillow is needed to open pictures: pip install pillow")
    for picture in pictures:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                with Image.open(picture) as image:
                    found = top_classes(network, image)
            except Exception as error:  # as above
                sys.exit(f"a picture must be one that Pillow reads, got {picture}: {error}")
        for warning in said:
            print(f"{picture}: {warning.message}", file=sys.stderr)
        print(picture)
        for name, probability in found:
            print(f"  {probability:6.1%}  {name}")


if __name__ == "__main__":
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what torch says of itself; not of a picture
    try:
        if sys.stdout is not None:
            sys.stdout.reconfigure(errors="backslashreplace")  # names that it cannot show
        try:
            main(sys.argv[1:])
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as `head -1` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
