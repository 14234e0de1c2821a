"""Networks: built as the architecture says, and computing what it says."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import SHIPPED, conv, module, network, parameter_sets, pool, space_of, written
from torch import nn
from torch.nn import functional as F

from collabdesign.design import operators
from collabdesign.design.architecture import Architecture, Module, Stem
from collabdesign.design.operators import ACTIVATIONS
from collabdesign.evaluate import operators as modules
from collabdesign.evaluate.network import AttoNet, build_network

RESOLUTIONS = {"tiny": 8, "residual": 32, "mixed": 32, "mobile": 64}
SPACES = {name: space_of(written(name), RESOLUTIONS[name], 3, 7) for name in SHIPPED}


def trained(architecture: Architecture) -> AttoNet:
    """In eval mode, with statistics and scales as after a training: none is 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    net = build_network(architecture)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight.data, layer.bias.data, layer.running_mean):
                assert values is not None
                values.copy_(torch.randn(values.shape, generator=generator))
            assert layer.running_var is not None
            layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.5)
    return net.eval()


def images(architecture: Architecture, count: int = 2, side: int | None = None) -> torch.Tensor:
    side = side or architecture.resolution
    shape = (count, architecture.input_channels, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True, scope="module")
def plain_torch() -> Iterator[None]:
    """One thread, which is the faster for small networks, and no gradients but where asked."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


# -- whole networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_every_network_runs_and_leaves_its_architecture_alone(
    name: str, data: st.DataObject
) -> None:
    architecture = SPACES[name].decode(data.draw(parameter_sets(SPACES[name])))
    before = copy.deepcopy(architecture.to_dict())
    net = build_network(architecture).eval()
    for side in (architecture.resolution, architecture.resolution + 5):
        assert net(images(architecture, 2, side)).shape == (2, 7)
    assert architecture.to_dict() == before


@pytest.mark.parametrize("name", SHIPPED)
def test_every_network_can_be_trained(name: str) -> None:
    architecture = SPACES[name].decode(SPACES[name].own())
    net = build_network(architecture).train()
    with torch.enable_grad():
        net(images(architecture, 4)).square().mean().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SHIPPED)
def test_grey_and_colour(name: str, channels: int) -> None:
    space = space_of(written(name), 32, channels, 2)
    architecture = space.decode(space.sample(np.random.default_rng(0)))
    assert build_network(architecture).eval()(images(architecture)).shape == (2, 2)


def test_eval_is_deterministic_and_independent_of_the_batch() -> None:
    architecture = SPACES["mixed"].decode(SPACES["mixed"].own())
    net, x = trained(architecture), images(architecture, 3)
    together = net(x)
    assert torch.equal(together, net(x))
    alone = torch.cat([net(image[None]) for image in x])
    torch.testing.assert_close(together, alone)


def test_equal_architectures_share_their_weights() -> None:
    spelled = [conv(1, 8)], [conv(3, 8)]
    one = network(module(*spelled, channels=8))
    other = network(module(*reversed(spelled), channels=8))
    first, second = trained(one), build_network(other).eval()
    second.load_state_dict(first.state_dict())
    x = images(one)
    assert torch.equal(first(x), second(x))


def test_state_dict_keys_are_stable() -> None:
    # A family's weights.pt is read by its model.py years later: these names do not change.
    design = module(
        [conv(1, 8), pool(3, 8), conv(3, 12)],
        [conv(3, 12)],
        channels=12,
        shortcut="projection",
        attention="squeeze_excite",
    )
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    convolution = ("conv.weight", *(f"norm.{key}" for key in norm))
    assert list(build_network(network(design, features=16)).state_dict()) == [
        *(f"stem.{key}" for key in convolution),
        *(f"body.0.branches.0.0.{key}" for key in convolution),
        *(f"body.0.branches.0.2.{key}" for key in convolution),
        *(f"body.0.branches.1.0.{key}" for key in convolution),
        *(
            f"body.0.attention.{part}.{key}"
            for part in ("reduce", "expand")
            for key in ("weight", "bias")
        ),
        *(f"body.0.shortcut.{key}" for key in convolution),
        *(f"features.{key}" for key in convolution),
        "classifier.weight",
        "classifier.bias",
    ]


def test_what_is_not_there_has_no_weights() -> None:
    keys = build_network(network(module([pool(3, 8)], channels=8))).state_dict()
    assert {key.split(".")[0] for key in keys} == {"stem", "classifier"}


# -- against torch's functions ---------------------------------------------------------------------

ACTIVATE = {"relu": F.relu, "hardswish": F.hardswish, "silu": F.silu, "gelu": F.gelu}


def conv_norm(x: torch.Tensor, layer: Any, stride: int = 1, groups: int = 1) -> torch.Tensor:
    weight, norm = layer.conv.weight, layer.norm
    x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
    scale = norm.weight / torch.sqrt(norm.running_var + 1e-5)
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def run(design: Module, side: int = 8) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The module's input of 8 channels, its output, and the module, which is trained."""
    body = trained(network(design)).body[0]
    x = torch.randn(2, 8, side, side, generator=torch.Generator().manual_seed(2))
    return x, body(x), body


def same(out: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_follows_every_convolution_but_the_last(activation: str) -> None:
    layers = [conv(1, 16), conv(3, 16, 2, 16), conv(1, 12)]
    design = module(layers, channels=12, stride=2, activation=activation, output="linear")
    x, out, m = run(design)
    act, branch = ACTIVATE[activation], m.branches[0]
    y = act(conv_norm(x, branch[0]))
    y = act(conv_norm(y, branch[1], stride=2, groups=16))
    same(out, conv_norm(y, branch[2]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activated_output(activation: str) -> None:
    x, out, m = run(module([conv(3, 12)], channels=12, activation=activation))
    same(out, ACTIVATE[activation](conv_norm(x, m.branches[0][0])))


def test_groups_and_kernels() -> None:
    x, out, m = run(module([conv(5, 12, groups=4)], channels=12, output="linear"))
    assert m.branches[0][0].conv.weight.shape == (12, 8 // 4, 5, 5)
    same(out, conv_norm(x, m.branches[0][0], groups=4))


def test_pooling_is_the_largest_value_and_not_activated() -> None:
    design = module([pool(3, 8, 2), conv(1, 8)], channels=8, stride=2, output="linear")
    x, out, m = run(design, side=7)
    pooled = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    assert pooled.shape[-1] == 4
    assert (pooled < 0).any()
    same(out, conv_norm(pooled, m.branches[0][1]))


def test_pooling_after_a_convolution() -> None:
    x, out, m = run(module([conv(1, 8), pool(5, 8)], channels=8, output="linear"))
    same(out, F.max_pool2d(F.relu(conv_norm(x, m.branches[0][0])), 5, 1, 2))


def test_branches_are_added() -> None:
    x, out, m = run(module([conv(1, 8)], [conv(3, 8)], [pool(3, 8)], channels=8, output="linear"))
    a, b = conv_norm(x, m.branches[0][0]), conv_norm(x, m.branches[1][0])
    same(out, a + b + F.max_pool2d(x, 3, 1, 1))


def test_branches_are_concatenated_in_their_order() -> None:
    design = module([conv(3, 12)], [conv(1, 4)], channels=16, join="concat", output="linear")
    x, out, m = run(design)
    same(out[:, :12], conv_norm(x, m.branches[0][0]))
    same(out[:, 12:], conv_norm(x, m.branches[1][0]))


def test_an_identity_shortcut_is_added_before_the_activation() -> None:
    x, out, m = run(module([conv(3, 8)], channels=8, shortcut="identity"))
    same(out, F.relu(conv_norm(x, m.branches[0][0]) + x))


def test_a_projection_has_the_modules_stride_and_no_activation() -> None:
    design = module([conv(3, 12, 2)], channels=12, stride=2, shortcut="projection", output="linear")
    x, out, m = run(design, side=7)
    assert m.shortcut.conv.weight.shape == (12, 8, 1, 1)
    same(out, conv_norm(x, m.branches[0][0], stride=2) + conv_norm(x, m.shortcut, stride=2))


def test_attention_scales_the_joined_map_and_not_the_shortcut() -> None:
    design = module(
        [conv(1, 8)], [conv(3, 8)], channels=8, shortcut="identity", attention="squeeze_excite",
        output="linear",
    )  # fmt: skip
    x, out, m = run(design)
    joined = conv_norm(x, m.branches[0][0]) + conv_norm(x, m.branches[1][0])
    reduce, expand = m.attention.reduce, m.attention.expand
    assert reduce.weight.shape == (4, 8, 1, 1)  # a quarter of 8, at least 4
    hidden = F.relu(F.linear(joined.mean((2, 3)), reduce.weight[:, :, 0, 0], reduce.bias))
    gate = torch.sigmoid(F.linear(hidden, expand.weight[:, :, 0, 0], expand.bias))
    same(out, joined * gate[:, :, None, None] + x)


@pytest.mark.parametrize("features", [0, 24])
def test_stem_and_head(features: int) -> None:
    plain = module([conv(1, 12)], channels=12, output="linear")
    architecture = network(plain, stem=Stem(5, 2, 8, "silu"), features=features, classes=3)
    net, x = trained(architecture), images(architecture)
    y = F.silu(conv_norm(x, net.stem, stride=2))
    y = conv_norm(y, net.body[0].branches[0][0])
    if features:
        y = F.relu(conv_norm(y, net.features))
    same(net(x), F.linear(y.mean((2, 3)), net.classifier.weight, net.classifier.bias))


@pytest.mark.parametrize("table", ["OPERATORS", "JOINS", "ATTENTIONS", "ACTIVATIONS"])
def test_the_tables_of_design_and_of_torch_have_the_same_rows(table: str) -> None:
    assert list(getattr(modules, table)) == list(getattr(operators, table))


def test_every_activation_is_compared_with_torchs_own() -> None:
    assert set(ACTIVATIONS) == set(ACTIVATE)
