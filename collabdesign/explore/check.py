"""Can it be met, on this data, on this machine, and how long will it take: before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements, Training
from collabdesign.design.space import DesignSpace
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.data.inspect import Copies, DataPart, inspect_data
from collabdesign.evaluate.device import choose_device
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.plan import plan_training, trained_images
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import passes
from collabdesign.explore.feasible import Feasibility, default_params, feasibility
from collabdesign.explore.first_networks import pricing_of
from collabdesign.explore.pricing import Pricing

_TIMED_NETWORKS = 3
_TIMED_STEPS = 4


@dataclass(frozen=True)
class TimeEstimate:
    """How long a search takes, from a measured training step.

    Attributes:
        networks: How many different networks were measured.
        images_per_second: In training, of the slowest, middle and fastest of them.
        proxy_seconds: For one proxy of the middle one.
        search_seconds: For all trials, slowest, middle and fastest.
        family_seconds: For as many full trainings of the middle one as there can be: of the
            family, of finalists, and with a goal to find the smallest network that meets it.
    """

    device: str
    networks: int
    images_per_second: tuple[float, float, float]
    proxy_seconds: float
    search_seconds: tuple[float, float, float]
    family_seconds: float


@dataclass(frozen=True)
class Check:
    """Everything that ``collabdesign check`` says.

    Attributes:
        feasibility: What of the space fits.
        data: What was found of it.
        lacking: Classes without a picture in test.
        copies: Pictures that stand there twice; None where not all can be read.
        cache: The folder that keeps the decoded pictures, if they are kept.
        parts: Images to learn from, to choose by, and of the test; None where not all can be read.
        time: That a search takes; None where nothing fits or not all can be read.
    """

    feasibility: Feasibility
    data: tuple[DataPart, ...]
    lacking: tuple[str, ...]
    copies: Copies | None
    cache: str | None
    parts: tuple[int, int, int] | None
    time: TimeEstimate | None

    @property
    def possible(self) -> bool:
        """Whether a search can begin: something fits, and every picture opened is readable."""
        return self.feasibility.possible and not self.unreadable

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """Path and reason of every picture that does not decode."""
        return tuple(each for part in self.data for each in part.unreadable)


def check(
    requirements: Requirements,
    *,
    device: str | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Check:
    """Look at the space, the data and the machine; trains nothing but a few timed steps.

    ``on_progress`` is called with what is being done, and how much of it.

    Raises:
        InputError: The data cannot be read at all, or has fewer images than proxies ask for; or
            what has to be measured cannot be, here.
        NotMeasured: It could not be.
    """
    space = DesignSpace(requirements)

    def on_measured(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress("measuring networks", done, total)

    pricing = pricing_of(space, requirements, on_measured=on_measured)
    found = feasibility(space, requirements, pricing=pricing)
    data = inspect_data(requirements.data, on_progress)
    if data.images is not None:
        trained_images(data.images[0], requirements.search.proxy)  # refuses what is not there
    time = None
    if data.images is not None and found.possible:
        time = _estimate(space, requirements, pricing, data.images[0], choose_device(device))
    return Check(found, data.parts, data.lacking, data.copies, data.cache, data.images, time)


def _estimate(
    space: DesignSpace,
    requirements: Requirements,
    pricing: Pricing,
    images: int,
    device: torch.device,
) -> TimeEstimate:
    """Time a few steps of the default network and of random ones that fit."""
    rng = np.random.default_rng(requirements.search.seed)
    drawn = (space.decode(space.sample(rng)) for _ in range(1000))
    fitting = (each for each in drawn if requirements.fits(pricing.expected(each)))
    own = default_params(space, requirements, pricing)
    assert own is not None, "something fits"
    timed = [space.decode(own), *islice(fitting, _TIMED_NETWORKS - 1)]
    proxy = plan_training(images, requirements.search.proxy)
    speeds = sorted(images_per_second(each, requirements, proxy.batch, device) for each in timed)
    slow, middle, fast = speeds[0], speeds[len(speeds) // 2], speeds[-1]
    full = plan_training(images, requirements.family.training)
    proxy_images = proxy.steps * proxy.batch
    trials, family = requirements.search.trials, requirements.family
    searched = trials * proxy_images
    has_goal = requirements.goals.aimed is not None
    # As many again to find the smallest that meets a goal.
    members = min((1 + has_goal) * family.size, trials)
    trainings = members * family.training.seeds
    if family.finalists > 1:
        # With the prototype's default, and without the one that wins and is a member.
        trainings += min(family.finalists, trials - 1)
    elif has_goal and requirements.search.aim:
        trainings += 1  # the default, to know where to aim
    return TimeEstimate(
        device=str(device),
        networks=len(speeds),
        images_per_second=(slow, middle, fast),
        proxy_seconds=proxy_images / middle,
        search_seconds=(searched / slow, searched / middle, searched / fast),
        family_seconds=trainings * full.steps * full.batch / middle,
    )


def images_per_second(
    architecture: Architecture, requirements: Requirements, batch: int, device: torch.device
) -> float:
    """Images a second through the real training loop, on random pictures of the right shape.

    The second pass is timed: the first pays for what is set up once.
    """
    data = requirements.data
    images = batch * _TIMED_STEPS
    count = images + max(1, round(images * data.select / (1 - data.select)))
    shape = (count, architecture.input_channels, data.resolution, data.resolution)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    pictures = pictures.contiguous(memory_format=torch.channels_last).to(device)
    labels = (torch.arange(count) % architecture.classes).to(device)
    shown = ImageData(
        train_images=pictures[:images],
        train_labels=labels[:images],
        select_images=pictures[images:],
        select_labels=labels[images:],
        class_names=tuple(map(str, range(architecture.classes))),
        mean=(0.5,) * architecture.input_channels,
        std=(0.25,) * architecture.input_channels,
        resolution=data.resolution,
        flip=bool(data.flip),
        augment="shift",
        fingerprint="",
    )
    network = build_network(architecture)
    initialise(network, 0)
    name = requirements.search.proxy.recipe
    recipe = Training(recipe=name, epochs=2, batch=batch, learning_rate=1e-3, min_steps=0)
    *_, last = passes(network, shown, recipe, seed=seed_of("timing", 0), device=device)
    return images / last.record.seconds
