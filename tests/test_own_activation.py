"""A layer's own activation, or none: ``dw3/none`` is EtinyNet's linear depthwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_check import check_word
from spaces import conv, module, network, parameter_sets, small, space_of
from torch.nn import functional as F

from collabdesign.design.architecture import Architecture, Layer, Module
from collabdesign.design.cost import cost_of
from collabdesign.design.layer_words import parse_token
from collabdesign.errors import InputError
from collabdesign.evaluate.network import build_network


def own(activation: str, layer: Layer) -> Layer:
    return Layer(
        layer.op, layer.kernel, layer.stride, layer.groups, layer.channels,
        (("activation", activation),),
    )  # fmt: skip


@pytest.mark.parametrize("word", ["dw3/none", "pw/hardswish"])
def test_from_yaml_to_a_model_that_runs_alone(word: str, tmp_path: Path) -> None:
    kind, _, activation = word.partition("/")
    check_word(word, ["pw/none", "dw3", "conv3"], tmp_path, activation)
    assert f'activation="{activation}"' in (tmp_path / "model" / "model.py").read_text()
    assert kind in ("dw3", "pw")


def test_costs_by_hand() -> None:
    layers = [conv(3, 8, groups=8), conv(1, 16), conv(3, 16, groups=16)]
    linear = [own("none", layers[0]), *layers[1:]]
    cost = cost_of(network(module(linear, channels=16)))
    stem, classifier = 3 * 9 * 8, 16 * 10 + 10
    body = 9 * 8 + 8 * 16 + 9 * 16
    assert cost.macs == (stem + body) * 64 + classifier
    assert cost.params == stem + body + classifier + 2 * (8 + 8 + 16 + 16)
    assert cost.peak_activation_bytes == 4 * (16 * 64 + 16 * 64)
    assert cost == cost_of(network(module(layers, channels=16))), "an activation costs nothing"


def test_computes_what_it_says() -> None:
    layers = [own("none", conv(3, 8, groups=8)), own("silu", conv(1, 16)), conv(1, 8), conv(1, 8)]
    design = module(layers, channels=8, activation="gelu")
    body = build_network(network(design)).eval().body[0]
    x = torch.randn(2, 8, 5, 5)
    convs = [(lambda x, each=each: each.norm(each.conv(x))) for each in body.branches[0]]
    y = F.silu(convs[1](convs[0](x)))
    torch.testing.assert_close(body(x), F.gelu(convs[3](F.gelu(convs[2](y)))))


# -- one network, one spelling ----------------------------------------------------------------


def modules_alike(*modules: Module) -> None:
    assert len({network(each).id for each in modules}) == len(set(modules)) == 1


def test_an_own_activation_that_changes_nothing_is_left_out() -> None:
    plain = module([conv(1, 8), conv(3, 8)], channels=8, activation="silu")
    modules_alike(
        plain,
        module([own("silu", conv(1, 8)), conv(3, 8)], channels=8, activation="silu"),
        module([conv(1, 8), own("gelu", conv(3, 8))], channels=8, activation="silu"),
    )
    assert plain.branches[0].layers == (conv(1, 8), conv(3, 8))


def test_the_activation_of_a_linear_module_has_one_spelling() -> None:
    def linear(activation: str, first: Layer, second: Layer) -> Module:
        layers = [first, second, conv(1, 8)]
        return module(layers, channels=8, output="linear", activation=activation)

    a, b = conv(1, 8), conv(3, 8)
    modules_alike(
        linear("silu", a, b),
        linear("relu", own("silu", a), own("silu", b)),
        linear("gelu", own("silu", a), own("silu", b)),
    )
    modules_alike(
        linear("silu", own("gelu", a), b),
        linear("gelu", a, own("silu", b)),
        linear("relu", own("gelu", a), own("silu", b)),
    )
    modules_alike(
        linear("silu", own("none", a), own("none", b)),
        linear("relu", own("none", a), own("none", b)),
    )
    assert linear("gelu", own("silu", a), own("silu", b)).activation == "silu"
    assert linear("silu", own("none", a), own("none", b)).activation == "relu"
    assert network(linear("silu", a, own("gelu", b))).id != network(linear("silu", a, b)).id


WORDS = ["pw", "pw/none", "pw/relu", "dw3/silu", "dw3", "conv3/g2/gelu", "pool3"]


def some(values: list[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


@given(
    words=some(WORDS, 4),
    activation=some(["relu", "silu", "gelu"], 2),
    share=st.sampled_from(["module", "stage"]),
    join=some(["add", "concat"], 2),
    output=some(["linear", "activated"], 2),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_any_prototype_encodes_what_it_decodes(
    words: list[str],
    activation: list[str],
    share: str,
    join: list[str],
    output: list[str],
    data: st.DataObject,
) -> None:
    kind = {
        "branches": [1, 2], "depth": [3, 1, 2], "layers": words, "widths": [1, 0.5],
        "join": join, "activation": activation, "share": share, "output": output,
    }  # fmt: skip
    stages = [{"modules": 2, "channels": [12, 8], "stride": 2, "module": "m"}]
    space = space_of(small(kind, stages=stages), 16)
    architecture = space.decode(data.draw(parameter_sets(space)))
    assert space.decode(space.encode(architecture)) == architecture
    assert Architecture.from_dict(architecture.to_dict()) == architecture


def test_what_has_none() -> None:
    with pytest.raises(InputError, match="pool has no activation to choose, got 'pool3/none'"):
        parse_token("pool3/none")
    with pytest.raises(InputError, match=r"layer activation must be one of none, relu, .*'swish'"):
        own("swish", conv(1, 8))
