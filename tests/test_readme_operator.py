"""README, "An operator": its code adds a kind of layer, and a network with it is delivered."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

USE = """
import sys
from pathlib import Path

import grn
import numpy as np
import torch

sys.path.insert(0, {tests!r})
from operator_check import space_with
from test_cost import Lifetimes, aten, counted_by_ptflops, recorded_peak
from collabdesign.deliver.report.diagram import draw_architecture
from collabdesign.deliver.report.words import describe
from collabdesign.deliver.source import write_model
from collabdesign.design.cost import cost_of
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.initialise import initialise

Lifetimes.WRITES = (*Lifetimes.WRITES, aten.linalg_vector_norm, aten.norm, aten.div)
space = space_with(["pw", "dw3", "grn"], Path())
rng = np.random.default_rng(0)
networks = [space.decode(space.sample(rng)) for _ in range(30)]
for each in networks:
    assert space.decode(space.encode(each)) == each
    cost, network = cost_of(each), build_network(each)
    # ptflops knows parameters in torch's own layers only: the network itself is asked.
    assert cost.params == sum(parameter.numel() for parameter in network.parameters())
    assert cost.macs == counted_by_ptflops(each)[0]
    assert cost.peak_activation_bytes == 4 * recorded_peak(each)
most = max(networks, key=lambda each: str(each).count("'grn'"))
assert str(most).count("'grn'") > 3
assert " grn " in " ".join(describe(most)) and ">GRN<" in draw_architecture(most)

network = build_network(most)
initialise(network, 0)
images = torch.randn(16, most.input_channels, most.resolution, most.resolution)
optimizer = torch.optim.SGD(network.parameters(), 0.1)
for _ in range(3):
    loss = torch.nn.functional.cross_entropy(network(images), torch.arange(16) % most.classes)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
names = [str(number) for number in range(most.classes)]
mean = [0.5] * most.input_channels
write_model(Path("model"), most, network.eval(), names, mean, mean, "AttoNet-A")
"""


def test_the_example_is_a_whole_operator(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("### An operator")[2]
    section = re.split(r"\n##", section)[0]
    assert len(section.splitlines()) < 70, "it should stay about one screen"
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "grn.py").write_text(code)
    (tmp_path / "use.py").write_text(USE.format(tests=str(ROOT / "tests")))

    for command in (["use.py"], ["-I", "model/model.py"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "class ResponseNorm(nn.Module):" in (tmp_path / "model" / "model.py").read_text()
