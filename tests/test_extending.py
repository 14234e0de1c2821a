"""The examples of the README for who adds a row: they are put into the tables and used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from requirements_files import write_example

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.recipes import RECIPES as RECIPE_FACTS
from collabdesign.design.sources import SOURCES as SOURCE_KEYS
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import load_data, load_test
from collabdesign.evaluate.data.inspect import inspect_data
from collabdesign.evaluate.data.sources import SOURCES
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.recipe import RECIPES
from collabdesign.evaluate.training import passes

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
CPU = torch.device("cpu")


def blocks(heading: str, language: str) -> list[str]:
    """The code under a heading of the README."""
    found = re.search(rf"^### {heading}\n(.*?)^##", README, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return re.findall(rf"^```{language}\n(.*?)^```", found[1], re.DOTALL | re.MULTILINE)


def put_in_place(block: str) -> None:
    """Do with a block what its first line says: into which file, and into which table."""
    place = re.match(r"# (\S+)\.py: (?:a function, and )?a row of (\w+)\n", block)
    assert place is not None, block
    module = import_module(place[1].replace("/", "."))
    functions, row = re.split(r'^(?=")', block, maxsplit=1, flags=re.MULTILINE)
    scope: dict[str, Any] = dict(vars(module))
    exec(functions, scope)
    getattr(module, place[2]).update(eval(f"{{{row}}}", scope))


@pytest.fixture
def tables() -> Iterator[None]:
    """The tables are afterwards as they were."""
    changed: list[dict[str, Any]] = [SOURCE_KEYS, SOURCES, RECIPE_FACTS, RECIPES]
    before = [dict(table) for table in changed]
    yield
    for table, rows in zip(changed, before, strict=True):
        table.clear()
        table.update(rows)


def write_arrays(path: Path, count: int, classes: int = 4) -> None:
    """Pictures of 40 x 30 pixels whose grey is their class, but for a corner, so that no two are
    the same."""
    labels = np.arange(count) % classes
    images = np.zeros((count, 30, 40, 3), dtype=np.uint8)
    images += (60 * labels).astype(np.uint8)[:, None, None, None]
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) + 1, len(path.name)
    np.savez(path, images=images, labels=labels)


def test_a_source_of_images(tables: None, tmp_path: Path) -> None:
    rows = blocks("A source of images", "python")
    assert len(rows) == 2
    for block in rows:
        put_in_place(block)
    (written,) = blocks("A source of images", "yaml")
    write_example(tmp_path)
    write_arrays(tmp_path / "mine.npz", 100)
    file = tmp_path / "npz.yaml"
    file.write_text("name: mine\nprototype: proto.yaml\n" + written)
    data = load_requirements(file).data
    assert data.train == tmp_path / "mine.npz"
    images, test = load_data(data), load_test(data)
    assert images.train_images.shape == (64, 3, 32, 32)
    assert (len(images.select_labels), len(test.labels)) == (16, 20)
    assert torch.equal(test.images[:, 0, 5, 5], (60 * test.labels).to(torch.uint8))
    assert inspect_data(data).images == (64, 16, 20)
    # A test part in a file of its own.
    write_arrays(tmp_path / "other.npz", 8)
    data = load_requirements(file, [f"data.test={tmp_path / 'other.npz'}"]).data
    assert len(load_test(data).labels) == 8
    assert len(load_data(data).train_labels) == 80

    # What is wrong is told as of any other source.
    wrong = written.replace("train: mine.npz, ", "").replace(", classes: 4", "")
    file.write_text("name: mine\nprototype: proto.yaml\n" + wrong)
    with pytest.raises(InputError) as caught:
        load_requirements(file)
    message = str(caught.value)
    assert f"{file}:3:1: data.train must be given where data.source is npz" in message
    assert "data.classes must be given, got nothing" in message
    with pytest.raises(InputError, match="torchvision, csv, parquet, npz, got 'nps'"):
        load_requirements(file, ["data.source=nps"])


def test_a_recipe(tables: None, tmp_path: Path) -> None:
    rows = blocks("A recipe", "python")
    assert len(rows) == 2
    for block in rows:
        put_in_place(block)
    (written,) = blocks("A recipe", "yaml")
    write_example(tmp_path)
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: mine\nprototype: proto.yaml\ndata: {{source: digits}}\n{written}")
    requirements = load_requirements(file)
    recipe = requirements.search.proxy
    assert (recipe.recipe, recipe.epochs) == ("averaged", 6)
    data, space = load_data(requirements.data), DesignSpace(requirements)
    accuracies = {}
    for name in ("averaged", "sgd"):
        network = build_network(space.decode(space.own()))
        initialise(network, 0)
        named = recipe.model_copy(update={"recipe": name})
        accuracies[name] = [
            each.record.accuracy for each in passes(network, data, named, seed=0, device=CPU)
        ]
    # The average is another network, and as good at the end.
    assert accuracies["averaged"][0] != accuracies["sgd"][0]
    assert accuracies["averaged"][-1] > accuracies["sgd"][-1] - 0.03
