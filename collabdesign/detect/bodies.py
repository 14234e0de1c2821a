"""What may stand under ``detector.body``, as plain data: an architecture that gives feature maps.

torchvision's ResNet-50 and MobileNet-V3-large are written here as architectures, so that all
bodies are counted by one arithmetic; :mod:`collabdesign.detect.network` builds torchvision's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.feature_maps import FeatureMap, feature_maps
from collabdesign.design.files.document import read_document
from collabdesign.design.prototype import Prototype
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError

ARCHITECTURE, WEIGHTS, CERTIFICATE = "architecture.json", "weights.pt", "certificate.json"

# Of ImageNet's pictures, pixels running from 0 to 1, as torchvision's detectors have them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# A prototype's network depends on neither; these are as of ImageNet.
_RESOLUTION, _CLASSES = 224, 1000


@dataclass(frozen=True)
class Body:
    """A classification network without its head.

    Attributes:
        name: As a person wrote it.
        architecture: Its arithmetic; what is behind its last module is not part of the body.
        folder: Of the member whose weights it begins with; None where it begins untrained.
        uncounted: Multiply-accumulates, and as many parameters, that the architecture lacks.
        mean: Of each channel of the pictures that it was trained on, pixels from 0 to 1.
        std: Likewise.
    """

    name: str
    architecture: Architecture
    folder: Path | None = None
    uncounted: int = 0
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    @property
    def maps(self) -> tuple[FeatureMap, ...]:
        """What it gives, finest first."""
        return feature_maps(self.architecture)


def read_body(written: str) -> Body:
    """The body that a person names.

    Args:
        written: A key of ``REFERENCE_BODIES``, a prototype file, or a member's folder.

    Raises:
        InputError: It is none of these, or does not take colour pictures.
    """
    if written in REFERENCE_BODIES:
        return REFERENCE_BODIES[written]
    path = Path(written)
    if why := why_no_body(path, written):
        raise InputError(f"detector.body {why}")
    body = _own_network(path) if path.is_file() else _member(path)
    if body.architecture.input_channels != 3:
        raise InputError(
            f"detector.body must take pictures of 3 channels, got {path} with "
            f"{body.architecture.input_channels}"
        )
    return body


def why_no_body(path: Path, written: str) -> str:
    """The rule that a path breaks as a body, empty where it can be one."""
    if path.is_file() or (path / ARCHITECTURE).is_file():
        return ""
    return (
        f"must be a member's folder, a prototype file, or one of "
        f"{', '.join(REFERENCE_BODIES)}, got {written!r}"
    )


def _own_network(path: Path) -> Body:
    document = read_document(path)
    if not {"stages", "modules"} <= document.data.keys():
        raise InputError(f"detector.body must be a prototype where it is a file, got {path}")
    data = {"source": "folder", "train": ".", "resolution": _RESOLUTION, "classes": _CLASSES}
    try:
        prototype = Prototype.model_validate(document.data)
        asked = {"name": "body", "prototype": prototype, "data": data}
        space = DesignSpace(Requirements.model_validate(asked))
    except ValueError as error:
        hint = "`collabdesign check` with requirements that name it says where"
        raise InputError(
            f"detector.body must be a prototype that holds together, got {path}: {error}; {hint}"
        ) from None
    return Body(str(path), space.decode(space.own()))


def _member(folder: Path) -> Body:
    try:
        text = (folder / ARCHITECTURE).read_text(encoding="utf-8")
        architecture = Architecture.from_dict(json.loads(text))
    except ValueError as error:
        raise InputError(
            f"detector.body must be a member's folder, got {folder}: {error}"
        ) from None
    weights = folder if (folder / WEIGHTS).is_file() else None
    return Body(str(folder), architecture, weights, 0, *_statistics(folder))


def _statistics(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """By which the member's pictures were normalised, as its certificate says."""
    path = folder / CERTIFICATE
    if not path.is_file():
        return _MEAN, _STD
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (tuple(map(float, found[key])) for key in ("mean", "std"))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"a member's {CERTIFICATE} must say mean and std of its pictures, got {path}: {error!r}"
        ) from None
    return mean, std


# -- torchvision's --------------------------------------------------------------------------


def _conv(channels: int, kernel: int = 1, stride: int = 1) -> Layer:
    return Layer("conv", kernel, stride, 1, channels)


def _resnet_50() -> Architecture:
    """arXiv 1512.03385, table 1, with the stride at the 3x3 convolution as torchvision has it."""
    pooled = Branch((Layer("pool", 3, 2, 1, 64),))
    modules = [Module(0, 2, 64, "none", "add", "none", "relu", "linear", (pooled,))]
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for number in range(count):
            stride = 2 if stage and not number else 1
            layers = (_conv(width), _conv(width, 3, stride), _conv(4 * width))
            shortcut = "identity" if number else "projection"
            branches = (Branch(layers),)
            modules.append(
                Module(
                    stage + 1, stride, 4 * width, shortcut, "add", "none", "relu", "activated",
                    branches,
                )
            )  # fmt: skip
    return Architecture(3, 224, 1000, Stem(7, 2, 64, "relu"), tuple(modules), Head(0))


# Kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride.
_MOBILENET_V3_LARGE = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2), (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1), (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1), (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2), (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)  # fmt: skip
# Its squeezed channels are rounded to a multiple of 8, ours are not: 24 for 18 of 72, and twice 32
# for 30 of 120. Each costs the two weights of every channel and a bias.
_ROUNDED_SQUEEZES = (2 * 72 + 1) * 6 + 2 * (2 * 120 + 1) * 2


def _mobilenet_v3_large() -> Architecture:
    """arXiv 1905.02244, table 1, up to the 1x1 convolution before the pooling."""
    modules, channels = [], 16
    for stage, row in enumerate(_MOBILENET_V3_LARGE):
        kernel, expanded, outside, is_excited, activation, stride = row
        layers = [_conv(expanded)] if expanded != channels else []
        layers.append(Layer("conv", kernel, stride, expanded, expanded))
        if is_excited:
            layers.append(Layer("se", 1, 1, 1, expanded))
        layers.append(_conv(outside))
        shortcut = "identity" if stride == 1 and channels == outside else "none"
        branches = (Branch(tuple(layers)),)
        modules.append(
            Module(
                stage, stride, outside, shortcut, "add", "none", activation, "linear", branches
            )
        )  # fmt: skip
        channels = outside
    last = (Branch((_conv(960),)),)
    modules.append(
        Module(len(modules), 1, 960, "none", "add", "none", "hardswish", "activated", last)
    )
    return Architecture(3, 224, 1000, Stem(3, 2, 16, "hardswish"), tuple(modules), Head(0))


REFERENCE_BODIES: Mapping[str, Body] = {
    "resnet50": Body("resnet50", _resnet_50()),
    "mobilenet_v3_large": Body(
        "mobilenet_v3_large", _mobilenet_v3_large(), uncounted=_ROUNDED_SQUEEZES
    ),
}
