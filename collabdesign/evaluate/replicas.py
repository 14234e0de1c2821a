"""One step's gradient on several CPU threads, each taking a part of the batch.

The layers of a small network are too short to share: two threads inside of each of them wait
for each other about as long as they compute, and far longer on a busy machine. Here a thread
takes its part of the batch through the whole network and back, and they meet once a step.

Each replica normalises by the statistics of its own part, as when training on several
devices without synchronised normalisation ("ghost batches", Hoffer et al., arXiv 1705.08741).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from collabdesign.evaluate.pointwise import without_narrow_strides

# With fewer images the statistics of a part are too noisy to normalise by.
_SMALLEST_PART = 32

LossOf = Callable[[nn.Module, torch.Tensor, torch.Generator], torch.Tensor]
"""The summed loss of a part of a batch: its network, the indices of its images, its draws."""


class Replicas:
    """A network, then copies of it that share its weights, but not its running statistics."""

    def __init__(self, network: nn.Module, batch: int, device: torch.device) -> None:
        self._on_cpu = device.type == "cpu"
        count = min(torch.get_num_threads(), batch // _SMALLEST_PART) if self._on_cpu else 1
        self._weights = list(network.parameters())
        self.networks = [network]
        for _ in range(count - 1):
            shared = {id(weight): weight for weight in self._weights}
            self.networks.append(copy.deepcopy(network, shared))

    def __len__(self) -> int:
        return len(self.networks)

    @contextmanager
    def training(self) -> Iterator[None]:
        """For one pass: networks in training mode, threads shared out; then statistics joined."""
        for network in self.networks:
            network.train()
        with ExitStack() as stack:
            if self._on_cpu:
                for network in self.networks:
                    stack.enter_context(without_narrow_strides(network))
            if len(self.networks) > 1:
                stack.enter_context(self._threads_shared_out())
            yield
        if len(self.networks) > 1:
            self._join_statistics()

    def backward(
        self, loss_of: LossOf, chosen: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        """Set every weight's gradient to that of the mean loss over the batch.

        To be called within :meth:`training`.

        Args:
            loss_of: Called once a part, at the same time from several threads.
            chosen: int64 [N], indices of the batch's images.
            generators: One for each network, so that no part waits for another's draws.

        Returns:
            The mean loss, detached.
        """
        batch, count = len(chosen), len(self.networks)
        if count == 1:
            loss = loss_of(self.networks[0], chosen, generators[0]) / batch
            torch.autograd.backward(loss)
            return loss.detach()

        def gradient(
            network: nn.Module, part: torch.Tensor, generator: torch.Generator
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            loss = loss_of(network, part, generator) / batch
            return loss.detach(), torch.autograd.grad(loss, self._weights)

        own, *others = zip(self.networks, chosen.tensor_split(count), generators, strict=True)
        pending = [self._pool.submit(gradient, *part) for part in others]
        total, gradients = gradient(*own)
        # In the order of the parts, so that rounding does not depend on who is done first.
        for future in pending:
            loss, more = future.result()
            total = total + loss
            gradients = tuple(one + other for one, other in zip(gradients, more, strict=True))
        for weight, grad in zip(self._weights, gradients, strict=True):
            weight.grad = grad
        return total

    @contextmanager
    def _threads_shared_out(self) -> Iterator[None]:
        threads, count = torch.get_num_threads(), len(self.networks)
        torch.set_num_threads(threads // count)
        try:
            with ThreadPoolExecutor(
                count - 1, initializer=torch.set_num_threads, initargs=(threads // count,)
            ) as self._pool:
                yield
        finally:
            torch.set_num_threads(threads)

    def _join_statistics(self) -> None:
        with torch.no_grad():
            for buffers in zip(*(network.buffers() for network in self.networks), strict=True):
                if buffers[0].is_floating_point():
                    mean = torch.stack(buffers).mean(0)
                    for buffer in buffers:
                        buffer.copy_(mean)
