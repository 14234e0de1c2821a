"""Well-known networks: published numbers, our own count by hooks, and where they do not apply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_search import write_tiny
from torch import nn
from torchvision.models import mobilenet_v2

from collabdesign.deliver.compare import (
    REFERENCES,
    reference_costs,
    references_at,
    write_references,
)
from collabdesign.design.files.reading import load_requirements

NAMES = [
    "MobileNet-V1",
    "MobileNet-V2",
    "MobileNet-V3-small",
    "ShuffleNet-V2 1.0x",
    "SqueezeNet 1.1",
]


def counted_by_hooks(network: nn.Module, image: torch.Tensor) -> int:
    """Multiply-adds of convolutions and linear layers alone, biases one per output element."""
    macs = 0

    def count(part: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(part, nn.Conv2d | nn.Linear)
        macs += output.numel() * part.weight[0].numel()
        if part.bias is not None:
            macs += output.numel()

    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.register_forward_hook(count)
    network.eval()(image)
    return macs


def test_mobilenet_v1_has_the_published_cost() -> None:
    cost = reference_costs(3, 224, 1000)[0]
    # Table 1 of the paper, line by line: side of the output squared, times the weights.
    rows = [(32, 64, 112), (64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28)]
    rows += [(256, 512, 14), *[(512, 512, 14)] * 5, (512, 1024, 7), (1024, 1024, 7)]
    macs = 112 * 112 * 9 * 3 * 32 + sum(
        side * side * (9 * inside + inside * outside) for inside, outside, side in rows
    )
    assert cost.macs == macs + 1024 * 1000 + 1000
    assert round(cost.macs / 1e6) == 569  # as published
    assert cost.params is not None
    assert round(cost.params / 1e6, 1) == 4.2  # as published


@pytest.mark.parametrize(("channels", "resolution", "classes"), [(3, 96, 10), (1, 33, 2)])
def test_counts_convolutions_and_linear_layers_alone(
    channels: int, resolution: int, classes: int
) -> None:
    with torch.device("meta"):
        network = mobilenet_v2(weights=None, num_classes=classes)
        network.features[0][0] = nn.Conv2d(channels, 32, 3, 2, 1, bias=False)
        image = torch.empty(1, channels, resolution, resolution)
    cost = reference_costs(channels, resolution, classes)[1]
    assert cost.name == "MobileNet-V2"
    assert cost.macs == counted_by_hooks(network, image)
    assert cost.params == sum(parameter.numel() for parameter in network.parameters())


def test_published_parameters() -> None:
    params = {cost.name: cost.params for cost in reference_costs(3, 64, 1000)}
    # Documented with torchvision's weights.
    assert params == {
        "MobileNet-V1": 4_231_976,
        "MobileNet-V2": 3_504_872,
        "MobileNet-V3-small": 2_542_856,
        "ShuffleNet-V2 1.0x": 2_278_604,
        "SqueezeNet 1.1": 1_235_496,
    }


def test_not_applicable_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    costs = reference_costs(1, 8, 10)
    assert [cost.name for cost in costs] == NAMES
    for cost in costs:
        assert cost.macs is None
        assert cost.params is None
        stride = 16 if cost.name.startswith("Squeeze") else 32
        assert cost.note == (
            f"not applicable: it reduces the resolution by a factor of {stride}, the input is 8x8"
        )
    # At 16 pixels SqueezeNet's last pooling has nothing left to pool.
    squeezenet = reference_costs(1, 16, 10)[-1]
    assert squeezenet.macs is None
    assert squeezenet.note.startswith("not applicable: it does not run at 16x16 (")
    squeezenet = reference_costs(1, 17, 10)[-1]
    assert squeezenet.macs is not None
    assert squeezenet.note == ""
    assert capfd.readouterr() == ("", "")


def test_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    reference_costs(3, 32, 10)
    assert torch.equal(state, torch.get_rng_state())


def test_counted_again_for_another_input(tmp_path: Path) -> None:
    asked = load_requirements(write_tiny(tmp_path))
    resolution = asked.data.resolution
    path = tmp_path / REFERENCES
    for requirements in (asked, load_requirements(tmp_path / "tiny.yaml", ["data.resolution=33"])):
        found = json.loads(path.read_text()) if path.exists() else None
        assert references_at(found, requirements) == ()
        write_references(tmp_path, requirements)
        data = requirements.data
        expected = reference_costs(data.channels, data.resolution, data.classes)
        assert references_at(json.loads(path.read_text()), requirements) == expected
    assert resolution != 33
    written = path.stat().st_mtime_ns
    write_references(tmp_path, requirements)
    assert path.stat().st_mtime_ns == written
