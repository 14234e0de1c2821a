"""COCO files: real ones as they are, broken ones refused with all that is wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask
from shapes import draw_shapes

from collabdesign.detect.coco import CocoData, coco_picture, hold_out
from collabdesign.detect.coco_file import read_coco
from collabdesign.detect.requirements import CocoFiles
from collabdesign.detect.segmentation import (
    area_of,
    iou_of,
    pixels_of,
    read_segmentation,
    rle_of,
    unpacked,
)
from collabdesign.errors import InputError

# A picture of 8x6 pixels; a square of its pixels 2 to 4 across and 1 to 3 down.
WIDTH, HEIGHT = 8, 6
SQUARE = [2, 1, 5, 1, 5, 4, 2, 4]


def square_mask() -> np.ndarray[Any, Any]:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    pixels[1:4, 2:5] = 1
    return pixels


PACKED = {
    "size": [HEIGHT, WIDTH],
    "counts": mask.encode(np.asfortranarray(square_mask()))["counts"].decode(),
}
# Down the columns: 2 columns and a pixel outside, then 3 inside and 3 outside in turn.
RUNS = {"size": [HEIGHT, WIDTH], "counts": [13, 3, 3, 3, 3, 3, 20]}


def annotation(number: int, image: int = 5, **changes: Any) -> dict[str, Any]:
    plain = {
        "id": number, "image_id": image, "category_id": 18, "bbox": [2, 1, 3, 3], "area": 9,
        "segmentation": [SQUARE], "iscrowd": 0,
    }  # fmt: skip
    return {**plain, **changes}


def image(number: int, name: str, **changes: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, **changes}


def example() -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "images": [image(5, "colour.png"), image(90, "grey.png"), image(7, "palette.png")],
        "annotations": [
            annotation(1),
            annotation(40, segmentation=PACKED),
            annotation(41, 7, segmentation=RUNS, iscrowd=1),
        ],
        "categories": [{"id": 44, "name": "cup"}, {"id": 18, "name": "dog"}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (WIDTH, HEIGHT), (200, 10, 10))
    picture.save(tmp_path / "colour.png")
    picture.convert("L").save(tmp_path / "grey.png")
    picture.convert("P").save(tmp_path / "palette.png")
    return tmp_path


def read(folder: Path, data: Any) -> CocoData:
    file = folder / "file.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_coco({"train": CocoFiles(annotations=file, images=folder)})["train"]


def problems_of(folder: Path, data: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(folder, data)
    return [str(problem) for problem in caught.value.problems]


# -- what is read ------------------------------------------------------------------------------


def test_a_file_from_elsewhere_is_read_as_it_is(folder: Path) -> None:
    data = read(folder, example())
    assert data.categories == ((18, "dog"), (44, "cup"))
    colour, grey, palette = data.images
    assert [each.id for each in data.images] == [5, 90, 7]
    assert [each.label for each in colour.objects] == [1, 1]
    assert grey.objects == ()
    (crowd,) = palette.objects
    assert crowd.is_crowd and palette.learnt == ()
    # All three ways to write a mask tell the same pixels.
    for each in (*colour.objects, crowd):
        assert np.array_equal(pixels_of(each.mask), square_mask())
        assert each.box == (2, 1, 5, 4)
    for each in data.images:
        picture = coco_picture(each)
        assert (picture.mode, picture.size) == ("RGB", (WIDTH, HEIGHT))


def test_keys_that_may_be_missing(folder: Path) -> None:
    data = example()
    for key in ("area", "iscrowd"):
        del data["annotations"][0][key]
    first = read(folder, data).images[0].objects[0]
    assert (first.area, first.is_crowd) == (9, False)


@pytest.mark.parametrize(
    "points",
    [
        [0, 0, WIDTH, 0, WIDTH, HEIGHT],  # on the edge
        [-1, -1, WIDTH + 1, 0, WIDTH, HEIGHT + 1],  # a pixel over it
    ],
)
def test_polygons_at_the_edge_are_cut_off_there(folder: Path, points: list[float]) -> None:
    data = example()
    data["annotations"][0].update(segmentation=[points], bbox=[-1, -1, WIDTH + 2, HEIGHT + 2])
    first = read(folder, data).images[0].objects[0]
    assert first.box == (0, 0, WIDTH, HEIGHT)
    assert first.written_box == (-1, -1, WIDTH + 2, HEIGHT + 2)
    assert pixels_of(first.mask).shape == (HEIGHT, WIDTH)


def test_a_sliver_is_not_learnt_from(folder: Path) -> None:
    data = example()
    data["annotations"][0]["segmentation"] = [[3, 3, 3.1, 3, 3.1, 3.1]]
    data["annotations"][0]["bbox"] = [3, 3, 0.1, 0.1]
    first, second = read(folder, data).images[0].objects
    assert not first.has_pixels and second.has_pixels
    assert read(folder, data).images[0].learnt == (second,)


def test_a_picture_lies_as_its_file_says(folder: Path) -> None:
    turned = Image.new("RGB", (HEIGHT, WIDTH))
    turned.putpixel((0, 0), (0, 255, 0))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(folder / "colour.png", exif=exif)
    picture = coco_picture(read(folder, example()).images[0])
    assert picture.size == (WIDTH, HEIGHT)
    assert picture.getpixel((WIDTH - 1, 0)) == (0, 255, 0)
    # Where the file says the size of the pixels as they are stored, they stay.
    data = example()
    data["images"][0].update(width=HEIGHT, height=WIDTH)
    data["annotations"] = data["annotations"][2:]
    picture = coco_picture(read(folder, data).images[0])
    assert picture.getpixel((0, 0)) == (0, 255, 0)


@given(st.lists(st.integers(0, 1), min_size=48, max_size=48))
def test_packed_run_lengths_are_those_of_pycocotools(pixels: list[int]) -> None:
    shape = np.array(pixels, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    counts = mask.encode(np.asfortranarray(shape))["counts"].decode()
    runs = unpacked(counts)
    assert sum(runs) == 48
    column_by_column = [n % 2 for n, run in enumerate(runs) for _ in range(run)]
    assert column_by_column == shape.ravel(order="F").tolist()
    rle = read_segmentation({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH)
    assert np.array_equal(pixels_of(rle), shape)
    assert area_of(rle) == shape.sum()


def test_long_run_lengths_are_unpacked() -> None:
    pixels = np.zeros((3000, 3000), dtype=np.uint8)
    pixels[100:2900, 40:2000] = 1
    counts = mask.encode(np.asfortranarray(pixels))["counts"].decode()
    runs = unpacked(counts)
    assert (runs[0], runs[1], sum(runs)) == (40 * 3000 + 100, 2800, 3000 * 3000)


def test_the_overlap_of_masks() -> None:
    one = square_mask()
    other = np.roll(one, 1, axis=1)
    assert iou_of(rle_of(one), rle_of(other)) == pytest.approx(6 / 12)
    assert iou_of(rle_of(one), rle_of(one)) == 1
    empty = np.zeros_like(one)
    assert iou_of(rle_of(empty), rle_of(empty)) == 1


# -- what is refused -----------------------------------------------------------------------------


Change = Callable[[dict[str, Any]], None]


def at(section: str, index: int, **changes: Any) -> Change:
    return lambda data: data[section][index].update(changes)


def without(section: str, index: int, key: str) -> Change:
    return lambda data: data[section][index].pop(key)


def runs(**changes: Any) -> Change:
    return at("annotations", 0, segmentation={**RUNS, **changes})


FIRST = "annotations[0] (id 1)"
BROKEN: dict[str, tuple[Change, str]] = {
    "no such picture": (
        at("images", 0, file_name="gone.png"),
        "image 5 must be a file that exists",
    ),
    "a folder": (at("images", 0, file_name="."), "image 5 must be a file that exists"),
    "no picture": (at("images", 0, file_name="file.json"), "image 5 must decode in full"),
    "another size": (at("images", 1, width=9), "the 9x6 pixels that the file says, got 8x6"),
    "no width": (without("images", 0, "width"), "images[0] must have width"),
    "width as text": (at("images", 0, width="8"), "must have width and height in whole pixels"),
    "a name twice": (at("images", 1, id=5), "images[1].id must stand once, got 5 2 times"),
    "no id": (without("images", 0, "id"), "images[0] must have id"),
    "an id of no kind": (
        at("images", 0, id=None),
        "images[0].id must be a whole number or a text, got nothing",
    ),
    "not a mapping": (lambda data: data["images"].append(3), "images[3] must be a mapping, got 3"),
    "far outside": (
        at("annotations", 0, segmentation=[[2, 1, 9.5, 1, 5, 4]]),
        f"{FIRST}.segmentation must have polygons inside of the picture of 8x6 pixels, got x from "
        "2 to 9.5",
    ),
    "above": (at("annotations", 0, segmentation=[[2, -3, 5, 1, 5, 4]]), "got y from -3 to 4"),
    "two points": (at("annotations", 0, segmentation=[[2, 1, 5, 1]]), "at least three points"),
    "half a point": (at("annotations", 0, segmentation=[[*SQUARE, 1]]), "at least three points"),
    "points in pairs": (at("annotations", 0, segmentation=[[[2, 1], [5, 1]]]), "x and y in turn"),
    "NaN": (at("annotations", 0, segmentation=[[2, 1, float("nan"), 1, 5, 4]]), "three points"),
    "endless": (at("annotations", 0, segmentation=[[2, 1, 10**400, 1, 5, 4]]), "three points"),
    "an endless box": (at("annotations", 0, bbox=[2, 1, 10**400, 1]), "must be left, top, width"),
    "endless runs": (runs(counts=[10**400]), "must have counts that are run lengths"),
    "no mask": (at("annotations", 0, segmentation=[]), "must be a list of polygons or run lengths"),
    "no segmentation": (without("annotations", 0, "segmentation"), "must have segmentation"),
    "runs too short": (runs(counts=[13, 3]), "sum to the 48 pixels of the picture, got 16"),
    "runs below zero": (runs(counts=[-1, 49]), "with negative ones"),
    "runs as text": (runs(counts="13 3"), "must have counts that are run lengths, got it has ' '"),
    "cut off": (runs(counts=PACKED["counts"][:-1] + "o"), "it is cut off"),
    "runs of another picture": (runs(size=[8, 6]), "the size of the picture, [6, 8], got [8, 6]"),
    "no counts": (runs(counts=None), "must have counts that are run lengths, got nothing"),
    "unknown category": (
        at("annotations", 0, category_id=19),
        f"{FIRST}.category_id must be one of categories, got 19",
    ),
    "unknown image": (at("annotations", 0, image_id=6), "image_id must be one of images, got 6"),
    "no area in a box": (
        at("annotations", 0, bbox=[2, 1, 0, 3]),
        f"{FIRST}.bbox must have a width and a height above 0, got [2, 1, 0, 3]",
    ),
    "a box of three": (at("annotations", 0, bbox=[2, 1, 3]), "must be left, top, width and height"),
    "a box elsewhere": (at("annotations", 0, bbox=[20, 1, 3, 3]), "must lie in the picture"),
    "an id twice": (at("annotations", 1, id=1), "annotations[1].id must stand once"),
    "a crowd of three": (at("annotations", 0, iscrowd=3), "iscrowd must be 0 or 1, got 3"),
    "no annotations": (lambda data: data.pop("annotations"), "annotations must be a list, got no"),
    "no pictures": (lambda data: data["images"].clear(), "at least one picture, got none"),
    "a category without name": (without("categories", 0, "name"), "categories[0] must have name"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_named(folder: Path, what: str) -> None:
    change, says = BROKEN[what]
    data = example()
    change(data)
    said = problems_of(folder, data)
    assert any(says in each for each in said), said
    assert all(each.startswith(str(folder / "file.json")) for each in said)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", ":1:2: the file must be JSON"),
        ('{"images": [],\n "annotations": [}', ":2:18: the file must be JSON"),
        ("", "the file must be JSON"),
        ("[" * 100_000, "the file must be JSON"),
        ('{"images": ' + "1" * 5000 + "}", "the file must be JSON"),
        ("[1, 2]", "the file must be a mapping with images, categories, annotations, got [1, 2]"),
        ("null", "the file must be a mapping"),
        ("{}", "images must be a list, got no such key"),
    ],
)
def test_what_is_no_coco_file(folder: Path, text: str, says: str) -> None:
    assert says in problems_of(folder, text)[0]


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "file.json").write_bytes(b"\x80\x02}q\x00")
    files = CocoFiles(annotations=folder / "file.json", images=folder)
    with pytest.raises(InputError, match="the file must be JSON"):
        read_coco({"train": files})


def test_every_problem_of_every_file_is_told_at_once(folder: Path) -> None:
    first, second = example(), example()
    for change in ("no such picture", "far outside", "no area in a box", "unknown category"):
        BROKEN[change][0](first)
    second["images"][2]["file_name"] = "lost.png"
    second["categories"].append({"id": 3, "name": "horse"})
    paths = {}
    for name, data in (("train", first), ("val", second)):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(data))
        paths[name] = CocoFiles(annotations=file, images=folder)
    with pytest.raises(InputError) as caught:
        read_coco(paths)
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 6
    for text in (
        "gone.png",
        "polygons inside",
        "above 0",
        "category_id must",
        "lost.png",
        "categories must be those of the train file, got 3: 'horse'",
    ):
        assert any(text in each for each in said), text


def test_a_thousand_problems_are_enough(folder: Path) -> None:
    data = example()
    data["annotations"] = [annotation(n, bbox=[0, 0, 0, 0]) for n in range(1200)]
    said = problems_of(folder, data)
    assert len(said) == 1001 and said[-1] == "200 more problems are not listed"


# -- the held-out part ---------------------------------------------------------------------------


def test_the_held_out_part_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    file = draw_shapes(tmp_path, "train", 40, side=32)
    data = json.loads(file.read_text())
    learn, held = hold_out(read(tmp_path / "train", data).images, 0.2)
    assert (len(learn), len(held)) == (32, 8)
    other = copy.deepcopy(data)
    other["images"].reverse()
    again, held_again = hold_out(read(tmp_path / "train", other).images, 0.2)
    assert {each.name for each in held_again} == {each.name for each in held}
    assert {each.name for each in again} == {each.name for each in learn}
    # However small the share, one is held out, and one is left.
    assert [len(each) for each in hold_out(learn[:2], 0.001)] == [1, 1]
