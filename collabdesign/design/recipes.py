"""What is known of a recipe without torch; :mod:`collabdesign.evaluate.recipe` trains by it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecipeFacts:
    """One recipe.

    Attributes:
        help: What it does, for a person who chooses one.
        learning_rate: Highest at a batch of 1 where a person names none; it grows with the
            square root of the batch.
    """

    help: str
    learning_rate: float


RECIPES: dict[str, RecipeFacts] = {
    "muon": RecipeFacts(
        "Muon on convolutions, SGD on the rest, one cycle of the rate, the last passes unshifted",
        0.05,
    ),
    # At batches of 32, 64 and 128 this rate was the best of four, a factor of 2 apart, on
    # 10,000 images of CIFAR-10. At 64 it is 0.4.
    "sgd": RecipeFacts("SGD with Nesterov momentum, one cycle of the learning rate", 0.05),
}
"""The first is the one of who names none. The same keys stand in ``evaluate.recipe.RECIPES``."""
