"""Seeds, and random draws that do not depend on what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


def seed_of(architecture_id: str, seed: int) -> int:
    """The seed of one architecture's training in a search with this seed."""
    digest = hashlib.sha256(f"{architecture_id} {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seeds: Sequence[int], device: torch.device) -> Iterator[list[torch.Generator]]:
    """Generators of the device; the global ones, for dropout, have the first seed meanwhile."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeds[0])
        yield [torch.Generator(device).manual_seed(seed) for seed in seeds]
