"""The split is fixed, stratified and disjoint; pixels are those of the files."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from collabdesign.design.sources import SOURCES, Data
from collabdesign.errors import InputError
from collabdesign.evaluate.data import sources
from collabdesign.evaluate.data.findings import channel_statistics, value_counts
from collabdesign.evaluate.data.folder import FolderListing, list_folder
from collabdesign.evaluate.data.images import ImageData, load_data, load_test
from collabdesign.evaluate.data.inspect import inspect_data
from collabdesign.evaluate.data.split import stratified_split

DIGITS = Data(source="digits", resolution=8, channels=1, classes=10)


def rows(images: torch.Tensor) -> set[bytes]:
    """The images as a set, to see whether two parts share one."""
    return {image.contiguous().numpy().tobytes() for image in images}


def write_classes(root: Path, counts: dict[str, int], *, size: tuple[int, int] = (6, 6)) -> Path:
    """Images of noise, no two alike, whose first pixel is white in class ``b``."""
    rng = np.random.default_rng([len(counts), *root.name.encode()])
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            pixels[0, 0] = 255 if name == "b" else 0
            Image.fromarray(pixels).save(root / name / f"{number:03}.png")
    return root


def folder_data(train: Path, **more: Any) -> Data:
    keys = {"source": "folder", "train": train, "resolution": 6, "classes": 2, **more}
    return Data(**keys)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data(DIGITS)


def test_digits_parts_have_the_stated_sizes(digits: ImageData) -> None:
    test = load_test(DIGITS)
    assert len(test.labels) == 359  # round(0.2 * 1797)
    assert len(digits.select_labels) == 288  # round(0.2 * 1438)
    assert len(digits.train_labels) == 1797 - 359 - 288
    assert digits.train_images.shape == (1150, 1, 8, 8)
    assert digits.train_images.dtype == torch.uint8
    assert digits.train_labels.dtype == torch.int64
    assert digits.class_names == test.class_names == tuple("0123456789")
    assert (digits.flip, digits.augment, digits.resolution) == (False, "shift", 8)


def test_parts_are_disjoint_and_together_everything(digits: ImageData) -> None:
    parts = [rows(digits.train_images), rows(digits.select_images), rows(load_test(DIGITS).images)]
    pixels = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 1797
    assert set.union(*parts) == {image.tobytes() for image in pixels}


def test_labels_stay_with_their_images(digits: ImageData) -> None:
    bunch = load_digits()
    pixels = np.round(bunch.images * 255 / 16).astype(np.uint8)
    truth = {image.tobytes(): label for image, label in zip(pixels, bunch.target, strict=True)}
    for images, labels in (
        (digits.train_images, digits.train_labels),
        (digits.select_images, digits.select_labels),
    ):
        for image, label in zip(images, labels.tolist(), strict=True):
            assert truth[image.contiguous().numpy().tobytes()] == label


def test_parts_are_stratified(digits: ImageData) -> None:
    whole = Counter(load_digits().target.tolist())
    for labels in (digits.train_labels, digits.select_labels, load_test(DIGITS).labels):
        counts = Counter(labels.tolist())
        for label, count in counts.items():
            assert abs(count - whole[label] * len(labels) / 1797) < 2


def test_split_is_fixed(digits: ImageData) -> None:
    again = load_data(DIGITS)
    assert again.fingerprint == digits.fingerprint
    assert torch.equal(again.train_images, digits.train_images)
    # The split is a promise to searches that were started before: it changes with no release.
    select = np.sort(rows_digest(digits.select_images))
    assert hashlib.sha256("".join(select).encode()).hexdigest()[:12] == SPLIT_OF_DIGITS


def rows_digest(images: torch.Tensor) -> list[str]:
    return [hashlib.sha256(row).hexdigest() for row in rows(images)]


SPLIT_OF_DIGITS = "7b5c9e9946e7"


def test_the_order_of_the_search_does_not_reach_the_split(digits: ImageData) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    assert load_data(DIGITS).fingerprint == digits.fingerprint


def even_shares(counts: list[int], count: int) -> list[float]:
    """The same part of each class, but for those that must keep one on either side."""
    low, high = 0.0, float(max(counts))
    for _ in range(100):
        part = (low + high) / 2
        shares = [min(max(part * size, 1.0), size - 1.0) for size in counts]
        low, high = (part, high) if sum(shares) < count else (low, part)
    return shares


@example(counts=[4, 4, 4, 24], share=0.9375, seed=0)
@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_split_properties(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(labels)
    total, classes = sum(counts), len(counts)
    count = round(classes + share * (total - 2 * classes))
    names = [f"class {label}" for label in range(classes)]
    drawn, left = stratified_split(labels, np.arange(total), count, names, "data.select")
    assert len(drawn) == count
    assert sorted([*drawn, *left]) == list(range(total))
    shares = even_shares(counts, count)
    for label, size in enumerate(counts):
        got = int((labels[drawn] == label).sum())
        assert 1 <= got <= size - 1
        exact = shares[label]
        assert abs(got - exact) < 1 or got in (1, size - 1) or min(counts) <= 3


def test_split_of_even_classes_is_even() -> None:
    labels = np.arange(100) % 4
    drawn, left = stratified_split(labels, np.arange(100), 20, "abcd", "data.select")
    assert np.bincount(labels[drawn]).tolist() == [5] * 4
    assert np.bincount(labels[left]).tolist() == [20] * 4


def test_train_images_is_a_balanced_subset_of_train(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 40, "b": 40})
    whole = load_data(folder_data(train, test=0.25))
    part = load_data(folder_data(train, test=0.25, train_images=40))
    assert len(whole.train_labels) + len(whole.select_labels) == 60
    assert len(part.train_labels) + len(part.select_labels) == 40
    assert torch.bincount(part.train_labels).tolist() == [16, 16]
    assert torch.bincount(part.select_labels).tolist() == [4, 4]
    everything = rows(whole.train_images) | rows(whole.select_images)
    assert rows(part.train_images) | rows(part.select_images) < everything
    # The test part does not depend on how much is trained on.
    one = load_test(folder_data(train, test=0.25))
    other = load_test(folder_data(train, test=0.25, train_images=40))
    assert one.fingerprint == other.fingerprint
    assert not rows(one.images) & everything


def test_all_train_images_is_no_subset(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 10})
    test = write_classes(tmp_path / "test", {"a": 2, "b": 2})
    whole = load_data(folder_data(train, test=test))
    assert load_data(folder_data(train, test=test, train_images=20)).fingerprint == (
        whole.fingerprint
    )
    with pytest.raises(InputError, match="at most the 20 images there are, got 21"):
        load_data(folder_data(train, test=test, train_images=21))


def test_a_test_folder_is_read_whole_and_leaves_train_whole(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 15})
    test = write_classes(tmp_path / "test", {"a": 3, "b": 1})
    loaded = load_data(folder_data(train, test=test))
    assert len(loaded.train_labels) + len(loaded.select_labels) == 25
    judged = load_test(folder_data(train, test=test))
    assert judged.labels.tolist() == [0, 0, 0, 1]
    assert (judged.images[:, 0, 0, 0] == 255).tolist() == [False, False, False, True]


def test_a_test_folder_with_other_classes_is_told_before_any_training(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 15})
    test = write_classes(tmp_path / "test", {"a": 3, "c": 1})
    for load in (load_data, load_test):
        with pytest.raises(InputError, match="none for b, further c in "):
            load(folder_data(train, test=test))


def test_too_few_images_of_a_class_are_named(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"plenty": 30, "few": 1})
    with pytest.raises(InputError, match=r"at least two images of each class.*few \(1\)") as caught:
        load_data(folder_data(train, test=0.2))
    assert "plenty" not in str(caught.value)


def test_two_images_cannot_be_in_three_parts(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"plenty": 30, "few": 2})
    with pytest.raises(InputError, match=r"data.select needs .* few \(1\)|few \(1\)"):
        load_data(folder_data(train, test=0.2))


def test_classes_must_be_those_of_the_data(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 15})
    with pytest.raises(InputError, match="must be the 2 classes that the data has, got 3"):
        load_data(folder_data(train, classes=3))


def test_unreadable_files_of_both_parts_are_named_at_once(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 10})
    test = write_classes(tmp_path / "test", {"a": 1, "b": 1})
    for number in range(10):
        (train / "a" / f"{number:03}.png").write_text("words")
    with pytest.raises(InputError) as caught:
        load_data(folder_data(train, test=test))
    assert all(f"{number:03}.png" in str(caught.value) for number in range(10))
    assert str(caught.value).count("not a picture") == 10


def test_grey_and_colour_pictures_become_the_channels_asked_for(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 10})
    Image.new("L", (9, 6), 77).save(train / "a" / "grey.png")
    assert load_data(folder_data(train, channels=1)).train_images.shape[1:] == (1, 6, 6)
    assert load_data(folder_data(train, channels=3)).train_images.shape[1:] == (3, 6, 6)


def test_crops_are_cut_from_larger_pictures_and_select_is_not(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 10}, size=(100, 90))
    loaded = load_data(folder_data(train, resolution=70))
    assert loaded.augment == "crop"
    assert loaded.train_images.shape[1:] == (3, 80, 80)  # 70 * 8 / 7
    assert loaded.select_images.shape[1:] == (3, 70, 70)
    assert load_data(folder_data(train, resolution=64)).augment == "shift"
    assert load_data(folder_data(train, resolution=70, augment="none")).augment == "none"


def test_images_are_channels_last_in_memory(digits: ImageData, tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 10})
    images = load_data(folder_data(train)).train_images
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_channel_statistics_are_those_of_numpy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 5, 5, 3), dtype=np.uint8)
    mean, std = channel_statistics(value_counts(pixels))
    assert mean == pytest.approx((pixels / 255).mean((0, 1, 2)))
    assert std == pytest.approx((pixels / 255).std((0, 1, 2)))


def test_a_channel_that_never_changes_divides_by_one() -> None:
    pixels = np.full((3, 4, 4, 1), 51, dtype=np.uint8)
    assert channel_statistics(value_counts(pixels)) == ((0.2,), (1.0,))


def test_fingerprint_sees_one_pixel(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 10})
    test = write_classes(tmp_path / "test", {"a": 1, "b": 1})
    before = load_data(folder_data(train, test=test)).fingerprint
    pixels = np.array(Image.open(train / "a" / "003.png"))
    pixels[3, 3, 1] ^= 1
    Image.fromarray(pixels).save(train / "a" / "003.png")
    assert load_data(folder_data(train, test=test)).fingerprint != before


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"a": 100, "b": 100})
    seen: list[tuple[int, int]] = []
    load_data(
        folder_data(train, test=0.2),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (200, 200)  # test too: one refusal names all that cannot be read
    assert seen == sorted(seen)


@pytest.mark.parametrize("own", [True, False])
def test_each_folder_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    train = write_classes(tmp_path / "train", {"a": 10, "b": 10})
    test = write_classes(tmp_path / "test", {"a": 1, "b": 1})
    data = folder_data(train, test=test if own else 0.2)
    listed: list[Path] = []

    def listing(root: Path) -> FolderListing:
        listed.append(root)
        return list_folder(root)

    monkeypatch.setattr(sources, "list_folder", listing)
    for look in (load_data, inspect_data):
        look(data)
        assert listed == ([train, test] if own else [train])
        listed.clear()


def test_progress_of_a_check_is_told_of_sets_that_others_prepared_too() -> None:
    seen: dict[str, tuple[int, int]] = {}
    inspect_data(DIGITS, lambda what, done, total: seen.update({what: (done, total)}))
    assert seen == {"opening pictures": (1797, 1797), "comparing pictures": (1, 1)}


def test_named_sets_are_those_of_the_requirements() -> None:
    assert list(sources._NAMED_SETS) == list(SOURCES["torchvision"].pictures)


def test_what_can_be_written_can_be_read() -> None:
    assert list(sources.SOURCES) == list(SOURCES)
    for row in SOURCES.values():
        assert set(row.needs) <= set(row.own) <= set(Data.model_fields)
        assert set(row.paths) <= set(row.own)


def test_a_named_set_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    wanted = Data(source="torchvision", dataset="CIFAR10", root=tmp_path, resolution=32, classes=10)
    with pytest.raises(InputError, match="CIFAR10 must stand in") as caught:
        load_data(wanted)
    assert "download: true" in str(caught.value)


def test_a_named_set_on_disk_is_read(tmp_path: Path) -> None:
    # MNIST's own file format, written by hand: header, sizes, then bytes.
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for part, count in (("train", 60), ("t10k", 20)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        written[part] = pixels
        sizes = b"".join(size.to_bytes(4, "big") for size in pixels.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + bytes(pixels))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + count.to_bytes(4, "big") + labels.tobytes()
        )
    wanted = Data(
        source="torchvision",
        dataset="FashionMNIST",
        root=tmp_path,
        resolution=28,
        channels=1,
        classes=10,
    )
    loaded, judged = load_data(wanted), load_test(wanted)
    assert (loaded.flip, loaded.augment) == (True, "shift")
    assert loaded.class_names[:2] == ("T-shirt/top", "Trouser")
    assert rows(loaded.train_images) | rows(loaded.select_images) == {
        image.tobytes() for image in written["train"]
    }
    assert np.array_equal(judged.images[:, 0].numpy(), written["t10k"])
    assert judged.labels.tolist() == [number % 10 for number in range(20)]
