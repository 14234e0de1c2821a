"""Milliseconds of ONNX models on one thread."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from collabdesign.evaluate.latency import milliseconds, missing_packages
from collabdesign.evaluate.onnx_file import onnx_bytes


def network(channels: int) -> nn.Module:
    layers = [nn.Conv2d(3, channels, 3), nn.Conv2d(channels, channels, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.5))


def test_a_larger_network_takes_longer() -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    state = torch.get_rng_state()
    small, large = (onnx_bytes(network(channels), (3, 32, 32)) for channels in (1, 64))
    torch.set_rng_state(state)
    found = milliseconds([small, large, small], (3, 32, 32), runs=9)
    assert torch.equal(state, torch.get_rng_state())
    assert all(0 < each.low <= each.median <= each.high for each in found)
    assert found[1].median > 2 * found[0].median
    assert found[1].median > 2 * found[2].median


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collabdesign.evaluate.latency.find_spec", lambda name: None)
    assert missing_packages() == ("onnx", "onnxruntime")
