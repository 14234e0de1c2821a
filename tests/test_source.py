"""The emitted model.py: the same network, alone, and it notices when something changed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from spaces import SHIPPED, conv, module, pool, space_of, written
from torch import nn

from collabdesign.deliver.source import check_value, model_source, write_model
from collabdesign.design.architecture import Architecture, Head, Stem
from collabdesign.design.cost import cost_of
from collabdesign.evaluate.augment import channel_values, normalise
from collabdesign.evaluate.data.decode import decode
from collabdesign.evaluate.data.pictures import Picture
from collabdesign.evaluate.network import AttoNet, build_network

MEAN, STD = (0.4914, 0.1 + 0.2, 0.4465), (0.247, 0.2435, 1 / 3)

EVERYTHING = Architecture(
    input_channels=3,
    resolution=19,
    classes=5,
    stem=Stem(5, 2, 8, "gelu"),
    modules=(
        module(
            [conv(1, 16), conv(3, 16, 2, 16), conv(5, 8, groups=4), conv(1, 8, groups=2)],
            [pool(3, 8, 2), conv(1, 8)],
            [conv(3, 8, 2)],
            channels=8,
            stride=2,
            shortcut="projection",
            attention="squeeze_excite",
            activation="hardswish",
        ),
        module([conv(3, 8, 1, 8)], channels=8, shortcut="identity", output="linear"),
        module(
            [conv(1, 4)],
            [conv(1, 4), conv(3, 8)],
            channels=12,
            join="concat",
            activation="silu",
            stage=1,
        ),
    ),
    head=Head(24, "silu"),
)
GREY = replace(EVERYTHING, input_channels=1, head=Head(0))


def trained(architecture: Architecture) -> AttoNet:
    """A network whose every number matters, statistics included."""
    torch.manual_seed(0)
    network = build_network(architecture)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(value + 0.3 * torch.rand_like(value))
    return network.eval()


def emit(folder: Path, architecture: Architecture, **changes: Any) -> AttoNet:
    network = trained(architecture)
    channels = architecture.input_channels
    facts = {
        "class_names": [f"class {number}" for number in range(architecture.classes)],
        "mean": MEAN[:channels],
        "std": STD[:channels],
        "name": "AttoNet-A",
    }
    write_model(folder, architecture, network, **{**facts, **changes})
    return network


def imported(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"model_of_{folder.name}", folder / "model.py")
    assert spec is not None and spec.loader is not None
    emitted = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = emitted
    spec.loader.exec_module(emitted)
    return emitted


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python model.py`` from another directory, isolated from this checkout."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    isolated = [] if environment else ["-I"]
    return subprocess.run(
        [sys.executable, *isolated, str(folder / "model.py"), *arguments],
        cwd=elsewhere,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def architectures() -> list[Any]:
    cases = [pytest.param(EVERYTHING, id="everything"), pytest.param(GREY, id="grey")]
    for name in SHIPPED:
        space = space_of(written(name), resolution=33)
        rng = np.random.default_rng(0)
        for number, params in enumerate((space.own(), *(space.sample(rng) for _ in range(3)))):
            cases.append(pytest.param(space.decode(params), id=f"{name}-{number}"))
    return cases


@pytest.mark.parametrize("architecture", architectures())
def test_is_the_same_network(tmp_path: Path, architecture: Architecture) -> None:
    network = emit(tmp_path, architecture)
    emitted = imported(tmp_path)
    loaded = emitted.load()
    assert not loaded.training
    assert list(loaded.state_dict()) == list(network.state_dict())
    side = architecture.resolution
    images = torch.randn(2, architecture.input_channels, side, side)
    assert torch.equal(loaded(images), network(images))
    assert cost_of(architecture).params == emitted.PARAMETERS
    assert emitted.check(loaded)
    assert {path.name for path in tmp_path.iterdir()} >= {"model.py", "weights.pt"}
    text = (tmp_path / "architecture.json").read_text("utf-8")
    assert Architecture.from_dict(json.loads(text)) == architecture
    lines = (tmp_path / "model.py").read_text("utf-8").splitlines()
    assert max(map(len, lines)) <= 100


def test_weights_are_plain_cpu_tensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(EVERYTHING).to(memory_format=torch.channels_last)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    write_model(tmp_path, EVERYTHING, network, list("abcde"), MEAN, STD, "x")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert all(value.is_contiguous() and value.device.type == "cpu" for value in state.values())
    assert all(torch.equal(value, before[key]) for key, value in state.items())
    assert network.training  # as it came
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_needs_torch_alone(tmp_path: Path) -> None:
    network = emit(tmp_path, EVERYTHING)
    tree = ast.parse((tmp_path / "model.py").read_text("utf-8"))
    roots = set()
    for node in tree.body:  # what is imported when the file is
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(str(node.module).partition(".")[0])
    assert roots - set(sys.stdlib_module_names) == {"torch"}
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    value = check_value(network, 3, 19)
    assert done.stdout == (
        f"parameters    {cost_of(EVERYTHING).params}\n"
        "output shape  (1, 5)\n"
        f"check value   {value:.6f}\n"
    )
    assert done.stderr == ""


def test_check_value_by_hand() -> None:
    # Pattern: 0, 37, 74, 111 % 101, over 50, less 1.
    pattern = (-1, -0.26, 0.48, -0.8)
    expected = sum(rank * value for rank, value in enumerate(pattern, start=1)) / 4
    assert check_value(nn.Flatten(), 1, 2) == pytest.approx(expected, abs=1e-6)


def test_check_value_sees_swapped_classes() -> None:
    network = trained(EVERYTHING)
    before = check_value(network, 3, 19)
    with torch.no_grad():
        network.classifier.weight[[0, 1]] = network.classifier.weight[[1, 0]].clone()
        network.classifier.bias[[0, 1]] = network.classifier.bias[[1, 0]].clone()
    assert abs(check_value(network, 3, 19) - before) > 1e-3 * max(1, abs(before))


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    emit(tmp_path, EVERYTHING)
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    state["body.0.branches.0.0.norm.running_var"] *= 2
    torch.save(state, tmp_path / "weights.pt")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "DIFFERS from the recorded" in done.stdout
    assert done.stderr == (
        "this is not the network that was written: model.py or weights.pt changed\n"
    )


def test_a_changed_row_is_noticed(tmp_path: Path) -> None:
    emit(tmp_path, EVERYTHING)
    text = (tmp_path / "model.py").read_text("utf-8")
    assert text.count('activation="hardswish"') == 1
    (tmp_path / "model.py").write_text(
        text.replace('activation="hardswish"', 'activation="gelu"'), "utf-8"
    )
    assert not imported(tmp_path).check(imported(tmp_path).load())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "the weights must stand beside model.py, got no "),
        ("garbage", "weights.pt does not hold this network's weights: "),
        ("other", "weights.pt does not hold this network's weights: "),
    ],
)
def test_weights_that_cannot_be_used(tmp_path: Path, damage: str, message: str) -> None:
    emit(tmp_path, EVERYTHING)
    weights = tmp_path / "weights.pt"
    if damage == "missing":
        weights.unlink()
    elif damage == "garbage":
        weights.write_text("not weights")
    else:
        torch.save(build_network(GREY).state_dict(), weights)
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_pictures_on_the_command_line(tmp_path: Path) -> None:
    names = ['a "quoted" \\ name', "two\nlines", "猫", "right\u202eleft", "\udce9 no text"]
    network = emit(tmp_path, EVERYTHING, class_names=names, name='A """ \\ \x00 name\n')
    pixels = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    picture = tmp_path / "a picture.png"
    Image.fromarray(pixels).save(picture)
    emitted = imported(tmp_path)
    assert tuple(names) == emitted.CLASSES
    with Image.open(picture) as image:
        probabilities = network(emitted.preprocess(image))[0].softmax(0).detach()
        found = emitted.top_classes(network, image)
    assert dict(found) == dict(zip(names, probabilities.tolist(), strict=True))
    assert [p for _, p in found] == sorted(probabilities.tolist(), reverse=True)
    done = run(tmp_path, str(picture))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{picture}\n")
    assert f"{float(probabilities.max()):6.1%}" in done.stdout

    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    for path in (broken, tmp_path / "missing.jpg"):
        done = run(tmp_path, str(path))
        assert done.returncode == 1
        assert done.stderr.startswith(f"a picture must be one that Pillow reads, got {path}: ")
        assert "Traceback" not in done.stderr


def test_without_pillow(tmp_path: Path) -> None:
    emit(tmp_path, EVERYTHING)
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "PIL.py").write_text("raise ImportError('no Pillow here')\n")
    assert run(tmp_path, PYTHONPATH=str(absent)).returncode == 0
    done = run(tmp_path, "picture.jpg", PYTHONPATH=str(absent))
    assert done.returncode == 1
    assert done.stderr == "Pillow is needed to open pictures: pip install pillow\n"


def pictures() -> list[Any]:
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))

    palette = noise(41, 29, 3).convert("P", palette=Image.Palette.ADAPTIVE)
    see_through = palette.copy()
    see_through.info["transparency"] = 3
    return [
        pytest.param(image, id=name)
        for name, image in {
            "odd": noise(37, 53, 3),
            "tall": noise(201, 20, 3),
            "small": noise(5, 7, 3),
            "exact": noise(19, 19, 3),
            "exact height": noise(19, 24, 3),
            "grey": noise(30, 40),
            "rgba": noise(33, 21, 4),
            "palette": palette,
            "palette with transparency": see_through,
            "grey with alpha": noise(22, 25).convert("LA"),
            "two colours": noise(25, 25).convert("1"),
            "cmyk": noise(26, 27, 4).convert("CMYK"),
        }.items()
    ]


@pytest.mark.parametrize("architecture", [EVERYTHING, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("image", pictures())
def test_preprocess_is_what_evaluation_does(
    tmp_path: Path, image: Image.Image, architecture: Architecture
) -> None:
    emit(tmp_path, architecture)
    channels = architecture.input_channels
    pixels = np.zeros((1, 19, 19, channels), np.uint8)
    (decoded,) = decode([lambda _: Picture.of(image.copy())], [pixels])
    assert not decoded.broken
    mean, std = (channel_values(values[:channels], torch.device("cpu")) for values in (MEAN, STD))
    expected = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), mean, std)
    got = imported(tmp_path).preprocess(image)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_preprocess_refuses_what_it_would_cut_to_white(tmp_path: Path, mode: str) -> None:
    emit(tmp_path, EVERYTHING)
    with pytest.raises(ValueError, match="at most 8 bits a channel"):
        imported(tmp_path).preprocess(Image.new(mode, (19, 19)))


def test_preprocess_turns_as_the_orientation_mark_says(tmp_path: Path) -> None:
    emit(tmp_path, EVERYTHING)
    turned = Image.new("RGB", (19, 19), "black")
    turned.putpixel((3, 0), (255, 255, 255))
    marks = Image.Exif()
    marks[0x0112] = 6  # turn to the right
    turned.save(tmp_path / "turned.png", exif=marks)
    with Image.open(tmp_path / "turned.png") as image:
        got = imported(tmp_path).preprocess(image)[0, 0]
    assert divmod(int(got.argmax()), 19) == (3, 18)  # from the top to the right edge


def test_reads_well() -> None:
    source = model_source(
        EVERYTHING, name="AttoNet-A", class_names=list("abcde"), mean=MEAN, std=STD, value=0.5
    )
    # stem 19 -> 10, first module 10 -> 5
    assert "# stage 1, module 1: 10x10 to 5x5, " in source
    assert "# stage 2, module 1: 5x5 to 5x5, " in source
    assert '        module(8, branch(dw(3, 8)), shortcut="identity", output="linear"),\n' in source
    assert "branch(pw(16), dw(3, 16, stride=2), conv(5, 8, groups=4), pw(8, groups=2))" in source
    assert f"{cost_of(EVERYTHING).macs:,} multiply-adds" in source
    if ruff := shutil.which("ruff"):
        for command in (["check", "--select", "E,F,I,B,UP,SIM,RUF"], ["format", "--check"]):
            subprocess.run(
                [ruff, *command, "--isolated", "--line-length", "100", "-"],
                input=source,
                text=True,
                check=True,
            )


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    network = trained(EVERYTHING)
    with torch.no_grad():
        network.classifier.bias[0] = float("nan")
    with pytest.raises(AssertionError):
        write_model(tmp_path / "a", EVERYTHING, network, list("abcde"), MEAN, STD, "x")
    assert not (tmp_path / "a").exists()
