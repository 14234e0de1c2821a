"""Images for several processes: in one place of memory, or as arrays that travel."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Container, Mapping
from dataclasses import fields
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from collabdesign.evaluate.data.images import ImageData, on_device

_MEMORY = Path("/dev/shm")
_IMAGES = ("train_images", "select_images")
_LABELS = ("train_labels", "select_labels")


class _Place(NamedTuple):
    """Where images lie: the number of the file, and the first byte in it."""

    file: int
    offset: int
    shape: tuple[int, ...]


class SharedImages:
    """What networks are trained on and chosen by, in files that every process maps.

    Images of the cache stay where they are; others are copied into a file that has no name. The
    system frees that when the last process that has it ends, however that ends. It can be
    handed to a process that :mod:`multiprocessing` is starting, and is mapped there, not copied.
    It lies in the folder where there is too little shared memory, as in many containers.
    """

    def __init__(self, data: ImageData, folder: Path) -> None:
        self._descriptors: list[int] = []
        self._places: dict[str, _Place] = {}
        for name, path in data.files.items():
            shape = _shape(getattr(data, name))
            self._places[name] = _Place(len(self._descriptors), 0, shape)
            self._descriptors.append(os.open(path, os.O_RDONLY))
        self._others = as_arrays(data, without=self._places.keys())
        pixels = {name: self._others.pop(name) for name in _IMAGES if name not in self._places}
        if not pixels:
            return
        size = sum(array.nbytes for array in pixels.values())
        in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * size
        with tempfile.TemporaryFile(dir=_MEMORY if in_memory else folder) as file:
            for name, array in pixels.items():
                self._places[name] = _Place(len(self._descriptors), file.tell(), array.shape)
                file.write(array.data)
            file.flush()
            self._descriptors.append(os.dup(file.fileno()))

    def close(self) -> None:
        """This process needs them no more."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def on(self, device: torch.device) -> ImageData:
        """The images on a device; on the CPU they are those of all the processes."""
        pixels: dict[str, NDArray[np.uint8]] = {}
        for name, place in self._places.items():
            mode: Literal["r", "r+"] = "r" if name in self._others["files"] else "r+"
            with os.fdopen(os.dup(self._descriptors[place.file]), f"{mode}b") as file:
                pixels[name] = np.memmap(
                    file, np.uint8, mode=mode, offset=place.offset, shape=place.shape
                )
        return from_arrays({**self._others, **pixels}, device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptors": [DupFd(each) for each in self._descriptors]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        descriptors = [each.detach() for each in state["_descriptors"]]
        self.__dict__.update(state, _descriptors=descriptors)


def _shape(images: torch.Tensor) -> tuple[int, ...]:
    count, channels, height, width = images.shape
    return count, height, width, channels


def as_arrays(data: ImageData, without: Container[str] = ()) -> dict[str, Any]:
    """The fields of the data, tensors as arrays: images [N, S, S, C], labels [N].

    Args:
        data: On any device.
        without: Images that are not wanted.
    """
    found = {each.name: getattr(data, each.name) for each in fields(data)}
    images = {
        name: found[name].cpu().permute(0, 2, 3, 1).contiguous().numpy()
        for name in _IMAGES
        if name not in without
    }
    others = {name: value for name, value in found.items() if name not in without}
    return {**others, **images, **{name: found[name].cpu().numpy() for name in _LABELS}}


def from_arrays(arrays: Mapping[str, Any], device: torch.device) -> ImageData:
    """The data of :func:`as_arrays` on a device; on the CPU nothing is copied."""
    labels = {name: torch.from_numpy(arrays[name]).to(device) for name in _LABELS}
    images = {name: on_device(arrays[name], device) for name in _IMAGES}
    return ImageData(**{**arrays, **labels, **images})
