"""A network as an ExecuTorch program, its layers handed to XNNPACK."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from collabdesign.deliver.export.runtime import Run
from collabdesign.errors import InputError


def executorch_bytes(network: nn.Module, shape: Sequence[int]) -> bytes:
    """The network in evaluation mode as a program for one image.

    Args:
        network: On the CPU; put into evaluation mode.
        shape: Of the image: channels, height, width.

    Raises:
        InputError: An operation stands in the way; it is named.
    """
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            whole = torch.export.export(network.eval(), (torch.zeros(1, *shape),))
            lowered = to_edge_transform_and_lower(whole, partitioner=[XnnpackPartitioner()])
            content: bytes = lowered.to_executorch().buffer
        except Exception as error:  # each of its passes has errors of its own
            raise InputError(
                f"ExecuTorch takes no {type(network).__name__} as it is: {error}"
            ) from None
    return content


def executorch_run(program: bytes) -> Run:
    """A program to be run by ExecuTorch's own runtime, image by image."""
    from executorch.runtime import Runtime

    folder = TemporaryDirectory()
    path = Path(folder.name) / "model.pte"
    path.write_bytes(program)
    with _without_stderr():  # its libraries tell what they find of the processor
        method = Runtime.get().load_program(path).load_method("forward")

    def run(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        assert folder.name  # it is read from there as long as it runs
        images = torch.from_numpy(pictures)
        parts = [method.execute([images[n : n + 1]])[0] for n in range(len(images))]
        logits: NDArray[np.float32] = torch.cat(parts).numpy()
        return logits

    return run


def executorch_words() -> str:
    """Which runtime that is."""
    return f"executorch {version('executorch')}, XNNPACK"


@contextmanager
def _quiet() -> Iterator[None]:
    """Its passes tell at length what they do."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Within, what the process writes to standard error is lost."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
