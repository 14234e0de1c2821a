"""Muon: SGD whose steps on matrices are orthogonal (Jordan et al., 2024, kellerjordan.github.io).

A convolution that mixes channels is a matrix of its outputs times what each of them sees. Its
step is the nearest orthogonal matrix to its momentum: all directions of the matrix move alike,
also those with a small gradient. It is taken for convolutions that a normalisation follows: of
their weights the direction alone counts, so that their length is set anew at each step, and no
decay is needed. All other weights are trained by SGD: depthwise convolutions, which are no
matrices; normalisation; linear layers; convolutions without a normalisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import nn

# Of Newton and Schulz's iteration: these coefficients, by Jordan et al., bring singular values
# near 1 in few steps rather than close to it in many.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 4
_TINY = 1e-7

# From this side on, a product of matrices is worth the way to bfloat16 and back.
_LARGE = 256

# Fewer numbers seen by an output make a matrix too narrow to be orthogonal in any useful way.
_LEAST_COLUMNS = 16


class Muon(torch.optim.SGD):
    """Muon on the matrices of a network, SGD with Nesterov momentum on the rest.

    Args:
        network: Whose parameters to train.
        lr: Of SGD.
        ratio: Of the length of a step on matrices to ``lr``.
        momentum: Of both.
        weight_decay: Of SGD, on weights of two and more dimensions.
    """

    def __init__(
        self, network: nn.Module, lr: float, *, ratio: float, momentum: float, weight_decay: float
    ) -> None:
        matrices = [
            module.weight
            for module in _normalised(network)
            if module.groups == 1 and module.weight[0].numel() >= _LEAST_COLUMNS
        ]
        chosen = {id(weight) for weight in matrices}
        rest = [weight for weight in network.parameters() if id(weight) not in chosen]
        by_sgd = {"momentum": momentum, "nesterov": True, "orthogonal": False}
        groups: list[dict[str, Any]] = [
            # Their step is made here; all that is left to SGD is to take it.
            {"params": matrices, "momentum": 0.0, "nesterov": False, "orthogonal": True},
            # No decay of normalisation and biases: it makes them smaller, not simpler.
            {
                "params": [weight for weight in rest if weight.ndim > 1],
                "weight_decay": weight_decay,
                **by_sgd,
            },
            {"params": [weight for weight in rest if weight.ndim <= 1], **by_sgd},
        ]
        self._ratio, self._momentum = ratio, momentum
        super().__init__([group for group in groups if group["params"]], lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of all weights."""
        for group in self.param_groups:
            if group["orthogonal"]:
                alike: dict[tuple[int, ...], list[torch.Tensor]] = {}
                for weight in group["params"]:
                    if weight.grad is not None:
                        alike.setdefault(tuple(weight.shape), []).append(weight)
                for weights in alike.values():
                    self._make_orthogonal(weights)
        return super().step(closure)

    def _make_orthogonal(self, weights: list[torch.Tensor]) -> None:
        """Set the gradients to steps, and the lengths to what they are to be; of one shape."""
        directions = []
        for weight in weights:
            assert weight.grad is not None
            state = self.state[weight]
            if not state:
                state["velocity"] = torch.zeros_like(weight)
            velocity = state["velocity"].mul_(self._momentum).add_(weight.grad)
            directions.append(weight.grad.add(velocity, alpha=self._momentum).flatten(1))
        steps = orthogonal(torch.stack(directions))
        rows, columns = directions[0].shape
        length = self._ratio * max(1.0, rows / columns) ** 0.5
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(rows**0.5 / weight.norm().clamp(min=_TINY))
            assert weight.grad is not None
            weight.grad.copy_(step.view_as(weight)).mul_(length)


def _normalised(network: nn.Module) -> Iterator[nn.Conv2d]:
    """The convolutions that a batch normalisation follows, in the order of their definition."""
    layers = [module for module in network.modules() if not any(module.children())]
    for layer, following in pairwise(layers):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            yield layer


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """About the nearest matrices [B, M, N] whose singular values are 1, by Newton and Schulz."""
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_TINY)
    if x.shape[1] >= _LARGE:
        x = x.bfloat16()
    for _ in range(_STEPS):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    nearest: torch.Tensor = x.mT if is_tall else x
    return nearest.to(matrices.dtype)
