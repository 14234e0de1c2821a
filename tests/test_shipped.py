"""Every shipped requirements file goes through the real entry points; real pictures, where they
lie beside the checkout, through a whole search."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_search import call

from collabdesign.deliver.certificate import read_certificate
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.space import DesignSpace
from collabdesign.explore.feasible import default_params, feasibility

REPOSITORY = Path(__file__).parent.parent
SHIPPED = sorted((REPOSITORY / "requirements").glob("*.yaml"))
SHARED = REPOSITORY.parent / "shared" / "data"


def draw_pictures(folder: Path, classes: int, each: int, side: int) -> None:
    """Class folders of noise pictures."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{number}.png")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_describes_a_search_that_can_be_run(path: Path, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "requirements", tmp_path / "requirements")
    for dataset in ("cifar10", "imagenette"):
        for part in ("train", "test", "val"):
            draw_pictures(tmp_path / "data" / dataset / part, classes=10, each=1, side=8)

    requirements = load_requirements(tmp_path / "requirements" / path.name)
    space = DesignSpace(requirements)
    found = feasibility(space, requirements, samples=300)

    assert found.possible
    assert default_params(space, requirements) is not None
    # A newcomer's first search must not drown in rejections.
    assert found.fits["all"].value > 0.1
    assert not found.changes


def unpack(archive: str, into: Path, each: int) -> Path:
    """The first pictures of each class of an archive that lies beside the checkout."""
    path = SHARED / archive
    if not path.is_file():
        pytest.skip(f"needs ../shared/data/{archive} beside the checkout")
    taken: dict[Path, int] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            folder = Path(member.name).parent
            if member.isfile() and member.name.endswith(".jpg") and taken.get(folder, 0) < each:
                taken[folder] = taken.get(folder, 0) + 1
                if sys.version_info >= (3, 12):
                    tar.extract(member, into, filter="data")
                else:
                    tar.extract(member, into)
    return into


@pytest.mark.timeout(240)
def test_cifar10_from_folders_is_searched_and_its_networks_are_taken_away(tmp_path: Path) -> None:
    data = unpack("cifar10.tar.xz", tmp_path, each=60) / "cifar10"
    words = (
        "search",
        REPOSITORY / "requirements" / "cifar10.yaml",
        *("--run-dir", tmp_path / "run", "--threads", "1"),
        *("--set", f"data.train={data / 'train'}", "--set", f"data.test={data / 'test'}"),
        *(
            "--set",
            "limits.macs=500k",
            "--set",
            "search.trials=3",
            "--set",
            "family.size=2",
            "--set",
            "goals.accuracy=0.12",
        ),
        *("--set", "search.proxy.min_steps=20", "--set", "search.proxy.epochs=2"),
        *("--set", "family.training.epochs=6", "--set", "family.training.min_steps=0"),
    )

    done = call(*words, cwd=tmp_path, timeout=220)

    # The goal is just above chance: what is learned from 480 pictures is not much.
    assert done.returncode in (0, 4), done.stdout + done.stderr
    certificates = [read_certificate(p) for p in sorted((tmp_path / "run/family").glob("atto*"))]
    assert len(certificates) == 2
    for each in certificates:
        assert each.cost.macs <= 500_000
        assert each.cost.params <= 100_000
        assert each.test_images == 600
    member = tmp_path / "run" / "family" / "attonet-a"
    picture = next((data / "test" / "ship").iterdir())
    shown = subprocess.run(
        [sys.executable, member / "model.py", picture], capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert any(name in shown.stdout for name in ("ship", "truck", "airplane", "automobile", "cat"))


@pytest.mark.timeout(240)
def test_photographs_are_begun_and_checked(tmp_path: Path) -> None:
    data = unpack("imagenette112.tar.xz", tmp_path, each=30) / "imagenette"
    begun = call("init", "--data", data, cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr

    checked = call("check", "requirements.yaml", "--threads", "1", "--json", cwd=tmp_path)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = json.loads(checked.stdout)
    assert [part["name"] for part in found["data"]] == ["train", "test"]
    assert found["data"][0]["images"] == 300
    assert found["data"][0]["sizes"] == {"112x112": 300}
    assert found["time"]["search_seconds"][1] > 0
