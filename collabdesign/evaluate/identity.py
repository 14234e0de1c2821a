"""Which training a checkpoint belongs to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from functools import partial
from typing import Any

import torch
from torch import nn

from collabdesign.design.requirements import Training
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.plan import TrainingPlan
from collabdesign.evaluate.recipe import RECIPES


def identity_of(
    network: nn.Module, data: ImageData, recipe: Training, plan: TrainingPlan, seed: int
) -> str:
    """A hash of everything that a training depends on, but for the text of our functions.

    The network is as before the first step. Of the data, what is not compared does not count;
    of the recipe, what stands under its name in ``RECIPES`` does.
    """
    start = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        start.update(f"{name} {tuple(tensor.shape)} ".encode())
        start.update(tensor.cpu().contiguous().numpy().tobytes())
    row = RECIPES[recipe.recipe]
    shown = {each.name: getattr(data, each.name) for each in fields(data) if each.compare}
    what = {
        "start": start.hexdigest(),
        # The fingerprint stands for the tensors.
        "data": {key: it for key, it in shown.items() if not isinstance(it, torch.Tensor)},
        "plan": asdict(plan),
        # How many trainings there are does not change any of them.
        "written": recipe.model_dump(mode="json", exclude={"seeds"}),
        "recipe": {each.name: _plain(getattr(row, each.name)) for each in fields(row)},
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A function by its name, with what is bound to it."""
    if isinstance(value, partial):
        return [_plain(each) for each in (value.func, *value.args)] + [
            [name, _plain(each)] for name, each in sorted(value.keywords.items())
        ]
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else value
