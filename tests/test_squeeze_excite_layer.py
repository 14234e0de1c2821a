"""Squeeze-and-excitation inside a branch, ``se``, as in MobileNet-V3 (arXiv 1905.02244)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from operator_check import check_word
from spaces import SPACES, conv, module, network, small, space_of
from torch.nn import functional as F

from collabdesign.design.architecture import Layer
from collabdesign.design.cost import part_costs
from collabdesign.errors import InputError
from collabdesign.evaluate.network import build_network


def se(channels: int) -> Layer:
    return Layer("se", 1, 1, 1, channels)


def test_from_yaml_to_a_model_that_runs_alone(tmp_path: Path) -> None:
    check_word("se", ["pw", "dw3", "pool3"], tmp_path, "SE")
    model = (tmp_path / "model" / "model.py").read_text()
    assert "se(" in model and model.count("class SqueezeExcite") == 1


def test_costs_by_hand() -> None:
    # MobileNet-V3's inverted residual: 8 to 24 channels, depthwise, SE over 24, back to 8.
    layers = [conv(1, 24), conv(3, 24, groups=24), se(24), conv(1, 8)]
    part = part_costs(network(module(layers, channels=8, shortcut="identity")))[1]
    gate = (24 * 6 + 6) + (6 * 24 + 24)  # a quarter of 24, biases included
    assert part.macs == (8 * 24 + 9 * 24 + 24 * 8) * 64 + gate
    assert part.params == (8 * 24 + 9 * 24 + 24 * 8) + 2 * (24 + 24 + 8) + gate
    assert part.peak_elements == 8 * 64 + 24 * 64 + 24 + 24 * 64  # input, map, gate, product


def test_scales_the_channels_before_the_last_convolution() -> None:
    layers = [conv(3, 16), se(16), conv(1, 8)]
    body = build_network(network(module(layers, channels=8, output="linear"))).eval().body[0]
    first, gate, last = body.branches[0]
    x = torch.randn(2, 8, 5, 5)
    y = F.relu(first.norm(first.conv(x)))
    means = y.mean((2, 3), keepdim=True)
    y = y * torch.sigmoid(gate.expand(F.relu(gate.reduce(means))))
    torch.testing.assert_close(body(x), last.norm(last.conv(y)))


def test_it_becomes_pw_where_it_cannot_stand_alone() -> None:
    def built(layers: list[list[str]], channels: int, stride: int) -> tuple[Layer, ...]:
        stage = {"modules": 1, "stride": stride, "channels": channels, "module": "m"}
        space = space_of(small({"depth": len(layers), "layers": layers}, stages=[stage]), 16)
        architecture = space.decode(space.own())
        assert space.decode(space.encode(architecture)) == architecture
        return architecture.modules[0].branches[0].layers

    assert built([["se"]], 8, 1) == (se(8),)
    assert built([["se"]], 12, 1) == (conv(1, 12),)
    assert built([["se"]], 8, 2) == (conv(1, 8, 2),)
    assert built([["se"], ["se"]], 8, 2) == (conv(1, 8, 2), se(8))
    assert built([["se"], ["pw"]], 8, 2) == (se(8), conv(1, 8, 2))
    assert built([["se"], ["dw3"]], 8, 2) == (se(8), conv(3, 8, 2, 8))
    assert built([["pool3"], ["se"]], 12, 2) == (Layer("pool", 3, 2, 1, 8), conv(1, 12))


def test_the_inverted_residual_of_mobilenet_v3_is_a_point_of_mixed() -> None:
    space = SPACES["mixed"]
    base = space.decode({**space.own(), "stage2.modules": 1, "stage2.channels": 64})
    layers = [conv(1, 256), conv(5, 256, 2, 256), se(256), conv(1, 64)]
    v3 = module(
        layers, channels=64, stride=2, stage=1, shortcut="projection", output="linear",
        activation="hardswish",
    )  # fmt: skip
    modules = tuple(v3 if each.stage == 1 else each for each in base.modules)
    architecture = type(base)(
        base.input_channels, base.resolution, base.classes, base.stem, modules, base.head
    )
    assert space.decode(space.encode(architecture)) == architecture


def test_what_it_has_not() -> None:
    with pytest.raises(InputError, match="a se layer has stride 1, got 2"):
        Layer("se", 1, 2, 1, 8)
    with pytest.raises(InputError, match="a se layer has the kernel 1, got 3"):
        Layer("se", 3, 1, 1, 8)
    with pytest.raises(InputError, match="a se layer keeps its 8 channels, got 16"):
        network(module([se(16)], channels=16))
