"""Batch, passes and learning rate of a training, from the recipe and the number of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from collabdesign.design.recipes import RECIPES
from collabdesign.design.requirements import Training

_SMALLEST_BATCH, _LARGEST_BATCH = 16, 64


@dataclass(frozen=True)
class TrainingPlan:
    """What a recipe comes to on a given number of images.

    Attributes:
        batch: Images a step; what is left over of a pass is left out of that pass.
        epochs: Passes over the train part.
        steps_per_epoch: Steps a pass.
        learning_rate: At its highest.
    """

    batch: int
    epochs: int
    steps_per_epoch: int
    learning_rate: float

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


def plan_training(images: int, recipe: Training) -> TrainingPlan:
    """Batch, passes and learning rate of a recipe on a number of training images.

    The batch, unless the recipe names one, is the largest power of two from 16 to 64 that
    still makes ``recipe.min_steps`` steps in ``recipe.epochs`` passes: small data, small
    batches. Where even 16 does not, passes are added until the steps are made. The learning
    rate, unless named, is the recipe's times the square root of the batch. There must be at
    least 2 images.
    """
    batch = recipe.batch
    if batch is None:
        batch = _LARGEST_BATCH
        while batch > _SMALLEST_BATCH and recipe.epochs * (images // batch) < recipe.min_steps:
            batch //= 2
    batch = min(batch, images)
    steps_per_epoch = images // batch
    epochs = max(recipe.epochs, math.ceil(recipe.min_steps / steps_per_epoch))
    learning_rate = recipe.learning_rate
    if learning_rate is None:
        learning_rate = RECIPES[recipe.recipe].learning_rate * math.sqrt(batch)
    return TrainingPlan(batch, epochs, steps_per_epoch, learning_rate)
