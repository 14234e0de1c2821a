"""A picture is what a viewer shows: turned, on grey where it is transparent, its first frame. What
was handed over sees the same."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from spaces import SPACES
from test_source import emit, imported

from collabdesign.design.sources import Data
from collabdesign.evaluate.augment import channel_values, normalise
from collabdesign.evaluate.data.colours import wide_gamut
from collabdesign.evaluate.data.images import load_data
from collabdesign.evaluate.data.inspect import inspect_data
from collabdesign.evaluate.data.pictures import UnreadableImage, read_picture
from collabdesign.evaluate.data.shown import fit_image

GREY = 128

# What an orientation mark says of where the stored rows and columns begin (Exif 2.3, tag 0x0112),
# as NumPy undoes it: the first stored row is the right side of what is shown, and so on.
UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}

FORMATS = {
    ".jpg": {"quality": 100, "subsampling": 0},
    ".png": {},
    ".webp": {"lossless": True},
    ".tif": {},
}


def corners(mode: str = "RGB") -> Image.Image:
    """24 x 16 pixels whose four corners differ."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:] = (200, 30, 30), (30, 200, 30)
    pixels[8:, :12], pixels[8:, 12:] = (30, 30, 200), (220, 220, 220)
    return Image.fromarray(pixels).convert(mode)


def marked(orientation: int) -> Image.Exif:
    marks = Image.Exif()
    marks[0x0112] = orientation
    return marks


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_marks_of_orientation_are_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"picture{suffix}"
    corners().save(path, exif=marked(orientation), **FORMATS[suffix])
    picture = read_picture(path)
    expected = UPRIGHT[orientation](np.asarray(corners()))
    got = np.asarray(picture.image.convert("RGB")).astype(int)
    assert picture.size == (expected.shape[1], expected.shape[0])
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < 3  # JPEG blurs the edges


def test_a_mark_in_xmp_alone_is_applied(tmp_path: Path) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><a tiff:Orientation="6"/></x:xmpmeta>')
    corners().save(tmp_path / "a.png", pnginfo=note)
    assert read_picture(tmp_path / "a.png").size == (16, 24)


@pytest.mark.parametrize("mark", [b"", b"Exif\0\0", b"Exif\0\0rubbish and no TIFF", b"x"])
def test_a_broken_mark_is_none(tmp_path: Path, mark: bytes) -> None:
    corners().save(tmp_path / "a.jpg", exif=mark)
    assert read_picture(tmp_path / "a.jpg").size == (24, 16)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_mark_of_no_meaning_is_none(tmp_path: Path, value: int) -> None:
    corners().save(tmp_path / "a.png", exif=marked(value))
    assert np.array_equal(read_picture(tmp_path / "a.png").image, corners())


def see_through(mode: str) -> tuple[Image.Image, dict[str, object]]:
    """A picture whose upper half is opaque and grey value 200, whose lower half hides a colour that
    no viewer shows; and what to save it with."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:4] = 255
    value = np.where(alpha, 200, 77).astype(np.uint8)
    if mode in ("RGBA", "LA"):
        layers = [value] * (len(mode) - 1)
        return Image.merge(mode, [Image.fromarray(each) for each in (*layers, alpha)]), {}
    if mode in ("RGB", "L"):
        hidden = (77, 77, 77) if mode == "RGB" else 77
        return Image.fromarray(value).convert(mode), {"transparency": hidden}
    palette = Image.fromarray((alpha == 0).astype(np.uint8)).convert("P")
    palette.putpalette([200, 200, 200, 77, 77, 77])
    return palette, {"transparency": 1 if mode == "P" else b"\xff\x00"}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "L", "P", "P of bytes"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_grey(tmp_path: Path, mode: str, channels: int) -> None:
    image, options = see_through(mode)
    image.save(tmp_path / "a.png", **options)
    shown = np.asarray(fit_image(read_picture(tmp_path / "a.png").image, 8, channels))
    assert (shown[:4] == 200).all()
    assert (shown[4:] == GREY).all()


def test_half_transparent_pixels_are_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (228, 128, 28, 128)).save(tmp_path / "a.png")
    pixel = np.asarray(read_picture(tmp_path / "a.png").image.convert("RGB"))[0, 0]
    # 128/255 of the colour and the rest of grey 128: 128 + 100 * 0.502
    assert pixel.tolist() == pytest.approx([178, 128, 78], abs=1)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        picture = read_picture(tmp_path / name)
        assert picture.is_animated
        red, green, blue = np.asarray(picture.image.convert("RGB"))[0, 0]
        assert (red > 250, green < 5, blue < 5) == (True, True, True)
    frames[0].save(tmp_path / "one.gif")
    assert not read_picture(tmp_path / "one.gif").is_animated


# -- colour profiles --------------------------------------------------------------------------


def icc_profile(name: str, red: XYZ, green: XYZ, blue: XYZ) -> bytes:
    """An ICC profile (version 2) of a display with these primaries, by hand."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def xyz(values: XYZ) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(*values)

    text = name.encode() + b"\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    tags = {
        b"desc": description + bytes(-len(description) % 4),
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz(red),
        b"gXYZ": xyz(green),
        b"bXYZ": xyz(blue),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(content))
        body += content
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + body


XYZ = tuple[float, float, float]
# The primaries adapted to D50: of Display P3 as Apple's profile has them, of sRGB as in IEC
# 61966-2-1's.
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))


def test_wide_colour_profiles_are_named() -> None:
    assert wide_gamut(icc_profile("Display P3", *P3)) == "Display P3"
    assert wide_gamut(icc_profile("c2", *SRGB)) == ""
    assert wide_gamut(b"no profile") == ""


# -- what was handed over ---------------------------------------------------------------------


def stranger_pictures(folder: Path) -> list[Path]:
    """One of each kind, in files."""
    folder.mkdir()
    paths = []
    for suffix, options in FORMATS.items():
        for orientation in (1, 3, 6, 8):
            paths.append(folder / f"turned{orientation}{suffix}")
            corners().save(paths[-1], exif=marked(orientation), **options)
    for mode in ("RGBA", "LA", "RGB", "L", "P", "P of bytes"):
        image, options = see_through(mode)
        paths.append(folder / f"{mode.replace(' ', '-')}.png")
        image.save(paths[-1], **options)
    paths.append(folder / "moving.gif")
    corners().save(paths[-1], save_all=True, append_images=[Image.new("RGB", (24, 16))])
    paths.append(folder / "cmyk.jpg")
    corners("CMYK").save(paths[-1])
    paths.append(folder / "scan.tif")
    corners("1").save(paths[-1], compression="group4")
    return paths


@pytest.mark.parametrize("space", ["mixed", "tiny"])  # colour and grey
def test_model_py_sees_what_training_saw(tmp_path: Path, space: str) -> None:
    architecture = SPACES[space].decode(SPACES[space].own())
    emit(tmp_path, architecture)
    module = imported(tmp_path)
    side, channels = architecture.resolution, architecture.input_channels
    device = torch.device("cpu")
    mean, std = (channel_values(values, device) for values in (module.MEAN, module.STD))
    for path in stranger_pictures(tmp_path / "pictures"):
        pixels = np.array(fit_image(read_picture(path).image, side, channels))
        images = torch.from_numpy(pixels.reshape(1, side, side, channels)).permute(0, 3, 1, 2)
        with Image.open(path) as image:
            assert torch.equal(module.preprocess(image), normalise(images, mean, std)), path


# -- whole folders ----------------------------------------------------------------------------


def test_pictures_of_a_phone_are_those_that_it_shows(tmp_path: Path) -> None:
    """Stripes lie in one class and stand in the other, stored alike: the mark alone tells."""
    rng = np.random.default_rng(0)
    for name, mark in (("lying", 1), ("standing", 6)):
        (tmp_path / "phone" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.zeros((32, 32, 3), np.uint8)
            for row in range(3):
                pixels[row::8] = 200
            pixels += rng.integers(0, 50, pixels.shape).astype(np.uint8)
            pixels = np.roll(pixels, int(rng.integers(8)), 0)
            file = tmp_path / "phone" / name / f"{number}.jpg"
            Image.fromarray(pixels).save(file, quality=95, exif=marked(mark))
    data = load_data(Data(source="folder", train=tmp_path / "phone", resolution=32, classes=2))
    images = data.train_images.float()
    # Rows differ more than columns where stripes lie.
    rows, columns = images.mean(3).std(2).mean(1), images.mean(2).std(2).mean(1)
    assert torch.equal((columns > rows).long(), data.train_labels)


def test_nothing_that_no_viewer_shows_can_be_learnt(tmp_path: Path) -> None:
    """What differs between the classes hides under alpha 0."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("a", "b")):
        (tmp_path / "cut" / name).mkdir(parents=True)
        for number in range(60):
            pixels = np.zeros((24, 24, 4), np.uint8)
            pixels[..., :3] = rng.integers(0, 40, (24, 24, 3))
            pixels[..., label] += 150
            x, y = rng.integers(0, 12, 2)
            pixels[y : y + 12, x : x + 12] = 255
            Image.fromarray(pixels).save(tmp_path / "cut" / name / f"{number}.png")
    data = load_data(Data(source="folder", train=tmp_path / "cut", resolution=24, classes=2))
    assert set(data.train_images.unique().tolist()) == {GREY, 255}


def test_check_names_what_a_person_should_know(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "all" / name / f"{number}.png")
    frames = [Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(2)]
    frames[0].save(tmp_path / "all" / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    profile = icc_profile("Display P3", *P3)
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "all" / "b" / "wide.png", icc_profile=profile)
    data = Data(source="folder", train=tmp_path / "all", resolution=8, classes=2)
    (part,) = inspect_data(data).parts
    assert (part.images, part.animated, part.profiles) == (22, 1, {"Display P3": 1})


# -- what is refused --------------------------------------------------------------------------


def test_a_scan_of_two_colours_is_read(tmp_path: Path) -> None:
    corners("1").save(tmp_path / "scan.tif", compression="group4")
    shown = np.asarray(fit_image(read_picture(tmp_path / "scan.tif").image, 16, 1))
    assert set(np.unique(shown)) <= {0, 255}


def test_sixteen_bits_are_refused_with_what_to_do(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "cells.tif")
    with pytest.raises(UnreadableImage, match="convert all pictures to 8 bits with one range"):
        read_picture(tmp_path / "cells.tif")


def test_very_large_pictures_need_a_key(tmp_path: Path) -> None:
    Image.new("1", (1100, 1000)).save(tmp_path / "large.png")
    with pytest.raises(UnreadableImage, match=r"with 1 megapixels it exceeds limit data\.max_meg"):
        read_picture(tmp_path / "large.png", megapixels=1)
    assert read_picture(tmp_path / "large.png", megapixels=1.2).size == (1100, 1000)
    before = Image.MAX_IMAGE_PIXELS
    try:
        assert read_picture(tmp_path / "large.png", megapixels=200).size == (1100, 1000)
        assert Image.MAX_IMAGE_PIXELS == 200_000_000
    finally:
        Image.MAX_IMAGE_PIXELS = before


def test_heic_is_read_where_the_extra_is_installed(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    written = io.BytesIO()
    pillow_heif.from_pillow(corners()).save(written, quality=90)
    (tmp_path / "phone.HEIC").write_bytes(written.getvalue())
    got = np.asarray(read_picture(tmp_path / "phone.HEIC").image.convert("RGB")).astype(int)
    assert np.abs(got - np.asarray(corners()).astype(int)).mean() < 6
