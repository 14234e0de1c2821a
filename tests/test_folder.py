"""What a folder of images holds: real files, good and bad."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from collabdesign.errors import InputError
from collabdesign.evaluate.data.decode import decode
from collabdesign.evaluate.data.folder import list_folder
from collabdesign.evaluate.data.pictures import UnreadableImage, raise_unreadable, read_picture
from collabdesign.evaluate.data.sample import inspect_folder
from collabdesign.evaluate.data.shown import fit_image


def write_image(path: Path, size: tuple[int, int] = (8, 8), value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes: three cats, two dogs."""
    for name in ("c.png", "a.jpg", "b.PNG"):
        write_image(tmp_path / "images" / "cat" / name)
    for name in ("x.jpg", "y.bmp"):
        write_image(tmp_path / "images" / "dog" / name)
    return tmp_path / "images"


def read_images(root: Path, resolution: int, channels: int) -> NDArray[np.uint8]:
    """All pictures of a folder."""
    files = list_folder(root).files
    pixels = np.zeros((len(files), resolution, resolution, channels), np.uint8)
    (decoded,) = decode([lambda index: read_picture(files[index][0])], [pixels])
    raise_unreadable([(str(files[index][0]), reason) for index, reason in decoded.broken])
    return pixels


def problems_of(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_folder(root)
    return str(caught.value)


def test_listing_is_sorted_by_class_then_name(root: Path) -> None:
    listing = list_folder(root)
    assert listing.classes == ("cat", "dog")
    assert listing.files == (
        (str(root / "cat" / "a.jpg"), 0),
        (str(root / "cat" / "b.PNG"), 0),
        (str(root / "cat" / "c.png"), 0),
        (str(root / "dog" / "x.jpg"), 1),
        (str(root / "dog" / "y.bmp"), 1),
    )
    assert listing.images_per_class == {"cat": 3, "dog": 2}
    assert listing.stray == ()


def test_stray_files_are_passed_over_and_said(root: Path) -> None:
    for name in ("deeper", "folder.jpg"):  # folders inside of a class count into it
        write_image(root / "dog" / name / "inside.jpg")
    stray = [
        root / ".DS_Store",
        root / "README.md",
        root / "loose.jpg",
        root / ".thumbnails",
        root / "__MACOSX",
        root / "cat" / "Thumbs.db",
        root / "cat" / "._a.jpg",
        root / "dog" / "notes.txt",
        root / "dog" / "dangling.jpg",
    ]
    for path in stray:
        if path.name in (".thumbnails", "__MACOSX"):
            write_image(path / "inside.jpg")
        elif path.name == "dangling.jpg":
            path.symlink_to(root / "nowhere.jpg")
        else:
            path.write_bytes(b"anything")
    listing = list_folder(root)
    assert listing.stray == tuple(sorted(stray))
    assert listing.images_per_class == {"cat": 3, "dog": 4}
    assert listing.inner == 2


def test_links_to_images_and_classes_are_followed_and_loops_end(root: Path) -> None:
    write_image(root.parent / "elsewhere" / "z.jpg")
    (root / "owl").symlink_to(root.parent / "elsewhere")
    (root / "dog" / "loop").symlink_to(root)
    (root / "dog" / "self.jpg").symlink_to(root / "dog" / "self.jpg")
    listing = list_folder(root)
    assert listing.images_per_class == {"cat": 3, "dog": 2, "owl": 1}
    assert listing.stray == (root / "dog" / "loop", root / "dog" / "self.jpg")


def test_missing_folder(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "no") == f"a folder of images must exist, got {tmp_path / 'no'}"


def test_file_in_place_of_folder(root: Path) -> None:
    assert "must be a folder, got the file" in problems_of(root / "cat" / "a.jpg")


def test_no_class_folder_says_what_to_do(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    message = problems_of(tmp_path)
    assert "at least two class folders, got none" in message
    assert "a folder of their own" in message


def test_one_class_only(root: Path) -> None:
    for path in (root / "dog").iterdir():
        path.unlink()
    (root / "dog").rmdir()
    assert "at least two class folders, got cat in" in problems_of(root)


def test_every_empty_class_is_named_at_once(root: Path) -> None:
    (root / "ant").mkdir()
    (root / "bee").mkdir()
    (root / "bee" / "notes.txt").write_text("no picture")
    message = problems_of(root)
    assert f"got none in {root / 'ant'}" in message
    assert f"got none in {root / 'bee'}" in message


def test_a_level_too_high_is_explained(root: Path) -> None:
    (root.parent / "val").mkdir()
    message = problems_of(root.parent)
    assert f"got none in {root}" in message
    assert "it holds folders (cat, dog): if these are the classes, name" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_class_folder(root: Path) -> None:
    (root / "cat").chmod(0)
    try:
        assert "must be readable" in problems_of(root)
    finally:
        (root / "cat").chmod(0o755)


@pytest.fixture
def broken(root: Path) -> dict[str, Path]:
    """One file for each way in which a picture can be unreadable, in ``dog``."""
    good = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good, "JPEG")
    paths = {
        name: root / "dog" / name
        for name in ("text.jpg", "empty.jpg", "truncated.jpg", "deep.png", "line.png", "bomb.png")
    }
    paths["text.jpg"].write_text("these are words\n")
    paths["empty.jpg"].write_bytes(b"")
    paths["truncated.jpg"].write_bytes(good.getvalue()[: len(good.getvalue()) // 2])
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(paths["deep.png"])
    Image.new("L", (1, 51)).save(paths["line.png"])
    header = io.BytesIO()
    Image.new("1", (1, 1)).save(header, "PNG")
    bomb = bytearray(header.getvalue())
    bomb[16:24] = (20_000).to_bytes(4, "big") * 2  # Width and height of the PNG's header.
    paths["bomb.png"].write_bytes(_with_header_checksum(bomb))
    return paths


def _with_header_checksum(png: bytearray) -> bytes:
    import zlib

    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    return bytes(png)


REASONS = {
    "text.jpg": "not a picture in a format that Pillow reads",
    "empty.jpg": "the file is empty",
    "truncated.jpg": "truncated",
    "deep.png": "more than 8 bits a channel",
    "line.png": "1x51 pixels is over 50 times longer than wide",
    "bomb.png": "exceeds limit",
}


@pytest.mark.parametrize("name", REASONS)
def test_unreadable_image_says_why(broken: dict[str, Path], name: str) -> None:
    with pytest.raises(UnreadableImage, match=REASONS[name]) as caught:
        read_picture(broken[name])
    assert str(broken[name]) in str(caught.value)
    assert str(broken[name]) not in caught.value.reason


def test_inspection_counts_sizes_modes_and_unreadable(root: Path, broken: dict[str, Path]) -> None:
    Image.new("L", (20, 10)).save(root / "cat" / "grey.png")
    seen: list[tuple[int, int]] = []
    found = inspect_folder(
        list_folder(root), 100, on_progress=lambda done, total: seen.append((done, total))
    )
    assert found.inspected == 12
    assert found.sizes == {(8, 8): 5, (20, 10): 1}
    assert list(found.sizes) == [(8, 8), (20, 10)]
    assert found.modes == {"RGB": 5, "L": 1}
    assert {path for path, _ in found.unreadable} == set(map(str, broken.values()))
    assert found.listing.images_per_class == {"cat": 4, "dog": 8}
    assert seen[-1] == (12, 12)


def test_inspection_of_a_sample_is_spread_over_the_classes(root: Path) -> None:
    for number in range(97):
        write_image(root / "cat" / f"more{number}.png", size=(4, 4))
    for number in range(98):
        write_image(root / "dog" / f"more{number}.png", size=(6, 6))
    found = inspect_folder(list_folder(root), sample=20)
    assert found.inspected == 20
    assert found.sizes[4, 4] + found.sizes.get((8, 8), 0) >= 9
    assert found.sizes[6, 6] >= 9


def test_reading_names_every_unreadable_file(root: Path, broken: dict[str, Path]) -> None:
    with pytest.raises(InputError) as caught:
        read_images(root, 8, 3)
    message = str(caught.value)
    assert all(str(path) in message for path in broken.values())
    assert "6 pictures cannot be read: repair them or take them out" in message


def test_reading_names_ten_unreadable_files_and_counts_all(root: Path) -> None:
    for number in range(13):
        (root / "cat" / f"bad{number:02}.jpg").write_text("words")
    with pytest.raises(InputError) as caught:
        read_images(root, 8, 3)
    message = str(caught.value)
    assert "bad09.jpg" in message and "bad10.jpg" not in message
    assert "13 pictures cannot be read (3 more not listed)" in message


def test_reading_keeps_the_order_and_an_image_of_the_right_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = rng.integers(0, 256, (150, 6, 6, 3), dtype=np.uint8)
    for number, pixels in enumerate(written):
        folder = tmp_path / ("a" if number < 70 else "b")
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    assert np.array_equal(read_images(tmp_path, 6, 3), written)
    labels = [label for _, label in list_folder(tmp_path).files]
    assert labels == [0] * 70 + [1] * 80


def test_fit_cuts_the_centre_of_the_longer_side() -> None:
    pixels = np.zeros((4, 8), dtype=np.uint8)
    pixels[:, 2:6] = 200  # The centre square of 4 by 4 pixels.
    fitted = np.asarray(fit_image(Image.fromarray(pixels), 4, 1))
    assert fitted.tolist() == [[200] * 4] * 4


def test_fit_averages_when_it_shrinks() -> None:
    # A fine chessboard of 0 and 200 is grey from afar: without antialiasing it is not.
    board = np.indices((32, 32)).sum(0) % 2 * np.uint8(200)
    fitted = np.asarray(fit_image(Image.fromarray(board.astype(np.uint8)), 4, 1)).astype(int)
    assert abs(fitted - 100).max() <= 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_fit_takes_every_8_bit_mode(mode: str) -> None:
    picture = Image.new("RGB", (9, 5), (255, 255, 255)).convert(mode)
    for channels, fitted_mode in ((1, "L"), (3, "RGB")):
        fitted = fit_image(picture, 3, channels)
        assert (fitted.mode, fitted.size) == (fitted_mode, (3, 3))
        assert np.asarray(fitted).min() >= 253
