"""Average pooling inside a branch, ``avgpool3``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from operator_check import check_word
from spaces import conv, module, network

from collabdesign.design.architecture import Layer
from collabdesign.design.cost import part_costs
from collabdesign.errors import InputError
from collabdesign.evaluate.network import build_network


def average(kernel: int, channels: int, stride: int = 1) -> Layer:
    return Layer("avgpool", kernel, stride, 1, channels)


def test_from_yaml_to_a_model_that_runs_alone(tmp_path: Path) -> None:
    check_word("avgpool3", ["pw", "dw3"], tmp_path, "average 3\u00d73")


def test_costs_by_hand() -> None:
    # Of 8 channels at 8x8 and the stride 2: nothing is learned; 8 * 64 in, 8 * 16 out.
    part = part_costs(network(module([average(5, 8, 2)], channels=8, stride=2)))[1]
    assert (part.macs, part.params, part.peak_elements) == (0, 0, 8 * 64 + 8 * 16)
    branches = [average(3, 8), conv(1, 4)], [conv(1, 4)]
    part = part_costs(network(module(*branches, channels=8, join="concat")))[1]
    assert part.macs == 2 * 8 * 4 * 64
    assert part.params == 2 * (8 * 4 + 2 * 4)
    assert part.peak_elements == 8 * 64 + 8 * 64 + 4 * 64  # input, pooled, the branch's end


def test_the_border_is_no_part_of_a_mean() -> None:
    pool = build_network(network(module([average(3, 8)], channels=8))).body[0].branches[0]
    assert torch.equal(pool(torch.ones(1, 8, 5, 5)), torch.ones(1, 8, 5, 5))
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert pool(x)[0, 0, 0].tolist() == pytest.approx(
        [(0 + 1 + 3 + 4) / 4, 2.5, (1 + 2 + 4 + 5) / 4]
    )


def test_it_keeps_its_channels() -> None:
    with pytest.raises(InputError, match="an avgpool layer keeps its 8 channels, got 16"):
        network(module([average(3, 16)], channels=16))
