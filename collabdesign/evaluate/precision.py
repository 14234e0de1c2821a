"""The precision in which float32 is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Within, float32 is computed as float32: no TF32 on CUDA, no bfloat16 on the CPU.

    By default torch lets CUDA's convolutions round what they multiply to the 10 bits of TF32.
    The switches are those of the process; they are afterwards as they were before.
    """
    backends = torch.backends
    switches: list[tuple[object, str, object]]
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        # Since torch 2.9, which refuses a mix of these and the older names.
        kernels = ("cuda.matmul", "cudnn.conv", "mkldnn.matmul", "mkldnn.conv")
        switches = [(attrgetter(each)(backends), "fp32_precision", "ieee") for each in kernels]
    else:
        switches = [
            (backends.cuda.matmul, "allow_tf32", False),
            (backends.cudnn, "allow_tf32", False),
        ]
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)
