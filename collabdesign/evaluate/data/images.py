"""Images as uint8 tensors on the device, in a fixed train / select / test split.

:func:`load_data` gives what may choose between networks; :func:`load_test` is a call of its own,
so that nothing that chooses touches the test part by accident.
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

from collabdesign.design.sources import Data
from collabdesign.evaluate.data.changes import summarise
from collabdesign.evaluate.data.pictures import Pixels, Progress, decode, raise_unreadable
from collabdesign.evaluate.data.sources import Source, has_own_test, test_source, train_source
from collabdesign.evaluate.data.split import put_test_aside, split

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
    """What a finished network is judged on, once; in the form of the select part."""

    __test__ = False  # Not a test case, whatever its name tells pytest.

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    fingerprint: str


def load_data(
    data: Data, device: torch.device | str = "cpu", *, on_progress: Progress | None = None
) -> ImageData:
    """Read the train and select parts onto a device.

    Progress is told now and then, the pictures read and their total.

    Raises:
        InputError: The data is missing, cannot be read, does not have the classes that the
            requirements say, or has a class with too few images to split.
    """
    source = train_source(data)
    if isinstance(data.test, Path):
        # Opens no file: a wrong test folder is told now and not after the search.
        test_source(data, source)
    train, select = split(source, data)
    augment = data.augment
    if augment == "auto":
        augment = "shift" if data.resolution <= _LARGEST_SHIFTED else "crop"
    stored = round(data.resolution * _CROP_MARGIN) if augment == "crop" else data.resolution
    parts = [(train.tolist(), stored), (select.tolist(), data.resolution)]
    train_pixels, select_pixels = _read(source, parts, data.channels, on_progress)
    train_labels, select_labels = source.labels[train], source.labels[select]
    mean, std = channel_statistics(train_pixels)
    return ImageData(
        train_images=_to_device(train_pixels, device),
        train_labels=torch.from_numpy(train_labels).to(device),
        select_images=_to_device(select_pixels, device),
        select_labels=torch.from_numpy(select_labels).to(device),
        class_names=source.class_names,
        mean=mean,
        std=std,
        resolution=data.resolution,
        flip=bool(data.flip),
        augment=augment,
        fingerprint=_fingerprint(train_labels, train_pixels, select_labels, select_pixels),
        summary=summarise(
            source, {"train": (train, train_pixels), "select": (select, select_pixels)}
        ),
    )


def load_test(
    data: Data, device: torch.device | str = "cpu", *, on_progress: Progress | None = None
) -> TestData:
    """Read the test part onto a device: for what judges, never for what chooses.

    Raises:
        InputError: As for :func:`load_data`.
    """
    if has_own_test(data):
        source = test_source(data)
        indices = np.arange(len(source.labels))
    else:
        source = train_source(data)
        indices, _ = put_test_aside(source, data)
    parts = [(indices.tolist(), data.resolution)]
    (pixels,) = _read(source, parts, data.channels, on_progress)
    labels = source.labels[indices]
    return TestData(
        images=_to_device(pixels, device),
        labels=torch.from_numpy(labels).to(device),
        class_names=source.class_names,
        fingerprint=_fingerprint(labels, pixels),
    )


def _read(
    source: Source,
    parts: Sequence[tuple[Sequence[int], int]],
    channels: int,
    on_progress: Progress | None,
) -> list[Pixels]:
    pixels, broken = decode(source.read, parts, channels, on_progress)
    raise_unreadable([(source.name(index), reason) for index, reason in broken])
    return pixels


def channel_statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
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


def _to_device(pixels: Pixels, device: torch.device | str) -> torch.Tensor:
    # The permuted view is channels last in memory, which is how convolutions run fastest.
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)


def _fingerprint(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
