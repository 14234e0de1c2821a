"""A network as an ONNX model, as other runtimes read it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

INPUT, OUTPUT = "image", "logits"

# The first that has hardswish (14) and gives normalisation its last form (15), with a year of
# runtimes after it that read it.
OPSET = 17


def onnx_bytes(network: nn.Module, shape: Sequence[int]) -> bytes:
    """The network as an ONNX model; normalisation is folded into the convolutions.

    The input ``image`` is N x channels x height x width, float32, the output ``logits``
    N x classes, with any N.

    Args:
        network: Is left in evaluation mode.
        shape: Of an image: channels, height, width.

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
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()
