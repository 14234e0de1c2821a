"""A finished network in another form: written, run, and held against the network itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from collabdesign.deliver.export.formats import FORMATS
from collabdesign.deliver.export.parity import first_difference, parity
from collabdesign.deliver.export.runtime import Run, logits_of, normalised, share_right
from collabdesign.deliver.exported import Exported
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.exports import EXPORTS
from collabdesign.evaluate.data.images import ImageData, TestData
from collabdesign.evaluate.int8 import CALIBRATION_IMAGES
from collabdesign.evaluate.latency import milliseconds
from collabdesign.evaluate.precision import full_float32

# On so many a layer that differs is looked for.
_LAYER_IMAGES = 64


@dataclass(frozen=True)
class Written:
    """A form of a network and what is known of it; test is not read yet."""

    content: bytes
    run: Run
    facts: Exported


@dataclass(frozen=True)
class Pictures:
    """What a form is calibrated and compared on.

    Attributes:
        calibration: float32 [N, C, R, R], normalised.
        images: uint8 [M, C, R, R].
        labels: int64 [M]; None where they are not known.
        mean: Of each channel, pixels running from 0 to 1.
        std: Likewise.
    """

    calibration: NDArray[np.float32]
    images: torch.Tensor
    labels: torch.Tensor | None
    mean: Sequence[float]
    std: Sequence[float]

    @classmethod
    def of(cls, data: ImageData) -> Pictures:
        """Some of the train part to calibrate on, all of the select part to compare on."""
        calibration = calibration_pictures(data)
        return cls(calibration, data.select_images, data.select_labels, data.mean, data.std)


def write_form(
    name: str, network: nn.Module, architecture: Architecture, pictures: Pictures
) -> Written:
    """Export a network, run both forms and compare.

    Args:
        name: A key of :data:`collabdesign.design.exports.EXPORTS`; its packages are there.
        network: Trained, on the CPU; put into evaluation mode.
        architecture: Of the network.
        pictures: To calibrate and to compare on.

    Raises:
        InputError: An operation stands in the way.
    """
    form, known = FORMATS[name], EXPORTS[name]
    shape = (architecture.input_channels, architecture.resolution, architecture.resolution)
    content = form.write(network, shape, pictures.calibration)
    run = form.run(content)
    images, mean, std = pictures.images, pictures.mean, pictures.std
    ours = logits_of(torch_run(network), images, mean, std)
    theirs = logits_of(run, images, mean, std)
    found = parity(ours, theirs)
    differs = ""
    if known.precision == "float32" and not found.is_rounding:
        where = None
        if known.runtime == "onnxruntime":
            where = first_difference(network, content, pictures.calibration[:_LAYER_IMAGES])
        differs = where or "no layer by itself: the runtime's optimisations do"
    return Written(
        content,
        run,
        Exported(
            format=name,
            file=known.file,
            precision=known.precision,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            runtime=form.words(),
            parity=found,
            select_accuracy=(
                None if pictures.labels is None else share_right(theirs, pictures.labels)
            ),
            test_accuracy=None,
            test_readings=0,
            milliseconds=None,
            peak_activation_bytes=cost_of(architecture, known.precision).peak_activation_bytes,
            differs=differs,
        ),
    )


def int8_accuracy(network: nn.Module, architecture: Architecture, data: ImageData) -> float:
    """What a network comes to in int8, on the held-out part."""
    accuracy = write_form("int8", network, architecture, Pictures.of(data)).facts.select_accuracy
    assert accuracy is not None
    return accuracy


def test_accuracy(
    written: Written, mean: Sequence[float], std: Sequence[float], test: TestData
) -> float:
    """What a form comes to on test; to be entered as a reading of it."""
    return share_right(logits_of(written.run, test.images, mean, std), test.labels)


test_accuracy.__test__ = False  # type: ignore[attr-defined]  # not a test case


def times_of(
    forms: Sequence[Written], shape: Sequence[int]
) -> list[tuple[float, float, float] | None]:
    """Milliseconds of those that onnxruntime runs, measured in turns: median and quartiles."""
    models = {
        number: each.content
        for number, each in enumerate(forms)
        if EXPORTS[each.facts.format].runtime == "onnxruntime"
    }
    found: list[tuple[float, float, float] | None] = [None] * len(forms)
    if models:
        times = milliseconds(list(models.values()), shape)
        for number, each in zip(models, times, strict=True):
            found[number] = (each.median, each.low, each.high)
    return found


def torch_run(network: nn.Module) -> Run:
    """The network itself, on the CPU, in float32, as a runtime is called."""
    network.eval()

    def run(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode(), full_float32():
            logits: NDArray[np.float32] = network(torch.from_numpy(pictures)).numpy()
        return logits

    return run


def calibration_pictures(data: ImageData) -> NDArray[np.float32]:
    """Some of the train part, evenly through it, as the network is shown pictures at the end.

    Returns:
        float32 [N, C, R, R], normalised.
    """
    count = min(CALIBRATION_IMAGES, len(data.train_images))
    # Pictures stand class by class: even steps take from each.
    chosen = torch.linspace(0, len(data.train_images) - 1, count).long()
    images = data.train_images[chosen.to(data.train_images.device)]
    if images.shape[-1] != data.resolution:  # stored larger, to be cropped in training
        size = (data.resolution, data.resolution)
        images = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return normalised(images, data.mean, data.std)
