"""What a network has of a trained one: exact copies where they agree, else its own beginning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from spaces import ALL_SPACES, conv, module, network, pool

from collabdesign.design.architecture import Architecture, Layer, Stem
from collabdesign.evaluate.inherit import inherit
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import AttoNet, build_network

State = dict[str, torch.Tensor]


def as_trained(architecture: Architecture) -> AttoNet:
    """No two numbers of its weights and statistics are alike, nor those of another beginning."""
    built = build_network(architecture)
    generator = torch.Generator().manual_seed(1)
    for tensor in built.state_dict().values():
        if tensor.ndim:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 2)
        else:
            tensor.fill_(77)
    return built


def begun(architecture: Architecture, like: Architecture) -> tuple[State, State, State]:
    """State before and after, and that of the trained network."""
    mine, trained = build_network(architecture), as_trained(like)
    initialise(mine, 5)
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    kept = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    inherit(mine, architecture, trained, like)
    assert all(torch.equal(kept[name], tensor) for name, tensor in trained.state_dict().items())
    return before, dict(mine.state_dict()), kept


@pytest.mark.parametrize("name", ALL_SPACES)
def test_the_same_architecture_has_all_of_it(name: str) -> None:
    space, rng = ALL_SPACES[name], np.random.default_rng(3)
    for _ in range(4):
        architecture = space.decode(space.sample(rng))
        _, after, trained = begun(architecture, architecture)
        assert after.keys() == trained.keys()
        assert all(torch.equal(after[key], trained[key]) for key in trained)


@pytest.mark.parametrize("name", ALL_SPACES)
def test_of_a_neighbour_each_number_is_its_own_or_the_others(name: str) -> None:
    space, rng = ALL_SPACES[name], np.random.default_rng(4)
    shares = []
    for _ in range(2):
        params = space.sample(rng)
        neighbours = list(space.neighbours(params))
        neighbour = space.decode(neighbours[int(rng.random() * len(neighbours))])
        before, after, trained = begun(neighbour, space.decode(params))
        # Statistics may be equal before and after; all that is trained is above 2.
        known = set(torch.cat([each.flatten() for each in trained.values() if each.ndim]).tolist())
        copied = total = 0
        for key, tensor in after.items():
            changed = tensor != before[key]
            if tensor.ndim:
                assert set(tensor[changed].tolist()) <= known
                copied, total = copied + int(changed.sum()), total + tensor.numel()
        shares.append(copied / total)
    assert np.mean(shares) > 0.3


def plain(stem: int, hidden: int, out: int) -> Architecture:
    layers = [conv(3, hidden), conv(1, out)]
    one = module(layers, channels=out, shortcut="projection", attention="squeeze_excite")
    return network(one, stem=Stem(3, 1, stem), features=24)


def test_wider_the_old_part_is_equal_and_the_rest_as_it_was() -> None:
    before, after, trained = begun(plain(12, 20, 16), plain(8, 16, 16))
    widths = {"stem.conv.weight": (8, 3), "stem.norm.weight": (8,), "stem.norm.running_var": (8,)}
    inside = "body.0.branches.0"
    widths |= {f"{inside}.0.conv.weight": (16, 8), f"{inside}.0.norm.bias": (16,)}
    widths |= {f"{inside}.1.conv.weight": (16, 16), f"{inside}.1.norm.running_mean": (16,)}
    widths |= {"body.0.shortcut.conv.weight": (16, 8), "body.0.attention.reduce.weight": (4, 16)}
    widths |= {"features.conv.weight": (24, 16), "classifier.weight": (10, 24)}
    for name, width in widths.items():
        old = tuple(map(slice, width))
        assert torch.equal(after[name][old], trained[name]), name
        rest = torch.ones(after[name].shape, dtype=torch.bool)
        rest[old] = False
        assert torch.equal(after[name][rest], before[name][rest]), name
    assert torch.equal(after["classifier.bias"], trained["classifier.bias"])
    assert after["stem.norm.num_batches_tracked"] == 77


def test_narrower_it_is_the_part_that_is_there() -> None:
    _, after, trained = begun(plain(8, 16, 16), plain(12, 20, 24))
    for name, tensor in after.items():
        corner = tuple(map(slice, tensor.shape))
        assert torch.equal(tensor, trained[name][corner]), name


def test_layers_of_another_kind_begin_as_usual() -> None:
    def of(*layers: Layer) -> Architecture:
        return network(module(layers, channels=16, shortcut="projection"))

    like = of(conv(3, 16), conv(1, 16))
    for layers, copied in (
        ((conv(5, 16), conv(1, 16)), (False, True)),  # another kernel
        ((pool(3, 8), conv(1, 16)), (None, True)),  # another operator: of 16 inputs there are 8
        ((conv(3, 16, groups=4), conv(1, 16)), (False, True)),  # groups of other channels
        ((conv(3, 16), conv(1, 16), conv(1, 16)), (True, True, False)),  # a further layer
    ):
        before, after, _ = begun(of(*layers), like)
        for number, expected in enumerate(copied):
            name = f"body.0.branches.0.{number}.conv.weight"
            if expected is not None:
                assert bool((after[name] != before[name]).all()) == expected, name
                assert torch.equal(after[name], before[name]) != expected, name


def test_a_depthwise_convolution_keeps_its_channels() -> None:
    def of(width: int) -> Architecture:
        layers = [conv(1, width), conv(3, width, groups=width), conv(1, 8)]
        return network(module(layers, channels=8, shortcut="identity"))

    before, after, trained = begun(of(24), of(16))
    name = "body.0.branches.0.1.conv.weight"
    assert torch.equal(after[name][:16], trained[name])
    assert torch.equal(after[name][16:], before[name][16:])


def test_stages_are_held_against_each_other_not_modules_in_a_row() -> None:
    def of(first: int) -> Architecture:
        one = module([conv(3, 8)], channels=8, shortcut="identity")
        two = module([conv(3, 16)], channels=16, stage=1)
        return network(*[one] * first, two)

    before, after, trained = begun(of(2), of(1))
    weight = "branches.0.0.conv.weight"
    assert torch.equal(after[f"body.0.{weight}"], trained[f"body.0.{weight}"])
    assert torch.equal(after[f"body.1.{weight}"], before[f"body.1.{weight}"])
    assert torch.equal(after[f"body.2.{weight}"], trained[f"body.1.{weight}"])


def test_behind_a_concatenation_channels_stay_with_their_branch() -> None:
    def of(first: int) -> Architecture:
        both = ([conv(1, first)], [conv(3, 8)])
        one = module(*both, channels=first + 8, join="concat")
        return network(one, module([conv(1, 4)], channels=4, stage=1))

    before, after, trained = begun(of(12), of(8))
    name = "body.1.branches.0.0.conv.weight"
    assert torch.equal(after[name][:, :8], trained[name][:, :8])
    assert torch.equal(after[name][:, 8:12], before[name][:, 8:12])
    assert torch.equal(after[name][:, 12:], trained[name][:, 8:])


def test_branches_that_agree_are_held_against_each_other() -> None:
    """In the canonical form branches are sorted, so that a change of one may change their order."""
    like = network(module([conv(3, 8), conv(1, 8)], [conv(5, 8)], channels=8))
    one = like.modules[0]
    design = replace(like, modules=(replace(one, branches=(*one.branches[::-1],)),))
    three = network(module([conv(1, 8)], [conv(3, 8), conv(1, 8)], [conv(5, 8)], channels=8))
    for architecture in (design, three):
        before, after, trained = begun(architecture, like)
        theirs = {tuple(trained[key].shape): trained[key] for key in trained if "0.conv.w" in key}
        for key in after:
            if key.startswith("body") and key.endswith("0.conv.weight"):
                known = theirs.get(tuple(after[key].shape))
                is_new = known is None or known.shape[-1] == 1
                assert torch.equal(after[key], before[key] if is_new else known), key


def test_other_features_leave_the_classifier_alone() -> None:
    one = module([conv(3, 8)], channels=8)
    before, after, _ = begun(network(one, features=16), network(one))
    for name in ("features.conv.weight", "classifier.weight", "classifier.bias"):
        assert torch.equal(after[name], before[name])
