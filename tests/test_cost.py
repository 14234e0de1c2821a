"""Costs: against ptflops, against the built network, and against arithmetic written out here."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ptflops import get_model_complexity_info
from spaces import SHIPPED, conv, module, network, parameter_sets, pool, space_of, written
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from collabdesign.design.architecture import Architecture, Module, Stem
from collabdesign.design.cost import METRICS, Cost, PartCost, cost_of, part_costs
from collabdesign.errors import InputError
from collabdesign.evaluate.network import build_network

aten = torch.ops.aten

# Inputs of several sizes, odd ones and one very small among them.
INPUTS = [(32, 3, 10), (33, 1, 2), (96, 3, 100), (32, 1, 1000), (47, 3, 3)]
SPACES = {
    (name, shape): space_of(written(name), *shape)
    for name in SHIPPED
    for shape in [*INPUTS, *([(8, 1, 10), (4, 3, 10)] if name == "tiny" else [])]
}


@st.composite
def architectures(draw: st.DrawFn, name: str) -> Architecture:
    space = SPACES[draw(st.sampled_from([key for key in SPACES if key[0] == name]))]
    return space.decode(draw(parameter_sets(space)))


# -- the independent counts ------------------------------------------------------------------------


def counted_by_ptflops(architecture: Architecture) -> tuple[int, int]:
    """(macs, params) of a throwaway copy, on which hooks stay."""
    net = copy.deepcopy(build_network(architecture)).eval()
    shape = (architecture.input_channels, architecture.resolution, architecture.resolution)
    macs, params = get_model_complexity_info(
        net, shape, as_strings=False, print_per_layer_stat=False, backend="aten"
    )
    return macs, params


class Lifetimes(TorchDispatchMode):
    """Logs every operation of a forward pass: which tensors it reads, which it writes.

    Knows nothing of architectures: normalisation, activations and views are one tensor with
    their input; convolutions, linear layers, pooling, sums, concatenations and products write
    new ones; weights are none. Any other operation is an error.
    """

    WRITES = (
        aten.convolution,
        aten.addmm,
        aten.max_pool2d_with_indices,
        aten.avg_pool2d,
        aten.mean,
        aten._adaptive_avg_pool2d,
        aten.add,
        aten.cat,
        aten.mul,
    )
    IN_PLACE = (
        aten.native_batch_norm,
        aten._native_batch_norm_legit_no_training,
        aten._batch_norm_no_update,
        aten.cudnn_batch_norm,
        aten.relu,
        aten.relu_,
        aten.hardswish,
        aten.silu,
        aten.gelu,
        aten.sigmoid,
        aten.view,
        aten._unsafe_view,
        aten.t,
    )

    def __init__(self, source: torch.Tensor) -> None:
        super().__init__()
        self.sizes = [source.numel()]
        self.log: list[tuple[set[int], int]] = []  # tensors read, tensor written
        self._names = {id(source): 0}
        self._kept: list[Any] = [source]  # a freed tensor's id may come again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [a for arg in args for a in (arg if isinstance(arg, list | tuple) else [arg])]
        read = [self._names[id(a)] for a in given if id(a) in self._names]
        self._kept += [*given, out]
        result = out[0] if isinstance(out, tuple | list) else out
        if not read:
            pass  # a weight's transpose, an empty buffer
        elif func.overloadpacket in self.IN_PLACE:
            assert len(read) == 1
            self._names[id(result)] = read[0]
        else:
            assert func.overloadpacket in self.WRITES, f"{func} is not known"
            self._names[id(result)] = len(self.sizes)
            self.log.append((set(read), len(self.sizes)))
            self.sizes.append(result.numel())
        return out

    def peak_elements(self) -> int:
        written = {0: -1, **{name: step for step, (_, name) in enumerate(self.log)}}
        last = dict(written)
        for step, (read, _) in enumerate(self.log):
            last.update(dict.fromkeys(read, step))
        return max(
            sum(size for name, size in enumerate(self.sizes) if written[name] <= step <= last[name])
            for step in range(len(self.log))
        )


def record(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[int, Any]:
    """(peak elements, output) of a forward pass."""
    with torch.no_grad(), Lifetimes(x) as lifetimes:
        out = run(x)
    return lifetimes.peak_elements(), out


def recorded_peak(architecture: Architecture) -> int:
    return record(build_network(architecture).eval(), blank(architecture))[0]


def blank(architecture: Architecture) -> torch.Tensor:
    side = architecture.resolution
    return torch.zeros(1, architecture.input_channels, side, side)


def recorded_peaks_of_parts(architecture: Architecture) -> list[int]:
    """Of the stem, every module and the head, each run on its own."""
    net, x, peaks = build_network(architecture).eval(), blank(architecture), []

    def head(x: torch.Tensor) -> torch.Tensor:
        return net.classifier(F.adaptive_avg_pool2d(net.features(x), 1).flatten(1))

    for part in (net.stem, *net.body, head):
        peak, x = record(part, x)
        peaks.append(peak)
    return peaks


def parameters_of(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_macs_and_params_equal_ptflops_and_the_network(name: str, data: st.DataObject) -> None:
    architecture = data.draw(architectures(name))
    cost = cost_of(architecture)
    assert (cost.macs, cost.params) == counted_by_ptflops(architecture)
    assert cost.params == parameters_of(build_network(architecture))


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_peak_equals_the_lifetimes_of_a_forward_pass(name: str, data: st.DataObject) -> None:
    architecture = data.draw(architectures(name))
    peak = cost_of(architecture).peak_activation_bytes
    assert peak == 4 * recorded_peak(architecture)
    peaks = [part.peak_elements for part in part_costs(architecture)]
    assert peaks == recorded_peaks_of_parts(architecture)
    assert peak == 4 * max(peaks)


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_parts_sum_to_the_whole(name: str, data: st.DataObject) -> None:
    architecture = data.draw(architectures(name))
    cost, parts = cost_of(architecture), part_costs(architecture)
    assert sum(part.macs for part in parts) == cost.macs
    assert sum(part.params for part in parts) == cost.params
    assert 4 * max(part.peak_elements for part in parts) == cost.peak_activation_bytes
    assert len(parts) == 2 + len(architecture.modules)
    for before, after in pairwise(parts):
        assert before.resolution_out == after.resolution_in
    assert parts[0].resolution_in == architecture.resolution
    assert parts[-1].channels_out == architecture.classes


# -- arithmetic ------------------------------------------------------------------------------------
# Input 3 x 8 x 8 and a stem of 8 channels unless said otherwise.


def module_part(design: Module, **changes: Any) -> PartCost:
    """The one module's cost; the recorder agrees with its peak."""
    architecture = network(design, **changes)
    part = part_costs(architecture)[1]
    assert part.peak_elements == recorded_peaks_of_parts(architecture)[1]
    return part


def test_a_whole_network() -> None:
    cost = cost_of(network(module([conv(3, 16, 2)], channels=16, stride=2)))
    stem = 3 * 3 * 3 * 8
    body = 3 * 3 * 8 * 16
    classifier = 16 * 10
    macs = stem * 8 * 8 + body * 4 * 4 + (classifier + 10)
    params = (stem + 2 * 8) + (body + 2 * 16) + (classifier + 10)
    peak = 8 * 8 * 8 + 16 * 4 * 4  # the module's input and output; the stem's are 3 * 64 + 8 * 64
    assert max(peak, 3 * 64 + 8 * 64) == peak
    assert cost == Cost(macs, params, 4 * params, 4 * peak)


def test_stem() -> None:
    plain = module([conv(1, 12)], channels=12)
    parts = part_costs(network(plain, stem=Stem(5, 2, 12), resolution=9, input_channels=1))
    weights = 5 * 5 * 1 * 12
    side = 5  # of 9 at stride 2: the centres 0, 2, 4, 6, 8
    assert parts[0] == PartCost(
        name="stem",
        macs=weights * side * side,
        params=weights + 2 * 12,
        peak_elements=1 * 9 * 9 + 12 * side * side,
        resolution_in=9,
        resolution_out=side,
        channels_out=12,
    )


def test_head_without_features() -> None:
    parts = part_costs(network(module([conv(1, 8)], channels=8), classes=7))
    assert parts[-1] == PartCost(
        name="head",
        macs=8 * 7 + 7,
        params=8 * 7 + 7,
        peak_elements=8 * 64 + 8,  # the map and its means
        resolution_in=8,
        resolution_out=1,
        channels_out=7,
    )


def test_head_with_features() -> None:
    parts = part_costs(network(module([conv(1, 8)], channels=8), classes=7, features=32))
    assert parts[-1] == PartCost(
        name="head",
        macs=8 * 32 * 64 + (32 * 7 + 7),
        params=(8 * 32 + 2 * 32) + (32 * 7 + 7),
        peak_elements=8 * 64 + 32 * 64,
        resolution_in=8,
        resolution_out=1,
        channels_out=7,
    )


def test_many_classes_set_the_peak() -> None:
    architecture = network(module([conv(1, 8)], channels=8), resolution=2, classes=1000)
    # The means and the logits; the maps have 3 * 4 and 8 * 4 elements.
    assert part_costs(architecture)[-1].peak_elements == 8 + 1000
    assert cost_of(architecture, "int8").peak_activation_bytes == 8 + 1000
    assert recorded_peak(architecture) == 8 + 1000


def test_a_branch_in_sequence() -> None:
    part = module_part(
        module([conv(1, 24), conv(3, 24, 2, 24), conv(1, 16)], channels=16, stride=2)
    )
    widen, depthwise, narrow = 8 * 24, 3 * 3 * 24, 24 * 16
    assert part.macs == widen * 64 + depthwise * 16 + narrow * 16
    assert part.params == widen + depthwise + narrow + 2 * (24 + 24 + 16)
    assert part.peak_elements == 8 * 64 + 24 * 64
    assert (part.resolution_in, part.resolution_out, part.channels_out) == (8, 4, 16)


def test_an_odd_side_rounds_up() -> None:
    part = module_part(module([conv(3, 8, 2)], channels=8, stride=2), resolution=7)
    assert part.macs == 3 * 3 * 8 * 8 * 4 * 4
    assert (part.resolution_in, part.resolution_out) == (7, 4)


def test_an_identity_shortcut_keeps_the_input() -> None:
    layers = [conv(1, 24), conv(3, 24, groups=24), conv(1, 8)]
    part = module_part(module(layers, channels=8, shortcut="identity"))
    assert part.macs == (8 * 24 + 9 * 24 + 24 * 8) * 64
    assert part.params == (8 * 24 + 9 * 24 + 24 * 8) + 2 * (24 + 24 + 8)
    assert part.peak_elements == 8 * 64 + 24 * 64 + 24 * 64  # at the second layer


def test_the_sum_with_an_identity_may_be_the_peak() -> None:
    part = module_part(module([conv(3, 8)], channels=8, shortcut="identity"))
    assert part.peak_elements == 8 * 64 + 8 * 64 + 8 * 64  # branch, input, their sum


def test_a_projection() -> None:
    part = module_part(module([conv(3, 16, 2)], channels=16, stride=2, shortcut="projection"))
    assert part.macs == (9 * 8 * 16 + 8 * 16) * 16
    assert part.params == (9 * 8 * 16 + 2 * 16) + (8 * 16 + 2 * 16)
    assert part.peak_elements == 16 * 16 + 8 * 64 + 16 * 16  # branch, input, projection


def test_the_sum_with_a_projection_may_be_the_peak() -> None:
    part = module_part(module([conv(1, 32)], channels=32, shortcut="projection"))
    assert part.peak_elements == 32 * 64 + 32 * 64 + 32 * 64  # branch, projection, their sum


def test_three_added_branches() -> None:
    part = module_part(module([conv(1, 8)], [conv(1, 8)], [conv(1, 8)], channels=8))
    assert part.macs == 3 * 8 * 8 * 64
    assert part.params == 3 * (8 * 8 + 2 * 8)
    # The input, which the third branch reads, the first, the second, and their sum.
    assert part.peak_elements == 4 * 8 * 64


def test_two_added_branches() -> None:
    part = module_part(module([conv(1, 8)], [conv(1, 8)], channels=8))
    assert part.peak_elements == 3 * 8 * 64  # first, second, sum: the input was read last before


def test_concat() -> None:
    branches = [conv(1, 4)], [pool(3, 8), conv(1, 4)], [conv(3, 8)]
    part = module_part(module(*branches, channels=16, join="concat"))
    assert part.macs == (8 * 4 + 8 * 4 + 9 * 8 * 8) * 64
    assert part.params == (8 * 4 + 2 * 4) + (8 * 4 + 2 * 4) + (9 * 8 * 8 + 2 * 8)
    assert part.peak_elements == (4 + 4 + 8) * 64 + 16 * 64  # all branches and their copy


def test_the_peak_of_a_concat_may_be_inside_a_branch() -> None:
    branches = [conv(1, 4)], [conv(1, 32), conv(3, 4)]
    part = module_part(module(*branches, channels=8, join="concat"))
    assert part.peak_elements == (4 + 8 + 32) * 64  # first branch, input, inside of the second


def test_concat_keeps_the_input_for_a_shortcut() -> None:
    branches = [conv(1, 4)], [conv(3, 4)]
    part = module_part(module(*branches, channels=8, join="concat", shortcut="identity"))
    assert part.peak_elements == 8 * 64 + (4 + 4) * 64 + 8 * 64  # input, branches, their copy


@pytest.mark.parametrize(("channels", "squeezed"), [(8, 4), (64, 16)])  # a quarter, at least 4
def test_squeeze_and_excite(channels: int, squeezed: int) -> None:
    plain = module([conv(1, channels)], channels=channels)
    part = module_part(module([conv(1, channels)], channels=channels, attention="squeeze_excite"))
    gate = (channels * squeezed + squeezed) + (squeezed * channels + channels)
    assert part.macs == module_part(plain).macs + gate
    assert part.params == module_part(plain).params + gate
    assert part.peak_elements == channels * 64 + channels + channels * 64  # map, gate, product


def test_attention_beside_a_shortcut() -> None:
    part = module_part(
        module([conv(1, 8)], channels=8, attention="squeeze_excite", shortcut="identity")
    )
    assert part.peak_elements == 8 * 64 + 8 * 64 + 8 + 8 * 64  # input, map, gate, product


def test_groups() -> None:
    part = module_part(module([conv(1, 16), conv(3, 16, groups=4), conv(1, 8)], channels=8))
    weights = 8 * 16 + 9 * (16 // 4) * 16 + 16 * 8
    assert part.macs == weights * 64
    assert part.params == weights + 2 * (16 + 16 + 8)


def test_a_pool_has_nothing_to_learn_and_nothing_to_multiply() -> None:
    part = module_part(module([pool(5, 8, 2)], channels=8, stride=2))
    assert (part.macs, part.params) == (0, 0)
    assert part.peak_elements == 8 * 64 + 8 * 16


def test_activation_and_output_cost_nothing() -> None:
    costs = {
        cost_of(network(module([conv(3, 8)], channels=8, activation=activation, output=output)))
        for activation in ("relu", "gelu")
        for output in ("activated", "linear")
    }
    assert len(costs) == 1


@pytest.mark.parametrize(("precision", "width"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_precisions(precision: str, width: int) -> None:
    architecture = network(module([conv(3, 8)], channels=8))
    cost = cost_of(architecture, precision)
    assert cost.macs == cost_of(architecture).macs
    assert cost.weight_bytes == width * cost.params
    assert cost.peak_activation_bytes == width * (8 * 64 + 8 * 64)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        cost_of(network(module([conv(3, 8)], channels=8)), "int4")
    assert str(caught.value) == "precision must be one of float32, float16, int8, got 'int4'"


EXAMPLE = Cost(macs=10, params=3, weight_bytes=12, peak_activation_bytes=40)


def test_a_cost_is_a_mapping_with_attributes() -> None:
    assert dict(EXAMPLE) == {
        "macs": 10, "params": 3, "weight_bytes": 12, "peak_activation_bytes": 40,
    }  # fmt: skip
    assert (EXAMPLE.macs, EXAMPLE["weight_bytes"], len(EXAMPLE)) == (10, 12, 4)
    assert list(EXAMPLE) == list(METRICS)
    assert eval(repr(EXAMPLE)) == EXAMPLE == pickle.loads(pickle.dumps(EXAMPLE))
    assert len({EXAMPLE, copy.copy(EXAMPLE), Cost(**EXAMPLE), Cost(**{**EXAMPLE, "macs": 11})}) == 2
    with pytest.raises(AttributeError, match="a cost cannot be edited"):
        EXAMPLE.macs = 11
    with pytest.raises(AttributeError, match=r"a cost has macs, .*, got .flops."):
        EXAMPLE.flops  # noqa: B018
    with pytest.raises(KeyError):
        EXAMPLE["flops"]


def test_a_cost_reads_what_it_wrote_and_what_earlier_studies_hold() -> None:
    assert Cost.from_json(json.loads(json.dumps(dict(EXAMPLE)))) == EXAMPLE
    assert Cost.from_json([10, 3, 12, 40]) == EXAMPLE
    assert Cost.from_json({"macs": 10}).macs == 10, "a later metric may be missing"
    for wrong in ([1, 2, 3], {}, {"macs": 1, "flops": 2}):
        with pytest.raises(ValueError, match="a cost has macs, params"):
            Cost.from_json(wrong)


def test_a_limit_on_a_new_metric_is_one_row() -> None:
    code = """
from collabdesign.design import cost
cost.METRICS["layers_bytes"] = cost.Metric(
    title="bytes a parameter", unit="bytes", limit="Such as 4B.", how="counted at {precision}",
    count=lambda macs, params, peak, size: size,
)
import sys
sys.path.insert(0, "tests")
from spaces import small
from collabdesign.deliver.certificate import judge
from collabdesign.deliver.report.words import QUANTITIES, short_quantity
from collabdesign.design.files.schema import requirements_schema
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace

asked = Requirements.model_validate({
    "name": "test", "prototype": small({"depth": 1, "layers": "pw"}),
    "data": {"source": "digits"}, "limits": {"layers_bytes": "2B"},
    "objectives": ["layers_bytes", "accuracy"], "deploy": {"precision": "int8"},
})
space = DesignSpace(asked)
found = cost.cost_of(space.decode(space.own()), "int8")
assert found.layers_bytes == 1 and asked.violations(found) == {"layers_bytes": -0.5}
assert Requirements.model_validate(asked.to_dict()) == asked
(row,) = judge(asked, found, 0.5)
assert (row.value, row.measured, row.met) == (1, "counted at int8", True)
assert QUANTITIES["layers_bytes"] == "bytes a parameter"
assert short_quantity("layers_bytes", 1) == "1\u00a0B"
limits = requirements_schema()["$defs"]["Limits"]["properties"]
assert limits["layers_bytes"]["description"] == "Such as 4B."
"""
    folder = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_of_parts() -> None:
    plain = {stage: module([conv(1, 8)], channels=8, stage=stage) for stage in (0, 2)}
    parts = part_costs(network(plain[0], plain[0], plain[2]))
    assert [part.name for part in parts] == [
        "stem",
        "stage 1, module 1",
        "stage 1, module 2",
        "stage 2, module 1",
        "head",
    ]
