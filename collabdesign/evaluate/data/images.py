"""Images as uint8 tensors on the device, in a fixed train / select / test split.

:func:`load_data` gives what may choose between networks; :func:`load_test` is a call of its own,
so that nothing that chooses touches the test part by accident.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from collabdesign.design.sources import Data
from collabdesign.evaluate.data.changes import summarise
from collabdesign.evaluate.data.copies import in_two_classes
from collabdesign.evaluate.data.decode import Pixels
from collabdesign.evaluate.data.findings import channel_statistics
from collabdesign.evaluate.data.opened import augmentation, open_data
from collabdesign.evaluate.data.parts import Part
from collabdesign.evaluate.data.pictures import Progress

# Of a device's free memory, what the images may take; networks need the rest.
_LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class ImageData:
    """What networks are trained on and chosen by.

    Labels are on the device. Images are too where they fit; else they stay mapped from a file, and
    go there a batch at a time.

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
        fingerprint: SHA-256 of the labels of both parts, and of the digests and form of their
            pictures.
        copies: Pictures that were taken out of the held-out part since they are learnt from, as
            ``select``; and of all parts those with two labels, as ``two_classes``.
        files: That images are mapped from, by the name of the field; empty where they lie in
            memory.
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
    copies: Mapping[str, int] = field(default_factory=dict)
    # Names of files do not make other data.
    summary: Mapping[str, Any] = field(default_factory=dict, compare=False)
    files: Mapping[str, Path] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class TestData:
    """What a finished network is judged on, once; in the form of the select part.

    Attributes:
        copies: Pictures that were taken out since they are learnt from or chosen by.
        lacking: Classes that have no picture here.
    """

    __test__ = False  # Not a test case, whatever its name tells pytest.

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    fingerprint: str
    copies: int = 0
    lacking: tuple[str, ...] = ()


def load_data(
    data: Data, device: torch.device | str = "cpu", *, on_progress: Progress | None = None
) -> ImageData:
    """Read the train and select parts onto a device.

    Progress is told now and then, the pictures read and their total.

    Raises:
        InputError: The data is missing, cannot be read, does not have the classes that the
            requirements say, or has a class with too few images to split.
    """
    opened = open_data(data, on_progress)
    train, select = opened.train, opened.select
    mean, std = channel_statistics(train.findings.values)
    parts = {"train": train, "select": select}
    return ImageData(
        train_images=on_device(train.pixels, device),
        train_labels=_labels(train).to(device),
        select_images=on_device(select.pixels, device),
        select_labels=_labels(select).to(device),
        class_names=opened.sources.train.class_names,
        mean=mean,
        std=std,
        resolution=data.resolution,
        flip=bool(data.flip),
        augment=augmentation(data),
        fingerprint=_fingerprint(train, select),
        copies={
            "select": len(opened.select_whole.pixels) - len(select.pixels),
            "two_classes": len(in_two_classes(opened.whole)),
        },
        summary=summarise(opened.sources.train, parts),
        files={f"{name}_images": part.file for name, part in parts.items() if part.file},
    )


def load_test(
    data: Data, device: torch.device | str = "cpu", *, on_progress: Progress | None = None
) -> TestData:
    """Read the test part onto a device: for what judges, never for what chooses.

    Raises:
        InputError: As for :func:`load_data`.
    """
    opened = open_data(data, on_progress)
    test = opened.test
    return TestData(
        images=on_device(test.pixels, device),
        labels=_labels(test).to(device),
        class_names=opened.sources.train.class_names,
        fingerprint=_fingerprint(test),
        copies=len(opened.test_whole.pixels) - len(test.pixels),
        lacking=opened.sources.lacking,
    )


def on_device(pixels: Pixels, device: torch.device | str) -> torch.Tensor:
    """Pixels [N, S, S, C] as images [N, C, S, S], channels last in memory, on a device.

    On the CPU nothing is copied. Where a GPU has no room for them, they stay on the CPU.
    """
    with warnings.catch_warnings():
        # Of arrays that must not be written to, as they are mapped from files; nothing writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if pixels.nbytes > _LARGEST_SHARE * free:
            return images
    return images.to(device)


def _labels(part: Part) -> torch.Tensor:
    return torch.from_numpy(part.wanted.source.labels[part.wanted.indices])


def _fingerprint(*parts: Part) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.pixels.shape} ".encode())
        digest.update(_labels(part).numpy().tobytes())
        digest.update(np.ascontiguousarray(part.findings.digests).data)
    return digest.hexdigest()
