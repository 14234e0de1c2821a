"""The default network: what is given up for the limits, in which proportion, and what is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from spaces import SHIPPED, SPACES, small, space_of

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.scaling import scaled_down
from collabdesign.design.space import DesignSpace

SIZES = ("channels", "features", "modules", "width")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_own_network_is_the_default_where_it_fits(name: str) -> None:
    assert scaled_down(SPACES[name], lambda _: True) == SPACES[name].own()
    assert scaled_down(SPACES[name], lambda _: False) is None


@pytest.mark.parametrize("share", [0.8, 0.5, 0.4])
@pytest.mark.parametrize("name", SHIPPED)
def test_the_default_network_fits_and_keeps_the_humans_choices(name: str, share: float) -> None:
    space = SPACES[name]
    own = space.own()
    limit = share * cost_of(space.decode(own)).macs

    params = scaled_down(space, lambda architecture: cost_of(architecture).macs <= limit)
    assert params is not None
    assert space.complete(params) == params
    assert cost_of(space.decode(params)).macs <= limit
    for key, value in params.items():
        if key.endswith("stride"):
            assert value >= own[key] or value == 1, "the resolution drops earlier, or keeps its end"
        elif not key.endswith(SIZES):
            assert value == own[key], "only sizes and strides change"
        elif key.endswith("width"):
            assert value == own[key], "what is hidden is not starved"
        else:
            assert value <= own[key]


@pytest.mark.parametrize("share", [0.8, 0.5, 0.4])
@pytest.mark.parametrize("name", SHIPPED)
def test_no_size_of_the_default_network_can_rise(name: str, share: float) -> None:
    """What the limits leave is used, of multiply-adds and of parameters."""
    space = SPACES[name]
    own = space.own()
    most = cost_of(space.decode(own))

    def fits(architecture: Architecture) -> bool:
        cost = cost_of(architecture)
        return cost.macs <= share * most.macs and cost.params <= most.params / 2

    params = scaled_down(space, fits)
    assert params is not None and fits(space.decode(params))
    for key, value in params.items():
        if not key.endswith(("channels", "features", "modules")):
            continue
        for larger in space.parameters[key].values:
            if value < larger <= own[key]:
                assert not fits(space.decode(space.complete({**params, key: larger})))


def scaling() -> DesignSpace:
    """Own values: stem 16 of 8 to 24, two modules of 32 channels of 16 to 64, width 2 of 1 to 4."""
    stage = {"modules": [2, 1], "channels": {"low": 16, "high": 64, "step": 16}, "module": "m"}
    return space_of(
        small(
            {"depth": 2, "layers": "pw", "widths": [2, 1, 4], "share": "stage"},
            stem={"channels": {"low": 8, "high": 24, "step": 8}},
            stages=[stage],
            head={"features": [64, 0, 32]},
        )
    )


def sizes(architecture: Architecture) -> tuple[int, int, int, int, int]:
    first = architecture.modules[0]
    hidden = first.branches[0].layers[0].channels
    return (
        architecture.stem.channels,
        len(architecture.modules),
        first.channels,
        hidden // first.channels,
        architecture.head.features,
    )


@pytest.mark.parametrize(
    ("fits", "scaled"),
    [
        (lambda stem, modules, channels, width, features: True, (16, 2, 32, 2, 64)),
        # One size alone is in the way: it falls, and the others rise again.
        (lambda stem, modules, channels, width, features: channels < 32, (16, 2, 16, 2, 64)),
        (lambda stem, modules, channels, width, features: features < 32, (16, 2, 32, 2, 0)),
        (lambda stem, modules, channels, width, features: modules < 2, (16, 1, 32, 2, 64)),
        # Neither widths nor depths do: the smallest hidden width, which is not the first.
        (lambda stem, modules, channels, width, features: width < 2, (16, 2, 32, 1, 64)),
        (lambda *all_sizes: sum(all_sizes) <= 27, (8, 1, 16, 2, 0)),
        (lambda *all_sizes: sum(all_sizes) <= 26, (8, 1, 16, 1, 0)),
    ],
)
def test_what_is_given_up(fits: Callable[..., bool], scaled: tuple[int, ...]) -> None:
    space = scaling()
    params = scaled_down(space, lambda architecture: fits(*sizes(architecture)))
    assert params is not None
    assert sizes(space.decode(params)) == scaled


def chain(**changes: Any) -> DesignSpace:
    """Four modules of up to 64 channels, each a 1x1 convolution."""
    stage = {"modules": [4, 1, 2, 3], "channels": [64, *range(4, 64)], "module": "m", **changes}
    return space_of(
        small(
            {"depth": 1, "layers": "pw", "shortcut": "identity"},
            stem={"channels": [64, *range(4, 64)]},
            stages=[stage],
        )
    )


def test_width_and_depth_fall_together() -> None:
    """For half of the cost: one module of four and a sixth of the width, not half of either.

    A step of compound scaling is 1.1 times the width and 1.2 times the depth. From 4 modules to
    3 are ln(4/3)/ln(1.2) = 1.6 steps; the width may fall to 1.1^-1.6 = 0.86 for as many.
    """
    space = chain()
    limit = cost_of(space.decode(space.own())).macs / 2
    params = scaled_down(space, lambda architecture: cost_of(architecture).macs <= limit)
    assert params is not None
    assert params["stage1.modules"] == 3
    assert 0.75 * 64 <= params["stage1.channels"] <= 0.9 * 64


def strided(*strides: Any) -> DesignSpace:
    """Three stages with these strides, a module each of up to 64 channels."""
    widths = [64, *range(4, 64)]
    stages = [
        {"modules": 1, "stride": each, "channels": widths, "module": "m"} for each in strides[1:]
    ]
    return space_of(
        small(
            {"depth": 1, "layers": "pw", "shortcut": "identity"},
            stem={"channels": widths, "stride": strides[0]},
            stages=stages,
        )
    )


def strides_of(space: DesignSpace, share: float) -> list[int]:
    limit = share * cost_of(space.decode(space.own())).macs
    params = scaled_down(space, lambda architecture: cost_of(architecture).macs <= limit)
    assert params is not None
    architecture = space.decode(params)
    return [architecture.stem.stride, *(module.stride for module in architecture.modules)]


def test_the_resolution_drops_earlier_and_the_last_maps_keep_their_size() -> None:
    space = strided([1, 2], 2, 2, [2, 1])
    assert strides_of(space, 1) == strides_of(space, 0.8) == [1, 2, 2, 2]
    # A tenth of the cost: 0.3 of the width are 12 steps of compound scaling, half the pixels 5.
    assert strides_of(space, 0.1) == [2, 2, 2, 1]
    # Where no stride may become 1 again the last maps are smaller; where none may drop, none does.
    assert strides_of(strided([1, 2], 2, 2, 2), 0.1) == [2, 2, 2, 2]
    assert strides_of(strided(1, 2, 2, [2, 1]), 0.1) == [1, 2, 2, 2]
