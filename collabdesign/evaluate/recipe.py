"""How networks are trained; :mod:`collabdesign.design.recipes` has what needs no torch.

``muon``: each image of a batch is shifted or cropped and mirrored at random; cross-entropy with
label smoothing; Muon on the convolutions that mix channels, SGD with Nesterov momentum 0.9 on the
other weights, weight decay on depthwise convolutions and linear layers only; the learning rate
rises linearly over the first fifth of all steps and falls linearly to zero. In the last sixth of
the passes pictures are mirrored alone: a network learns from them as it will be shown them.

``sgd``: SGD on all weights, with weight decay on all convolutions; all passes alike.

What each part is worth was measured: ``experiments/recipes/``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from collabdesign.design.requirements import Training
from collabdesign.evaluate.augment import largest_shift, take_cropped, take_shifted
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.muon import Muon

_MOMENTUM = 0.9
_WARM_UP = 0.2


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, but for the numbers that a person writes.

    A training's checkpoint belongs to one recipe: what stands here is part of its identity. So
    use named functions, with :func:`functools.partial` for their numbers, and no lambdas.

    Attributes:
        optimizer: From the network, what a person wrote and the highest learning rate.
        schedule: From the share of the steps that are done, 0 to 1, to the share of the highest
            learning rate.
        augment: From the data, indices of train images (int64 [B]) and a generator to pictures
            [B, C, R, R] from 0 to 255, changed at random.
        loss: From logits, labels, the teacher's logits (None without one) and what a person
            wrote to the loss, summed over the images.
        average: From the network to an average of its weights, brought up to date after each
            step. It is what is evaluated and what the training ends with.
        last_augment: As ``augment``, for the last passes; see :func:`last_passes`. The network
            then learns from pictures as it will be shown them. None where nothing changes.
        teacher: From the data and the device to a trained network there, which is shown the
            same pictures. It is put into evaluation mode and not changed.
    """

    optimizer: Callable[[nn.Module, Training, float], torch.optim.Optimizer]
    schedule: Callable[[float], float]
    augment: Callable[[ImageData, torch.Tensor, torch.Generator], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, Training], torch.Tensor]
    average: Callable[[nn.Module], AveragedModel] | None = None
    last_augment: Callable[[ImageData, torch.Tensor, torch.Generator], torch.Tensor] | None = None
    teacher: Callable[[ImageData, torch.device], nn.Module] | None = None


def nesterov(network: nn.Module, written: Training, learning_rate: float) -> torch.optim.Optimizer:
    """SGD; see :class:`Recipe`."""
    parameters = list(network.parameters())
    # No decay of normalisation and biases: it makes them smaller, not simpler.
    groups: list[dict[str, Any]] = [
        {
            "params": [weight for weight in parameters if weight.ndim > 1],
            "weight_decay": written.weight_decay,
        },
        {"params": [weight for weight in parameters if weight.ndim <= 1]},
    ]
    return torch.optim.SGD(groups, lr=learning_rate, momentum=_MOMENTUM, nesterov=True, fused=True)


def muon(
    network: nn.Module, written: Training, learning_rate: float, *, ratio: float
) -> torch.optim.Optimizer:
    """Muon, its rate so many times that of SGD, and SGD where there is no matrix; see
    :class:`Recipe`."""
    return Muon(
        network,
        learning_rate,
        ratio=ratio,
        momentum=_MOMENTUM,
        weight_decay=written.weight_decay,
    )


def one_cycle(progress: float) -> float:
    """Rises linearly from 0 to 1 over the first fifth of the steps, then falls linearly to 0."""
    return min(progress / _WARM_UP, (1 - progress) / (1 - _WARM_UP))


def shifted_or_cropped(
    data: ImageData, chosen: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """As ``data.augment`` and ``data.flip`` say; see :class:`Recipe`."""
    images = data.train_images
    if data.augment == "crop":
        return take_cropped(images, chosen, generator, resolution=data.resolution, flip=data.flip)
    shift = largest_shift(data.resolution) if data.augment == "shift" else 0
    flip = data.flip and data.augment != "none"
    return take_shifted(images, chosen, generator, shift=shift, flip=flip)


def only_mirrored(
    data: ImageData, chosen: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Whole pictures, half of them mirrored where ``data.flip`` says so; see :class:`Recipe`."""
    flip = data.flip and data.augment != "none"
    pictures = take_shifted(data.train_images, chosen, generator, shift=0, flip=flip)
    side = data.resolution
    if pictures.shape[-1] != side:  # stored larger, to be cropped
        pictures = F.interpolate(pictures.float(), (side, side), mode="bilinear", antialias=True)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    return pictures


def last_passes(epochs: int) -> int:
    """How many of the passes of a training are its last ones: a sixth."""
    return round(epochs / 6)


def smoothed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None, written: Training
) -> torch.Tensor:
    """Of the labels alone; see :class:`Recipe`."""
    return F.cross_entropy(logits, labels, label_smoothing=written.label_smoothing, reduction="sum")


RECIPES: dict[str, Recipe] = {
    "muon": Recipe(
        partial(muon, ratio=1 / 20),
        one_cycle,
        shifted_or_cropped,
        smoothed_cross_entropy,
        last_augment=only_mirrored,
    ),
    "sgd": Recipe(nesterov, one_cycle, shifted_or_cropped, smoothed_cross_entropy),
}
