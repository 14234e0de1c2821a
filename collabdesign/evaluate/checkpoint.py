"""Where a training stands, in one file that is whole or absent."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_SEAL_BYTES = hashlib.sha256().digest_size


def save_checkpoint(path: Path, identity: str, state: Mapping[str, Any]) -> None:
    """Write to a temporary name and rename, so that a kill leaves the old one or the new one.

    Args:
        path: In a folder that exists.
        identity: Of the training, for :func:`load_checkpoint`.
        state: Tensors, numbers, texts, lists and dicts.

    Raises:
        OSError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(_seal(identity, content) + content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, identity: str, device: torch.device) -> dict[str, Any] | None:
    """The state that was saved, or None where there is none, it is damaged, or not this one's.

    Nothing in the file is executed.

    Args:
        path: The file, which need not exist.
        identity: What it must have been saved under.
        device: Where its tensors are put.
    """
    try:
        written = path.read_bytes()
    except OSError:
        return None
    # torch.load does not notice a changed number.
    seal, content = written[:_SEAL_BYTES], written[_SEAL_BYTES:]
    if seal != _seal(identity, content):
        return None
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location=device, weights_only=True
        )
    except pickle.UnpicklingError:
        return None
    return state


def _seal(identity: str, content: bytes) -> bytes:
    return hashlib.sha256(identity.encode() + content).digest()
