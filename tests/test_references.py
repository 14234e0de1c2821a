"""Well-known networks: published numbers, our own count by hooks, and where they do not apply."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_search import write_tiny
from torch import nn
from torchvision.models import mobilenet_v2

from collabdesign.deliver.references import (
    COUNTED,
    REFERENCES,
    ReferenceCost,
    reference_costs,
    references_at,
    write_references,
)
from collabdesign.design.files.reading import load_requirements
from collabdesign.evaluate.published import mobilenet_v1_small_strides
from collabdesign.evaluate.references import REFERENCES as REFERENCE_TABLE
from collabdesign.evaluate.references import WellKnown, build_reference

NAMES = [
    "MobileNet-V1 1.0x",
    "MobileNet-V2 1.0x",
    "MobileNet-V3-small 1.0x",
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
    assert cost.name == "MobileNet-V2 1.0x"
    assert cost.macs == counted_by_hooks(network, image)
    assert cost.params == sum(parameter.numel() for parameter in network.parameters())


def test_published_parameters() -> None:
    params = {cost.name: cost.params for cost in reference_costs(3, 64, 1000)}
    # Documented with torchvision's weights.
    assert params == {
        "MobileNet-V1 1.0x": 4_231_976,
        "MobileNet-V2 1.0x": 3_504_872,
        "MobileNet-V3-small 1.0x": 2_542_856,
        "ShuffleNet-V2 1.0x": 2_278_604,
        "SqueezeNet 1.1": 1_235_496,
    }


def cost(name: str, resolution: int, classes: int) -> ReferenceCost:
    (found,) = reference_costs(3, resolution, classes, [name])
    return found


def test_resnet_20_has_the_published_cost() -> None:
    # Side squared, kernel, channels in and out: the stem, three stages of six convolutions, of
    # which the first of a stage halves the side and has a projection beside it.
    macs = 32 * 32 * 9 * 3 * 16 + 6 * 32 * 32 * 9 * 16 * 16
    macs += 16 * 16 * (9 * 16 * 32 + 5 * 9 * 32 * 32 + 16 * 32)
    macs += 8 * 8 * (9 * 32 * 64 + 5 * 9 * 64 * 64 + 32 * 64)
    found = cost("ResNet-20", 32, 10)
    assert found.macs == macs + 64 * 10 + 10
    assert round(found.macs / 1e6, 1) == 40.8  # as published
    assert found.params == 272_474  # as published with the weights that are passed around


def test_resnet_8_has_the_published_cost() -> None:
    macs = 32 * 32 * 9 * 3 * 16 + 2 * 32 * 32 * 9 * 16 * 16
    macs += 16 * 16 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    macs += 8 * 8 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    biases = 3 * 32 * 32 * 16 + 3 * 16 * 16 * 32 + 3 * 8 * 8 * 64 + 10  # one an output element
    found = cost("ResNet-8", 32, 10)
    assert found.macs == macs + 64 * 10 + biases
    assert round((found.macs - biases) / 1e6, 1) == 12.5  # as published
    # Keras counts 78,666, with two running statistics of each of 240 channels.
    assert found.params == 78_666 - 2 * 240


@pytest.mark.parametrize(
    ("name", "million_macs", "million_params"),
    [
        ("MobileNet-V1 0.5x", 149, 1.3),  # the paper's table 6
        ("MobileNet-V1 0.25x", 41, 0.5),
        ("MobileNet-V2 1.0x", 300, 3.5),  # the paper's table 4
        ("MobileNet-V2 0.5x", 97, 2.0),  # as with the weights of TF-slim
        ("MobileNet-V2 0.35x", 59, 1.7),
        ("ShuffleNet-V2 0.5x", 41, 1.4),  # the paper's table 8
    ],
)
def test_published_costs_at_224(name: str, million_macs: int, million_params: float) -> None:
    found = cost(name, 224, 1000)
    assert found.macs is not None and found.params is not None
    assert abs(found.macs / 1e6 - million_macs) <= 1
    assert round(found.params / 1e6, 1) == million_params


@pytest.mark.parametrize(
    ("name", "million_params"),
    [
        ("MobileNet-V3-small 0.5x", 1.59),  # as timm documents them
        ("MobileNet-V4-small", 3.77),
        ("LCNet 0.5x", 1.88),
        ("MnasNet-small", 2.03),
        ("GhostNet 0.5x", 2.59),
    ],
)
def test_published_parameters_of_timm(name: str, million_params: float) -> None:
    pytest.importorskip("timm")
    found = cost(name, 224, 1000)
    assert found.params is not None
    assert round(found.params / 1e6, 2) == million_params


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collabdesign.evaluate.references.find_spec", lambda name: None)
    found = cost("LCNet 0.5x", 32, 10)
    assert found.macs is None
    assert found.note == "needs timm: pip install 'collabdesign[compare]'"
    assert cost("ResNet-8", 32, 10).note == ""


@pytest.mark.parametrize(("resolution", "left"), [(8, 4), (16, 4), (32, 4), (48, 6), (63, 4)])
def test_small_strides_leave_pixels(resolution: int, left: int) -> None:
    network = mobilenet_v1_small_strides(10, resolution)
    assert isinstance(network, nn.Sequential)
    with torch.no_grad():
        assert network[:-3](torch.zeros(2, 3, resolution, resolution)).shape[-1] == left
    as_published = cost("MobileNet-V1 1.0x", 96, 10)
    assert cost("MobileNet-V1 small strides", resolution, 10).params == as_published.params


def test_small_strides_are_for_small_inputs() -> None:
    note = "not applicable: it is for inputs under 64 pixels, the input is 64x64"
    assert cost("MobileNet-V1 small strides", 64, 10).note == note


def test_the_table() -> None:
    ids = [WellKnown(name, 3, 32, 10).id for name in REFERENCE_TABLE]
    # A training's key begins with its network's id: none begins another one's.
    assert not [(a, b) for a in ids for b in ids if a != b and b.startswith(a)]
    assert set(COUNTED) <= set(REFERENCE_TABLE)
    assert all(row.source for row in REFERENCE_TABLE.values())


def test_statistics_follow_as_in_our_own_networks() -> None:
    network = build_reference(WellKnown("MobileNet-V3-small 1.0x", 1, 32, 10))
    momenta = {part.momentum for part in network.modules() if isinstance(part, nn.BatchNorm2d)}
    assert momenta == {nn.BatchNorm2d(1).momentum}
    assert network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


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


def test_a_process_that_trains_loads_no_torchvision() -> None:
    """It would take as long again as torch."""
    code = "import sys, collabdesign.pipeline; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
