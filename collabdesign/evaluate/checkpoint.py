"""A training's state and a network's weights as bytes, which execute nothing when read."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from collabdesign.errors import InputError

_SEAL_BYTES = hashlib.sha256().digest_size


def seal(state: Mapping[str, Any], identity: str) -> bytes:
    """A checkpoint.

    Args:
        state: Tensors, numbers, texts, lists and dicts.
        identity: Of the training, for :func:`unseal`.
    """
    content = _saved(dict(state))
    return _seal(identity, content) + content


def unseal(checkpoint: bytes, identity: str, device: torch.device) -> dict[str, Any] | None:
    """The state in a checkpoint, or None where it is damaged or another training's.

    Args:
        checkpoint: From :func:`seal`, or anything.
        identity: What it must have been sealed with.
        device: Where its tensors are put.
    """
    # torch.load does not notice a changed number.
    found, content = checkpoint[:_SEAL_BYTES], checkpoint[_SEAL_BYTES:]
    if found != _seal(identity, content):
        return None
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location=device, weights_only=True
        )
    except pickle.UnpicklingError:
        return None
    return state


def weights_bytes(network: nn.Module) -> bytes:
    """The state dict, on the CPU."""
    return _saved({name: tensor.cpu() for name, tensor in network.state_dict().items()})


def load_weights(network: nn.Module, content: bytes) -> None:
    """Put weights into a network, in place.

    Args:
        network: Of the same architecture as theirs, on any device.
        content: From :func:`weights_bytes`.

    Raises:
        InputError: They are damaged, or another network's.
    """
    # torch.load raises nearly anything on damaged bytes.
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:
        raise InputError(
            f"a network's weights must be whole and its own, got other bytes: {error}"
        ) from None


def _saved(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _seal(identity: str, content: bytes) -> bytes:
    return hashlib.sha256(identity.encode() + content).digest()
