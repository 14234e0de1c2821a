"""How many parameter sets a space has, and how many parameters a set."""

from __future__ import annotations

import itertools

import pytest
from spaces import (
    ALL_SPACES,
    CORNERS,
    SHIPPED,
    every_parameter_set,
    small,
    space_of,
    written,
)

from collabdesign.design.freedoms import Freedom
from collabdesign.design.prototype import ModuleFreedoms, Prototype


@pytest.mark.parametrize("name", CORNERS)
def test_size_counts_all_parameter_sets(name: str) -> None:
    space = ALL_SPACES[name]
    everything = list(every_parameter_set(space))
    assert len(everything) == space.size()
    assert len({tuple(sorted(params.items())) for params in everything}) == space.size()


def test_sizes_by_arithmetic() -> None:
    # One module of one layer; the widths of one layer alone do not matter.
    one = {"depth": 1, "layers": ["pw", "dw3"], "widths": [1, 2, 4]}
    assert space_of(small(one)).size() == 2
    # Two layers: pw pw, pw dw3, dw3 pw, dw3 dw3; a hidden width where both choose.
    assert space_of(small({**one, "depth": 2})).size() == 3 + 1 + 1 + 1
    # One branch, or two: added, or concatenated with a share for each.
    two = {**one, "branches": [1, 2], "join": ["add", "concat"]}
    assert space_of(small(two)).size() == 2 + 2 * 2 + (2 * 3) * (2 * 3)
    # One module or two, each with its own design.
    stage = {"modules": [1, 2], "channels": [8, 16], "module": "m"}
    assert space_of(small(one, stages=[stage])).size() == 2 * (2 + 2 * 2)
    shared = {**one, "share": "stage"}
    assert space_of(small(shared, stages=[stage])).size() == 2 * (2 + 2)
    head = {"features": [0, 16, 32], "activation": ["relu", "silu"]}
    assert space_of(small(one, head=head)).size() == 2 * (1 + 2 * 2)


def most_in_a_branch(kind: ModuleFreedoms, concat: bool) -> int:
    """Active parameters of one branch, at most: all words for all depths tried."""
    most = 0
    for depth in kind.depth.values:
        words = [kind.tokens(position).values for position in range(depth)]
        layers = sum(len(choices) > 1 for choices in words)
        for chosen in itertools.product(*words):
            choosing = sum(word.startswith(("pw", "conv")) for word in chosen)
            widths = max(choosing - 1, 0) + concat if len(kind.widths.values) > 1 else 0
            most = max(most, (len(kind.depth.values) > 1) + layers + widths)
    return most


def most_active(prototype: Prototype) -> int:
    def free(*freedoms: Freedom) -> int:
        return sum(len(freedom.values) > 1 for freedom in freedoms)

    stem, head = prototype.stem, prototype.head
    total = free(stem.kernel, stem.stride, stem.channels, stem.activation, head.features)
    total += free(head.activation) if any(head.features.values) else 0
    for stage in prototype.stages:
        kind = prototype.modules[stage.module]
        design = free(kind.shortcut, kind.branches, kind.attention, kind.activation, kind.output)
        design += max(
            count * most_in_a_branch(kind, join == "concat") + (free(kind.join) if count > 1 else 0)
            for count in kind.branches.values
            for join in (kind.join.values if count > 1 else ("add",))
        )
        designs = 1 if kind.share == "stage" else max(stage.modules.values)
        total += free(stage.modules, stage.stride, stage.channels) + designs * design
    return total


@pytest.mark.parametrize("name", CORNERS)
def test_the_most_active_parameters_are_counted_rightly(name: str) -> None:
    most = max(len(params) for params in every_parameter_set(ALL_SPACES[name]))
    assert most == most_active(Prototype.model_validate(CORNERS[name]))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_prototype_has_at_most_120_active_parameters(name: str) -> None:
    assert most_active(Prototype.model_validate(written(name))) <= 120
