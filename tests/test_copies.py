"""The same picture twice is found before any training, and does not count where it would lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_search import run, search_words, write_tiny

from collabdesign.design.sources import Data
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import load_data, load_test
from collabdesign.evaluate.data.inspect import inspect_data

CLASSES = ("cat", "dog")


def noise(number: int) -> Image.Image:
    """Smooth noise of 32 x 32 pixels: no two numbers give pictures that are alike."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((32, 32), Image.Resampling.BICUBIC)


def write(folder: Path, count: int, first: int = 0) -> Path:
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = noise(first + 1000 * label + number)
            picture.save(folder / name / f"{number:03}.png")
    return folder


def data_of(train: Path, **more: Any) -> Data:
    return Data(**{"source": "folder", "train": train, "resolution": 16, "classes": 2, **more})


def test_where_no_picture_is_there_twice_nothing_is_said(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "train", 20), test=write(tmp_path / "test", 5, first=500))
    found = inspect_data(data)
    assert found.copies is not None and not any(found.copies.pairs.values())
    assert (load_data(data).copies, load_test(data).copies) == ({"select": 0, "two_classes": 0}, 0)
    assert found.images == (32, 8, 10)


def test_copies_of_what_is_learnt_are_taken_out_of_test(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "train", 20), test=write(tmp_path / "test", 5, first=500))
    # The same pixels in another format and under another name.
    Image.open(tmp_path / "train" / "cat" / "003.png").save(tmp_path / "test" / "cat" / "x.bmp")
    Image.open(tmp_path / "train" / "dog" / "007.png").save(tmp_path / "test" / "cat" / "y.png")
    found = inspect_data(data)
    assert found.copies is not None
    assert (found.copies.in_test, found.copies.two_classes) == (2, 1)
    assert {Path(pair.one).name for pair in found.copies.pairs["in_test"]} == {"x.bmp", "y.png"}
    assert {Path(pair.other).name for pair in found.copies.pairs["in_test"]} == {
        "003.png",
        "007.png",
    }
    assert found.images == (32, 8, 10)
    test = load_test(data)
    assert (len(test.labels), len(test.images), test.copies) == (10, 10, 2)
    assert test.labels.tolist() == [0] * 5 + [1] * 5
    assert load_data(data).copies == {"select": 0, "two_classes": 1}


def test_copies_are_found_where_test_is_a_part_of_train(tmp_path: Path) -> None:
    train = write(tmp_path / "train", 40)
    for number in range(40):  # each picture of a class twice
        Image.open(train / "cat" / f"{number:03}.png").save(train / "cat" / f"again{number:03}.png")
    data = data_of(train, test=0.2)
    learnt, test = load_data(data), load_test(data)
    parts = [learnt.train_images, learnt.select_images, test.images]
    pictures = [{image.numpy().tobytes() for image in part} for part in parts]
    assert not pictures[0] & pictures[1] and not (pictures[0] | pictures[1]) & pictures[2]
    # 24 of 120 are put aside, 19 of the rest held out: fewer are left of each.
    assert len(test.labels) + test.copies == 24
    assert len(learnt.select_labels) + learnt.copies["select"] == 19
    assert test.copies > 0 and learnt.copies["select"] > 0


def test_a_test_part_of_copies_alone_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train", 20)
    write(tmp_path / "test", 5)  # the same pictures
    data = data_of(tmp_path / "train", test=tmp_path / "test")
    with pytest.raises(InputError, match=r"test pictures must be others .* cat, dog are copies"):
        load_data(data)


@pytest.mark.parametrize("how", ["quality", "size", "brightness"])
def test_near_copies_are_named_and_count(tmp_path: Path, how: str) -> None:
    data = data_of(write(tmp_path / "train", 20), test=write(tmp_path / "test", 5, first=500))
    picture = Image.open(tmp_path / "train" / "cat" / "003.png")
    if how == "size":
        picture = picture.resize((80, 80), Image.Resampling.BICUBIC)
    elif how == "brightness":
        picture = picture.point(lambda value: value * 0.9 + 10)
    suffix, options = (".jpg", {"quality": 80}) if how == "quality" else (".png", {})
    picture.save(tmp_path / "test" / "cat" / f"near{suffix}", **options)
    found = inspect_data(data).copies
    assert found is not None and (found.in_test, found.near) == (0, 1)
    (pair,) = found.pairs["near"]
    assert (Path(pair.one).stem, Path(pair.other).name) == ("near", "003.png")
    assert (len(load_test(data).labels), load_test(data).copies) == (11, 0)


def test_what_is_blank_is_not_near(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "train", 20), test=write(tmp_path / "test", 5, first=500))
    for part, value in (("train", 200), ("test", 201)):
        blank = Image.new("RGB", (16, 16), (value, value, value))
        blank.save(tmp_path / part / "cat" / "blank.png")
    found = inspect_data(data).copies
    assert found is not None and found.near == 0


def test_the_certificate_says_how_many_there_were(tmp_path: Path) -> None:
    write(tmp_path / "train", 40)
    write(tmp_path / "test", 5, first=500)
    Image.open(tmp_path / "train" / "cat" / "003.png").save(tmp_path / "test" / "cat" / "seen.png")
    written = "{source: folder, train: train, test: test, resolution: 16}"
    changes = [
        ("{source: digits, train_images: 500}", written),
        ("macs: 30k", "macs: 300k"),
        ("trials: 14", "trials: 2"),
        ("size: 3", "size: 1"),
        ("epochs: 12", "epochs: 2"),
        ("accuracy: 0.2", "accuracy: 0.01"),
    ]
    write_tiny(tmp_path, *changes)
    code, said = run(search_words(tmp_path), tmp_path)
    assert code == 0, said
    member = tmp_path / "run" / "family" / "attonet-a"
    certificate = json.loads((member / "certificate.json").read_text())
    assert certificate["data"]["copies"] == {"select": 0, "two_classes": 0, "test": 1}
    assert certificate["test_images"] == 10
    report = (tmp_path / "run" / "report.html").read_text()
    assert "1 picture of test taken out" in report
