"""The handed-over folder in other hands: compiled, exported, copied, stored, in other precisions,
and by the torch and the Python that somebody has.

That ``model.py`` gives the same logits under torch 2.0.1 (Python 3.8 and 3.11), 2.4.1 and today's
was seen by running it; here the torch that is installed runs it, and what it says is held against
names that torch 2.0.1 has.
"""

from __future__ import annotations

import ast
import copy
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from spaces import SHIPPED, space_of, written
from test_library_warnings import write_odd
from test_source import EVERYTHING, GREY, MEAN, STD, imported
from torch import nn

from collabdesign.deliver.source import write_model
from collabdesign.design.architecture import Architecture
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network

ARCHITECTURES = {"everything": EVERYTHING, "grey": GREY}
for _name in SHIPPED:
    _space, _rng = space_of(written(_name), resolution=33), np.random.default_rng(5)
    ARCHITECTURES |= {
        f"{_name}-{number}": _space.decode(params)
        for number, params in enumerate(_space.sample(_rng) for _ in range(2))
    }


class Handed(NamedTuple):
    """A folder's ``model.py``, its network, a batch and what the network says of it."""

    model: ModuleType
    network: nn.Module
    images: torch.Tensor
    logits: torch.Tensor


def written_to(folder: Path, architecture: Architecture) -> None:
    """As a training leaves it: logits of about 1, statistics of their own."""
    network = build_network(architecture)
    initialise(network, 0)
    side = architecture.resolution
    for _ in range(5):
        network.train()(torch.randn(8, architecture.input_channels, side, side))
    channels = architecture.input_channels
    names = [f"class {number}" for number in range(architecture.classes)]
    write_model(folder, architecture, network, names, MEAN[:channels], STD[:channels], "AttoNet-A")


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def handed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Handed:
    architecture = ARCHITECTURES[request.param]
    # torch.jit stores the name of the module, which must be one of Python's.
    folder = tmp_path_factory.mktemp(request.param.replace("-", "_"))
    torch.manual_seed(0)
    written_to(folder, architecture)
    model = imported(folder)
    side = architecture.resolution
    images = torch.randn(4, architecture.input_channels, side, side)
    network = model.load()
    return Handed(model, network, images, network(images).detach())


def stored(network: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    found: nn.Module = torch.load(file, weights_only=False)
    return found


def scripted(network: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    found: nn.Module = torch.jit.load(file)
    return found


SAME: dict[str, Callable[[nn.Module], nn.Module]] = {
    "copied": copy.deepcopy,
    "pickled": lambda network: pickle.loads(pickle.dumps(network)),
    "stored": stored,
    "scripted, stored": scripted,
    "scripted in training": lambda n: torch.jit.script(copy.deepcopy(n).train()).eval(),
    "traced as a graph": torch.fx.symbolic_trace,
}


@pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning"
)
@pytest.mark.parametrize("form", SAME)
def test_the_same_logits_in_another_form(handed: Handed, form: str) -> None:
    assert torch.equal(SAME[form](handed.network)(handed.images), handed.logits)


def test_exported(handed: Handed) -> None:
    program = torch.export.export(handed.network, (handed.images,))
    found = program.module()(handed.images)
    torch.testing.assert_close(found, handed.logits, rtol=1e-5, atol=1e-5)


def test_a_state_dict_goes_round(handed: Handed) -> None:
    other = handed.model.AttoNet(handed.model.ARCHITECTURE)
    other.load_state_dict(handed.network.state_dict())
    assert torch.equal(other.eval()(handed.images), handed.logits)


def test_without_storage_and_back(handed: Handed) -> None:
    """On ``meta`` it has shapes alone; and it can be built there and filled later."""
    shapes = copy.deepcopy(handed.network).to("meta")
    assert shapes(handed.images.to("meta")).shape == handed.logits.shape
    with torch.device("meta"):
        other = handed.model.AttoNet(handed.model.ARCHITECTURE)
    other.to_empty(device="cpu").load_state_dict(handed.network.state_dict())
    assert torch.equal(other.eval()(handed.images), handed.logits)


# Of bfloat16 8 bits are stored of a number, of half 11; and a network of 20 layers rounds 20 times.
@pytest.mark.parametrize(
    ("precision", "share"), [(torch.bfloat16, 0.1), (torch.half, 0.02), (torch.double, 1e-5)]
)
def test_in_another_precision(handed: Handed, precision: torch.dtype, share: float) -> None:
    other = copy.deepcopy(handed.network).to(precision)
    found = other(handed.images.to(precision))
    assert found.dtype == precision
    assert (found.double() - handed.logits).abs().max() < share * handed.logits.abs().max()


def test_trained_on(handed: Handed) -> None:
    """Every weight has a gradient, and a step changes what it says."""
    network = copy.deepcopy(handed.network).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    nn.functional.cross_entropy(network(handed.images), torch.tensor([0, 1, 0, 1])).backward()
    assert all(weight.grad is not None for weight in network.parameters())
    optimizer.step()
    assert not torch.equal(network.eval()(handed.images), handed.logits)


def test_captured_whole_by_the_compiler(handed: Handed) -> None:
    """All of ``torch.compile`` but the making of code, which takes a minute a network."""
    compiled = torch.compile(handed.network, backend="eager", fullgraph=True)
    assert torch.equal(compiled(handed.images), handed.logits)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
def test_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    small = replace(GREY, modules=GREY.modules[1:2])
    written_to(tmp_path / "member", small)
    network, images = imported(tmp_path / "member").load(), torch.randn(2, 1, 19, 19)
    found = torch.compile(network, fullgraph=True)(images)
    torch.testing.assert_close(found, network(images), rtol=1e-4, atol=1e-4)


# -- older versions ---------------------------------------------------------------------------

# What a model.py says of torch, looked up in torch 2.0.1: a name that is new here is to be looked
# up there too.
OF_TORCH = {
    *("Tensor", "arange", "cat", "float32", "frombuffer", "inference_mode", "load"),
    *("nn", "tensor", "uint8", "zeros", "functional", "adaptive_avg_pool2d"),
    *("AvgPool2d", "BatchNorm2d", "Conv2d", "GELU", "Hardswish", "Identity", "Linear", "MaxPool2d"),
    *("Module", "ModuleList", "ReLU", "Sequential", "SiLU"),
}
# Methods of its tensors and modules, likewise.
METHODS = {
    *("argsort", "double", "eval", "flatten", "float", "load_state_dict", "numel", "parameters"),
    *("permute", "relu", "shape", "sigmoid", "softmax", "sum", "tolist", "view"),
}
KEYWORDS = {"bias", "count_include_pad", "descending", "dim", "dtype", "map_location"}
KEYWORDS |= {"weights_only"}


def nodes_of(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands where a picture of Pillow's is at hand."""
    waiting = [(tree, False)]
    while waiting:
        node, has_picture = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            taken = [each.annotation for each in node.args.args if each.annotation is not None]
            has_picture = has_picture or "Image" in map(ast.unparse, taken)
        yield node, has_picture
        waiting += [(child, has_picture) for child in ast.iter_child_nodes(node)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_newer_than_torch_2_0(name: str, tmp_path: Path) -> None:
    written_to(tmp_path, ARCHITECTURES[name])
    text = (tmp_path / "model.py").read_text("utf-8")
    of_torch, methods = set(), set()
    for node, has_picture in nodes_of(ast.parse(text, feature_version=(3, 8))):
        if isinstance(node, ast.Attribute):
            names = re.fullmatch(r"(?:torch|nn)((?:\.\w+)+)", ast.unparse(node))
            of_torch |= set(names[1].split(".")[1:]) if names else set()
        if isinstance(node, ast.Call):
            callee = ast.unparse(node.func)
            if callee.startswith(("torch.", "nn.")):
                assert {each.arg for each in node.keywords} <= KEYWORDS, ast.unparse(node)
            elif isinstance(node.func, ast.Attribute) and not has_picture:
                methods.add(node.func.attr)
            # Python's own: `strict` of zip is of 3.10.
            assert callee != "zip" or not node.keywords, ast.unparse(node)
    assert of_torch <= OF_TORCH
    layers = {"expand"}  # of SqueezeExcite
    assert methods & {*dir(torch.Tensor), *dir(nn.Module)} - layers - {*dir(str)} <= METHODS
    late = "from __future__ import annotations" in text
    assert late, "tuple[int, ...] and str | Path are no older Python's where they are evaluated"


def test_the_names_are_torchs() -> None:
    known = {*dir(torch), *dir(nn), *dir(nn.functional), *dir(torch.Tensor), *dir(nn.Module)}
    assert known >= OF_TORCH | METHODS


# -- on the command line ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    write_model(
        root, EVERYTHING, build_network(EVERYTHING), ["café", "日本語", *"abc"], MEAN, STD, "A → B"
    )
    write_odd(root / "odd.jpg")
    return root


def ran(folder: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"stdout": subprocess.PIPE, **options}
    command = [sys.executable, str(folder / "model.py"), *words]
    return subprocess.run(command, stderr=subprocess.PIPE, cwd=folder, timeout=120, **options)


def test_on_a_stream_of_ascii(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for words in ([], ["odd.jpg"], ["-h"]):
        done = ran(folder, *words, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii() and done.stdout
    assert rb"\u65e5\u672c\u8a9e" in ran(folder, "odd.jpg", env=environment).stdout


def test_what_is_odd_in_a_picture_is_said_with_its_name(folder: Path) -> None:
    done = ran(folder, "odd.jpg")
    assert done.returncode == 0
    assert done.stderr.startswith(b"odd.jpg: ") and b"tag 270" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("words", [[], ["odd.jpg"], ["-h"]])
def test_a_reader_that_has_seen_enough(folder: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = ran(folder, *words, stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
