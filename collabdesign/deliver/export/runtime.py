"""What a written network computes, in onnxruntime on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from collabdesign.evaluate.augment import channel_values, normalise
from collabdesign.evaluate.onnx_file import INPUT, OUTPUT
from collabdesign.evaluate.onnx_session import session_of

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From pictures, float32 [N, C, R, R], normalised, to logits [N, classes]."""

_BATCH = 256


def onnxruntime_run(model: bytes) -> Run:
    """A model from :func:`collabdesign.evaluate.onnx_file.onnx_bytes`, also in int8, to be run."""
    session = session_of(model)

    def run(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run([OUTPUT], {INPUT: pictures})
        return np.asarray(logits, dtype=np.float32)

    return run


def onnxruntime_words() -> str:
    """Which runtime that is."""
    return f"onnxruntime {version('onnxruntime')}, one thread"


def normalised(
    images: torch.Tensor, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Images, uint8 [N, C, R, R] on any device, as a runtime takes them."""
    centre, scale = channel_values(mean, images.device), channel_values(std, images.device)
    found: NDArray[np.float32] = normalise(images, centre, scale).cpu().contiguous().numpy()
    return found


def logits_of(
    run: Run, images: torch.Tensor, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Of all images, uint8 [N, C, R, R]: [N, classes], in batches."""
    parts = range(0, len(images), _BATCH)
    return np.concatenate(
        [run(normalised(images[start : start + _BATCH], mean, std)) for start in parts]
    )


def share_right(logits: NDArray[np.float32], labels: torch.Tensor) -> float:
    """Share of images whose largest logit is their label's."""
    return float((logits.argmax(1) == labels.cpu().numpy()).mean())
