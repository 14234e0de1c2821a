"""What is said when the images of a search are others than before."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from collabdesign.design.sources import Data
from collabdesign.evaluate.data import changes
from collabdesign.evaluate.data.changes import data_changes, summarise
from collabdesign.evaluate.data.decode import Found
from collabdesign.evaluate.data.findings import Findings
from collabdesign.evaluate.data.folder import FolderListing
from collabdesign.evaluate.data.images import load_data
from collabdesign.evaluate.data.parts import Part, Wanted
from collabdesign.evaluate.data.pictures import Picture
from collabdesign.evaluate.data.source import Source


def write_picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        write_picture(tmp_path / "train" / "cat" / f"{number:02}.png", number)
        write_picture(tmp_path / "train" / "dog" / f"{number:02}.png", 100 + number)
    return tmp_path / "train"


def summary_of(folder: Path, **keys: Any) -> dict[str, Any]:
    """As it comes back from where it was kept."""
    written = {"source": "folder", "train": folder, "resolution": 8, "classes": 2, **keys}
    summary: dict[str, Any] = json.loads(json.dumps(load_data(Data(**written)).summary))
    return summary


def test_a_summary_counts_both_parts_and_knows_each_file(folder: Path) -> None:
    summary = summary_of(folder, test=0.2)
    # Of 20 in each class a fifth is put aside as test, of the rest a fifth is held out.
    assert summary["images"] == {
        "train": {"cat": 13, "dog": 13},
        "select": {"cat": 3, "dog": 3},
    }
    assert summary["size"] == {"train": "8x8x3", "select": "8x8x3"}
    digests = summary["digests"]
    assert {part: len(files) for part, files in digests.items()} == {
        "train": 26,
        "select": 6,
        "neither": 8,
    }
    files = {name for part in digests.values() for name in part}
    assert files == {f"{kind}/{number:02}.png" for kind in ("cat", "dog") for number in range(20)}


def test_a_folder_that_was_moved_has_the_same_summary(folder: Path) -> None:
    before = summary_of(folder)
    moved = folder.rename(folder.parent / "elsewhere")
    assert summary_of(moved) == before


@pytest.mark.parametrize("augment", ["shift", "crop"])
@pytest.mark.parametrize("test", [0.2, "folder"])
def test_added_removed_and_changed_files_are_named(
    folder: Path, augment: str, test: float | str
) -> None:
    keys: dict[str, Any] = {"augment": augment, "test": test}
    if test == "folder":
        keys["test"] = folder.parent / "test"
        write_picture(keys["test"] / "cat" / "a.png", 500)
        write_picture(keys["test"] / "dog" / "a.png", 501)
    before = summary_of(folder, **keys)
    shown = next(name for name in before["digests"]["train"] if name.startswith("dog/"))
    write_picture(folder / shown, 1000)
    assert data_changes(before, summary_of(folder, **keys)) == [f"files changed: 1 ({shown})"]
    for number in range(20, 27):
        write_picture(folder / "cat" / f"{number}.png", number)
    (folder / "cat" / "03.png").unlink()
    lines = data_changes(before, summary_of(folder, **keys))
    added = "cat/20.png, cat/21.png, cat/22.png, cat/23.png, cat/24.png and 2 more"
    assert f"files added: 7 ({added})" in lines
    assert "files removed: 1 (cat/03.png)" in lines
    # The other parts may have other pictures now, but nobody changed them.
    assert all(line.startswith("images ") or " 1 (" in line or " 7 (" in line for line in lines)
    if test == "folder":
        assert "images to train on: 32 -> 37 (cat 16 -> 21)" in lines
        assert "images held out: 8 -> 9 (cat 4 -> 5)" in lines


def test_another_class_is_a_change_of_counts(folder: Path) -> None:
    before = summary_of(folder)
    (folder / "dog").rename(folder / "owl")
    lines = data_changes(before, summary_of(folder))
    assert lines[0] == "images to train on: 26 -> 26 (dog 13 -> 0, owl 0 -> 13)"


def test_pictures_of_another_size_are_not_changed_files(folder: Path) -> None:
    lines = data_changes(summary_of(folder), summary_of(folder, resolution=16, channels=1))
    assert lines == [
        "size of the images to train on: 8x8x3 -> 16x16x1",
        "size of the images held out: 8x8x3 -> 16x16x1",
    ]


def test_of_a_set_that_others_prepared_only_counts_are_kept() -> None:
    summary = load_data(Data(source="digits")).summary
    assert summary.keys() == {"images", "size"}
    fewer = load_data(Data(source="digits", train_images=500)).summary
    assert data_changes(summary, fewer)[0].startswith("images to train on: 1,150 -> 400 (0 ")


def test_there_is_always_something_to_say() -> None:
    summary = dict(load_data(Data(source="digits")).summary)
    assert data_changes({}, summary) == data_changes(summary, summary) == ["the pixels are others"]


def many(count: int) -> tuple[Source, dict[str, Part]]:
    rng = np.random.default_rng(0)
    root = Path("/nowhere")
    files = tuple((str(root / "cat" / f"{number}.png"), 0) for number in range(count))
    listing = FolderListing(root, ("cat",), files, ())
    labels = np.zeros(count, dtype=np.int64)

    def read(index: int) -> Picture:
        raise AssertionError("no picture is opened")

    source = Source(("cat",), labels, read, str, listing=listing)
    middle = count * 4 // 5
    parts = {}
    for name, indices in (("train", range(middle)), ("select", range(middle, count))):
        wanted = Wanted(source, np.array(indices), 4, 3)
        pixels = rng.integers(0, 256, wanted.shape, dtype=np.uint8)
        found = [Found(bytes(pixel.ravel()[:16]), (4, 4), "RGB", False, "") for pixel in pixels]
        thumbs = np.zeros((len(pixels), 8, 9), np.uint8)
        parts[name] = Part(wanted, pixels, Findings.of(found, thumbs, pixels))
    return source, parts


def test_digests_of_many_small_pictures_take_no_time() -> None:
    source, parts = many(50_000)
    started = time.process_time()
    summary = summarise(source, parts)
    assert time.process_time() - started < 2  # 0.4 s on an idle core
    assert len(summary["digests"]["train"]) == 40_000


def test_of_a_very_large_folder_only_counts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_MOST_FILES", 99)
    source, parts = many(100)
    assert summarise(source, parts).keys() == {"images", "size"}
