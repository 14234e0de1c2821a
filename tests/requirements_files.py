"""Requirements and a prototype in a folder, and every way to get one line of them wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError, Problem

SHIPPED = Path(__file__).parent.parent / "requirements"

PROTOTYPE = """\
stem: {kernel: 3, channels: 8}
stages:
  - {modules: 1, stride: 2, channels: 16, module: plain}
modules:
  plain: {depth: 1, layers: conv3}
"""

REQUIREMENTS = """\
name: mine
prototype: proto.yaml
data: {source: folder, train: images/train, test: images/test, resolution: 32}
limits: {macs: 10M, params: 320k}
goals: {accuracy: 0.8}
"""


def make_folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)


def write_example(folder: Path) -> None:
    """Requirements, a prototype, and two classes of no pictures: reading opens none."""
    (folder / "proto.yaml").write_text(PROTOTYPE)
    (folder / "mine.yaml").write_text(REQUIREMENTS)
    make_folders(folder / "images", "train/cat", "train/dog", "test/cat", "test/dog")


def problems_of(
    path: Path, overrides: Sequence[str] = (), *, check_data: bool = True
) -> tuple[Problem, ...]:
    """What is wrong with a requirements file."""
    with pytest.raises(InputError) as caught:
        load_requirements(path, overrides, check_data=check_data)
    return caught.value.problems


def shipped() -> list[Path]:
    """The requirements that come with the project."""
    files = sorted(SHIPPED.glob("*.yaml"))
    assert len(files) >= 4
    return files


def load_shipped(path: Path, folder: Path) -> Requirements:
    """A shipped file, its images replaced by the folder's where they are not there."""
    text = yaml.safe_load(path.read_text())
    overrides = []
    if text["data"]["source"] == "folder":
        overrides = [f"data.{part}={folder / 'images' / part}" for part in ("train", "test")]
    return load_requirements(path, overrides)


@dataclass(frozen=True)
class Wrong:
    """One line of the file as it should not be.

    Attributes:
        old: What stands in the file.
        new: What is written instead; the problem stands at its ``^``.
        message: How the message ends or what it has in it.
        hint: What the hint has in it.
    """

    old: str
    new: str
    message: str
    hint: str = ""


LIMIT = "macs: 10M"
DATA = "data: {source: folder, train: images/train, test: images/test, resolution: 32}"
GOAL = "accuracy: 0.8"
MACS = "limits.macs must be a positive number of multiply-adds such as 10M, got "
END = "goals: {accuracy: 0.8}\n"

WRONG = [
    # Keys.
    Wrong("goals:", "^goal:", "a requirements file has no key 'goal'", "did you mean goals?"),
    Wrong(LIMIT, "^mac: 10M", "limits has no key 'mac'", "did you mean macs?"),
    Wrong(LIMIT, "^energy: 3", "limits has no key 'energy'", "its keys are macs, params, weig"),
    Wrong(LIMIT, "^latency: 3", "limits has no key 'latency'", "did you mean latency_ms?"),
    Wrong(LIMIT, "latency_ms: ^2.5ms", "latency_ms must be a number above 0, at most 100000, got"),
    Wrong(LIMIT, "file_bytes: ^200k", "file_bytes must be a positive number of bytes", "200kB"),
    Wrong(END, END + "latency: {command: ^./time.sh}\n", "command with {onnx} where", "{onnx}"),
    Wrong(END, END + "latency: {timeout: ^0}\n", "latency.timeout must be a number above 0"),
    Wrong(LIMIT, "macs: ^3,000,000", "a number must be written without commas", "write 3000000"),
    Wrong(LIMIT, "macs: ^1,5M", "without commas between braces, got 1,5M", "write 1.5M"),
    Wrong(LIMIT, "macs: ^'1,5M'", "such as 10M, got '1,5M'", "write 1.5M"),
    Wrong(LIMIT, "latency_ms: ^'2,5'", "latency_ms must be a number above 0", "write 2.5"),
    Wrong(GOAL, "accuracy: ^'0,8'", "above 0 and at most 1, got '0,8'", "write 0.8"),
    Wrong(GOAL, "accuracy: ^80.5%", "above 0 and at most 1, got '80.5%'", "write 0.805"),
    Wrong(END, END + "search: {trials: ^1_000}\n", "search.trials must be a whole", "write 1000"),
    Wrong(END, END + "search: {trials: ^60.0}\n", "search.trials must be a whole", "write 60"),
    Wrong(LIMIT, "^flops: 10M", "limits has no key 'flops'", "1 MAC is 2 FLOPs"),
    Wrong(LIMIT, "^GFLOPs: 1", "limits has no key 'GFLOPs'", "write macs"),
    Wrong("name: mine\n", "^", "name must be given, got nothing", "runs/NAME"),
    Wrong("prototype: proto.yaml\n", "", "prototype must be given, got nothing", "a file"),
    Wrong(DATA + "\n", "", "data must be given, got nothing"),
    Wrong(", resolution: 32", "", "data.resolution must be given, got nothing", "Side in pixels"),
    Wrong("train: images/train, ", "", "data.train must be given where data.source is folder"),
    # Kinds of value.
    Wrong("mine", "^[mine]", "name must begin with a letter or digit", ""),
    Wrong("mine", "^../mine", "name must begin with a letter or digit"),
    Wrong("mine", "^5", "name must begin with a letter or digit", "write it in quotes"),
    Wrong("name: mine", "name:^", "name must begin with a letter or digit"),
    Wrong("{macs: 10M, params: 320k}", "^10M", "limits must be a mapping of keys to"),
    Wrong(END, END + "version: ^2\n", "version must be a whole number from 1 to 1, got 2"),
    Wrong(END, END + "deploy: {precision: ^int9}\n", "one of float32, float16, int8", "int8?"),
    Wrong(END, END + "search: {trials: ^0}\n", "search.trials must be a whole number from 1"),
    Wrong(END, END + "search: {trials: ^1.5}\n", "search.trials must be a whole number from 1"),
    Wrong(END, END + "search: {trials: ^true}\n", "to 1000000, got true"),
    Wrong(END, END + "search: {trials: ^yes}\n", "to 1000000, got 'yes'"),
    Wrong(
        END,
        END + "search: {sampler: ^tpee}\n",
        "must be one of generative, nsga2, tpe, random",
        "tpe?",
    ),
    Wrong(END, END + "search: {proxy: ^6}\n", "search.proxy must be a mapping of keys to values"),
    Wrong(END, END + "search: {proxy: {epochs: ^-1}}\n", "search.proxy.epochs must be a whole"),
    Wrong(END, END + "search: {proxy: {^seeds: 1}}\n", "search.proxy has no key 'seeds'"),
    Wrong(END, END + "search: {proxy: {learning_rate: ^0}}\n", "above 0, at most 100, got 0"),
    Wrong(END, END + "search: {proxy: {learning_rate: ^.nan}}\n", "at most 100, got nan"),
    Wrong(END, END + "search: {proxy: {weight_decay: ^.inf}}\n", "from 0 to 1, got inf"),
    Wrong(
        END,
        END + "search: {proxy: {recipe: ^sdg}}\n",
        "must be one of muon, sgd, got 'sdg'",
        "sgd?",
    ),
    Wrong(END, END + "family: {training: {recipe: ^[]}}\n", "family.training.recipe must be"),
    Wrong(END, END + "family: {size: ^0}\n", "family.size must be a whole number from 1 to 26"),
    # Quantities.
    Wrong(LIMIT, "macs: ^0", MACS + "0"),
    Wrong(LIMIT, "macs: ^-10M", MACS + "'-10M'"),
    Wrong(LIMIT, "macs: ^10m", MACS + "'10m'", "write 10M"),
    Wrong(LIMIT, "macs: ^10MB", MACS + "'10MB'", "write 10M for a count"),
    Wrong(LIMIT, "macs: ^.inf", MACS + "inf"),
    Wrong(LIMIT, "macs: ^true", MACS + "true"),
    Wrong(LIMIT, "macs: ^{a: 1}", MACS + "{'a': 1}"),
    Wrong(LIMIT, "weight_bytes: ^1.2M", "bytes such as 512KiB or 1.2MB, got '1.2M'", "1.2MB"),
    # Accuracy and objectives.
    Wrong(GOAL, "accuracy: ^80%", "above 0 and at most 1, got '80%'", "write 0.80"),
    Wrong(GOAL, "accuracy: ^80", "above 0 and at most 1, got 80", "write 0.80"),
    Wrong(GOAL, "accuracy: ^97.5", "above 0 and at most 1, got 97.5", "write 0.975"),
    Wrong(GOAL, "accuracy: ^0", "goals.accuracy must be a share of 1, above 0"),
    Wrong(GOAL, "accuracy: ^.nan", "above 0 and at most 1, got nan"),
    Wrong(GOAL, "accuracy: ^high", "above 0 and at most 1, got 'high'"),
    Wrong(END, END + "objectives: ^[accuracy, flops]\n", "got 'flops'", "1 MAC is 2 FLOPs"),
    Wrong(END, END + "objectives: ^[accuracy, mac]\n", "got 'mac'", "did you mean macs?"),
    Wrong(END, END + "objectives: ^[macs, params]\n", "each once, got [macs, params]"),
    Wrong(END, END + "objectives: ^[accuracy, macs, macs]\n", "got [accuracy, macs, macs]"),
    Wrong(END, END + "objectives: ^accuracy\n", "must be a list of accuracy and at least one of"),
    # Data.
    Wrong("folder", "^folders", "data.source must be one of folder, digits, torch", "folder?"),
    Wrong("images/train", "^gone", "data.train must be a folder that exists, got ", "correct the"),
    Wrong("images/test", "^gone", "data.test must be a folder that exists", "written as 0.2"),
    Wrong("images/train", "^proto.yaml", "data.train must be a folder of images, got "),
    Wrong("images/test", "^images/train", "data.test must be another folder than data.train"),
    Wrong("images/test", "^images/./test/../train", "data.test must be another folder"),
    Wrong("images/test", "^0.6", "or a fraction above 0 and at most 0.5, got 0.6"),
    Wrong("images/test", "^0", "or a fraction above 0 and at most 0.5, got 0"),
    Wrong("images/test", "^[a]", "or a fraction above 0 and at most 0.5, got ['a']"),
    Wrong("images/train", '^"a\\0b"', "data.train must be a path, got 'a\\x00b'"),
    Wrong("resolution: 32", "resolution: ^2", "from 4 to 1024, got 2"),
    Wrong("resolution: 32", "resolution: ^2000", "from 4 to 1024, got 2000"),
    Wrong("resolution: 32", "resolution: ^32px", "from 4 to 1024, got '32px'"),
    Wrong("resolution: 32", "resolution: 32, classes: ^5", "the 2 that the data has, got 5"),
    Wrong("resolution: 32", "resolution: 32, channels: ^2", "must be one of 3, 1, got 2"),
    Wrong("resolution: 32", "resolution: 32, channels: ^true", "must be one of 3, 1, got true"),
    Wrong("resolution: 32", "resolution: 32, flip: ^yes", "true or false, got 'yes'", "write true"),
    Wrong("resolution: 32", "resolution: 32, select: ^0.7", "above 0, at most 0.5, got 0.7"),
    Wrong("resolution: 32", "resolution: 32, ^dataset: SVHN", "data.dataset belongs to source"),
    Wrong(DATA, "data: {source: digits, ^train: images/train}", "train belongs to source folder"),
    Wrong(DATA, "^data: {source: torchvision}", "data.dataset must be given where data.source is"),
    Wrong(DATA, "data: {source: torchvision, dataset: ^cifar-10}", "one of CIFAR10", "CIFAR10?"),
    Wrong(DATA, "data: {source: torchvision, dataset: SVHN, ^test: 0.1}", "belongs to source"),
    Wrong(DATA, "data: ^images", "data must be a mapping of keys to values, got 'images'"),
    # The prototype's place.
    Wrong("proto.yaml", "^gone.yaml", "prototype must name a prototype file", "mine.yaml"),
    Wrong("proto.yaml", "^images/train", "prototype must name a prototype file, got "),
    Wrong("proto.yaml", "^5", "prototype must be the path of a prototype file or a mapping, got 5"),
]  # fmt: skip


WRONG_PROTOTYPES = [
    Wrong("{kernel: 3, channels: 8}", "{^kernal: 3, channels: 8}", "no key 'kernal'", "kernel?"),
    Wrong("kernel: 3", "kernel: ^4", "stem.kernel must be 1, 3, 5, 7, 9 or 11, got 4"),
    Wrong("modules:\n", "^extra: 1\nmodules:\n", "a prototype has no key 'extra'", "its keys are"),
    Wrong(", channels: 8", "", "stem.channels must be given, got nothing", "Output channels"),
    Wrong("channels: 16", "channels: ^{low: 24, high: 16, step: 8}", "must have low at most high"),
    Wrong("stride: 2", "stride: ^[1, 64]", "stages[0].stride must be a whole number from 1 to 2"),
    Wrong("module: plain", "module: ^plane", "stages[0].module must name a module"),
    Wrong("module: plain", "module: ^3", "stages[0].module must be text, got 3", "quotes"),
    Wrong("layers: conv3", "layers: ^conv4", "layers: the kernel of conv must be 3, 5"),
    Wrong("layers: conv3", "layers: ^conv3/g7", "modules.plain.layers: the groups of a layer must"),
    Wrong("layers: conv3", "layers: conv3, shortcut: ^identty", "must be one of none, identity"),
    Wrong("{modules: 1, stride: 2, channels: 16, module: plain}", "^5", "must be a mapping"),
]  # fmt: skip
