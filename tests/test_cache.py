"""Pictures are decoded once: every later command and process maps what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_search import run

from collabdesign.deliver.init import init
from collabdesign.design.sources import Data
from collabdesign.evaluate.data import cache as caches
from collabdesign.evaluate.data import decode
from collabdesign.evaluate.data.cache import VARIABLE, cache_folder
from collabdesign.evaluate.data.images import ImageData, load_data, load_test
from collabdesign.evaluate.data.shared import SharedImages


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number:02}.png")
    return tmp_path / "pictures"


def data_of(folder: Path, **more: Any) -> Data:
    return Data(**{"source": "folder", "train": folder, "resolution": 8, "classes": 2, **more})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each picture that is decoded."""
    found: list[int] = []
    fit = decode.fit_image

    def counting(*arguments: Any) -> Image.Image:
        found.append(1)
        return fit(*arguments)

    monkeypatch.setattr(decode, "fit_image", counting)
    return found


def same(one: ImageData, other: ImageData) -> bool:
    return (
        torch.equal(one.train_images, other.train_images) and one.fingerprint == other.fingerprint
    )


def test_what_was_decoded_is_not_opened_again(cache: Path, folder: Path, opened: list[int]) -> None:
    first = load_data(data_of(folder))
    assert len(opened) == 40
    told: list[int] = []
    again = load_data(data_of(folder), on_progress=lambda done, total: told.append(done))
    assert len(opened) == 40 and told == []
    assert same(first, again) and first.mean == again.mean and first.summary == again.summary
    assert len(load_test(data_of(folder)).labels) == 8
    assert len(opened) == 40
    assert again.files.keys() == {"train_images", "select_images"}


def test_the_same_without_a_cache(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder can lie here")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
    in_memory = load_data(data_of(folder))
    assert in_memory.files == {}
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    assert same(in_memory, load_data(data_of(folder)))


def test_a_full_disk_is_no_end(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("Usage", (), {"free": 100})
    monkeypatch.setattr(caches.shutil, "disk_usage", lambda _: full)
    assert load_data(data_of(folder)).files == {}
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("change", ["pixels", "file with old times", "resolution", "channels"])
def test_what_changed_is_decoded_anew(
    cache: Path, folder: Path, opened: list[int], change: str
) -> None:
    before, keys = load_data(data_of(folder)), {}
    path = folder / "a" / "03.png"
    if change == "pixels":
        Image.new("RGB", (12, 9), "red").save(path)
    elif change == "file with old times":
        times = path.stat()
        content = bytearray(path.read_bytes())
        other = (folder / "a" / "04.png").read_bytes()
        path.write_bytes(other[: len(content)].ljust(len(content), b"\0"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    else:
        keys = {change: 16 if change == "resolution" else 1}
    opened.clear()
    after = load_data(data_of(folder, **keys))
    assert opened and after.fingerprint != before.fingerprint


def test_a_moved_folder_is_known(cache: Path, folder: Path, opened: list[int]) -> None:
    load_data(data_of(folder))
    opened.clear()
    moved = folder.rename(folder.parent / "elsewhere")
    load_data(data_of(moved))
    assert not opened


@pytest.mark.parametrize("suffix", [".pixels", ".npz"])
@pytest.mark.parametrize("damage", ["cut", "removed", "rubbish"])
def test_a_damaged_entry_is_made_anew(
    cache: Path, folder: Path, opened: list[int], suffix: str, damage: str
) -> None:
    before = load_data(data_of(folder))
    kept = before.train_images.clone(), before.fingerprint
    for file in cache.glob(f"*{suffix}"):
        if damage == "removed":
            file.unlink()
        else:
            content = file.read_bytes()
            # A new file: the old one is still mapped.
            file.unlink()
            file.write_bytes(content[:-1] if damage == "cut" else b"rubbish")
    opened.clear()
    after = load_data(data_of(folder))
    assert len(opened) == 40
    assert torch.equal(after.train_images, kept[0]) and after.fingerprint == kept[1]


def test_nothing_is_left_of_what_was_not_finished(cache: Path, folder: Path) -> None:
    (folder / "b" / "05.png").write_text("no picture")
    cache.mkdir()
    old, new = cache / "1.123.writing", cache / "2.123.writing"
    old.write_bytes(b"old")
    new.write_bytes(b"another process is at it")
    os.utime(old, (1, 1))
    with pytest.raises(ValueError, match=r"05\.png"):
        load_data(data_of(folder))
    assert not old.exists() and new.exists()
    assert {path.suffix for path in cache.iterdir()} <= {".pixels", ".npz", ".writing"}
    assert list(cache.glob("*.writing")) == [new]


def test_processes_map_the_files_of_the_cache(tmp_path: Path, cache: Path, folder: Path) -> None:
    data = load_data(data_of(folder))
    (tmp_path / "work").mkdir()
    images = SharedImages(data, tmp_path / "work")
    # Nothing is copied: what the mapping is of, the system tells.
    mine = images.on(torch.device("cpu"))
    assert torch.equal(mine.train_images, data.train_images)
    assert torch.equal(mine.select_images, data.select_images)
    mapped = Path("/proc/self/maps").read_text()
    (file,) = {path.name for path in cache.glob("*.pixels")} & {data.files["train_images"].name}
    assert mapped.count(file) >= 2
    images.close()


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "collabdesign"


def test_the_option_names_the_folder(tmp_path: Path, folder: Path, cache: Path) -> None:
    """Of a command; what the environment says gives way."""
    init(folder, tmp_path)
    words = ["check", "requirements.yaml", "--cache", "here", "--threads", "1"]
    code, said = run(words, tmp_path)
    assert code == 0, said
    assert f"decoded pictures are kept in {tmp_path / 'here'}" in " ".join(said.split())
    assert len(list((tmp_path / "here").glob("*.pixels"))) == 3  # to learn from, held out, test
    assert not cache.exists()
