"""Train a prototype's default network exactly as a member of the family, and judge it on test.

    python experiments/default_network.py REQUIREMENTS RUN_DIR [--set KEY=VALUE ...]

The default network is the prototype's own values, scaled down to the limits: what a designer would
draw without a search. Recipe, seeds, data and the choice of the delivered seed (the best on the
held-out part of train) are the family's. Prints it beside the members of the family in RUN_DIR.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from collabdesign import DesignSpace, build_network, cost_of, load_requirements
from collabdesign.deliver.certificate import read_certificate
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.data.images import load_data, load_test
from collabdesign.evaluate.device import choose_device
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import passes
from collabdesign.explore.feasible import default_params
from collabdesign.files import write_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("requirements", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    requirements = load_requirements(arguments.requirements, arguments.overrides)
    space = DesignSpace(requirements)
    params = default_params(space, requirements)
    assert params is not None, "the prototype's default network does not fit the limits"
    architecture = space.decode(params)
    device = choose_device()
    data = load_data(requirements.data, device)
    recipe = requirements.family.training
    arguments.run_dir.mkdir(parents=True, exist_ok=True)

    trained = []
    for number in range(recipe.seeds):
        seed = seed_of(architecture.id, requirements.search.seed + number)
        network = build_network(architecture)
        initialise(network, seed)
        checkpoint = arguments.run_dir / f"default-{number}.pt"
        resume = checkpoint.read_bytes() if checkpoint.exists() else None
        accuracy = 0.0
        for made in passes(
            network, data, recipe, seed=seed, device=device, resume=resume, keep=True
        ):
            accuracy = made.record.accuracy
            if made.checkpoint is not None:
                write_bytes(checkpoint, made.checkpoint)
        trained.append((accuracy, network))
    best = max(range(len(trained)), key=lambda i: trained[i][0])
    test = load_test(requirements.data, device)
    accuracy = evaluate(trained[best][1], test.images, test.labels, mean=data.mean, std=data.std)

    cost = cost_of(architecture, requirements.deploy.precision)
    rows = [("default", architecture.id, cost, [a for a, _ in trained], accuracy)]
    for folder in sorted((arguments.run_dir / "family").glob("attonet-*")):
        member = read_certificate(folder)
        rows.append(
            (
                member.name,
                member.architecture,
                member.cost,
                list(member.select_accuracies),
                member.test_accuracy,
            )
        )
    for name, identity, cost, select, tested in rows:
        spread = f" sd {100 * statistics.stdev(select):.2f}" if len(select) > 1 else ""
        print(
            f"{name:10} {identity} {cost.macs:>10,} MACs {cost.params:>8,} params  "
            f"select {100 * statistics.fmean(select):.2f} %{spread} (n={len(select)})  "
            f"test {100 * tested:.2f} % (n=1, {len(test.labels):,} images)"
        )
    out = arguments.run_dir / "default.json"
    out.write_text(
        json.dumps({"architecture": architecture.to_dict(), "select": rows[0][3], "test": accuracy})
    )


if __name__ == "__main__":
    main()
