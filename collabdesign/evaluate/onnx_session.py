"""An ONNX model, to be run by onnxruntime on one thread of the CPU."""

from __future__ import annotations

from typing import Any


def session_of(model: bytes, *, is_optimised: bool = True) -> Any:
    """An ``onnxruntime.InferenceSession`` that tells errors alone.

    Args:
        model: From :func:`collabdesign.evaluate.onnx_file.onnx_bytes`, also in int8.
        is_optimised: Whether layers may be joined and rewritten; else they are those of the file.
    """
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    if not is_optimised:
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return InferenceSession(model, options, ["CPUExecutionProvider"])
