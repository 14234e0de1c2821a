"""Measured milliseconds for one image: onnxruntime on one thread of this machine's CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from collabdesign.evaluate.onnx_session import session_of

RUNS = 50
_WARM_UP = 5

# The exporter reads what it wrote with onnx.
PACKAGES = ("onnx", "onnxruntime")


@dataclass(frozen=True)
class Milliseconds:
    """Of one image.

    Attributes:
        median: Over the runs.
        low: Their first quartile, and ``high`` the third.
    """

    median: float
    low: float
    high: float


def missing_packages(needed: Sequence[str] = PACKAGES) -> tuple[str, ...]:
    """What would have to be installed to measure."""
    return tuple(name for name in needed if find_spec(name) is None)


def milliseconds(
    models: Sequence[bytes], shape: Sequence[int], runs: int = RUNS
) -> tuple[Milliseconds, ...]:
    """Time ONNX models, one image at a time, on one thread.

    They take turns, so that whatever else the machine does meets all of them; a run that is not
    timed comes before each that is. What is counted is the processor's time of this thread.

    Args:
        models: From :func:`collabdesign.evaluate.onnx_file.onnx_bytes`.
        shape: Of an image: channels, height, width.
        runs: Of each model, at least 2.
    """
    sessions = [session_of(each) for each in models]
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).numpy()
    inputs = [{session.get_inputs()[0].name: image} for session in sessions]
    times: list[list[float]] = [[] for _ in sessions]
    for run in range(_WARM_UP + runs):
        for session, given, seen in zip(sessions, inputs, times, strict=True):
            session.run(None, given)
            # One thread computes in the calling thread. Its own time leaves out what the wall
            # clock would count too: how long it waited while trainings had the cores.
            started = time.thread_time()
            session.run(None, given)
            if run >= _WARM_UP:
                seen.append(1000 * (time.thread_time() - started))
    quartiles = [statistics.quantiles(seen, n=4) for seen in times]
    return tuple(Milliseconds(median, low, high) for low, median, high in quartiles)
