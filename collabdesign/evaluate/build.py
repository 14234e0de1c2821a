"""A network to train, of either kind: designed or well-known."""

from __future__ import annotations

from torch import nn

from collabdesign.design.architecture import Architecture
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.references import WellKnown, build_reference

Buildable = Architecture | WellKnown
"""Both have an ``id``, and the channels, resolution and classes that they are for."""


def build(network: Buildable) -> nn.Module:
    """Takes N x channels x R x R, gives logits N x classes."""
    return build_reference(network) if isinstance(network, WellKnown) else build_network(network)
