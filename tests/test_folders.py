"""Folders as people have them: sessions inside of classes, phones' formats, names from a Mac."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collabdesign.deliver.init import init
from collabdesign.design.files.reading import load_requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.data import folder as folders
from collabdesign.evaluate.data import heif
from collabdesign.evaluate.data.folder import list_folder
from collabdesign.evaluate.data.inspect import inspect_data


def fill(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(abs(hash((str(folder.name), number))) % 2**32)
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def test_folders_inside_of_a_class_count_into_it(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "p" / name, 3)
        fill(tmp_path / "p" / name / "monday", 4, 100)
        fill(tmp_path / "p" / name / "monday" / "left camera", 5, 200)
        (tmp_path / "p" / name / "empty").mkdir()
    listing = list_folder(tmp_path / "p")
    assert listing.images_per_class == {"cat": 12, "dog": 12}
    assert listing.inner == 4
    assert {path.name for path in listing.stray} == {"empty"}
    names = [Path(path).relative_to(tmp_path / "p").as_posix() for path, _ in listing.files]
    assert names == sorted(names)


def test_classes_that_hold_sessions_alone(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "p" / name / "session 1", 4)
        fill(tmp_path / "p" / name / "session 2", 4, 50)
    assert list_folder(tmp_path / "p").images_per_class == {"cat": 8, "dog": 8}


@pytest.mark.parametrize("parts", [("train", "test"), ("Train", "VAL"), ("training", "validation")])
def test_parts_are_no_classes(tmp_path: Path, parts: tuple[str, str]) -> None:
    for part in parts:
        for name in ("cat", "dog"):
            fill(tmp_path / "p" / part / name, 3)
    with pytest.raises(InputError) as caught:
        list_folder(tmp_path / "p")
    assert "it holds folders (cat, dog): if these are the classes, name" in str(caught.value)


def test_what_is_not_read_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "can_read_heif", lambda: False)
    for name in ("cat", "dog"):
        fill(tmp_path / "p" / name, 3)
    for name in ("IMG_1.HEIC", "IMG_2.heic", "IMG_3.CR2", "IMG_1.MOV", "notes.txt"):
        (tmp_path / "p" / "cat" / name).write_bytes(b"anything")
    found = {
        advice.split()[0]: [path.name for path in paths]
        for advice, paths in list_folder(tmp_path / "p").unsupported.items()
    }
    assert found == {
        "install": ["IMG_1.HEIC", "IMG_2.heic"],
        "develop": ["IMG_3.CR2"],
        "take": ["IMG_1.MOV"],
    }


def test_a_class_of_a_phones_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "can_read_heif", lambda: False)
    fill(tmp_path / "p" / "cat", 3)
    (tmp_path / "p" / "dog" / "roll").mkdir(parents=True)
    (tmp_path / "p" / "dog" / "roll" / "IMG_1.HEIC").write_bytes(b"anything")
    with pytest.raises(InputError) as caught:
        list_folder(tmp_path / "p")
    assert "that can be read: it holds .heic" in str(caught.value)
    assert "collabdesign[heif]" in str(caught.value)
    assert "put pictures into it" not in str(caught.value)


def test_a_phones_pictures_are_read_where_the_extra_is_installed(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    assert heif.can_read_heif()
    for name in ("cat", "dog"):
        for number in range(25):
            pixels = np.random.default_rng(number + len(name) * 7).integers(0, 256, (16, 16, 3))
            image = Image.fromarray(pixels.astype(np.uint8))
            (tmp_path / "p" / name).mkdir(parents=True, exist_ok=True)
            pillow_heif.from_pillow(image).save(tmp_path / "p" / name / f"IMG_{number}.HEIC")
    written = init(tmp_path / "p", tmp_path)
    data = load_requirements(written.requirements).data
    assert inspect_data(data).images is not None


def test_names_of_classes_are_compared_in_one_form(tmp_path: Path) -> None:
    mac = {name: unicodedata.normalize("NFD", name) for name in ("café", "naïve")}
    for name, decomposed in mac.items():
        assert decomposed != name
        fill(tmp_path / "p" / "train" / name, 30)
        fill(tmp_path / "p" / "test" / decomposed, 6, 100)
    written = init(tmp_path / "p", tmp_path)
    data = load_requirements(written.requirements).data
    assert data.test == tmp_path / "p" / "test"
    assert inspect_data(data).images == (48, 12, 12)
    assert list_folder(tmp_path / "p" / "test").classes == ("café", "naïve")


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        fill(tmp_path / "p" / unicodedata.normalize(form, "café"), 3)
    fill(tmp_path / "p" / "dog", 3)
    with pytest.raises(InputError, match="got two of the same name: café"):
        list_folder(tmp_path / "p")


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "TEST"), ("TRAIN", "valid"), ("training", "Validation"), ("train", "Val")],
)
def test_parts_are_found_whatever_their_case(tmp_path: Path, train: str, test: str) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "p" / train / name, 30)
        fill(tmp_path / "p" / test / name, 6, 100)
    written = init(tmp_path / "p", tmp_path)
    data = load_requirements(written.requirements).data
    assert (data.train, data.test) == (tmp_path / "p" / train, tmp_path / "p" / test)


def test_a_test_folder_that_is_the_train_folder_is_no_test(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "p" / "train" / name, 30)
    (tmp_path / "p" / "test").symlink_to("train")
    written = init(tmp_path / "p", tmp_path)
    assert any("is the train folder" in each for each in written.warnings)
    data = load_requirements(written.requirements).data
    assert data.test == 0.2
    assert inspect_data(data).images is not None


def test_a_class_that_test_lacks_is_allowed_by_one_key(tmp_path: Path) -> None:
    for name in ("cat", "dog", "owl"):
        fill(tmp_path / "p" / "train" / name, 30)
    for name in ("dog", "owl"):
        fill(tmp_path / "p" / "test" / name, 6, 100)
    written = init(tmp_path / "p", tmp_path).requirements
    change = [f"data.test={tmp_path / 'p' / 'test'}"]
    with pytest.raises(InputError, match="got none for cat") as caught:
        load_requirements(written, change)
    assert "`test_may_lack_classes: true` under data" in str(caught.value)
    data = load_requirements(written, [*change, "data.test_may_lack_classes=true"]).data
    found = inspect_data(data)
    assert (found.lacking, found.images and found.images[2]) == (("cat",), 12)
