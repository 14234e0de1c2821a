"""How each form of :data:`collabdesign.design.exports.EXPORTS` is written and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from collabdesign.deliver.export.executorch import (
    executorch_bytes,
    executorch_run,
    executorch_words,
)
from collabdesign.deliver.export.runtime import Run, onnxruntime_run, onnxruntime_words
from collabdesign.design.exports import EXPORTS
from collabdesign.errors import InputError
from collabdesign.evaluate.int8 import int8_that_agrees
from collabdesign.evaluate.latency import missing_packages
from collabdesign.evaluate.onnx_file import onnx_bytes

Write = Callable[[nn.Module, Sequence[int], NDArray[np.float32]], bytes]
"""From a network on the CPU, the shape of an image and normalised pictures of the train part."""


@dataclass(frozen=True)
class Format:
    """How to write and run one form.

    Attributes:
        write: The file's content.
        run: From the content to what computes logits.
        words: What runs it, with its version.
    """

    write: Write
    run: Callable[[bytes], Run]
    words: Callable[[], str]


def _onnx(network: nn.Module, shape: Sequence[int], pictures: NDArray[np.float32]) -> bytes:
    try:
        return onnx_bytes(network, shape)
    except torch.onnx.OnnxExporterError as error:
        why = str(error).splitlines()[0]
        raise InputError(f"ONNX has no word for an operation of the network: {why}") from None


def _int8(network: nn.Module, shape: Sequence[int], pictures: NDArray[np.float32]) -> bytes:
    return int8_that_agrees(_onnx(network, shape, pictures), pictures)


def _executorch(network: nn.Module, shape: Sequence[int], pictures: NDArray[np.float32]) -> bytes:
    return executorch_bytes(network, shape)


FORMATS: dict[str, Format] = {
    "onnx": Format(_onnx, onnxruntime_run, onnxruntime_words),
    "int8": Format(_int8, onnxruntime_run, onnxruntime_words),
    "executorch": Format(_executorch, executorch_run, executorch_words),
}


def require_packages(names: Sequence[str]) -> None:
    """Refuse forms whose packages are not installed.

    Raises:
        InputError: With what to install.
    """
    for name in names:
        facts = EXPORTS[name]
        if missing := missing_packages(facts.needs):
            raise InputError(
                f"to export {name} needs {' and '.join(missing)}: "
                f"pip install 'collabdesign[{facts.extra}]'"
            )


def usual_forms() -> tuple[str, ...]:
    """What is written where a person names nothing: the usual forms that can be."""
    return tuple(
        name
        for name, facts in EXPORTS.items()
        if facts.is_usual and not missing_packages(facts.needs)
    )
