"""Images as uint8 tensors on the device, in a fixed train / select / test split.

The split depends on the labels alone, never on a search's seed: the test part is put aside
first (where the source has none of its own), then the subset of ``train_images`` is taken,
then the select part. Each step keeps the proportions of the classes. :func:`load_data` gives
what may choose between networks; :func:`load_test` is a call of its own, so that nothing
that chooses touches the test part by accident.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from collabdesign.design.sources import DEFAULT_TEST, Data
from collabdesign.errors import InputError
from collabdesign.evaluate.data.changes import summarise
from collabdesign.evaluate.data.folder import Progress, decode, raise_unreadable
from collabdesign.evaluate.data.sources import Source, has_own_test, test_source, train_source

# The split's own seed: one data set is split the same way in every search.
_SPLIT_SEED = 1903_07209

# Random crops are cut from pictures stored this much larger than the network's input, as a
# crop of 224 is from 256; shifts need no margin.
_CROP_MARGIN = 8 / 7

# Up to this side in pixels ``augment: auto`` shifts, above it crops.
_LARGEST_SHIFTED = 64


@dataclass(frozen=True)
class ImageData:
    """What networks are trained on and chosen by. All tensors are on one device.

    Attributes:
        train_images: uint8 [N, C, S, S], channels last in memory; S is ``resolution``, or
            larger where crops are cut from it.
        train_labels: int64 [N].
        select_images: uint8 [M, C, R, R], channels last; R is ``resolution``.
        select_labels: int64 [M].
        class_names: A label is an index into them.
        mean: Of each channel of the train part, pixels running from 0 to 1.
        std: Likewise.
        resolution: Side of the network's input in pixels.
        flip: Whether a picture may be mirrored left to right in training.
        augment: ``none``, ``shift`` or ``crop``.
        fingerprint: SHA-256 of the labels and pixels of both parts.
        summary: What :func:`collabdesign.evaluate.data.changes.data_changes` compares; JSON.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    select_images: torch.Tensor
    select_labels: torch.Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: int
    flip: bool
    augment: str
    fingerprint: str
    # Names of files do not make other data.
    summary: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class TestData:
    """What a finished network is judged on, once.

    Attributes:
        images: uint8 [N, C, R, R], channels last in memory.
        labels: int64 [N].
        class_names: A label is an index into them.
        fingerprint: SHA-256 of the labels and pixels.
    """

    __test__ = False  # Not a test case, whatever its name tells pytest.

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    fingerprint: str


def load_data(
    data: Data, device: torch.device | str = "cpu", *, on_progress: Progress | None = None
) -> ImageData:
    """Read the train and select parts onto a device.

    Args:
        data: The ``data`` part of the requirements.
        device: Where the tensors are put.
        on_progress: Called now and then with the pictures read and their total.

    Raises:
        InputError: The data is missing, cannot be read, does not have the classes that the
            requirements say, or has a class with too few images to split.
    """
    source = train_source(data)
    labels, names = source.labels, source.class_names
    if isinstance(data.test, Path):
        # Opens no file: a wrong test folder is told now and not after the search.
        test_source(data)
    train, select = split(source, data)
    images = len(train) + len(select)
    augment = data.augment
    if augment == "auto":
        augment = "shift" if data.resolution <= _LARGEST_SHIFTED else "crop"
    stored = round(data.resolution * _CROP_MARGIN) if augment == "crop" else data.resolution
    report = on_progress or (lambda done, total: None)
    train_pixels, broken = decode(
        source.read,
        train.tolist(),
        stored,
        data.channels,
        on_progress=lambda done, _: report(done, images),
    )
    select_pixels, also_broken = decode(
        source.read,
        select.tolist(),
        data.resolution,
        data.channels,
        on_progress=lambda done, _: report(len(train) + done, images),
    )
    raise_unreadable([(source.name(at), reason) for at, reason in sorted(broken + also_broken)])
    mean, std = channel_statistics(train_pixels)
    return ImageData(
        train_images=_to_device(train_pixels, device),
        train_labels=torch.from_numpy(labels[train]).to(device),
        select_images=_to_device(select_pixels, device),
        select_labels=torch.from_numpy(labels[select]).to(device),
        class_names=names,
        mean=mean,
        std=std,
        resolution=data.resolution,
        flip=bool(data.flip),
        augment=augment,
        fingerprint=_fingerprint(labels[train], train_pixels, labels[select], select_pixels),
        summary=summarise(
            source, {"train": (train, train_pixels), "select": (select, select_pixels)}
        ),
    )


def load_test(
    data: Data, device: torch.device | str = "cpu", *, on_progress: Progress | None = None
) -> TestData:
    """Read the test part onto a device: for what judges, never for what chooses.

    Args:
        data: The ``data`` part of the requirements.
        device: Where the tensors are put.
        on_progress: Called now and then with the pictures read and their total.

    Raises:
        InputError: As for :func:`load_data`.
    """
    if has_own_test(data):
        source = test_source(data)
        indices = np.arange(len(source.labels))
    else:
        source = train_source(data)
        indices, _ = put_test_aside(source, data)
    pixels, broken = decode(
        source.read, indices.tolist(), data.resolution, data.channels, on_progress=on_progress
    )
    raise_unreadable([(source.name(at), reason) for at, reason in broken])
    return TestData(
        images=_to_device(pixels, device),
        labels=torch.from_numpy(source.labels[indices]).to(device),
        class_names=source.class_names,
        fingerprint=_fingerprint(source.labels[indices], pixels),
    )


def split(source: Source, data: Data) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the train and of the select part; opens no picture.

    Raises:
        InputError: A class has too few images, or the source fewer than are asked for.
    """
    labels, names = source.labels, source.class_names
    _, chosen = put_test_aside(source, data)
    if data.train_images is not None and data.train_images != len(chosen):
        if data.train_images > len(chosen):
            raise InputError(
                f"data.train_images must be at most the {len(chosen)} images there are, "
                f"got {data.train_images}"
            )
        chosen, _ = stratified_split(labels, chosen, data.train_images, names, "data.train_images")
    count = round(data.select * len(chosen))
    select, train = stratified_split(labels, chosen, count, names, "data.select")
    return train, select


def stratified_split(
    labels: NDArray[np.int64],
    indices: NDArray[np.int64],
    count: int,
    class_names: Sequence[str],
    what: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a part in the proportions of the classes, the same part each time.

    Every class leaves at least one image in both halves. What proportional shares leave
    over goes to the classes with the largest remainders.

    Args:
        labels: Of all images of the source.
        indices: Of the images to split, into ``labels``.
        count: Images to draw.
        class_names: For the message.
        what: The key that asks for this split, for the message.

    Returns:
        The indices drawn and those left, each sorted.

    Raises:
        InputError: A class has too few images, or ``count`` is fewer than the classes.
    """
    groups = [indices[labels[indices] == label] for label in range(len(class_names))]
    small = [
        f"{name} ({len(group)})"
        for name, group in zip(class_names, groups, strict=True)
        if len(group) < 2
    ]
    if small:
        raise InputError(
            f"{what} needs at least two images of each class to split, got {', '.join(small)}: "
            "add images or take out the class"
        )
    if not len(groups) <= count <= len(indices) - len(groups):
        raise InputError(
            f"{what} must draw between {len(groups)} and {len(indices) - len(groups)} of "
            f"{len(indices)} images, so that every class is in both parts, got {count}"
        )
    exact = [count * len(group) / len(indices) for group in groups]
    shares = [
        min(max(1, int(share)), len(group) - 1) for share, group in zip(exact, groups, strict=True)
    ]
    while sum(shares) != count:
        step = 1 if sum(shares) < count else -1
        free = [
            label for label, share in enumerate(shares) if 1 <= share + step < len(groups[label])
        ]
        best = max(free, key=lambda label: (step * (exact[label] - shares[label]), -label))
        shares[best] += step
    rng = np.random.default_rng(_SPLIT_SEED)
    orders = [rng.permutation(group) for group in groups]
    drawn = [order[:share] for order, share in zip(orders, shares, strict=True)]
    left = [order[share:] for order, share in zip(orders, shares, strict=True)]
    return np.sort(np.concatenate(drawn)), np.sort(np.concatenate(left))


def channel_statistics(
    pixels: NDArray[np.uint8],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels running from 0 to 1.

    Args:
        pixels: [N, H, W, C]. They are counted by value, so the sums are exact; a channel
            that never changes has standard deviation 1, so that dividing by it is safe.
    """
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(pixels.shape[-1]):
        shares = np.bincount(pixels[..., channel].ravel(), minlength=256) / pixels[..., 0].size
        mean = float(shares @ values)
        means.append(mean)
        stds.append(float(shares @ (values - mean) ** 2) ** 0.5 or 1.0)
    return tuple(means), tuple(stds)


def put_test_aside(source: Source, data: Data) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the test part and of the rest; no test part where the test is its own source.

    Raises:
        InputError: A class has too few images.
    """
    everything = np.arange(len(source.labels))
    if has_own_test(data):
        return everything[:0], everything
    assert not isinstance(data.test, Path)
    fraction = DEFAULT_TEST if data.test is None else data.test
    count = round(fraction * len(everything))
    return stratified_split(source.labels, everything, count, source.class_names, "data.test")


def _to_device(pixels: NDArray[np.uint8], device: torch.device | str) -> torch.Tensor:
    # The permuted view is channels last in memory, which is how convolutions run fastest.
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)


def _fingerprint(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
