"""Images that several processes map: the same pixels, nothing left behind."""

from __future__ import annotations

import multiprocessing
from dataclasses import fields
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from collabdesign.design.requirements import Data
from collabdesign.evaluate.data import shared
from collabdesign.evaluate.data.images import load_data
from collabdesign.evaluate.data.shared import SharedImages


def look(images: SharedImages, connection: Connection) -> None:
    """In another process: what is there, and a mark that the others see."""
    data = images.on(torch.device("cpu"))
    connection.send((data.train_images.sum().item(), data.select_labels.tolist()))
    data.train_images[0, 0, 0, 0] = 255


@pytest.mark.parametrize("in_memory", [True, False])
def test_two_processes_see_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(shared, "_MEMORY", tmp_path / "none")
    data = load_data(Data(source="digits", train_images=200))
    images = SharedImages(data, tmp_path)
    assert list(tmp_path.iterdir()) == []
    mine = images.on(torch.device("cpu"))
    for each in fields(data):
        ours, theirs = getattr(mine, each.name), getattr(data, each.name)
        if isinstance(theirs, torch.Tensor):
            assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()
        else:
            assert ours == theirs
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(target=look, args=(images, theirs))
    process.start()
    assert ours.recv() == (data.train_images.sum().item(), data.select_labels.tolist())
    process.join()
    images.close()
    assert (mine.train_images[0, 0, 0, 0], data.train_images[0, 0, 0, 0]) == (255, 0)
