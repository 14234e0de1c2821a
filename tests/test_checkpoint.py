"""Bytes of a training's state and of weights: whole or refused, and nothing in them is run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from collabdesign.errors import InputError
from collabdesign.evaluate.checkpoint import load_weights, seal, unseal, weights_bytes

CPU = torch.device("cpu")


class Trap:
    """Read as a pickle is, it makes a file."""

    def __init__(self, ran: Path) -> None:
        self._ran = ran

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self._ran,))


def test_a_checkpoint_that_would_run_code_does_not(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    assert unseal(seal({"trap": Trap(ran)}, "this"), "this", CPU) is None
    assert not ran.exists()


def test_a_checkpoint_with_any_bytes_changed_is_no_error() -> None:
    written = seal({"numbers": torch.arange(200), "curve": [{"epoch": 1}]}, "this")
    whole = unseal(written, "this", CPU)
    assert whole is not None and torch.equal(whole["numbers"], torch.arange(200))
    assert unseal(written, "that", CPU) is None
    assert unseal(b"", "this", CPU) is None
    draw = random.Random(0)
    for _ in range(300):
        changed = bytearray(written)
        for _ in range(draw.choice([1, 4, 50])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        read = unseal(bytes(changed), "this", CPU)
        assert read is None or torch.equal(read["numbers"], torch.arange(200))


def test_weights_come_back_as_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    load_weights(other, weights_bytes(network))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


@pytest.mark.parametrize("damage", ["cut", "words", "another network", "trap"])
def test_weights_that_are_not_whole_are_refused(tmp_path: Path, damage: str) -> None:
    written = weights_bytes(nn.Linear(3, 4))
    content = {
        "cut": written[: len(written) // 2],
        "words": b"words",
        "another network": weights_bytes(nn.Linear(3, 5)),
        "trap": seal({"trap": Trap(tmp_path / "ran")}, "")[32:],
    }[damage]
    network = nn.Linear(3, 4)
    with pytest.raises(InputError, match="weights must be"):
        load_weights(network, content)
    assert not (tmp_path / "ran").exists()
