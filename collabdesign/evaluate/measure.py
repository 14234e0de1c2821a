"""What only a measurement tells of a network, before any training.

An untrained network stands for the trained one: neither its time nor its file's size depends on
what the weights are.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import nn

from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError, NotMeasured
from collabdesign.evaluate.device_command import command_milliseconds
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.int8 import untrained_int8_bytes
from collabdesign.evaluate.latency import milliseconds, missing_packages
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.onnx_file import onnx_bytes

RUNS = 25

# By deploy.precision, what makes the ONNX file of a network for images of a shape.
ONNX_FILES: Mapping[str, Callable[[nn.Module, Sequence[int]], bytes]] = {
    "float32": onnx_bytes,
    "int8": lambda network, shape: untrained_int8_bytes(onnx_bytes(network, shape), shape),
}


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        value: Milliseconds or bytes.
        quartiles: The first and the third of its runs, where these are known.
    """

    value: float
    quartiles: tuple[float, float] | None = None


def require_measurable(requirements: Requirements) -> None:
    """Refuse what cannot be measured, before anything is.

    Raises:
        InputError: The precision has no ONNX file, or a package is missing.
    """
    asked, precision = requirements.measured, requirements.deploy.precision
    if not asked:
        return
    words = " and ".join(asked)
    if precision not in ONNX_FILES:
        raise InputError(
            f"deploy.precision must be {' or '.join(ONNX_FILES)} where {words} is limited or an "
            f"objective, got {precision}: networks of other precisions are not measured yet"
        )
    if missing := missing_packages(_needed(requirements)):
        raise InputError(
            f"to measure {words} needs {' and '.join(missing)}, which is not installed: "
            "pip install 'collabdesign[export]'"
        )


def _needed(requirements: Requirements) -> list[str]:
    here = "latency_ms" in requirements.measured and requirements.latency.command is None
    # It is onnxruntime that quantises.
    is_quantised = requirements.deploy.precision == "int8"
    return ["onnx", "onnxruntime"] if here or is_quantised else ["onnx"]


def ways(requirements: Requirements) -> dict[str, str]:
    """How each quantity is measured, in words; two values compare where these are the same."""
    precision = requirements.deploy.precision
    found = {}
    for name in requirements.measured:
        if name == "file_bytes":
            found[name] = f"measured: size of the ONNX file at {precision}"
        elif requirements.latency.command is not None:
            found[name] = f"measured by the command {requirements.latency.command!r}, {precision}"
        else:
            found[name] = (
                f"measured by onnxruntime {version('onnxruntime')}: processor time of one thread "
                f"of {platform.machine()} ({os.cpu_count()} cores), {precision}, one image, median "
                f"of {RUNS} runs"
            )
    return found


def measure(architecture: Architecture, requirements: Requirements) -> dict[str, Measurement]:
    """Measure what the requirements ask, each by its name.

    Raises:
        NotMeasured: The network cannot be exported, or the command did not measure it.
    """
    shape = (architecture.input_channels, architecture.resolution, architecture.resolution)
    try:
        model = ONNX_FILES[requirements.deploy.precision](_untrained(architecture), shape)
    except torch.onnx.OnnxExporterError as error:
        raise NotMeasured(
            f"a network must have an ONNX file to be measured, and {architecture.id} has none: "
            f"{str(error).splitlines()[0]}"
        ) from None
    found, latency = {}, requirements.latency
    for name in requirements.measured:
        if name == "file_bytes":
            found[name] = Measurement(len(model))
        elif latency.command is not None:
            found[name] = Measurement(
                command_milliseconds(
                    latency.command, model, timeout=latency.timeout, folder=latency.folder
                )
            )
        else:
            (time,) = milliseconds([model], shape, RUNS)
            # To the nanosecond, which is more than there is to them; a coarse clock may tell 0.
            runs = (time.median, time.low, time.high)
            median, low, high = (max(1e-6, round(each, 6)) for each in runs)
            found[name] = Measurement(median, (low, high))
    return found


def _untrained(architecture: Architecture) -> nn.Module:
    """With weights, and with statistics as training leaves them: layers that are told apart by
    nothing share one copy in a file."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = build_network(architecture)
        initialise(network, 0)
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.normal_(0, 0.1)
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.normal_(0, 0.1)
    return network
