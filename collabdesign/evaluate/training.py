"""One training recipe for every network and data set; proxy and full differ in budget only.

The recipe: the whole train part lies on the device; each pass goes through it in a new order,
in batches, shifted or cropped and mirrored at random; cross-entropy with label smoothing; SGD
with Nesterov momentum 0.9, weight decay on convolutions and linear layers only; the learning
rate rises linearly over the first fifth of all steps and falls linearly to zero. Layout is
channels last. On CUDA the forward pass runs in bfloat16; on the CPU in float32, large batches
in parts on several threads (:mod:`collabdesign.evaluate.replicas`).

Same seed, data, recipe and thread count on the CPU: bit-identical weights (with dropout: on
one thread), also when the training was interrupted and went on from its checkpoint. Each epoch
draws from generators seeded by (seed, epoch), so a checkpoint needs no generator state.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from collabdesign.design.requirements import Training
from collabdesign.errors import InputError, TrainingFailed
from collabdesign.evaluate.augment import (
    channel_values,
    largest_shift,
    normalise,
    take_cropped,
    take_shifted,
)
from collabdesign.evaluate.checkpoint import seal, unseal
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.replicas import Replicas
from collabdesign.files import write_bytes

_MOMENTUM = 0.9
_WARM_UP = 0.2
_SMALLEST_BATCH, _LARGEST_BATCH = 16, 64

# Times the square root of the batch: 0.4 at 64. At batches of 32, 64 and 128 this was the best
# of four rates, a factor of 2 apart, on 10,000 images of CIFAR-10.
_LEARNING_RATE = 0.05

_EVALUATION_BATCH = 512

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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
        """Steps of the whole training."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class EpochRecord:
    """One pass.

    Attributes:
        epoch: Counted from 1.
        loss: Mean training loss of the pass, with label smoothing and augmentation.
        accuracy: Share of the select part that is right after the pass, 0 to 1.
        seconds: Of the pass and its evaluation.
    """

    epoch: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Pass:
    """What a training yields after each pass.

    Attributes:
        record: How it went.
        checkpoint: To go on from later, where that was asked for and the pass is new.
        repeated: Whether it was made before the interruption.
    """

    record: EpochRecord
    checkpoint: bytes | None = None
    repeated: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        accuracy: Share of the select part that is right after the last pass, 0 to 1.
        curve: One record a pass.
        steps: Steps of the optimiser.
        images: Images that went through the network in training, repeats included.
        seconds: Of all passes with their evaluations, those before an interruption included.
    """

    accuracy: float
    curve: tuple[EpochRecord, ...]
    steps: int
    images: int
    seconds: float


def _never() -> bool:
    return False


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones.

    By default glibc hands it back, and each step pays a page fault for every 4 KiB that it
    takes again: with depthwise networks at 32x32 this was a quarter of the time on the CPU.
    It holds for the whole process, whose memory then never shrinks, so it is for a program
    to call once at its start, and no function here calls it. Without glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # The most that glibc takes.
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def choose_device(name: str | None = None) -> torch.device:
    """The device of that name, or CUDA where there is one, or else the CPU.

    Raises:
        InputError: The name is no device, or CUDA is asked for and not there.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise InputError(f"the device must be cpu or cuda, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"the device must be cpu or cuda, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"the device must be there, got {name!r} and no such CUDA device")
    return device


def seed_of(architecture_id: str, seed: int) -> int:
    """The seed of one architecture's training in a search with this seed."""
    digest = hashlib.sha256(f"{architecture_id} {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def plan_training(images: int, recipe: Training) -> TrainingPlan:
    """Batch, passes and learning rate of a recipe on a number of training images.

    The batch, unless the recipe names one, is the largest power of two from 16 to 64 that
    still makes ``recipe.min_steps`` steps in ``recipe.epochs`` passes: small data, small
    batches. Where even 16 does not, passes are added until the steps are made. The learning
    rate, unless named, is 0.05 times the square root of the batch: 0.4 at 64.

    Args:
        images: In the train part, at least 2.
        recipe: The ``training`` or ``proxy`` part of the requirements.
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
        learning_rate = _LEARNING_RATE * math.sqrt(batch)
    return TrainingPlan(batch, epochs, steps_per_epoch, learning_rate)


def initialise(network: nn.Module, seed: int) -> None:
    """Draw all weights of a network anew, in place; a function of the seed alone.

    Convolutions are normal with variance 2 / fan-out (He et al., arXiv 1502.01852; the fan of
    a group), linear layers normal with deviation 0.01, biases zero; everything else is as its
    own ``reset_parameters`` leaves it (normalisation: scale 1, shift 0).
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        # Drawn on the CPU whatever the network's device, so that the device does not matter.
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                height, width = module.kernel_size
                fan_out = height * width * module.out_channels // module.groups
                weight = torch.empty(module.weight.shape).normal_(0, math.sqrt(2 / fan_out))
                module.weight.copy_(weight)
            elif isinstance(module, nn.Linear):
                module.weight.copy_(torch.empty(module.weight.shape).normal_(0, 0.01))
            elif callable(reset := getattr(module, "reset_parameters", None)):
                reset()
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.zero_()


def passes(
    network: nn.Module,
    data: ImageData,
    recipe: Training,
    *,
    seed: int,
    device: torch.device,
    resume: bytes | None = None,
    keep: bool = False,
    should_stop: Callable[[], bool] = _never,
) -> Generator[Pass, None, None]:
    """Train a network in place, one pass over the train part at each step of the iterator.

    After each pass the network is on the device, in evaluation mode. Closing the iterator
    early leaves the network as it is after the pass that was yielded last.

    Args:
        network: Takes float32 [N, C, R, R], gives logits [N, classes]; see :func:`initialise`.
        data: On the same device.
        recipe: The budget and what the plan leaves open; see :func:`plan_training`.
        seed: Of the order of the images and their augmentation.
        device: Where to train.
        resume: A checkpoint of this very training: its passes are yielded again at once, then
            the training goes on. Damaged and foreign bytes are ignored.
        keep: Whether each pass comes with a checkpoint.
        should_stop: Asked after every step; when true, the iterator ends within the pass.

    Raises:
        TrainingFailed: ``diverged`` (the loss or a weight is no finite number) or
            ``out_of_memory``.
    """
    try:
        yield from _passes(network, data, recipe, seed, device, resume, keep, should_stop)
        return
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    # Outside of the handler: there the error would keep the tensors of the step alive.
    network.zero_grad()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    batch = plan_training(len(data.train_labels), recipe).batch
    raise TrainingFailed(
        "out_of_memory",
        f"a training step must fit the memory of {device}, got none left at batch {batch}",
    )


def train(
    network: nn.Module,
    data: ImageData,
    recipe: Training,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """All of :func:`passes`, with the checkpoint in a file.

    Args:
        network: Is trained in place; afterwards it is on the device, in evaluation mode.
        data: On the same device.
        recipe: As for :func:`passes`.
        seed: Likewise.
        device: Where to train.
        checkpoint: Written after each pass, and gone on from where it belongs to this very
            training; a damaged or foreign file is written over. It is left in place.
        on_epoch: Called after each new pass, when its checkpoint is written; may raise to stop.

    Raises:
        TrainingFailed: As for :func:`passes`.
    """
    resume = None
    if checkpoint is not None:
        with suppress(OSError):
            resume = checkpoint.read_bytes()
    keep = checkpoint is not None
    curve: list[EpochRecord] = []
    for done in passes(network, data, recipe, seed=seed, device=device, resume=resume, keep=keep):
        curve.append(done.record)
        if done.repeated:
            continue
        if checkpoint is not None and done.checkpoint is not None:
            write_bytes(checkpoint, done.checkpoint)
        if on_epoch is not None:
            on_epoch(done.record)
    plan = plan_training(len(data.train_labels), recipe)
    return TrainingResult(
        accuracy=curve[-1].accuracy,
        curve=tuple(curve),
        steps=plan.steps,
        images=plan.steps * plan.batch,
        seconds=sum(record.seconds for record in curve),
    )


def _passes(
    network: nn.Module,
    data: ImageData,
    recipe: Training,
    seed: int,
    device: torch.device,
    resume: bytes | None,
    keep: bool,
    should_stop: Callable[[], bool],
) -> Generator[Pass, None, None]:
    images, labels = data.train_images, data.train_labels
    plan = plan_training(len(labels), recipe)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(network.parameters())
    # No decay of normalisation and biases: it makes them smaller, not simpler.
    groups: list[dict[str, Any]] = [
        {
            "params": [weight for weight in parameters if weight.ndim > 1],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [weight for weight in parameters if weight.ndim <= 1]},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=plan.learning_rate,
        momentum=_MOMENTUM,
        nesterov=True,
        fused=True,
    )
    mean, std = channel_values(data.mean, device), channel_values(data.std, device)
    identity = identity_of(network, data, recipe, plan, seed) if keep or resume else ""
    curve: list[EpochRecord] = []
    if resume and (state := unseal(resume, identity, device)):
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        network.eval()
        curve = [EpochRecord(**record) for record in state["curve"]]
        for record in curve:
            yield Pass(record, repeated=True)

    def loss_of(
        replica: nn.Module, chosen: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        pictures = normalise(_augmented(data, images, chosen, generator), mean, std)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = replica(pictures)
        return F.cross_entropy(
            logits.float(),
            labels[chosen],
            label_smoothing=recipe.label_smoothing,
            reduction="sum",
        )

    replicas = Replicas(network, plan.batch, device)
    for epoch in range(len(curve) + 1, plan.epochs + 1):
        started = time.perf_counter()
        total_loss = torch.zeros((), device=device)
        seeds = [seed_of(f"epoch {epoch} part {part}", seed) for part in range(len(replicas))]
        with _seeded(seeds, device) as generators, replicas.running():
            order = torch.randperm(len(labels), device=device, generator=generators[0])
            for number in range(plan.steps_per_epoch):
                chosen = order[number * plan.batch : (number + 1) * plan.batch]
                total_loss += replicas.backward(loss_of, chosen, generators)
                step = (epoch - 1) * plan.steps_per_epoch + number
                for group in optimizer.param_groups:
                    group["lr"] = plan.learning_rate * one_cycle((step + 0.5) / plan.steps)
                optimizer.step()
                optimizer.zero_grad()
                if should_stop():
                    return
        # Once not finite a sum stays so: one look a pass finds it, without waiting at each step.
        mean_loss = total_loss.item() / plan.steps_per_epoch
        if not math.isfinite(mean_loss) or not _all_finite(network):
            raise TrainingFailed(
                "diverged", f"the loss must stay a finite number, got {mean_loss} in pass {epoch}"
            )
        accuracy = evaluate(
            network, data.select_images, data.select_labels, mean=data.mean, std=data.std
        )
        record = EpochRecord(epoch, mean_loss, accuracy, time.perf_counter() - started)
        curve.append(record)
        checkpoint = None
        if keep:
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "curve": [asdict(past) for past in curve],
            }
            checkpoint = seal(state, identity)
        yield Pass(record, checkpoint)


def one_cycle(progress: float) -> float:
    """Share of the highest learning rate when this share of the steps is done.

    Rises linearly from 0 to 1 over the first fifth, then falls linearly to 0.
    """
    return min(progress / _WARM_UP, (1 - progress) / (1 - _WARM_UP))


def evaluate(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> float:
    """Share of images whose largest logit is their label's, in float32, no augmentation.

    The network is left in evaluation mode.

    Args:
        network: On the images' device.
        images: uint8 [N, C, R, R].
        labels: int64 [N].
        mean: Of each channel, pixels running from 0 to 1; see ``ImageData``.
        std: Likewise.
    """
    network.eval()
    device = images.device
    centre, scale = channel_values(mean, device), channel_values(std, device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.inference_mode():
        for start in range(0, len(labels), _EVALUATION_BATCH):
            part = slice(start, start + _EVALUATION_BATCH)
            logits = network(normalise(images[part], centre, scale))
            right += (logits.argmax(1) == labels[part]).sum()
    return int(right) / len(labels)


def _augmented(
    data: ImageData, images: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    if data.augment == "crop":
        return take_cropped(images, chosen, generator, resolution=data.resolution, flip=data.flip)
    shift = largest_shift(data.resolution) if data.augment == "shift" else 0
    flip = data.flip and data.augment != "none"
    return take_shifted(images, chosen, generator, shift=shift, flip=flip)


@contextmanager
def _seeded(seeds: Sequence[int], device: torch.device) -> Iterator[list[torch.Generator]]:
    """Generators of the device; the global ones, for dropout, have the first seed meanwhile."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeds[0])
        yield [torch.Generator(device).manual_seed(seed) for seed in seeds]


def _all_finite(network: nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU's allocators raise a bare RuntimeError: only the words tell it from a bug.
    words = ("can't allocate memory", "DefaultCPUAllocator", "bad allocation", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error) for word in words
    )


def identity_of(
    network: nn.Module, data: ImageData, recipe: Training, plan: TrainingPlan, seed: int
) -> str:
    """What a checkpoint must have been written by to be gone on from.

    Everything that a training depends on but the code: all keys of the recipe, what it comes to
    on this data, the network's weights at the start, the seed, the images and how they are shown.
    """
    start = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        start.update(f"{name} {tuple(tensor.shape)} ".encode())
        start.update(tensor.cpu().contiguous().numpy().tobytes())
    shown = {
        each.name: value
        for each in fields(data)
        if not isinstance(value := getattr(data, each.name), torch.Tensor)
    }
    what = {
        "start": start.hexdigest(),
        "data": shown,
        "plan": asdict(plan),
        # How many trainings there are does not change any of them.
        "recipe": recipe.model_dump(mode="json", exclude={"seeds"}),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
