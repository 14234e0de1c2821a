"""How fast the design room is on one core, beside ptflops in the same run.

For networks of 12 modules, each with its own design: architectures a second of ``cost_of``, of
``decode``, ``id`` and ``cost_of`` together, and of ptflops (its own call only; the network is
built before). Every repetition decodes anew, so that no id is answered from a cache. One
thread on one core, in seconds of processor time: what else runs on the machine does not count.

    python experiments/design_speed.py
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ptflops import get_model_complexity_info
from torch import nn

from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace, Params
from collabdesign.evaluate.network import build_network

RESOLUTION = 32
ARCHITECTURES = 500
PTFLOPS_CALLS = 10
REPETITIONS = 7

# Three stages of four modules; the freedoms are those of the shipped prototypes.
PROTOTYPE = {
    "stem": {"kernel": 3, "channels": {"low": 8, "high": 24, "step": 4}},
    "stages": [
        {
            "modules": 4,
            "stride": 2,
            "channels": {"low": low, "high": 3 * low, "step": 8},
            "module": "m",
        }
        for low in (16, 32, 48)
    ],
    "head": {"features": [0, 128, 256]},
    "modules": {
        "m": {
            "shortcut": ["identity", "projection", "none"],
            "branches": [1, 2],
            "join": ["add", "concat"],
            "depth": [3, 1, 2, 4],
            "layers": ["pw", "dw3", "conv3", "conv3/g4", "dw5", "pool3"],
            "widths": [1, 0.25, 0.5, 2, 4],
            "attention": ["none", "squeeze_excite"],
            "activation": ["relu", "hardswish"],
            "output": ["activated", "linear"],
            "share": "module",
        }
    },
}


def timed(work: Callable[[Any], Any], items: Sequence[Any]) -> tuple[float, list[Any]]:
    """Items a second, and what came out."""
    start = time.process_time()
    results = [work(item) for item in items]
    return len(items) / (time.process_time() - start), results


def counted_by_ptflops(network: nn.Module) -> tuple[int, int]:
    macs, params = get_model_complexity_info(
        network,
        (3, RESOLUTION, RESOLUTION),
        as_strings=False,
        print_per_layer_stat=False,
        backend="aten",
    )
    return macs, params


def all_three(space: DesignSpace, params: Params) -> tuple[str, Cost]:
    architecture = space.decode(params)
    return architecture.id, cost_of(architecture)


def measure() -> dict[str, list[float]]:
    """Calls a second, a value for each repetition."""
    data = {"source": "folder", "train": "images", "resolution": RESOLUTION, "classes": 10}
    space = DesignSpace(
        Requirements.model_validate({"name": "speed", "prototype": PROTOTYPE, "data": data})
    )
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"cost_of": [], "decode + id + cost_of": [], "ptflops": []}
    for _ in range(REPETITIONS):
        params = [space.sample(rng) for _ in range(ARCHITECTURES)]
        architectures = [space.decode(p) for p in params]
        assert {len(a.modules) for a in architectures} == {12}
        some = architectures[:PTFLOPS_CALLS]
        networks = [build_network(a).eval() for a in some]

        rate, _ = timed(cost_of, architectures)
        rates["cost_of"].append(rate)
        rate, _ = timed(partial(all_three, space), params)
        rates["decode + id + cost_of"].append(rate)
        rate, counted = timed(counted_by_ptflops, networks)
        rates["ptflops"].append(rate)
        costs = [cost_of(a) for a in some]
        assert counted == [(c.macs, c.params) for c in costs], "ptflops counts differently"
    return rates


def main() -> None:
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rates = measure()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, one core, one thread")
    print(f"{REPETITIONS} repetitions of {ARCHITECTURES} networks ({PTFLOPS_CALLS} for ptflops)\n")
    print(f"{'':24}{'median':>10}{'lowest':>10}{'highest':>10}   times ptflops")
    reference = statistics.median(rates["ptflops"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(
            f"{name:24}{median:>8,.0f}/s{min(values):>8,.0f}/s{max(values):>8,.0f}/s"
            f"{median / reference:>14,.0f}"
        )
    wanted = {"cost_of": 10_000, "decode + id + cost_of": 1_000}
    missed = [name for name, rate in wanted.items() if statistics.median(rates[name]) < rate]
    if missed:
        sys.exit(f"slower than wanted: {', '.join(missed)}")


if __name__ == "__main__":
    main()
