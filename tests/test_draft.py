"""Drafts: what cannot be built as drawn, and what it becomes."""

from __future__ import annotations

from typing import Any

import pytest
from spaces import (
    conv,
    pool,
    small,
    space_of,
)

from collabdesign.design.architecture import Branch, Layer, Module
from collabdesign.design.layer_words import describe_branch


def built(layers: Any, channels: Any = 8, stride: int = 1, **kind: Any) -> Module:
    """The own module of a one-module space, behind a stem of 8 channels."""
    stage = {"modules": 1, "stride": stride, "channels": channels, "module": "m"}
    depth = len(layers) if isinstance(layers, list) else 1
    space = space_of(small({"depth": depth, "layers": layers, **kind}, stages=[stage]), 16)
    architecture = space.decode(space.own())
    assert space.decode(space.encode(architecture)) == architecture
    return architecture.modules[0]


def layers_of(*words: str, channels: int = 8, stride: int = 1, **kind: Any) -> tuple[Layer, ...]:
    (branch,) = built([[word] for word in words], channels, stride, **kind).branches
    return branch.layers


def test_an_identity_between_different_shapes_becomes_a_projection() -> None:
    assert built("conv3").shortcut == "identity"
    assert built("conv3", channels=16).shortcut == "projection"
    assert built("conv3", stride=2).shortcut == "projection"
    assert built("conv3", channels=16, shortcut="none").shortcut == "none"
    assert built("conv3", shortcut="projection").shortcut == "projection"


@pytest.mark.parametrize(
    ("groups", "channels", "repaired"),
    [
        (4, 8, 4),
        (4, 12, 4),  # divides 8 and 12
        (8, 12, 4),  # largest divisor of 4, the common divisor of 8 and 12
        (3, 16, 2),  # largest divisor of 8 that is at most 3
        (16, 16, 8),
    ],
)
def test_groups_fall_to_the_largest_divisor(groups: int, channels: int, repaired: int) -> None:
    # The second word lets groups pass that divide none of the channels here.
    words = [f"conv3/g{groups}", "pw"]
    stage = {"modules": 1, "channels": [channels, 48], "module": "m"}
    space = space_of(small({"depth": 1, "layers": words}, stages=[stage]))
    (branch,) = space.decode(space.own()).modules[0].branches
    assert branch.layers == (conv(3, channels, 1, repaired),)


def test_the_last_choosing_layer_takes_the_modules_channels() -> None:
    assert layers_of("pw", "conv3", "dw3", channels=16, widths=0.5) == (
        conv(1, 8),  # half of 16
        conv(3, 16),
        conv(3, 16, 1, 16),
    )
    assert layers_of("pw", "pool3", channels=16) == (conv(1, 16), pool(3, 16))


def test_a_last_depthwise_layer_becomes_grouped_where_nothing_chooses() -> None:
    assert layers_of("dw3") == (conv(3, 8, 1, 8),)
    assert layers_of("dw3", channels=12) == (conv(3, 12, 1, 4),)  # 4 divides 8 and 12
    assert layers_of("pool3", "dw5", channels=16) == (pool(3, 8), conv(5, 16, 1, 8))


def test_a_last_pool_becomes_pw_where_nothing_chooses() -> None:
    assert layers_of("pool3") == (pool(3, 8),)
    assert layers_of("pool3", channels=12) == (conv(1, 12),)
    assert layers_of("dw3", "pool3", channels=12) == (conv(3, 8, 1, 8), conv(1, 12))


def test_the_stride_goes_to_the_first_layer_with_a_kernel() -> None:
    assert layers_of("pw", "dw3", "conv3", stride=2) == (
        conv(1, 8),
        conv(3, 8, 2, 8),
        conv(3, 8),
    )
    assert layers_of("pw", "pool3", stride=2) == (conv(1, 8), pool(3, 8, 2))
    assert layers_of("pw", "pw", stride=2) == (conv(1, 8, 2), conv(1, 8))
    # The pool that would have taken it became pw.
    assert layers_of("pool3", channels=12, stride=2) == (conv(1, 12, 2),)


@pytest.mark.parametrize(
    ("channels", "widths", "split"),
    [
        (16, (1, 1), [8, 8]),
        (16, (3, 1), [12, 4]),
        (12, (1, 1), [8, 4]),  # 1.5 units of 4 each: the earlier gets the one that is left
        (20, (1, 2, 2), [4, 8, 8]),
        (24, (1, 1, 2), [8, 4, 12]),  # 1.5, 1.5 and 3 units
        (16, (1, 16, 16), [4, 8, 4]),  # 0.12, 1.94 and 1.94 units, at least one each
        (10, (1, 1), [5, 5]),  # not a multiple of 4: units of one channel
        (8, (1, 1, 1), [3, 3, 2]),  # 2 units of 4 are too few for three
        (4, (1, 16, 16), [1, 2, 1]),
        (5, (16, 1, 1), [3, 1, 1]),  # 4.44, 0.28 and 0.28
    ],
)
def test_concatenated_branches_share_the_channels(
    channels: int, widths: tuple[float, ...], split: list[int]
) -> None:
    stage = {"modules": 1, "channels": channels, "module": "m"}
    kind = {"branches": len(widths), "join": "concat", "depth": 1, "layers": "pw"}
    choices = sorted({*widths, 5.0})
    space = space_of(small({**kind, "widths": choices}, stages=[stage]))
    names = [f"stage1.module1.branch{i}.layer1.width" for i in range(1, len(widths) + 1)]
    architecture = space.decode(dict(zip(names, map(float, widths), strict=True)))
    assert [branch.channels for branch in architecture.modules[0].branches] == split
    assert sum(split) == channels
    assert space.decode(space.encode(architecture)) == architecture


def test_hidden_widths_are_times_the_stages_channels() -> None:
    assert layers_of("pw", "conv3", channels=24, widths=0.25) == (conv(1, 6), conv(3, 24))
    assert layers_of("pw", "conv3", channels=10, widths=0.25) == (conv(1, 3), conv(3, 10))


def test_a_branch_in_words() -> None:
    layers = [conv(1, 16), conv(3, 16, 2, 16), conv(3, 12, 1, 4), pool(3, 12)]
    described = describe_branch(Branch(tuple(layers)), 8)
    assert described == "pw(16) - dw3/2 - conv3/g4(12) - pool3"
