"""The parts of an emitted ``model.py`` that are the same in each one.

:mod:`collabdesign.deliver.source` puts them together with what is the network's own. They
lean on the names that it writes between them: ``CLASSES``, ``MEAN``, ``STD``, ``PARAMETERS``,
``CHECK_VALUE``, ``TOLERANCE``, ``ARCHITECTURE``, the classes of the network and ``check_value``.
"""

from __future__ import annotations

from collabdesign.design.operators import JOIN_OF_ONE, UNUSED_ACTIVATION

IMPORTS = """\
from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from PIL.Image import Image
"""

SPECIFICATION = f'''\
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
    join: str = "{JOIN_OF_ONE}"
    attention: str = "none"
    activation: str = "{UNUSED_ACTIVATION}"
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
'''

USING = '''\
def load(weights: str | Path = "weights.pt") -> AttoNet:
    """The network with its weights, on the CPU, in evaluation mode.

    A relative name is looked up beside this file.
    """
    path = Path(__file__).resolve().parent / weights
    network = AttoNet(ARCHITECTURE)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def preprocess(image: Image) -> torch.Tensor:
    """From a PIL image to the network's input, a float tensor 1 x channels x side x side.

    The shorter side is resized to the network's, the centre is cut out.
    """
    side, channels = ARCHITECTURE.resolution, ARCHITECTURE.input_channels
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"a picture must have at most 8 bits a channel, got mode {image.mode}")
    image = image.convert("RGB" if channels == 3 else "L")
    width, height = image.size
    short = min(width, height)
    if short != side:
        width, height = round(width * side / short), round(height * side / short)
        image = image.resize((width, height), resample=2)  # bilinear, antialiased
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    pixels = pixels.view(1, side, side, channels).permute(0, 3, 1, 2)
    shape = (1, channels, 1, 1)
    return (pixels.float() / 255 - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)
'''

COMMAND_LINE = '''\
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
        found = network(preprocess(image))[0].softmax(0).topk(min(most, len(CLASSES)))
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return [(CLASSES[index], probability) for index, probability in pairs]


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
        try:
            with Image.open(picture) as image:
                found = top_classes(network, image)
        except Exception as error:  # as above
            sys.exit(f"a picture must be one that Pillow reads, got {picture}: {error}")
        print(picture)
        for name, probability in found:
            print(f"  {probability:6.1%}  {name}")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # names that a terminal cannot show
    main(sys.argv[1:])
'''
