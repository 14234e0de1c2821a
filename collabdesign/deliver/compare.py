"""Well-known networks beside our own: what they cost at the same input.

Counted by ptflops over the operators that run, in the same convention as
:mod:`collabdesign.design.cost`: convolutions and linear layers, a bias one per output element.
Nothing is downloaded or trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collabdesign.design.requirements import Requirements
from collabdesign.files import write_json

if TYPE_CHECKING:
    from torch import nn


REFERENCES = "references.json"


@dataclass(frozen=True)
class ReferenceCost:
    """What a well-known network costs.

    Attributes:
        name: As it is known.
        macs: Multiply-accumulates at batch 1; None where the network does not apply.
        params: Parameters; None where the network does not apply.
        note: Empty, or ``not applicable: ...`` with the reason.
    """

    name: str
    macs: int | None
    params: int | None
    note: str = ""


def reference_costs(channels: int, resolution: int, classes: int) -> tuple[ReferenceCost, ...]:
    """Costs of well-known networks, their first and last layer fitted to the data.

    Args:
        channels: Of the input.
        resolution: Side of the input in pixels.
        classes: Outputs of the network.
    """
    return tuple(
        _cost(name, *network, channels, resolution, classes) for name, network in NETWORKS.items()
    )


def write_references(run_dir: Path, requirements: Requirements) -> None:
    """Count them at a run's input and write them into its folder, once for each input; needs
    torch."""
    path = run_dir / REFERENCES
    with suppress(OSError, ValueError):
        if references_at(json.loads(path.read_text(encoding="utf-8")), requirements):
            return
    shape = _input(requirements)
    rows = [asdict(each) for each in reference_costs(*shape)]
    write_json(path, {"channels_resolution_classes": shape, "networks": rows})


def references_at(found: Any, requirements: Requirements) -> tuple[ReferenceCost, ...]:
    """Those of a file that were counted at the input that is asked for today."""
    if isinstance(found, dict) and found.get("channels_resolution_classes") == _input(requirements):
        return tuple(ReferenceCost(**row) for row in found["networks"])
    return ()


def _input(requirements: Requirements) -> list[int]:
    data = requirements.data
    return [data.channels, data.resolution, data.classes]


def _cost(
    name: str,
    total_stride: int,
    build: Callable[[int], nn.Module],
    channels: int,
    resolution: int,
    classes: int,
) -> ReferenceCost:
    import torch
    from ptflops import get_model_complexity_info
    from torch import nn

    size = f"{resolution}x{resolution}"
    if resolution < total_stride:
        reason = f"it reduces the resolution by a factor of {total_stride}, the input is {size}"
        return ReferenceCost(name, None, None, f"not applicable: {reason}")
    # Shapes are all that is needed: no memory, no arithmetic, no random numbers.
    with torch.device("meta"):
        network = build(classes)
        first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
        shape = (first.out_channels, channels, *first.kernel_size)
        first.weight = nn.Parameter(torch.empty(shape))  # for this many channels in place of three
        image = torch.empty(1, channels, resolution, resolution)
    try:  # ptflops would print the error and go on
        network.eval()(image)
    except RuntimeError as error:
        reason = f"it does not run at {size} ({str(error).splitlines()[0]})"
        return ReferenceCost(name, None, None, f"not applicable: {reason}")
    macs, params = get_model_complexity_info(
        network,
        tuple(image.shape[1:]),
        as_strings=False,
        print_per_layer_stat=False,
        backend="aten",
    )
    return ReferenceCost(name, macs, params)


def _mobilenet_v1(classes: int) -> nn.Module:
    """Howard et al., MobileNets (arXiv 1704.04861), table 1.

    The table's last depthwise convolution says stride 2 at an output of equal size; it is 1.
    """
    from torch import nn
    from torchvision.ops import Conv2dNormActivation

    inside = 32
    layers: list[nn.Module] = [Conv2dNormActivation(3, inside, stride=2)]
    for outside, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
        *[(512, 1)] * 5, (1024, 2), (1024, 1),
    ):  # fmt: skip
        layers.append(Conv2dNormActivation(inside, inside, stride=stride, groups=inside))
        layers.append(Conv2dNormActivation(inside, outside, 1))
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def _torchvision(function: str, classes: int) -> nn.Module:
    from torchvision import models

    network: nn.Module = getattr(models, function)(weights=None, num_classes=classes)
    return network


# By name: the product of the strides, and what builds it for a number of classes.
NETWORKS: Mapping[str, tuple[int, Callable[[int], nn.Module]]] = {
    "MobileNet-V1": (32, _mobilenet_v1),
    "MobileNet-V2": (32, partial(_torchvision, "mobilenet_v2")),
    "MobileNet-V3-small": (32, partial(_torchvision, "mobilenet_v3_small")),
    "ShuffleNet-V2 1.0x": (32, partial(_torchvision, "shufflenet_v2_x1_0")),
    "SqueezeNet 1.1": (16, partial(_torchvision, "squeezenet1_1")),
}
