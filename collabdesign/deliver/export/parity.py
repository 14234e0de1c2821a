"""A written network beside the network itself, on the same pictures; and where they part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from collabdesign.deliver.exported import Parity
from collabdesign.evaluate.onnx_file import INPUT
from collabdesign.evaluate.onnx_session import session_of
from collabdesign.evaluate.precision import full_float32

# Of a layer's output, the length of the difference by that of the output.
_LAYER_TOLERANCE = {"float32": 1e-3, "int8": 0.3}


def parity(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Parity:
    """Compare logits [N, classes] of the same images."""
    return Parity(
        len(ours),
        float(np.abs(ours - theirs).max()),
        float(np.abs(ours).max()),
        int((ours.argmax(1) == theirs.argmax(1)).sum()),
    )


def first_difference(
    network: nn.Module, model: bytes, pictures: NDArray[np.float32], precision: str = "float32"
) -> str | None:
    """The first convolution or linear layer whose output differs by more than the precision makes.

    Both run on the same pictures; onnxruntime without its optimisations, so that its layers are
    those of the file.

    Args:
        network: On the CPU, in evaluation mode.
        model: ONNX, exported from it.
        pictures: float32 [N, C, R, R], normalised.
        precision: ``float32`` or ``int8``.

    Returns:
        The layer's name in the network and by how much it differs; None where no layer does.
    """
    theirs = _onnx_outputs(model, pictures)
    for name, own in _torch_outputs(network, pictures):
        if name not in theirs:
            return f"{name} is not in the file"
        other = theirs[name]
        if own.shape != other.shape:
            return f"{name} gives {other.shape}, not {own.shape}"
        share = float(np.linalg.norm(own - other)) / max(float(np.linalg.norm(own)), 1e-12)
        if not share <= _LAYER_TOLERANCE[precision]:
            return f"{name} is the first layer to differ, by {share:.1%} of its output"
    return None


def _torch_outputs(
    network: nn.Module, pictures: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Of each convolution and linear layer as they run, after the normalisation that follows."""
    names = {module: name for name, module in network.named_modules()}
    seen: list[tuple[str, torch.Tensor]] = []
    last: torch.Tensor | None = None

    def note(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal last
        # Copies: the activation that follows may write over its input.
        if not isinstance(module, nn.BatchNorm2d):
            seen.append((names[module], output.clone()))
        elif given[0] is last:  # an export folds it into its convolution
            seen[-1] = seen[-1][0], output.clone()
        last = output

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    ]
    try:
        with torch.inference_mode(), full_float32():
            network(torch.from_numpy(pictures))
    finally:
        for hook in hooks:
            hook.remove()
    for name, output in seen:
        yield name, output.numpy()


def _onnx_outputs(model: bytes, pictures: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Of each convolution and linear layer, by its name in the network."""
    import onnx

    whole = onnx.load_from_string(model)
    layers = {
        _layer_name(each.name): each.output[0]
        for each in whole.graph.node
        if each.op_type in ("Conv", "Gemm")
    }
    known = {each.name for each in whole.graph.output}
    whole.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in layers.values()
        if name not in known
    )
    session = session_of(whole.SerializeToString(), is_optimised=False)
    outputs = session.run(list(layers.values()), {INPUT: pictures})
    return dict(zip(layers, outputs, strict=True))


def _layer_name(node: str) -> str:
    """``body.0.branches.1.conv`` for the exporter's ``/body/body.0/branches.1/conv/Conv``."""
    parts: list[str] = []
    for part in node.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()  # a member of a sequence says the sequence's name again
        parts.append(part)
    return ".".join(parts)
