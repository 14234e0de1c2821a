"""By which steps a detector learns: the optimiser and its rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from collabdesign.detect.requirements import DetectionTraining

_MOMENTUM = 0.9


def optimizer_of(network: nn.Module, written: DetectionTraining) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, as a person wrote."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    # No decay of normalisation and biases: it makes them smaller, not simpler.
    groups: list[dict[str, Any]] = [
        {
            "params": [each for each in parameters if each.ndim > 1],
            "weight_decay": written.weight_decay,
        },
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    if written.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=written.highest_rate, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups, lr=written.highest_rate)


def rate_at(step: int, steps: int, written: DetectionTraining) -> float:
    """Rises linearly, then falls to 0 along a half cosine."""
    warm_up = min(written.warm_up, steps // 10)
    if step < warm_up:
        return written.highest_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return written.highest_rate * 0.5 * (1 + math.cos(math.pi * progress))
