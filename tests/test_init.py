"""From a folder of images to files that load, with a network that fits and room to look."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collabdesign.deliver.init import InitResult, init, prototype_text, rounded_up
from collabdesign.design.cost import cost_of
from collabdesign.design.files.document import read_text
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.prototype import Prototype
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import load_data, load_test

MOST_ACTIVE = 120


def fill(
    root: Path,
    classes: dict[str, int],
    size: tuple[int, int] = (32, 32),
    *,
    mode: str = "RGB",
    suffix: str = ".png",
) -> Path:
    """Class folders with so many pictures of noise."""
    rng = np.random.default_rng(0)
    depth = (3,) if mode == "RGB" else ()
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (size[1], size[0], *depth), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}{suffix}")
    return root


def check(result: InitResult) -> Requirements:
    """What must hold for every folder."""
    requirements = load_requirements(result.requirements)
    space = DesignSpace(requirements)
    own = cost_of(space.decode(space.own()))
    assert max(requirements.violations(own).values()) <= 0
    rng = np.random.default_rng(1)
    proposals = [space.sample(rng) for _ in range(300)]
    assert max(map(len, proposals)) <= MOST_ACTIVE
    fitting = [
        max(requirements.violations(cost_of(space.decode(params))).values()) <= 0
        for params in proposals
    ]
    # Three standard errors around a fifth and a half.
    assert 0.2 - 0.07 <= np.mean(fitting) <= 0.5 + 0.09
    assert 0.2 <= result.share_that_fits <= 0.5
    assert requirements.data.classes == len(result.classes)
    assert requirements.data.resolution == result.resolution
    assert requirements.data.channels == result.channels
    for file in (result.requirements, result.prototype):
        text = file.read_text("utf-8")
        assert not re.search(r"[{}]\w+\(|None|[ \t]$", text, re.MULTILINE)
        assert max(map(len, text.splitlines())) <= 100 or "train:" in text
    return requirements


def test_tiny_folder_can_be_trained_on(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pets", {"cat": 10, "dog": 10}, (40, 30))
    result = init(folder, tmp_path)
    requirements = check(result)
    assert result.requirements == tmp_path / "requirements.yaml"
    assert (result.classes, result.images) == (("cat", "dog"), 20)
    assert (result.resolution, result.channels) == (24, 3)  # the largest usual below 30
    assert requirements.name == "pets"
    assert requirements.data.train == folder
    assert requirements.data.test == 0.2
    assert requirements.data.flip is True
    assert "train: pets\n" in result.requirements.read_text()
    assert result.warnings == (
        "classes with few images, whose accuracy will say little: cat (10), dog (10)",
    )
    # The whole way to the data: 4 of 20 for test, 3 of 16 to choose by.
    data, test = load_data(requirements.data), load_test(requirements.data)
    assert (len(data.train_labels), len(data.select_labels), len(test.labels)) == (13, 3, 4)


def test_grey_digits_keep_their_size(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mnist", {"0": 60, "1": 60, "7": 60}, (28, 28), mode="L")
    requirements = check(init(folder, tmp_path / "new" / "here"))
    assert (requirements.data.resolution, requirements.data.channels) == (28, 1)
    assert requirements.data.flip is False
    assert requirements.data.train == folder
    stem, stages = requirements.prototype.stem, requirements.prototype.stages
    # 28 > 14 > 7 > 4
    assert [stem.stride.own, *(stage.stride.own for stage in stages)] == [2, 2, 2]


def test_grey_pictures_in_a_colour_format(tmp_path: Path) -> None:
    folder = fill(tmp_path / "scans", {"a b": 8, "c": 8}, (64, 64), mode="L")
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            image.convert("RGB").save(path)
    assert init(folder, tmp_path).channels == 1
    tinted = folder / "c" / "0.png"
    with Image.open(tinted) as image:
        image.putpixel((0, 0), (1, 2, 3))
        image.save(tinted)
    assert init(folder, tmp_path, force=True).channels == 3


def test_photographs(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", {name: 8 for name in "abc"}, (500, 375), suffix=".jpg")
    result = init(folder, tmp_path)
    requirements = check(result)
    assert result.resolution == 96
    stem, stages = requirements.prototype.stem, requirements.prototype.stages
    # 96 > 48 > 24 > 12 > 6
    assert [stem.stride.own, *(stage.stride.own for stage in stages)] == [2, 2, 2, 2]
    assert "All pictures are 500x375." in result.requirements.read_text()


def test_median_side(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mixed", {"a": 4, "b": 4}, (500, 300))
    for number, side in enumerate((70, 65, 60, 60)):
        Image.new("RGB", (side, 99)).save(folder / "a" / f"{number}.png")
    Image.new("RGB", (99, 55)).save(folder / "b" / "0.png")
    for label in "ab":  # sides 55 60 60 65 70 300 300 300, and six of 90
        for number in range(3):
            Image.new("RGB", (90, 90)).save(folder / label / f"more {number}.png")
    result = init(folder, tmp_path)
    text = result.requirements.read_text()
    assert "The median picture has 90 on\n  # its shorter side" in text
    assert "the most frequent of 6 sizes is 90x90." in text
    assert result.resolution == 64


def test_parts_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "my data: 2"
    fill(folder / "train", {"a": 10, "b": 10})
    fill(folder / "val", {"a": 2, "b": 2})
    fill(folder / "unsorted", {"x": 1})
    for stray in (folder / "README.md", folder / "train" / ".DS_Store", folder / "val" / "notes"):
        stray.write_text("not a picture")
    (folder / "train" / "a" / "Thumbs.db").write_text("not a picture")
    result = init(folder, tmp_path)
    requirements = check(result)
    assert requirements.name == "my-data-2"
    assert requirements.data.train == folder / "train"
    assert requirements.data.test == folder / "val"
    assert 'train: "my data: 2/train"\n' in result.requirements.read_text()
    assert result.warnings == (
        "folders beside train that are not used: unsorted",
        f"passed over in {folder / 'train'}, as no pictures: .DS_Store, a/Thumbs.db",
        f"passed over in {folder / 'val'}, as no pictures: notes",
        "classes with few images, whose accuracy will say little: a (10), b (10)",
    )


def test_test_folders_that_are_none(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 10, "b": 10})
    fill(tmp_path, {"test": 3})  # without classes
    fill(tmp_path / "val", {"a": 2, "c": 2})
    result = init(tmp_path, tmp_path / "out")
    assert check(result).data.test == 0.2
    assert result.warnings[0].startswith("not used as test: a folder of images needs at least two")
    assert result.warnings[1] == (
        f"not used as test: {tmp_path / 'val'} has other classes than train (b, c)"
    )


def test_a_class_called_train(tmp_path: Path) -> None:
    folder = fill(tmp_path / "vehicles", {"bus": 10, "train": 10})
    result = init(folder, tmp_path)
    assert result.classes == ("bus", "train")
    assert check(result).data.train == folder


def test_uneven_classes_are_said(tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", {"rare": 3, "often": 60}, (8, 8))
    assert init(folder, tmp_path).warnings == (
        "classes with few images, whose accuracy will say little: rare (3)",
        "classes have from 3 to 60 images: accuracy will speak for the large ones",
    )
    load_data(load_requirements(tmp_path / "requirements.yaml").data)


@pytest.mark.parametrize(
    ("counts", "with_test", "message"),
    [
        ({"a": 2, "b": 40}, False, "at least 3 images, and 7 on average, .* got a \\(2\\)"),
        ({"a": 6, "b": 7}, False, "at least 3 images, and 7 on average, .* got 13 for 2 classes"),
        ({"a": 1, "b": 40}, True, "at least 2 images, and 5 on average, .* got a \\(1\\)"),
    ],
)
def test_too_few_images(
    tmp_path: Path, counts: dict[str, int], with_test: bool, message: str
) -> None:
    folder = tmp_path / "data"
    fill(folder / "train" if with_test else folder, counts, (8, 8))
    if with_test:
        fill(folder / "test", {"a": 1, "b": 1}, (8, 8))
    with pytest.raises(InputError, match=message):
        init(folder, tmp_path)
    assert not (tmp_path / "requirements.yaml").exists()


@pytest.mark.parametrize("per_class", [7, 8, 9])
@pytest.mark.parametrize("classes", [2, 3, 11])
def test_what_is_enough_can_be_split(tmp_path: Path, classes: int, per_class: int) -> None:
    folder = fill(tmp_path / "d", {f"c{n}": per_class for n in range(classes)}, (8, 8))
    requirements = load_requirements(init(folder, tmp_path).requirements)
    data, test = load_data(requirements.data), load_test(requirements.data)
    for labels in (data.train_labels, data.select_labels, test.labels):
        assert len(set(labels.tolist())) == classes


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", {"a": 8, "b": 8})
    (folder / "a" / "bad.jpg").write_text("no picture")
    (folder / "b" / "empty.png").touch()
    with pytest.raises(InputError) as caught:
        init(folder, tmp_path)
    text = str(caught.value)
    assert "bad.jpg: not a picture" in text
    assert "empty.png: the file is empty" in text
    assert "2 pictures cannot be read: repair them or take them out of the folder" in text
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def missing(path: Path) -> Path:
    return path / "nowhere"


def one_class(path: Path) -> Path:
    return fill(path / "one", {"only": 9})


@pytest.mark.parametrize(
    ("make", "message"), [(missing, "must exist"), (one_class, "at least two class folders")]
)
def test_no_folder_of_images(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError, match=message):
        init(make(tmp_path), tmp_path)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", {"a": 8, "b": 8})
    mine = tmp_path / "prototype.yaml"
    mine.write_text("mine")
    with pytest.raises(InputError, match=r"must not write over files, got .*prototype\.yaml"):
        init(folder, tmp_path)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "requirements.yaml").exists()
    init(folder, tmp_path, force=True)
    assert mine.read_text() != "mine"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", {"a": 8, "b": 8})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be able to write"):
        init(folder, tmp_path / "file" / "inside")


@pytest.mark.parametrize(
    "name",
    [
        "true",
        "007",
        "1e5",
        "~home",
        "#1",
        "a: b",
        "a #b",
        "- a",
        '"',
        "猫 🐈",
        "null",
        ".inf",
    ],
)
def test_folder_names_that_yaml_would_mangle(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / name, {"a": 8, "b": 8})
    requirements = load_requirements(init(folder, tmp_path).requirements)
    assert requirements.data.train == folder


def test_a_folder_name_that_is_no_text(tmp_path: Path) -> None:
    folder = fill(tmp_path / "caf\udce9", {"a": 8, "b": 8})
    with pytest.raises(InputError, match=r"must be UTF-8 text, got .*caf.udce9"):
        init(folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["caf\udce9"]


def test_name_of_the_run(tmp_path: Path) -> None:
    folder = fill(tmp_path / "007", {"a": 8, "b": 8})
    assert load_requirements(init(folder, tmp_path).requirements).name == "007"
    named = init(folder, tmp_path, name="my run / 1", force=True)
    assert load_requirements(named.requirements).name == "my-run-1"


def test_absolute_where_nothing_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "data" / "pets", {"a": 8, "b": 8})
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    result = init(Path("../data/pets"))
    assert result.requirements == Path("requirements.yaml")
    assert "train: ../data/pets\n" in result.requirements.read_text()
    assert load_requirements("requirements.yaml").data.train == folder


@pytest.mark.parametrize("resolution", range(4, 97))
def test_a_prototype_for_every_side(resolution: int) -> None:
    prototype = Prototype.model_validate(read_text(prototype_text(resolution)).data)
    assert prototype.problems(resolution) == []
    side = resolution
    for freedom in (prototype.stem.stride, *(stage.stride for stage in prototype.stages)):
        assert len(freedom.values) == 1
        side = -(-side // freedom.own)
    assert 3 <= side <= 8
    assert f"{resolution}x{resolution} pixels to {side}x{side};" in prototype_text(resolution)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(7, 10), (10, 10), (11, 12), (101, 120), (451, 500), (501, 600), (999, 1000), (78922, 80000)],
)
def test_rounded_up(value: int, rounded: int) -> None:
    assert rounded_up(value) == rounded
