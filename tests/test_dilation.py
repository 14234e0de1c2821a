"""Dilated convolutions inside a branch, ``dw3/d2``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from operator_check import check_word
from spaces import conv, module, network
from torch.nn import functional as F

from collabdesign.design.architecture import Layer
from collabdesign.design.cost import cost_of, part_costs
from collabdesign.design.layer_words import parse_token
from collabdesign.errors import InputError
from collabdesign.evaluate.network import build_network


def dilated(kernel: int, channels: int, stride: int, groups: int, dilation: int) -> Layer:
    return Layer("conv", kernel, stride, groups, channels, (("dilation", dilation),))


def test_from_yaml_to_a_model_that_runs_alone(tmp_path: Path) -> None:
    found = check_word("dw3/d2", ["pw", "conv3", "dw3"], tmp_path, "d2")
    model = (tmp_path / "model" / "model.py").read_text()
    assert "dilation=2" in model and "dw(3, " in model
    assert '"dilation": 2' in (tmp_path / "model" / "architecture.json").read_text()
    assert len({each.id for each in found}) > 1


def test_costs_by_hand() -> None:
    # 8 channels at 8x8, stride 2: 9 weights a channel at 4x4 places, whatever lies between them.
    part = part_costs(network(module([dilated(3, 8, 2, 8, 2)], channels=8, stride=2)))[1]
    assert (part.macs, part.params) == (9 * 8 * 16, 9 * 8 + 2 * 8)
    assert part.peak_elements == 8 * 64 + 8 * 16
    assert part.resolution_out == 4


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [2, 4])
@pytest.mark.parametrize("side", [3, 8, 9])
def test_computes_what_torch_does(side: int, dilation: int, stride: int) -> None:
    layer = dilated(3, 8, stride, 8, dilation)
    design = module([layer], channels=8, stride=stride, output="linear")
    body = build_network(network(design)).eval().body[0]
    x = torch.randn(1, 8, side, side)
    weight = body.branches[0][0].conv.weight
    wanted = F.conv2d(x, weight, None, stride, dilation, dilation, 8) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(body(x), wanted)
    assert body(x).shape[-1] == (side - 1) // stride + 1


def test_a_dilation_of_one_is_none() -> None:
    one, plain = dilated(3, 8, 1, 8, 1), conv(3, 8, groups=8)
    assert one == plain
    assert parse_token("dw3/d1").layer(1, 8, 8) == parse_token("dw3").layer(1, 8, 8) == plain
    # An id from before there was a dilation.
    assert network(module([dilated(3, 8, 1, 1, 1)], channels=8)).id == "a2b26008fc28"
    wide = network(module([dilated(3, 8, 1, 1, 2)], channels=8))
    assert wide.id != "a2b26008fc28"
    assert cost_of(wide) == cost_of(network(module([conv(3, 8)], channels=8)))


def test_what_has_no_dilation() -> None:
    for word in ("pw/d2", "pool3/d2"):
        with pytest.raises(InputError, match="has no dilation to choose"):
            parse_token(word)
    with pytest.raises(InputError, match="dilation must be one of 1, 2, 3, 4, got 'dw3/d9'"):
        parse_token("dw3/d9")
    with pytest.raises(InputError, match="a conv layer of kernel 1 has no dilation to set"):
        dilated(1, 8, 1, 1, 2)
    with pytest.raises(InputError, match="layer dilation must be one of 1, 2, 3, 4, got True"):
        dilated(3, 8, 1, 1, True)
