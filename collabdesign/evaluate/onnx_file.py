"""A network as an ONNX model: what other runtimes read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

INPUT = "image"
OUTPUT = "logits"

# The first that has a word for hardswish is 14; runtimes on devices lag some years behind.
OPSET = 17

# The exporter reads what it wrote with onnx.
_PACKAGES = ("onnx", "onnxruntime")


def missing_packages(needed: Sequence[str] = _PACKAGES) -> tuple[str, ...]:
    """Which of these packages would have to be installed."""
    return tuple(name for name in needed if find_spec(name) is None)


def onnx_bytes(network: nn.Module, shape: Sequence[int]) -> bytes:
    """The network in evaluation mode as an ONNX model.

    Its input ``image`` is float32 [N, channels, height, width] for any N, its output ``logits``
    [N, classes]. Batch normalisation is folded into the convolution before it.

    Args:
        network: On the CPU; put into evaluation mode.
        shape: Of one image: channels, height, width.

    Raises:
        torch.onnx.OnnxExporterError: ONNX has no word for something in it.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "model.onnx"
        # The exporter that is to replace this one needs a package more.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, *shape),),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()
