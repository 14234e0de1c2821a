"""Batch, passes and learning rate of a training, from the recipe and the number of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from collabdesign.design.recipes import RECIPES
from collabdesign.design.requirements import ProxyTraining, Training
from collabdesign.errors import InputError

_SMALLEST_BATCH, _LARGEST_BATCH = 16, 64


@dataclass(frozen=True)
class TrainingPlan:
    """What a recipe comes to on a given number of images.

    Attributes:
        batch: Images a step; what is left over of a pass is left out of that pass.
        epochs: Passes over the images that it trains on.
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


def trained_images(images: int, recipe: Training) -> int:
    """How many of a train part's images a recipe trains on: all, unless a proxy asks for fewer.

    Raises:
        InputError: It asks for more.
    """
    asked = recipe.images if isinstance(recipe, ProxyTraining) else None
    if asked is not None and asked > images:
        raise InputError(
            f"search.proxy.images must be at most the {images:,} images of the train part, "
            f"got {asked:,}"
        )
    return images if asked is None else asked


def plan_training(images: int, recipe: Training) -> TrainingPlan:
    """Batch, passes and learning rate of a recipe on a train part of so many images.

    The batch, unless the recipe names one, is the largest power of two from 16 to 64 that
    still makes ``recipe.min_steps`` steps in ``recipe.epochs`` passes: small data, small
    batches. Where even 16 does not, passes are added until the steps are made. The learning
    rate, unless named, is the recipe's times the square root of the batch. There must be at
    least 2 images.

    Raises:
        InputError: A proxy asks for more images than there are.
    """
    images = trained_images(images, recipe)
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


def is_shorter(recipe: Training, than: Training, images: int) -> bool:
    """Whether one recipe shows a network fewer images than another, on a train part of so many.

    Repeats are counted; what batches leave over is not left out.
    """
    shown = [
        plan_training(images, each).epochs * trained_images(images, each) for each in (recipe, than)
    ]
    return shown[0] < shown[1]
