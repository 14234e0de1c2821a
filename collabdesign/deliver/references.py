"""Well-known networks beside our own: what they cost at the same input.

Counted by ptflops over the operators that run, in the same convention as
:mod:`collabdesign.design.cost`: convolutions and linear layers, a bias one per output element.
Nothing is downloaded or trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collabdesign.design.requirements import Requirements
from collabdesign.files import write_json

if TYPE_CHECKING:
    from collabdesign.evaluate.references import WellKnown

REFERENCES = "references.json"

# Those that every report names; `collabdesign compare` trains all of them.
COUNTED = (
    "MobileNet-V1 1.0x",
    "MobileNet-V2 1.0x",
    "MobileNet-V3-small 1.0x",
    "ShuffleNet-V2 1.0x",
    "SqueezeNet 1.1",
)


@dataclass(frozen=True)
class ReferenceCost:
    """What a well-known network costs.

    Attributes:
        name: As it is known.
        macs: Multiply-accumulates at batch 1; None where the network cannot be had.
        params: Parameters; None where the network cannot be had.
        note: Empty, or why it cannot: ``not applicable: ...`` or ``needs ...``.
    """

    name: str
    macs: int | None
    params: int | None
    note: str = ""


def reference_costs(
    channels: int, resolution: int, classes: int, names: Sequence[str] = COUNTED
) -> tuple[ReferenceCost, ...]:
    """Costs of well-known networks, their first and last layer fitted to the data.

    Args:
        channels: Of the input.
        resolution: Side of the input in pixels.
        classes: Outputs of the network.
        names: Keys of :data:`collabdesign.evaluate.references.REFERENCES`.
    """
    from collabdesign.evaluate.references import WellKnown

    return tuple(_cost(WellKnown(name, channels, resolution, classes)) for name in names)


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
    if isinstance(found, dict) and found.get("channels_resolution_classes") == list(
        _input(requirements)
    ):
        return tuple(ReferenceCost(**row) for row in found["networks"])
    return ()


def _input(requirements: Requirements) -> tuple[int, int, int]:
    data = requirements.data
    return data.channels, data.resolution, data.classes


def _cost(network: WellKnown) -> ReferenceCost:
    import torch
    from ptflops import get_model_complexity_info

    from collabdesign.evaluate.references import build_reference, why_unfit

    if reason := why_unfit(network):
        return ReferenceCost(network.name, None, None, reason)
    # Shapes are all that is needed: no memory, no arithmetic, no random numbers.
    with torch.device("meta"):
        macs, params = get_model_complexity_info(
            build_reference(network).eval(),
            (network.input_channels, network.resolution, network.resolution),
            as_strings=False,
            print_per_layer_stat=False,
            backend="aten",
        )
    return ReferenceCost(network.name, macs, params)
