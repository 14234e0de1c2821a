"""Reading requirements files: defaults, paths, the command line, and every problem at its place."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requirements_files import (
    PROTOTYPE,
    REQUIREMENTS,
    SHIPPED,
    WRONG,
    WRONG_PROTOTYPES,
    Wrong,
    make_folders,
    problems_of,
    write_example,
)

from collabdesign.design.files.document import read_text, write_text
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import ProxyTraining, resolved_yaml
from collabdesign.design.sources import SOURCES, Data
from collabdesign.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_example(tmp_path)
    return tmp_path


# -- what is read -----------------------------------------------------------------------------


def test_a_file_of_ones_own(folder: Path) -> None:
    make_folders(folder / "images/train", ".hidden", "__MACOSX")
    (folder / "images/train/README.txt").write_text("not a class")
    read = load_requirements(folder / "mine.yaml")
    assert (read.version, read.name) == (1, "mine")
    assert (read.limits.macs, read.limits.params) == (10_000_000, 320_000)
    assert (read.limits.weight_bytes, read.limits.peak_activation_bytes) == (None, None)
    assert read.goals.accuracy == 0.8
    assert read.objectives == ("accuracy", "macs", "params")
    assert read.deploy.precision == "float32"
    assert (read.search.trials, read.search.seed, read.search.sampler) == (60, 0, "generative")
    assert (read.search.proxy.epochs, read.search.proxy.batch) == (6, None)
    assert (read.family.size, read.family.training.epochs) == (4, 60)
    assert (read.family.training.seeds, read.family.training.min_steps) == (1, 150)
    assert read.data.train == folder / "images/train"
    assert read.data.test == folder / "images/test"
    assert (read.data.classes, read.data.channels, read.data.flip) == (2, 3, True)
    assert (read.data.select, read.data.augment, read.data.train_images) == (0.2, "auto", None)
    assert read.prototype.stem.channels.own == 8


def test_digits_know_themselves() -> None:
    data = load_requirements(SHIPPED / "digits.yaml").data
    assert (data.classes, data.channels, data.resolution, data.flip) == (10, 1, 8, False)
    assert data.test == 0.2


@pytest.mark.parametrize("name", SOURCES["torchvision"].pictures)
def test_named_sets_know_themselves(folder: Path, name: str) -> None:
    path = folder / "named.yaml"
    path.write_text(
        f"name: x\nprototype: proto.yaml\ndata: {{source: torchvision, dataset: {name}}}\n"
    )
    data = load_requirements(path).data
    assert (data.classes, data.channels, data.resolution, data.flip) == (
        SOURCES["torchvision"].pictures[name]
    )
    assert (data.root, data.test) == (folder / "data", None)


def test_what_is_written_wins_over_what_is_known() -> None:
    written: dict[str, Any] = {"source": "digits", "resolution": 16, "channels": 3, "flip": True}
    data = Data.model_validate(written)
    assert (data.resolution, data.channels, data.flip, data.classes) == (16, 3, True, 10)


def test_a_heading_without_lines_stands_for_its_defaults(folder: Path) -> None:
    path = folder / "mine.yaml"
    path.write_text(
        REQUIREMENTS.replace("goals: {accuracy: 0.8}", "goals:\n  # accuracy: 0.8\nfamily:\n")
        + "search:\n  proxy:\ndeploy:\n"
    )
    read = load_requirements(path)
    assert read.goals.accuracy is None
    assert read.search.proxy == ProxyTraining()


def test_objectives_begin_with_accuracy(folder: Path) -> None:
    read = load_requirements(folder / "mine.yaml", ["objectives=[params, accuracy]"])
    assert read.objectives == ("accuracy", "params")


def test_relative_paths_begin_at_the_file_that_holds_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    by_relative = load_requirements(Path(folder.name) / "mine.yaml")
    assert by_relative == load_requirements(folder / "mine.yaml")
    # Those of the command line begin where the person stands.
    override = f"data.train={folder.name}/images/test"
    by_override = load_requirements(folder / "mine.yaml", [override, "data.test=0.1"])
    assert by_override.data.train == folder / "images/test"


def test_a_prototype_in_place(folder: Path) -> None:
    path = folder / "place.yaml"
    indented = "\n".join(f"  {line}" for line in PROTOTYPE.splitlines())
    path.write_text(REQUIREMENTS.replace("prototype: proto.yaml", f"prototype:\n{indented}"))
    assert load_requirements(path) == load_requirements(folder / "mine.yaml")


def test_without_the_data_the_classes_must_be_written(folder: Path) -> None:
    path = folder / "mine.yaml"
    path.write_text(REQUIREMENTS.replace("images/train,", "gone, classes: 7,"))
    assert load_requirements(path, check_data=False).data.classes == 7
    path.write_text(REQUIREMENTS.replace("images/train", "gone"))
    (problem,) = problems_of(path, check_data=False)
    assert problem.message == "data.classes must be given, got nothing"


# -- the command line over the file -----------------------------------------------------------


def test_overrides(folder: Path) -> None:
    read = load_requirements(
        folder / "mine.yaml",
        [
            "search.trials=80",
            "family.training.seeds=3",
            "limits.weight_bytes=1.2MB",
            "limits.params=",
            "objectives=[accuracy, weight_bytes]",
            "prototype.stem.channels={low: 8, high: 24, step: 8}",
            "prototype.stages.0.stride=1",
        ],
    )
    assert (read.search.trials, read.family.training.seeds) == (80, 3)
    assert (read.limits.macs, read.limits.params) == (10_000_000, None)
    assert read.limits.weight_bytes == 1_200_000
    assert read.objectives == ("accuracy", "weight_bytes")
    assert read.prototype.stem.channels.values == (8, 16, 24)
    assert read.prototype.stages[0].stride.own == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials=0", "search.trials must be a whole number from 1 to 1000000, got 0"),
        ("serach.trials=8", "a requirements file has no key 'serach'"),
        ("search.trails=8", "search has no key 'trails'"),
        ("trials", "--set must have key=value, got 'trials'"),
        ("=8", "--set must have key=value, got '=8'"),
        ("a..b=8", "--set must have key=value, got 'a..b=8'"),
        ("limits.macs=[", "the value must be YAML"),
        ("limits.macs=!!python/name:os.system", "got the tag !!python/name:os.system"),
        ("name.x=1", "name must be a mapping to have keys, got 'mine'"),
        ("prototype.stages.1.stride=1", "prototype.stages has entries 0 to 0, got '1'"),
        ("prototype.stem.stride=3", "prototype.stem.stride must be a whole number from 1 to 2"),
        ("prototype=gone.yaml", "prototype must name a prototype file, got gone.yaml"),
        ("data.train=gone", "data.train must be a folder that exists, got "),
        ("data.test=0.9", "data.test must be a folder, or a fraction above 0 and at most 0.5"),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(
    folder: Path, override: str, message: str
) -> None:
    (problem,) = problems_of(folder / "mine.yaml", [override])
    assert message in problem.message
    assert (problem.file, problem.line) == (f"--set {override}", 0)


# -- every way to get it wrong ----------------------------------------------------------------


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.old[:12]}->{wrong.new[-30:]}")
def test_wrong_requirements(folder: Path, wrong: Wrong) -> None:
    assert wrong.old in REQUIREMENTS
    text = REQUIREMENTS.replace(wrong.old, wrong.new, 1)
    path = folder / "wrong.yaml"
    path.write_text(text.replace("^", ""))
    (problem,) = problems_of(path)
    assert wrong.message in problem.message
    assert wrong.hint in problem.hint
    assert bool(wrong.hint) <= bool(problem.hint)
    assert problem.file == str(path)
    if "^" in text:
        before = text[: text.index("^")]
        assert problem.line == before.count("\n") + 1
        assert problem.column == len(before) - before.rfind("\n")
    assert "Input should" not in str(problem)


@pytest.mark.parametrize("wrong", WRONG_PROTOTYPES, ids=lambda wrong: wrong.new[-30:])
def test_wrong_prototypes(folder: Path, wrong: Wrong) -> None:
    text = PROTOTYPE.replace(wrong.old, wrong.new, 1)
    path = folder / "proto.yaml"
    path.write_text(text.replace("^", ""))
    found = problems_of(folder / "mine.yaml")
    problem = next(problem for problem in found if wrong.message in problem.message)
    assert wrong.hint in problem.hint
    assert problem.file == str(path)
    if "^" in text:
        before = text[: text.index("^")]
        assert problem.line == before.count("\n") + 1
        assert problem.column == len(before) - before.rfind("\n")


def test_a_prototype_that_leaves_no_resolution(folder: Path) -> None:
    stage = "  - {modules: 1, stride: 2, channels: 16, module: plain}\n"
    (folder / "proto.yaml").write_text(PROTOTYPE.replace(stage, stage * 3))
    (problem,) = problems_of(folder / "mine.yaml", ["data.resolution=4"])
    assert "to 0x0" in problem.message
    assert (problem.file, problem.line) == (str(folder / "proto.yaml"), 5)


def test_a_prototype_file_that_is_no_yaml(folder: Path) -> None:
    (folder / "proto.yaml").write_text("stem: {kernel: 3\nstem: !!python/object:os.system {}\n")
    found = problems_of(folder / "mine.yaml")
    assert {problem.file for problem in found} == {str(folder / "proto.yaml")}
    assert all(problem.line for problem in found)


def test_a_prototype_given_for_requirements(folder: Path) -> None:
    (problem,) = problems_of(folder / "proto.yaml")
    assert problem.message == "the file must hold requirements, got a prototype"


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (["cat"], ["cat"], "data.train must have at least two class folders, got only cat in "),
        ([], ["cat", "dog"], "data.train must have at least two class folders, got none in "),
        (["cat", "dog"], ["cat", "fox"], "of data.train, got none for dog, further fox"),
        (["cat", "dog"], ["cat", "dog", "fox"], "of data.train, got further fox"),
        (["a", "b", "c", "d", "e", "f", "g"], ["a", "x"], "got none for b, c, d, e, f and 1 more"),
    ],
)
def test_class_folders(folder: Path, train: list[str], test: list[str], message: str) -> None:
    make_folders(folder / "own", "train", "test")
    make_folders(folder / "own/train", *train)
    make_folders(folder / "own/test", *test)
    path = folder / "mine.yaml"
    path.write_text(REQUIREMENTS.replace("images", "own"))
    assert message in problems_of(path)[0].message


def test_everything_wrong_is_told_at_once_and_in_order(folder: Path) -> None:
    text = REQUIREMENTS.replace("10M", "10MB").replace("images/train", "gone")
    text = text.replace("name: mine", "nam: mine").replace("0.8", "80%")
    (folder / "mine.yaml").write_text(text)
    prototype = PROTOTYPE.replace("kernel: 3", "kernel: 4").replace("conv3", "conv4")
    (folder / "proto.yaml").write_text(prototype)
    found = problems_of(folder / "mine.yaml", ["search.trials=0", "search.seed=-1"])
    places = [(Path(problem.file).name, problem.line, problem.column) for problem in found]
    assert places == [
        ("mine.yaml", 1, 1),
        ("mine.yaml", 1, 1),
        ("mine.yaml", 3, 31),
        ("mine.yaml", 4, 16),
        ("mine.yaml", 5, 19),
        ("--set search.trials=0", 0, 0),
        ("--set search.seed=-1", 0, 0),
        ("proto.yaml", 1, 16),
        ("proto.yaml", 5, 29),
    ]


_VALUES = st.sampled_from(
    [None, True, -1, 0, 3, 0.5, float("inf"), float("nan"), "x", "10M", "", "a\0b", "~x/../..", [],
     {}, [1], {"a": 1}, [[]], {"low": 8}, "images/train", 10**90]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused(folder: Path, data: st.DataObject) -> None:
    """Whatever stands in a file, a person sees problems and no traceback."""
    written = read_text(REQUIREMENTS).data
    written["prototype"] = read_text(PROTOTYPE).data
    written["data"]["test"] = 0.2
    for _ in range(data.draw(st.integers(1, 3))):
        holder: Any = written
        while True:
            keys = list(range(len(holder)) if isinstance(holder, list) else sorted(holder))
            key = data.draw(st.sampled_from(keys))
            inner = holder[key]
            if not (isinstance(inner, dict | list) and inner and data.draw(st.booleans())):
                break
            holder = inner
        holder[key] = copy.deepcopy(data.draw(_VALUES))
    path = folder / "any.yaml"
    path.write_text(write_text(written))
    try:
        read = load_requirements(path)
    except InputError as error:
        assert error.problems
        assert all(problem.line and problem.column for problem in error.problems)
    else:
        path.write_text(resolved_yaml(read))
        assert load_requirements(path) == read
