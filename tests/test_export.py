"""Other forms of a network: they compute what it computes, and what differs is named."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import spaces
import tiny_search
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from spaces import SHIPPED, SPACES, conv, module
from tiny_search import write_tiny

import collabdesign
from collabdesign import Machine, build_network, load_requirements, load_variant
from collabdesign.deliver.certificate import read_certificate
from collabdesign.deliver.export.export import Pictures, torch_run, write_form
from collabdesign.deliver.export.formats import FORMATS
from collabdesign.deliver.export.parity import first_difference, parity
from collabdesign.deliver.export.runtime import logits_of, onnxruntime_run, share_right
from collabdesign.deliver.export.variant import export_variant
from collabdesign.deliver.exported import Exported
from collabdesign.deliver.family import forms_of
from collabdesign.deliver.predict import predict
from collabdesign.deliver.standing import Standings
from collabdesign.design.architecture import Architecture
from collabdesign.design.exports import EXPORTS
from collabdesign.design.requirements import Goals, Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate import latency
from collabdesign.evaluate.data.images import load_data, load_test
from collabdesign.evaluate.int8 import int8_bytes, int8_that_agrees
from collabdesign.evaluate.network import AttoNet
from collabdesign.evaluate.onnx_file import onnx_bytes
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.full_training import FullTraining

pytest.importorskip("onnxruntime")

HERE = Machine("cpu", workers=1, threads=1)
FAMILY = ("search.trials=4", "family.size=2", "family.finalists=1", "family.export=[onnx, int8]")


def any_network(architecture: Architecture) -> AttoNet:
    """Whose every number matters, statistics included."""
    torch.manual_seed(0)
    network = build_network(architecture)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(value + 0.1 * torch.rand_like(value))
    return network.eval()


def noise(architecture: Architecture, images: int = 16) -> NDArray[np.float32]:
    side = architecture.resolution
    shape = (images, architecture.input_channels, side, side)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Requirements:
    return load_requirements(write_tiny(tmp_path_factory.mktemp("asked")), FAMILY)


@pytest.fixture(scope="module")
def run_dir(asked: Requirements, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose family is exported; to look at, not to change."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    return collabdesign.run(asked, folder, machine=HERE).run_dir


@pytest.fixture(scope="module")
def member(run_dir: Path) -> Path:
    return run_dir / "family" / "attonet-a"


@pytest.fixture(scope="module")
def pictures(asked: Requirements) -> Pictures:
    return Pictures.of(load_data(asked.data))


def architecture_of(member: Path) -> Architecture:
    return Architecture.from_dict(json.loads((member / "architecture.json").read_text()))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def same(one: Exported, other: Exported) -> bool:
    """But for what differs from one measurement to the next."""
    return replace(one, milliseconds=None) == replace(other, milliseconds=None)


# -- what is written computes the same -------------------------------------------------------


def test_both_tables_have_the_same_forms() -> None:
    assert list(EXPORTS) == list(FORMATS)


@pytest.mark.parametrize("name", SHIPPED)
def test_onnx_computes_what_torch_does(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        architecture = SPACES[name].decode(SPACES[name].sample(rng))
        network, images = any_network(architecture), noise(architecture)
        model = onnx_bytes(network, images.shape[1:])
        onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        run = onnxruntime_run(model)
        found = parity(torch_run(network)(images), run(images))
        assert found.is_rounding
        assert found.same_decisions == found.images == 16
        # Any number of pictures at a time.
        assert np.allclose(run(images[:1]), run(images)[:1], atol=1e-4)
        assert first_difference(network, model, images[:4]) is None


def test_parity_counts() -> None:
    ours = np.array([[1.0, 0.0], [0.0, 4.0]], np.float32)
    theirs = np.array([[1.0, 1.5], [0.0, 3.0]], np.float32)
    found = parity(ours, theirs)
    assert (found.images, found.same_decisions) == (2, 1)
    assert (found.largest_difference, found.largest_logit) == (1.5, 4.0)
    assert not found.is_rounding
    assert replace(found, largest_difference=0.003).is_rounding  # of a logit of 4


def changed(model: bytes, layer: str, factor: float) -> bytes:
    """The model with the weights of one layer multiplied."""
    whole = onnx.load_from_string(model)
    (node,) = (each for each in whole.graph.node if f"{layer}/" in each.name)
    (weight,) = (each for each in whole.graph.initializer if each.name == node.input[1])
    numbers = onnx.numpy_helper.to_array(weight) * np.float32(factor)
    weight.CopyFrom(onnx.numpy_helper.from_array(numbers, weight.name))
    content: bytes = whole.SerializeToString()
    return content


@pytest.mark.parametrize("layer", ["stem.conv", "classifier"])
def test_the_first_layer_that_differs_is_named(
    layer: str, member: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_variant(member)
    broken = changed((member / "model.onnx").read_bytes(), layer.replace(".", "/"), 1.5)
    said = first_difference(network, broken, pictures.calibration[:8])
    assert said is not None
    assert said.startswith(f"{layer} is the first layer to differ, by ")
    # An export that went wrong says so.
    row = replace(FORMATS["onnx"], write=lambda *_: broken)
    monkeypatch.setitem(FORMATS, "onnx", row)
    found = write_form("onnx", network, architecture_of(member), pictures).facts
    assert not found.parity.is_rounding
    assert found.differs == first_difference(network, broken, pictures.calibration[:64])


# -- int8 -------------------------------------------------------------------------------------


def test_int8_decides_as_float32_does(member: Path, pictures: Pictures) -> None:
    model = (member / "model.int8.onnx").read_bytes()
    assert len(model) < len((member / "model.onnx").read_bytes())
    logits = logits_of(onnxruntime_run(model), pictures.images, pictures.mean, pictures.std)
    ours = torch_run(load_variant(member))
    expected = logits_of(ours, pictures.images, pictures.mean, pictures.std)
    assert pictures.labels is not None
    loss = share_right(expected, pictures.labels) - share_right(logits, pictures.labels)
    assert loss <= 2 / len(pictures.images)
    assert np.abs(logits - expected).max() > 0  # it is not the same network


def test_int8_stores_every_convolution_in_int8() -> None:
    architecture = SPACES["residual"].decode(SPACES["residual"].own())
    assert any(each.attention != "none" for each in architecture.modules)
    images = noise(architecture)
    model = onnx_bytes(any_network(architecture), images.shape[1:])
    content = int8_bytes(model, images)
    graph = onnx.load_from_string(content).graph
    types = {each.name: each.data_type for each in graph.initializer}
    made_by = {each.output[0]: each for each in graph.node}
    layers = [each for each in graph.node if each.op_type in ("Conv", "Gemm")]
    assert len(layers) == sum(
        each.op_type in ("Conv", "Gemm") for each in onnx.load_from_string(model).graph.node
    )
    for each in layers:
        stored = made_by[each.input[1]]
        assert stored.op_type == "DequantizeLinear"
        assert types[stored.input[0]] == onnx.TensorProto.INT8
    # What squeeze-and-excitation is given stays in float32, all else comes out of int8.
    quantised = [
        each.input[0] in made_by and made_by[each.input[0]].op_type == "DequantizeLinear"
        for each in layers
    ]
    on_one_pixel = 2 * sum(each.attention != "none" for each in architecture.modules)
    assert quantised.count(False) == on_one_pixel
    assert content == int8_bytes(model, images)
    found = parity(onnxruntime_run(model)(images), onnxruntime_run(content)(images))
    assert found.largest_difference < 0.3 * found.largest_logit


def test_int8_keeps_layers_in_float32_where_it_would_decide_otherwise() -> None:
    """A channel 300 times as large as the others leaves nothing of these in int8."""
    some = [conv(1, 16), conv(3, 16)] * 2
    architecture = spaces.network(module(some, channels=16))
    network, images = any_network(architecture), noise(architecture, 256)
    layers = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)]
    norms = [each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        norms[1].weight[0] *= 300
        norms[1].bias[0] *= 300
        layers[2].weight[:, 0] /= 300
    model = onnx_bytes(network, images.shape[1:])
    ours = onnxruntime_run(model)(images)
    plain = parity(ours, onnxruntime_run(int8_bytes(model, images))(images))
    content = int8_that_agrees(model, images)
    found = parity(ours, onnxruntime_run(content)(images))
    assert plain.same_decisions < 0.96 * 256 <= found.same_decisions
    graph = onnx.load_from_string(content).graph
    # Stored in int8 all the same.
    assert all(
        each.data_type != onnx.TensorProto.FLOAT or len(each.dims) < 2 for each in graph.initializer
    )
    assert content == int8_that_agrees(model, images)


# -- in the family -----------------------------------------------------------------------------


def test_members_come_with_both_forms(run_dir: Path, asked: Requirements) -> None:
    test, ledger = load_test(asked.data), json.loads((run_dir / "family/readings.json").read_text())
    folders = sorted(run_dir.glob("family/attonet-*"))
    assert len(folders) == 2
    for folder in folders:
        found = read_certificate(folder)
        assert [each.format for each in found.exports] == ["onnx", "int8"]
        for each in found.exports:
            content = (folder / each.file).read_bytes()
            assert (each.bytes, each.sha256) == (len(content), sha256(content))
            assert each.test_readings == 1
            run = onnxruntime_run(content)
            logits = logits_of(run, test.images, found.mean, found.std)
            assert each.test_accuracy == share_right(logits, test.labels)
            assert each.milliseconds is not None
            median, low, high = each.milliseconds
            assert 0 < low <= median <= high
        assert found.exports[0].parity.is_rounding
        assert found.exports[0].test_accuracy == found.test_accuracy
        float32, int8 = (each.peak_activation_bytes for each in found.exports)
        assert float32 == 4 * int8
        assert {(each.macs, each.params) for each in found.counts} == {
            (found.cost.macs, found.cost.params)
        }
        assert [each.counter.split()[0] for each in found.counts] == [
            "collabdesign", "ptflops", "torch",
        ]  # fmt: skip
        # Of each of the two: the weights and two files.
        assert found.run_readings == {"judged": 6, "readings": 6}
    assert [each["readings"] for each in ledger.values()] == [1] * 6
    page = (run_dir / "report.html").read_text()
    assert '<table id="exports">' in page
    assert page.count("<td>model.int8.onnx<br>") == 2
    assert "earlier families of this run and other forms included: 6 of 6 networks" in page


def test_again_nothing_is_exported_or_read(
    run_dir: Path, asked: Requirements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    before = tiny_search.snapshot(copy / "family")

    def never(*_: object) -> None:
        raise AssertionError("written again")

    for name in FORMATS:
        monkeypatch.setitem(FORMATS, name, replace(FORMATS[name], write=never))
    collabdesign.run(asked, copy, machine=HERE)
    after = tiny_search.snapshot(copy / "family")
    assert {name: content for name, (_, content) in before.items()} == {
        name: content for name, (_, content) in after.items()
    }


def test_a_goal_for_int8_is_met_by_the_members(asked: Requirements, tmp_path: Path) -> None:
    goals = asked.goals.model_copy(update={"accuracy_int8": 0.3})
    run = collabdesign.run(
        asked.model_copy(update={"goals": goals, "family": asked.family.model_copy(
            update={"export": ()}
        )}),
        tmp_path / "run",
        machine=HERE,
    )  # fmt: skip
    assert run.family
    for found in run.family:
        (int8,) = found.exports  # a goal needs it, whatever is exported else
        assert int8.test_readings == 1
        rows = {row.name: row for row in found.requirements}
        row = rows["accuracy_int8"]
        assert (row.required, row.value, row.at_least) == (0.3, int8.test_accuracy, True)
        assert row.met
        assert row.interval is not None
        assert row.interval[0] < row.value < row.interval[1]
        assert row.margin == pytest.approx(row.value - 0.3)
        assert int8.select_accuracy is not None
        assert int8.select_accuracy >= 0.3


def test_standings() -> None:
    """As far from its goal as the nearer of the two forms."""
    training = FullTraining(0, AttoNet(SPACES["tiny"].decode(SPACES["tiny"].own())), (
        EpochRecord(1, 1.0, 0.8, 1.0),
    ))  # fmt: skip
    candidate = tiny_search.trained(
        load_requirements("requirements/digits.yaml"), 0, 0.5
    )  # fmt: skip
    known = {(candidate.architecture.id, 0): 0.7}

    def standing(**goals: float) -> tuple[float, float | None]:
        standings = Standings(Goals(**goals), None, known)  # type: ignore[arg-type]
        return standings.of(candidate, training), standings.goal

    assert standing() == (0.8, None)
    assert standing(accuracy=0.75) == (0.8, 0.75)
    assert standing(accuracy_int8=0.6) == (0.7, 0.6)
    # 0.1 above and 0.2 above: 0.1 above the goal of accuracy. Then 0.05 below.
    assert standing(accuracy=0.6, accuracy_int8=0.6) == (pytest.approx(0.7), 0.6)
    assert standing(accuracy=0.6, accuracy_int8=0.75) == (pytest.approx(0.55), 0.6)


# -- what cannot be ------------------------------------------------------------------------------


class Bessel(torch.nn.Module):
    """Of which neither ONNX nor XNNPACK has heard."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.special.i0(x)


@pytest.mark.parametrize("form", ["onnx", "int8"])
def test_an_operation_that_stands_in_the_way_is_named(
    form: str, member: Path, pictures: Pictures
) -> None:
    network = load_variant(member)
    network.classifier = torch.nn.Sequential(network.classifier, Bessel())
    with pytest.raises(InputError, match=r"no word for an operation of the network: .*i0"):
        write_form(form, network, architecture_of(member), pictures)


def test_a_form_that_cannot_be_written_does_not_end_the_family(
    run_dir: Path, asked: Requirements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    for path in copy.glob("family/attonet-*/model.int8.onnx"):
        path.unlink()

    def refuse(*_: object) -> bytes:
        raise InputError("something stands in the way")

    monkeypatch.setitem(FORMATS, "int8", replace(FORMATS["int8"], write=refuse))
    run = collabdesign.run(asked, copy, machine=HERE)
    for found in run.family:
        assert [each.format for each in found.exports] == ["onnx"]
        assert found.not_exported == {"int8": "something stands in the way"}
        assert read_certificate(copy / "family" / found.name) == found
    assert "has no form int8: something stands in the way" in run.report.read_text()


def test_a_missing_package_is_refused_before_the_search(
    asked: Requirements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "find_spec", lambda name: None if name == "onnx" else object())
    with pytest.raises(
        InputError, match=r"to export onnx needs onnx: pip install 'collabdesign\[e"
    ):
        collabdesign.run(asked, tmp_path / "run", machine=HERE)
    # Where nobody asked, what can be written is.
    nobody = asked.family.model_copy(update={"export": None})
    assert forms_of(asked.model_copy(update={"family": nobody})) == ()
    goals = asked.goals.model_copy(update={"accuracy_int8": 0.2})
    with pytest.raises(InputError, match="to export int8 needs onnx"):
        forms_of(asked.model_copy(update={"family": nobody, "goals": goals}))


@pytest.mark.parametrize("wrong", ["onnx", [1], ["tflite"], ["onnx", "onnx"]])
def test_wrong_forms(wrong: object, tmp_path: Path) -> None:
    file = write_tiny(tmp_path, ("export: []", f"export: {json.dumps(wrong)}"))
    with pytest.raises(InputError, match=r"tiny.yaml:\d+:\d+: family.export"):
        load_requirements(file)


# -- a member that was handed over before ------------------------------------------------------


@pytest.fixture
def taken_out(member: Path, tmp_path: Path) -> Path:
    """A member's folder without its run and its forms."""
    folder = tmp_path / "mine"
    shutil.copytree(member, folder)
    for each in folder.glob("*.onnx"):
        each.unlink()
    return folder


def test_a_form_is_written_later(taken_out: Path, member: Path, asked: Requirements) -> None:
    (made,) = export_variant(taken_out, ["int8"], asked)
    assert (taken_out / "model.int8.onnx").read_bytes() == (member / "model.int8.onnx").read_bytes()
    known = {each.format: each for each in read_certificate(member).exports}
    assert same(made, known["int8"])
    assert [each.format for each in read_certificate(taken_out).exports] == ["onnx", "int8"]


def test_a_form_is_calibrated_on_a_folder_of_pictures(taken_out: Path, tmp_path: Path) -> None:
    digits = load_digits()
    (tmp_path / "some" / "deeper").mkdir(parents=True)
    for number in range(20):
        pixels = (digits.images[number] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "some" / "deeper" / f"{number}.png")
    (made,) = export_variant(taken_out, ["int8"], None, tmp_path / "some")
    assert made.parity.images == 20
    assert (made.select_accuracy, made.test_accuracy, made.test_readings) == (None, None, 0)
    with pytest.raises(InputError, match="name requirements with their data"):
        export_variant(taken_out, ["int8"], None)
    with pytest.raises(InputError, match="must hold pictures"):
        export_variant(taken_out, ["int8"], None, taken_out)


def test_a_form_on_other_images_is_refused(taken_out: Path, asked: Requirements) -> None:
    data = asked.data.model_copy(update={"train_images": 300})
    with pytest.raises(InputError, match="these are others"):
        export_variant(taken_out, ["onnx"], asked.model_copy(update={"data": data}))


def test_the_command(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    folder = tmp_path / "run" / "family" / "attonet-b"
    (folder / "model.onnx").unlink()
    code, said = tiny_search.run(["export", str(folder), "--format", "onnx"], tmp_path)
    assert code == 0, said
    assert "the same class for 100 of 100 images" in said
    assert (folder / "model.onnx").is_file()
    wrong = ["export", str(folder), "--format", "executorch", "--int8"]
    code, said = tiny_search.run(wrong, tmp_path)
    assert (code, "--int8 goes with --format onnx" in said) == (2, True)
    code, said = tiny_search.run(["export", str(tmp_path), "--format", "onnx"], tmp_path)
    assert (code, "a member's folder holds a certificate.json" in said) == (2, True)


def test_executorch_computes_what_torch_does(member: Path, pictures: Pictures) -> None:
    pytest.importorskip("executorch")
    found = write_form("executorch", load_variant(member), architecture_of(member), pictures)
    assert found.facts.parity.is_rounding
    assert found.facts.parity.same_decisions == found.facts.parity.images
    assert found.facts.runtime.startswith("executorch ")


# -- answers ------------------------------------------------------------------------------------


def test_all_forms_answer_alike(member: Path, tmp_path: Path) -> None:
    digits, paths = load_digits(), []
    for number in range(12):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray((digits.images[number] * 15.9).astype(np.uint8)).save(paths[-1])
    answers = {form: predict(member, paths, form, 3) for form in ("network", "onnx", "int8")}
    for found in answers.values():
        assert [each.picture for each in found] == paths
        assert all(len(each.classes) == 3 for each in found)
        assert all(a >= b for each in found for a, b in pairwise(p for _, p in each.classes))
    first = {form: [each.classes[0][0] for each in found] for form, found in answers.items()}
    assert first["network"] == first["onnx"]
    agreed = sum(a == b for a, b in zip(first["network"], first["int8"], strict=True))
    assert agreed >= 11
    for one, other in zip(answers["network"], answers["onnx"], strict=True):
        assert dict(one.classes) == pytest.approx(dict(other.classes), abs=1e-4)
    # As the folder's own file answers.
    said = subprocess.run(
        [sys.executable, "model.py", *map(str, paths)], cwd=member, capture_output=True, text=True
    ).stdout
    for each in answers["network"]:
        name, probability = each.classes[0]
        assert f"{each.picture}\n  {probability:6.1%}  {name}\n" in said


def test_what_has_no_answer_is_refused(member: Path, taken_out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a picture must be a file"):
        predict(member, [tmp_path / "no.png"])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="not a picture"):
        predict(member, [tmp_path / "text.png"])
    with pytest.raises(InputError, match=r"has no model.onnx: collabdesign export writes it"):
        predict(taken_out, [tmp_path / "no.png"], "onnx")
    code, said = tiny_search.run(["predict", str(member), str(tmp_path / "text.png")], tmp_path)
    assert (code, "not a picture" in said) == (2, True)
