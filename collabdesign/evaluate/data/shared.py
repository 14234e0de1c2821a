"""Images for several processes: in one place of memory, or as arrays that travel."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import fields
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from collabdesign.evaluate.data.images import ImageData

_MEMORY = Path("/dev/shm")
_IMAGES = ("train_images", "select_images")
_LABELS = ("train_labels", "select_labels")


class SharedImages:
    """What networks are trained on and chosen by, in a file that has no name.

    The system frees it when the last process that has it ends, however that ends. It can be
    handed to a process that :mod:`multiprocessing` is starting, and is mapped there, not copied.
    It lies in the folder where there is too little shared memory, as in many containers.
    """

    def __init__(self, data: ImageData, folder: Path) -> None:
        self._others = as_arrays(data)
        pixels = {name: self._others.pop(name) for name in _IMAGES}
        self._shapes = {name: array.shape for name, array in pixels.items()}
        size = sum(array.nbytes for array in pixels.values())
        in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * size
        with tempfile.TemporaryFile(dir=_MEMORY if in_memory else folder) as file:
            for array in pixels.values():
                file.write(array.data)
            file.flush()
            self._descriptor = os.dup(file.fileno())

    def close(self) -> None:
        """This process needs it no more."""
        os.close(self._descriptor)

    def on(self, device: torch.device) -> ImageData:
        """The images on a device; on the CPU they are those of all the processes."""
        offset = 0
        pixels: dict[str, NDArray[np.uint8]] = {}
        with os.fdopen(os.dup(self._descriptor), "r+b") as file:
            for name, shape in self._shapes.items():
                pixels[name] = np.memmap(file, np.uint8, mode="r+", offset=offset, shape=shape)
                offset += math.prod(shape)
        return from_arrays({**self._others, **pixels}, device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptor": DupFd(self._descriptor)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _descriptor=state["_descriptor"].detach())


def as_arrays(data: ImageData) -> dict[str, Any]:
    """The fields of the data, tensors as arrays: images [N, S, S, C], labels [N]."""
    found = {each.name: getattr(data, each.name) for each in fields(data)}
    images = {name: found[name].cpu().permute(0, 2, 3, 1).contiguous().numpy() for name in _IMAGES}
    return {**found, **images, **{name: found[name].cpu().numpy() for name in _LABELS}}


def from_arrays(arrays: Mapping[str, Any], device: torch.device) -> ImageData:
    """The data of :func:`as_arrays` on a device; on the CPU nothing is copied."""
    with warnings.catch_warnings():
        # Of arrays that must not be written to, as a cluster hands them out; nothing writes there.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensors = {name: torch.from_numpy(arrays[name]).to(device) for name in _IMAGES + _LABELS}
    images = {name: tensors[name].permute(0, 3, 1, 2) for name in _IMAGES}
    return ImageData(**{**arrays, **tensors, **images})
