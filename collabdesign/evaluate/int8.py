"""An ONNX model -> the same in int8, by onnxruntime: static, per-channel weights.

Weights and the tensors between layers become int8 by scales that are known beforehand (QDQ:
quantise and dequantise as nodes of the model, which runtimes fuse). The scales of tensors come
from pictures; see :func:`int8_bytes`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collabdesign.evaluate.onnx_file import INPUT
from collabdesign.evaluate.onnx_session import session_of

# Pictures that pass through the network to find the ranges of its tensors. More change little.
CALIBRATION_IMAGES = 512

_BATCH = 64

_QUANTISED = ("Conv", "Gemm")

# So many of the pictures are to keep the class that float32 gives them.
_KEPT_CLASSES = 0.96

_NOISE_IMAGES = 8

# On which each layer is tried alone.
_TRIED_IMAGES = 128


def int8_that_agrees(model: bytes, pictures: NDArray[np.float32]) -> bytes:
    """Quantise a model as :func:`int8_bytes` does, and less of it where it then decides otherwise.

    Where too many of the pictures change their class, the layers that lose most by int8, each
    tried alone, are computed in float32: one more at a time, until enough keep their class, but at
    most a third of the layers. Their weights are stored in int8 as well. No labels are looked at.

    Args:
        model: From :func:`collabdesign.evaluate.onnx_file.onnx_bytes`, trained.
        pictures: float32 [N, C, R, R], normalised, of the train part.
    """
    ours = _logits(model, pictures)

    def kept_classes(quantised: bytes) -> float:
        return float((_logits(quantised, pictures).argmax(1) == ours.argmax(1)).mean())

    content = int8_bytes(model, pictures)
    if kept_classes(content) >= _KEPT_CLASSES:
        return content
    layers, some = _layers(model), pictures[:_TRIED_IMAGES]

    def loss_of(layer: str) -> float:
        alone = int8_bytes(model, some, [each for each in layers if each != layer])
        return float(np.square(_logits(alone, some) - ours[: len(some)]).mean())

    worst = sorted(layers, key=loss_of, reverse=True)
    for count in range(1, len(layers) // 3 + 1):
        content = int8_bytes(model, pictures, worst[:count])
        if kept_classes(content) >= _KEPT_CLASSES:
            break
    return content


def int8_bytes(
    model: bytes, pictures: NDArray[np.float32], in_float32: Sequence[str] = ()
) -> bytes:
    """Quantise a model.

    Convolutions and linear layers are quantised. Of the convolutions on one pixel, which are those
    of squeeze-and-excitation, the weights alone are: computing there in int8 gains no time and
    loses accuracy, since a gate multiplies all of its channel.

    Args:
        model: From :func:`collabdesign.evaluate.onnx_file.onnx_bytes`.
        pictures: float32 [N, C, R, R], normalised, of the train part: the ranges of all tensors
            are taken from them.
        in_float32: Names of other nodes whose weights alone are quantised.

    Returns:
        A model with the same input and output, both float32.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder, _quiet():
        whole, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in "abc")
        whole.write_bytes(model)
        # Its optimisation would take hardswish apart, which runtimes have a kernel for.
        quant_pre_process(whole, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Batches(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=(excluded := sorted({*_on_one_pixel(prepared), *in_float32})),
        )
        whole_model = onnx.load(quantised)
        _quantise_weights(whole_model.graph, excluded)
        _shorten_names(whole_model.graph)
        content: bytes = whole_model.SerializeToString()
        return content


def untrained_int8_bytes(model: bytes, shape: Sequence[int]) -> bytes:
    """An untrained network in int8, for its time and size: neither depends on the ranges that
    calibration finds, so noise does.

    Args:
        model: From :func:`collabdesign.evaluate.onnx_file.onnx_bytes`.
        shape: Of an image: channels, height, width.
    """
    pictures = np.random.default_rng(0).normal(size=(_NOISE_IMAGES, *shape))
    return int8_bytes(model, pictures.astype(np.float32))


def _layers(model: bytes) -> list[str]:
    """Names of the nodes that are quantised."""
    import onnx

    graph = onnx.load_from_string(model).graph
    return [node.name for node in graph.node if node.op_type in _QUANTISED]


def _logits(model: bytes, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    session = session_of(model)
    parts = range(0, len(pictures), _BATCH)
    found = [session.run(None, {INPUT: pictures[part : part + _BATCH]})[0] for part in parts]
    return np.concatenate(found)


class _Batches:
    """What onnxruntime calls a CalibrationDataReader."""

    def __init__(self, pictures: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, Any]] = (
            {INPUT: pictures[start : start + _BATCH]} for start in range(0, len(pictures), _BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _on_one_pixel(path: Path) -> list[str]:
    """Names of the convolutions whose input has one pixel."""
    import onnx

    graph = onnx.load(path).graph
    sides = {
        each.name: [dimension.dim_value for dimension in each.type.tensor_type.shape.dim[2:]]
        for each in (*graph.input, *graph.value_info)
    }
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv" and sides.get(node.input[0]) == [1, 1]
    ]


def _quantise_weights(graph: Any, nodes: Sequence[str]) -> None:
    """Store the weights of these convolutions in int8, a scale for each output; a runtime takes
    them back to float32 when it loads the model."""
    from onnx import helper, numpy_helper

    weights = {each.name: each for each in graph.initializer}
    for node in [each for each in graph.node if each.name in nodes]:
        name = node.input[1]
        numbers = numpy_helper.to_array(weights[name])
        largest = np.abs(numbers).reshape(len(numbers), -1).max(1)
        scales = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
        each = scales.reshape(-1, *[1] * (numbers.ndim - 1))
        quantised = np.rint(numbers / each).astype(np.int8)
        weights[name].CopyFrom(numpy_helper.from_array(quantised, name))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name} scales"))
        node.input[1] = f"{name} in float32"
        taken_back = helper.make_node(
            "DequantizeLinear", [name, f"{name} scales"], [node.input[1]], axis=0
        )
        graph.node.insert(0, taken_back)


def _shorten_names(graph: Any) -> None:
    """In a small network the names of quantised tensors are half of the file."""
    kept = {each.name for each in (*graph.input, *graph.output)}
    short: dict[str, str] = {"": ""}  # an input that is left out

    def renamed(name: str) -> str:
        return name if name in kept else short.setdefault(name, f"t{len(short)}")

    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.ClearField("name")
    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    del graph.value_info[:]  # runtimes infer shapes by themselves


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime tells the root logger what it would do otherwise."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
