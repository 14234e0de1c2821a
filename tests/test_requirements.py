"""What is done with requirements: violations, changes, the resolved file."""

from __future__ import annotations

from pathlib import Path

import pytest
from requirements_files import (
    load_shipped,
    shipped,
    write_example,
)

from collabdesign.design.cost import Cost
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import FREE_KEYS, resolved_yaml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_example(tmp_path)
    return tmp_path


def test_violations_are_shares_of_the_limit(folder: Path) -> None:
    read = load_requirements(folder / "mine.yaml", ["limits.weight_bytes=1kB"])
    cost = Cost(macs=15_000_000, params=320_000, weight_bytes=250, peak_activation_bytes=10**9)
    assert read.violations(cost) == {"macs": 0.5, "params": 0.0, "weight_bytes": -0.75}


def test_changes_are_told_key_by_key(folder: Path) -> None:
    before = load_requirements(folder / "mine.yaml")
    after = load_requirements(
        folder / "mine.yaml",
        [
            "limits.macs=4M",
            "limits.params=",
            "limits.peak_activation_bytes=512KiB",
            "objectives=[accuracy, macs]",
            "search.trials=80",
            "family.training.epochs=90",
            "prototype.stages.0.channels=24",
            "prototype.modules.plain.activation=[relu, silu]",
        ],
    )
    assert before.changes(before) == []
    assert before.changes(after, FREE_KEYS) == [
        "prototype.stages[0].channels: 16 -> 24",
        'prototype.modules.plain.activation: relu -> ["relu", "silu"]',
        "limits.macs: 10M -> 4M",
        "limits.params: 320k -> not set",
        'objectives: ["accuracy", "macs", "params"] -> ["accuracy", "macs"]',
        "limits.peak_activation_bytes: not set -> 512KiB",
    ]
    assert set(before.changes(after)) - set(before.changes(after, FREE_KEYS)) == {
        "search.trials: 60 -> 80",
        "family.training.epochs: 60 -> 90",
    }


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_shipped_requirements_read_and_resolve(path: Path, folder: Path) -> None:
    read = load_shipped(path, folder)
    assert read.name == path.stem
    resolved = folder / "resolved.yaml"
    resolved.write_text(resolved_yaml(read))
    assert load_requirements(resolved) == read
    assert load_requirements(resolved, check_data=False) == read
    assert resolved_yaml(load_requirements(resolved)) == resolved.read_text()


@pytest.mark.parametrize("name", ["no", "1e5", "08", "null", "2024-01-01", "x.y-z_0"])
def test_names_resolve_to_themselves(folder: Path, name: str) -> None:
    read = load_requirements(folder / "mine.yaml", [f"name='{name}'"])
    resolved = folder / "resolved.yaml"
    resolved.write_text(resolved_yaml(read))
    assert load_requirements(resolved).name == name
