"""Many small pictures with little memory: the first and the second start, and the pace of training.

    python experiments/many_pictures.py DIR [--images 200000] [--side 32]

Writes pictures of ten classes into DIR, once. Then it runs, in processes of their own, ``check``
with an empty cache and again, and a search of one proxy and one full pass; and in this process, in
turn, passes over images that are mapped from the cache and over the same images in memory.
Run it where memory is limited, for example `docker run --memory 2g` or `systemd-run --scope -p
MemoryMax=2G`. ``--drop`` asks the system to forget the cached files before each pass (root).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from collabdesign import DesignSpace, build_network, load_requirements
from collabdesign.design.requirements import ProxyTraining
from collabdesign.evaluate.data.images import ImageData, load_data
from collabdesign.evaluate.data.split import proxy_part
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.training import passes
from collabdesign.explore.feasible import default_params

REQUIREMENTS = """\
name: many
prototype: {prototype}
data: {{source: folder, train: pictures, test: 0.1, resolution: {side}}}
limits: {{macs: 500k}}
search: {{trials: 1, proxy: {{epochs: 1, images: 10k}}}}
family: {{size: 1, finalists: 1, export: [], training: {{epochs: 1, min_steps: 0}}}}
"""
CLASSES = 10
PROTOTYPE = Path(__file__).parent.parent / "requirements" / "prototypes" / "residual.yaml"


def write_pictures(folder: Path, images: int, side: int) -> None:
    """Noise of few colours, so that files are small and none is like another."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
    for number in track(range(images), description="writing"):
        path = folder / f"class{number % CLASSES}" / f"{number:06}.jpg"
        if not path.exists():
            pixels = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
            pixels[..., 0] //= 1 + number % CLASSES
            Image.fromarray(pixels.repeat(4, 0).repeat(4, 1)).save(path, quality=85)


def run(*words: str | Path) -> float:
    """Seconds of a command."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "collabdesign", *map(str, words)])
    if done.returncode not in (0, 4):
        sys.exit(f"{words[0]} ended with {done.returncode}")
    return time.perf_counter() - began


def start_seconds(file: Path) -> tuple[float, float]:
    """To have all images, wall and processor, in a process that has imported everything."""
    data = load_requirements(file).data
    wall, processor = time.perf_counter(), time.process_time()
    load_data(data)
    return time.perf_counter() - wall, time.process_time() - processor


def pass_seconds(data: ImageData, file: Path, images: int) -> float:
    """Of the second pass of the network that the search begins with, over so many images."""
    requirements = load_requirements(file)
    space = DesignSpace(requirements)
    params = default_params(space, requirements)
    assert params is not None, "a network fits"
    network = build_network(space.decode(params))
    initialise(network, 0)
    recipe = ProxyTraining(epochs=2, batch=128, learning_rate=0.01, min_steps=0, images=images)
    *_, last = passes(network, data, recipe, seed=0, device=torch.device("cpu"))
    return last.record.seconds


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--of", type=int, default=20_000, help="images of a timed pass")
    parser.add_argument("--drop", action="store_true")
    parser.add_argument("--only-pace", action="store_true")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    torch.set_num_threads(1)
    write_pictures(folder / "pictures", arguments.images, arguments.side)
    file = folder / "many.yaml"
    file.write_text(REQUIREMENTS.format(prototype=PROTOTYPE, side=arguments.side))
    os.environ["COLLABDESIGN_CACHE"] = str(folder / "cache")
    if not arguments.only_pace:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        shutil.rmtree(folder / "run", ignore_errors=True)
        print(f"check, nothing decoded yet: {run('check', file):.1f} s")
        print(f"check again: {run('check', file):.1f} s")
        began = run("search", file, "--run-dir", folder / "run", "--workers", "1")
        print(f"one proxy, one full pass, family and report: {began:.1f} s")
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"largest process: {largest:.0f} MiB, pictures mapped from files among them")
    wall, processor = start_seconds(file)
    print(f"images again, in a process that runs: {wall:.2f} s, {processor:.2f} s of the processor")
    data = load_data(load_requirements(file).data)
    judged = {"select_images": data.select_images[:512], "select_labels": data.select_labels[:512]}
    mapped = replace(data, **judged)
    # The same images, which lie all over the file, and the order of their batches too.
    count = arguments.of
    part = torch.from_numpy(proxy_part(data.train_labels.numpy(), count, CLASSES))
    images = data.train_images.permute(0, 2, 3, 1)[part].permute(0, 3, 1, 2)
    in_memory = replace(mapped, train_images=images, train_labels=data.train_labels[part])
    ratios = []
    for _ in range(arguments.pairs):
        if arguments.drop:
            drop_caches()
        mapped_seconds = pass_seconds(mapped, file, count)
        ratios.append(pass_seconds(in_memory, file, count) / mapped_seconds)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"images/s mapped, over those in memory: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
