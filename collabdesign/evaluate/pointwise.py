"""A way around a defect of CPU convolutions, while a network trains.

The gradient of a strided 1 x 1 convolution's weights, with channels last and fewer of them than
fit a vector, is written past its workspace: the process dies, or the numbers are wrong (oneDNN
issue 6035, open in torch 2.14). Without the stride it is right. So its input is subsampled before
it and its stride is 1 meanwhile, which computes the same and takes as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

# Floats of the widest vector registers.
_VECTOR = 16


@contextmanager
def without_narrow_strides(network: nn.Module) -> Iterator[None]:
    """Within, the network's narrow strided 1 x 1 convolutions have stride 1 and a smaller input."""
    affected = [
        (module, module.stride)
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < _VECTOR
    ]
    hooks = []
    try:
        for module, stride in affected:
            hooks.append(module.register_forward_pre_hook(_subsampling(stride)))
            module.stride = (1, 1)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, stride in affected:
            module.stride = stride


def _subsampling(stride: tuple[int, ...]) -> Callable[[nn.Module, Any], torch.Tensor]:
    # The mean of one pixel each; unlike a slice its gradient keeps the channels last.
    return lambda _, inputs: F.avg_pool2d(inputs[0], 1, stride)
