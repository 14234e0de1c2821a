"""From a word in YAML to a model.py that runs alone: what a new operator has to pass."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
import yaml
from spaces import small
from test_cost import counted_by_ptflops, recorded_peak
from test_network import trained
from test_source import emit, imported, run

from collabdesign.deliver.report.diagram import draw_architecture
from collabdesign.deliver.report.words import describe
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.space import DesignSpace


def space_with(words: list[str], folder: Path) -> DesignSpace:
    """A space of such layers, read from a file, with strides, shares and every shortcut."""
    module = {
        "shortcut": ["identity", "projection", "none"],
        "branches": [1, 2],
        "join": ["add", "concat"],
        "depth": [3, 1, 2, 4],
        "layers": words,
        "widths": [1, 0.5, 2],
        "activation": ["silu", "relu"],
        "output": ["activated", "linear"],
    }
    stages = [
        {"modules": [1, 2], "channels": [12, 8], "module": "m"},
        {"modules": [2, 1], "stride": 2, "channels": [12, 16], "module": "m"},
    ]
    written = {
        "name": "operators",
        "prototype": small(module, stages=stages),
        "data": {"source": "digits", "resolution": 9},
    }
    file = folder / "requirements.yaml"
    file.write_text(yaml.safe_dump(written))
    return DesignSpace(load_requirements(file))


def check_word(
    word: str, others: list[str], folder: Path, drawn: str, count: int = 24
) -> list[Architecture]:
    """Walk a word through the whole pipeline, among others; the networks that have it.

    Args:
        word: As it is written in YAML and told in words.
        others: Further words to choose from.
        folder: For files.
        drawn: Text that stands in the drawing of each network that has it.
        count: Random networks to look at.
    """
    torch.set_num_threads(1)
    space, rng = space_with([word, *others], folder), np.random.default_rng(0)
    found = []
    for _ in range(count):
        architecture = space.decode(space.sample(rng))
        assert space.decode(space.encode(architecture)) == architecture
        stored = json.loads(json.dumps(architecture.to_dict()))
        assert Architecture.from_dict(stored) == architecture
        cost = cost_of(architecture)
        assert (cost.macs, cost.params) == counted_by_ptflops(architecture)
        assert cost.peak_activation_bytes == 4 * recorded_peak(architecture)
        told = " ".join(describe(architecture)).replace("/2", "").replace("(", " ")
        picture = ElementTree.fromstring(draw_architecture(architecture))
        texts = " ".join(text.text or "" for text in picture.iter())
        if word in told.split():
            assert drawn in texts
            found.append(architecture)
    assert len(found) >= 5, "the word is rare: the check looked at too few"
    _check_model(max(found, key=lambda each: len(str(each))), folder)
    return found


def _check_model(architecture: Architecture, folder: Path) -> None:
    """The emitted file computes what the network does, and runs by itself."""
    network = emit(folder / "model", architecture)
    folder = folder / "model"
    assert max(map(len, (folder / "model.py").read_text().splitlines())) <= 100
    images = torch.randn(2, architecture.input_channels, architecture.resolution, 9)
    with torch.no_grad():
        assert torch.equal(imported(folder).load()(images), network(images))
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert trained(architecture)(images).shape == (2, architecture.classes)
