"""Can it be met, on this data, on this machine, and how long will it take: before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Data, Requirements, Training
from collabdesign.design.space import DesignSpace
from collabdesign.evaluate.data.folder import FolderInspection, inspect_folder, list_folder
from collabdesign.evaluate.data.images import ImageData, load_data, load_test, put_test_aside, split
from collabdesign.evaluate.data.sources import train_source
from collabdesign.evaluate.device import choose_device
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import train
from collabdesign.explore.feasible import Feasibility, default_params, feasibility

# Opening every picture of a large folder would take longer than the rest of the check.
INSPECTED_AT_MOST = 4000

_TIMED_NETWORKS = 3
_TIMED_STEPS = 4


@dataclass(frozen=True)
class DataPart:
    """What was found of one part of the data.

    Attributes:
        name: ``train`` or ``test``.
        images: All of them.
        per_class: Images by class name.
        sizes: Images by (width, height), most frequent first; of those inspected.
        inspected: How many were opened.
        unreadable: Path and reason.
        stray: What was passed over.
    """

    name: str
    images: int
    per_class: Mapping[str, int]
    sizes: Mapping[tuple[int, int], int]
    inspected: int
    unreadable: tuple[tuple[str, str], ...]
    stray: tuple[str, ...]


@dataclass(frozen=True)
class TimeEstimate:
    """How long a search takes, from a measured training step.

    Attributes:
        device: It was measured on.
        networks: How many different networks were measured.
        images_per_second: In training, of the slowest, middle and fastest of them.
        proxy_seconds: For one proxy of the middle one.
        search_seconds: For all trials, slowest, middle and fastest.
        family_seconds: For the full trainings of the family and of as many finalists as there
            can be, of the middle one.
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
        parts: Images to learn from, to choose by, and of the test; None where not all can be read.
        time: That a search takes; None where nothing fits or not all can be read.
    """

    feasibility: Feasibility
    data: tuple[DataPart, ...]
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

    Args:
        requirements: To check.
        device: As for :func:`collabdesign.pipeline.run`.
        on_progress: Called with what is being done, and how much of it.

    Raises:
        InputError: The data cannot be read at all.
    """
    space = DesignSpace(requirements)
    found = feasibility(space, requirements)
    parts = _look_at_data(requirements.data, on_progress)
    counts = time = None
    if not any(part.unreadable for part in parts):
        counts = _images_of_parts(requirements.data, parts)
        if found.possible:
            time = _estimate(space, requirements, counts[0], choose_device(device))
    return Check(found, parts, counts, time)


def _look_at_data(
    data: Data, on_progress: Callable[[str, int, int], None] | None
) -> tuple[DataPart, ...]:
    if data.source == "folder":
        assert data.train is not None
        folders = [("train", data.train)]
        if isinstance(data.test, Path):
            folders.append(("test", data.test))
        return tuple(_look_at_folder(name, folder, on_progress) for name, folder in folders)
    loaded = load_data(data)
    test = load_test(data)
    labels = torch.cat([loaded.train_labels, loaded.select_labels]).tolist()
    return (
        _embedded("train", labels, loaded.class_names, data.resolution),
        _embedded("test", test.labels.tolist(), test.class_names, data.resolution),
    )


def _look_at_folder(
    name: str, folder: Path, on_progress: Callable[[str, int, int], None] | None
) -> DataPart:
    listing = list_folder(folder)

    def report(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(f"opening {name} pictures", done, total)

    found: FolderInspection = inspect_folder(listing, sample=INSPECTED_AT_MOST, on_progress=report)
    return DataPart(
        name=name,
        images=len(listing.files),
        per_class=found.images_per_class,
        sizes=found.sizes,
        inspected=found.inspected,
        unreadable=tuple((str(path), reason) for path, reason in found.unreadable),
        stray=tuple(str(path) for path in listing.stray),
    )


def _embedded(
    name: str, labels: list[int], class_names: tuple[str, ...], resolution: int
) -> DataPart:
    counts = Counter(labels)
    return DataPart(
        name=name,
        images=len(labels),
        per_class={each: counts[label] for label, each in enumerate(class_names)},
        sizes={(resolution, resolution): len(labels)},
        inspected=len(labels),
        unreadable=(),
        stray=(),
    )


def _images_of_parts(data: Data, found: tuple[DataPart, ...]) -> tuple[int, int, int]:
    """How many images a network is trained on, chosen by, and tested on."""
    if data.source == "folder":
        source = train_source(data)
        train, select = split(source, data)
        test = found[1].images if len(found) > 1 else len(put_test_aside(source, data)[0])
        return len(train), len(select), test
    images = found[0].images
    select_images = round(data.select * images)
    return images - select_images, select_images, found[1].images


def _estimate(
    space: DesignSpace, requirements: Requirements, images: int, device: torch.device
) -> TimeEstimate:
    """Time a few steps of the default network and of random ones that fit."""
    architectures = _timed_architectures(space, requirements)
    batch = plan_training(images, requirements.search.proxy).batch
    speeds = sorted(images_per_second(each, requirements, batch, device) for each in architectures)
    slow, middle, fast = speeds[0], speeds[len(speeds) // 2], speeds[-1]
    proxy = plan_training(images, requirements.search.proxy)
    full = plan_training(images, requirements.family.training)
    proxy_images = proxy.steps * proxy.batch
    trials, family = requirements.search.trials, requirements.family
    trainings = min(family.size, trials) * family.training.seeds
    if family.finalists > 1:
        # With the prototype's default, and without the one that wins and is a member.
        trainings += min(family.finalists, trials - 1)
    return TimeEstimate(
        device=str(device),
        networks=len(speeds),
        images_per_second=(slow, middle, fast),
        proxy_seconds=proxy_images / middle,
        search_seconds=(
            trials * proxy_images / slow,
            trials * proxy_images / middle,
            trials * proxy_images / fast,
        ),
        family_seconds=trainings * full.steps * full.batch / middle,
    )


def _timed_architectures(space: DesignSpace, requirements: Requirements) -> list[Architecture]:
    rng = np.random.default_rng(requirements.search.seed)
    own = default_params(space, requirements)
    found = [] if own is None else [space.decode(own)]
    for _ in range(1000):
        if len(found) == _TIMED_NETWORKS:
            break
        architecture = space.decode(space.sample(rng))
        cost = cost_of(architecture, requirements.deploy.precision)
        if all(value <= 0 for value in requirements.violations(cost).values()):
            found.append(architecture)
    return found


def images_per_second(
    architecture: Architecture, requirements: Requirements, batch: int, device: torch.device
) -> float:
    """Images a second through the real training loop, on random pictures of the right shape.

    The second pass is timed: the first pays for what is set up once.
    """
    data = requirements.data
    images = batch * _TIMED_STEPS
    select = max(1, round(images * data.select / (1 - data.select)))

    def pictures(count: int) -> torch.Tensor:
        shape = (count, architecture.input_channels, data.resolution, data.resolution)
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return drawn.contiguous(memory_format=torch.channels_last).to(device)

    def labels(count: int) -> torch.Tensor:
        return (torch.arange(count) % architecture.classes).to(device)

    shown = ImageData(
        train_images=pictures(images),
        train_labels=labels(images),
        select_images=pictures(select),
        select_labels=labels(select),
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
    recipe = Training(epochs=2, batch=batch, learning_rate=1e-3, min_steps=0)
    result = train(network, shown, recipe, seed=seed_of("timing", 0), device=device)
    return images / result.curve[-1].seconds
