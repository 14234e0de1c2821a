"""Images a second of our training against a plain PyTorch loop, alternating in one run.

Both train the same network from the same weights on the same pictures, batch size,
augmentation (shift by up to 4 pixels with reflection, mirror), loss and optimiser. The plain
loop is what a tutorial writes: pictures in memory, torchvision transforms, a DataLoader,
contiguous layout. It runs without worker processes and with two, and the faster is what ours
is compared with. Each has a process of its own, since ours keeps freed memory as the command
line does; one pass of each is warm-up, then passes alternate, one process at a time.

    python experiments/training_speed.py --repetitions 7
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Training
from collabdesign.evaluate.augment import largest_shift
from collabdesign.evaluate.data.decode import decode
from collabdesign.evaluate.data.findings import channel_statistics, value_counts
from collabdesign.evaluate.data.folder import list_folder
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.data.pictures import read_picture
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.memory import keep_freed_memory
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.training import passes

SIDE = 32
CLASSES = 10


def inverted_residuals() -> Architecture:
    """Pointwise, depthwise, pointwise, as a designer draws for 3M MACs at 32x32."""

    def module(stage: int, stride: int, before: int, channels: int) -> Module:
        hidden = 2 * channels
        layers = (
            Layer("conv", 1, 1, 1, hidden),
            Layer("conv", 3, stride, hidden, hidden),
            Layer("conv", 1, 1, 1, channels),
        )
        same = stride == 1 and before == channels
        shortcut = "identity" if same else "none"
        return Module(
            stage, stride, channels, shortcut, "add", "none", "relu", "linear", (Branch(layers),)
        )

    modules = (
        module(0, 2, 16, 24),
        module(1, 2, 24, 48),
        module(1, 1, 48, 48),
        module(2, 2, 48, 72),
        module(2, 1, 72, 72),
    )
    return Architecture(3, SIDE, CLASSES, Stem(3, 1, 16), modules, Head(128))


def residual_blocks() -> Architecture:
    """Two 3x3 convolutions and a shortcut, as in ResNet, for 3M MACs at 32x32."""

    def module(stage: int, channels: int) -> Module:
        layers = (Layer("conv", 3, 2, 1, channels), Layer("conv", 3, 1, 1, channels))
        return Module(
            stage, 2, channels, "projection", "add", "none", "relu", "activated", (Branch(layers),)
        )

    modules = (module(0, 16), module(1, 32), module(2, 48))
    return Architecture(3, SIDE, CLASSES, Stem(3, 1, 12), modules, Head(0))


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Pictures in memory with torchvision transforms."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.pictures = [Image.fromarray(one) for one in pixels]
        self.labels = labels.tolist()
        mean, std = channel_statistics(value_counts(pixels))
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIDE, padding=largest_shift(SIDE), padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def plain_passes(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    batch: int,
    *,
    workers: int,
) -> Iterator[float]:
    """Train pass after pass; the images a second of each."""
    loader = DataLoader(
        Pictures(pixels, labels),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    network.train()
    while True:
        started = time.perf_counter()
        total = 0.0
        for images, truth in loader:
            loss = F.cross_entropy(network(images), truth, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield len(loader) * batch / (time.perf_counter() - started)


def our_passes(
    network: nn.Module, pixels: NDArray[np.uint8], labels: NDArray[np.int64], batch: int
) -> Iterator[float]:
    """Likewise, each pass a training of its own."""
    keep_freed_memory()
    data = on_device(pixels, labels)
    recipe = Training(epochs=1, batch=batch, learning_rate=0.1, min_steps=1)
    while True:
        (made,) = passes(network, data, recipe, seed=0, device=torch.device("cpu"))
        yield len(labels) // batch * batch / made.record.seconds


def contender(
    connection: Connection,
    run: Callable[..., Iterator[float]],
    architecture: Architecture,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    batch: int,
    threads: int,
) -> None:
    """In its own process: one pass for each True that comes, until a False."""
    torch.set_num_threads(threads)
    network = build_network(architecture)
    initialise(network, 0)
    running = run(network, pixels, labels, batch)
    while connection.recv():
        connection.send(next(running))


def on_device(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> ImageData:
    """All pictures as the train part; one of them is the select part, to cost nothing."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    truth = torch.from_numpy(labels)
    mean, std = channel_statistics(value_counts(pixels))
    return ImageData(
        train_images=images,
        train_labels=truth,
        select_images=images[:1],
        select_labels=truth[:1],
        class_names=tuple(str(label) for label in range(CLASSES)),
        mean=mean,
        std=std,
        resolution=SIDE,
        flip=True,
        augment="shift",
        fingerprint="",
    )


def compare(
    architecture: Architecture,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    options: argparse.Namespace,
) -> dict[str, list[float]]:
    """Images a second of each contender, one value a repetition."""
    contenders = {
        "plain, no workers": partial(plain_passes, workers=0),
        "plain, 2 workers": partial(plain_passes, workers=2),
        "ours": our_passes,
    }
    context = multiprocessing.get_context("spawn")
    connections = {}
    for name, run in contenders.items():
        connections[name], theirs = context.Pipe()
        arguments = (theirs, run, architecture, pixels, labels, options.batch, options.threads)
        context.Process(target=contender, args=arguments).start()
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(options.repetitions + 1):
        for name, connection in connections.items():
            connection.send(True)
            speed = connection.recv()
            if repetition:
                speeds[name].append(speed)
    for connection in connections.values():
        connection.send(False)
    return speeds


def main() -> None:
    """Print for each network the images a second and the ratio, with their spread."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--images", type=int, default=5120)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="32x32 pictures; noise where not given")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    if options.folder:
        files = list_folder(options.folder).files
        kept = rng.permutation(len(files))[: options.images].tolist()
        pixels = np.zeros((len(kept), SIDE, SIDE, 3), np.uint8)
        decode([lambda position: read_picture(files[kept[position]][0])], [pixels])
        labels = np.array([files[index][1] for index in kept])
    else:
        pixels = rng.integers(0, 256, (options.images, SIDE, SIDE, 3), dtype=np.uint8)
        labels = rng.integers(0, CLASSES, options.images)
    print(
        f"torch {torch.__version__}, {options.threads} threads, batch {options.batch}, "
        f"{len(pixels)} images a pass, {options.repetitions} repetitions: median (range)"
    )
    for draw in (inverted_residuals, residual_blocks):
        architecture = draw()
        cost = cost_of(architecture)
        print(f"\n{draw.__name__}: {cost.macs / 1e6:.2f}M MACs, {cost.params / 1e3:.0f}k params")
        speeds = compare(architecture, pixels, labels, options)
        for name, values in speeds.items():
            print(f"  {name:18}{spread(values, '.0f')} images a second")
        ours = speeds.pop("ours")
        best = max(speeds, key=lambda name: statistics.median(speeds[name]))
        ratios = [mine / other for mine, other in zip(ours, speeds[best], strict=True)]
        print(f"  ours / {best}: {spread(ratios, '.2f')}")


def spread(values: list[float], form: str) -> str:
    """Median and the lowest and highest value."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
