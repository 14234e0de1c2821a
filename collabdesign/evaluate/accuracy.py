"""How often a network is right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from collabdesign.evaluate.augment import channel_values, normalise
from collabdesign.evaluate.precision import full_float32

_EVALUATION_BATCH = 512


def evaluate(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> float:
    """Share of images whose largest logit is their label's, in float32, no augmentation.

    The network is left in evaluation mode. Images are uint8 [N, C, R, R], on any device, labels
    int64 [N], on the network's; mean and std are those of :class:`ImageData`.
    """
    network.eval()
    device = labels.device
    centre, scale = channel_values(mean, device), channel_values(std, device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.inference_mode(), full_float32():
        for start in range(0, len(labels), _EVALUATION_BATCH):
            part = slice(start, start + _EVALUATION_BATCH)
            logits = network(normalise(images[part].to(device), centre, scale))
            right += (logits.argmax(1) == labels[part]).sum()
    return int(right) / len(labels)
