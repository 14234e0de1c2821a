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
    """A checkpoint of the training of this identity: tensors, numbers, texts, lists and dicts."""
    content = _saved(dict(state))
    return _seal(identity, content) + content


def unseal(checkpoint: bytes, identity: str, device: torch.device) -> dict[str, Any] | None:
    """The state that :func:`seal` was given, its tensors on the device.

    None where the bytes are anything else, damaged, or of a training of another identity.
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
    """Put what :func:`weights_bytes` gave into a network on any device, in place.

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
