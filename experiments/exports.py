"""Random networks of each shipped prototype in every form, beside the networks, on real images.

    python experiments/exports.py DIR [--networks 20] [--forms onnx int8]

DIR holds a folder of pictures for each class. A network is initialised, and its normalisation takes
its statistics from pictures. It is not trained: its logits lie close together, so that a small
difference decides otherwise more easily than in a trained network. Printed for each prototype and
form: networks written, the largest difference of two logits as a share of the largest logit, and
the pictures that both put into the same class.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from collabdesign import DesignSpace, build_network, load_requirements
from collabdesign.deliver.export.export import Pictures, write_form
from collabdesign.deliver.exported import Exported
from collabdesign.design.architecture import Architecture
from collabdesign.design.exports import EXPORTS
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import load_data
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import AttoNet

REQUIREMENTS = Path(__file__).parent.parent / "requirements"
SIDES = {"tiny": 16, "residual": 32, "mixed": 32, "mobile": 96}
IMAGES = 1000


def space_and_pictures(prototype: Path, folder: Path) -> tuple[DesignSpace, Pictures]:
    """At the prototype's usual resolution, without its limits."""
    requirements = load_requirements(
        REQUIREMENTS / "cifar10.yaml",
        [
            f"prototype={prototype}",
            f"data.train={folder}",
            "data.test=0.1",
            f"data.resolution={SIDES[prototype.stem]}",
            f"data.train_images={IMAGES}",
        ],
    )
    return DesignSpace(requirements), Pictures.of(load_data(requirements.data))


def settled(architecture: Architecture, pictures: Pictures) -> AttoNet:
    """An untrained network whose normalisation has seen pictures."""
    network = build_network(architecture)
    initialise(network, 0)
    with torch.no_grad():
        for part in torch.from_numpy(pictures.calibration).split(64):
            network(part)
    return network.eval()


def exported(prototype: Path, folder: Path, networks: int, form: str) -> Iterator[Exported | str]:
    """What became of each network: the form, or why there is none."""
    space, pictures = space_and_pictures(prototype, folder)
    rng = np.random.default_rng(0)
    for _ in track(range(networks), description=f"{prototype.stem}, {form}"):
        architecture = space.decode(space.sample(rng))
        try:
            network = settled(architecture, pictures)
            yield write_form(form, network, architecture, pictures).facts
        except InputError as error:
            yield str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--forms", nargs="+", default=["onnx", "int8"], choices=EXPORTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines, refused = [], set()
    for prototype in sorted((REQUIREMENTS / "prototypes").glob("*.yaml")):
        for form in arguments.forms:
            found = list(exported(prototype, arguments.folder, arguments.networks, form))
            written = [each for each in found if isinstance(each, Exported)]
            refused |= {each for each in found if isinstance(each, str)}
            if not written:
                lines.append(f"| {prototype.stem} | {form} | 0 of {len(found)} | | |")
                continue
            shares = [
                each.parity.largest_difference / each.parity.largest_logit for each in written
            ]
            same = sum(each.parity.same_decisions for each in written)
            images = sum(each.parity.images for each in written)
            lines.append(
                f"| {prototype.stem} | {form} | {len(written)} of {len(found)} | "
                f"{max(shares):.1e} | {same:,} of {images:,} |"
            )
    print("| prototype | form | written | largest difference | same class |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    for reason in sorted(refused):
        print(f"not written: {reason}")


if __name__ == "__main__":
    main()
