"""Detectors trained on drawn shapes: what they learn, what is left, what a kill costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from shapes import CATEGORIES, write_shapes
from tiny_search import begin, command, finish, kill, run, snapshot, wait_until
from torch import nn

import collabdesign.detect.export as exporting
from collabdesign.cli.detect_export import export
from collabdesign.deliver.member import load_variant
from collabdesign.detect.bodies import read_body
from collabdesign.detect.coco_file import read_coco
from collabdesign.detect.examples import example
from collabdesign.detect.found import Found
from collabdesign.detect.network import build_detector
from collabdesign.detect.reading import load_detection
from collabdesign.detect.recipe import optimizer_of, rate_at
from collabdesign.detect.requirements import DetectionTraining
from collabdesign.detect.training import _step, _training_mode
from collabdesign.errors import TrainingFailed
from collabdesign.evaluate.checkpoint import weights_bytes
from collabdesign.evaluate.network import build_network
from collabdesign.explore.lock import DETECTING, held

PROTOTYPE = """\
stem: {kernel: 3, stride: 2, channels: 16}
stages:
  - {modules: 1, stride: 2, channels: 32, module: plain}
  - {modules: 1, stride: 2, channels: 64, module: plain}
modules:
  plain: {depth: 4, layers: [[dw3], [pw], [dw3], [pw]]}
"""

DETECTION = """\
name: shapes
detector:
  body: proto.yaml
  image: {min: 64, max: 64}
  pyramid: {channels: 48, levels: 2}
  box: {width: 64, depth: 1}
  mask: {width: 32, depth: 2}
  proposals: 60
  detections: 10
data:
  train: {annotations: train.json, images: train}
  val: {annotations: val.json, images: val}
training: {epochs: 3, batch: 4, regions: 48, optimizer: adamw, learning_rate: 0.002, warm_up: 20}
"""

CPU = ["--device", "cpu", "--threads", "1"]


def write(folder: Path, train: int, val: int) -> None:
    write_shapes(folder, train, val, side=64)
    (folder / "proto.yaml").write_text(PROTOTYPE)
    (folder / "shapes.yaml").write_text(DETECTION)


def train_words(run_dir: str, *more: str) -> list[str]:
    return ["detect", "train", "shapes.yaml", "--run-dir", run_dir, *CPU, *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and a finished run, ``run``; to look at, not to change."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder, 160, 32)
    code, said = run(train_words("run"), folder)
    assert code == 0, said
    return folder


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All below a folder but what a command said."""
    return {name: each for name, each in snapshot(folder).items() if name != "said.txt"}


def curve_of(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "curve.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [{**json.loads(line), "seconds": 0} for line in lines]


def result_of(run_dir: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
    return result


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run_dir / "best.pt", weights_only=True)
    return state


# -- what is learnt --------------------------------------------------------------------------------


def test_average_precision_rises(trained: Path) -> None:
    first, *_, last = curve_of(trained / "run")
    assert last["epoch"] == 3
    assert last["mask_ap50"] > first["mask_ap50"] + 0.2
    assert last["loss"] < first["loss"]
    result = result_of(trained / "run")
    assert result["mask"]["ap50"] > 0.3
    assert result["box"]["ap50"] > 0.3
    assert result["pictures"] == {"learnt": 144, "held_out": 16, "val": 32}
    assert set(CATEGORIES.values()) == {
        name
        for _, name in json.loads((trained / "run" / "detector.json").read_text())["categories"]
    }


def test_the_best_epoch_is_the_held_out_parts(trained: Path) -> None:
    curve, result = curve_of(trained / "run"), result_of(trained / "run")
    best = max(each["mask_ap"] for each in curve)
    assert result["held_out_mask_ap"] == best
    assert curve[result["best_epoch"] - 1]["mask_ap"] == best


def test_a_finished_run_is_not_judged_again(trained: Path) -> None:
    before = snapshot(trained / "run")
    code, said = run(train_words("run"), trained)
    assert code == 0
    assert "judging" not in said
    after = snapshot(trained / "run")
    for name in ("result.json", "best.pt", "checkpoint.pt", "curve.jsonl"):
        assert after[name] == before[name]


def test_eval_finds_what_training_told(trained: Path) -> None:
    code, said = run(["detect", "eval", "run", *CPU, "--json"], trained)
    assert code == 0, said
    found, told = json.loads(said[said.index("{") :]), result_of(trained / "run")
    for kind in ("box", "mask"):
        assert found[kind] == pytest.approx(told[kind])


def test_a_folder_that_was_moved_is_judged_on_other_pictures(trained: Path, tmp_path: Path) -> None:
    (trained / "run").rename(tmp_path / "taken")
    try:
        words = ["--annotations", "train.json", "--images", "train"]
        code, said = run(["detect", "eval", str(tmp_path / "taken"), *words, *CPU], trained)
    finally:
        (tmp_path / "taken").rename(trained / "run")
    assert code == 0, said
    assert "boxes" in said and "masks" in said


# -- a kill ----------------------------------------------------------------------------------------


def test_killed_trainings_do_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    write(tmp_path, 12, 3)
    assert run(train_words("whole"), tmp_path)[0] == 0
    killed = tmp_path / "killed"
    # As a person does it: the command, kill -9, the command.
    words = command(*train_words("killed"))
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 90
        while len(curve_of(killed)) < 1:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -9
    # Once more, in the next epoch, a process that is forked and sooner there.
    forked = begin(train_words("killed"), tmp_path)
    assert wait_until(lambda: len(curve_of(killed)) >= 2, forked)
    kill(forked)
    assert len(curve_of(killed)) == 2
    code, said = run(train_words("killed"), tmp_path)
    assert code == 0, said
    assert curve_of(killed) == curve_of(tmp_path / "whole")
    ours, theirs = weights_of(killed), weights_of(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for key in ("box", "mask", "best_epoch", "identity"):
        assert result_of(killed)[key] == result_of(tmp_path / "whole")[key]
    assert not list(killed.glob(".*.tmp"))


def test_an_interrupted_training_says_how_to_go_on(tmp_path: Path) -> None:
    write(tmp_path, 12, 3)
    process = begin(train_words("run"), tmp_path)
    assert wait_until(lambda: len(curve_of(tmp_path / "run")) >= 1, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert finish(process) == 130
    said = (tmp_path / "said.txt").read_text()
    assert "Interrupted. To continue: collabdesign detect train shapes.yaml --run-dir run" in said
    assert "Traceback" not in said


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    write(tmp_path, 12, 3)
    with held(tmp_path / "run", DETECTING):
        code, said = run(train_words("run"), tmp_path)
    assert code == 2
    assert "one process at a time trains a detector in a run folder" in said


# -- what is refused -------------------------------------------------------------------------------


def test_another_training_does_not_go_on_there(trained: Path) -> None:
    before = files_of(trained)
    words = train_words("run", "--set", "training.epochs=9", "--set", "detector.mask.width=16")
    code, said = run(words, trained)
    assert code == 2
    assert "training.epochs: 3 -> 9" in said and "detector.mask.width: 32 -> 16" in said
    assert files_of(trained) == before


def test_other_pictures_do_not_go_on_there(trained: Path, tmp_path: Path) -> None:
    write(tmp_path, 20, 4)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for name in ("requirements.yaml", "checkpoint.pt"):
        (run_dir / name).write_bytes((trained / "run" / name).read_bytes())
    before = snapshot(run_dir)
    words = ["--set", f"detector.body={trained / 'proto.yaml'}"]
    code, said = run(train_words("run", *words), tmp_path)
    assert code == 2
    assert "the checkpoint must be of this training" in said
    assert snapshot(run_dir) == before


def test_the_folder_of_a_search_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, 3, 3)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "requirements.yaml").write_text("name: mine\ngoals: {accuracy: 0.8}\n")
    before = snapshot(tmp_path / "run")
    code, said = run(train_words("run"), tmp_path)
    assert code == 2
    assert "the run folder must be new or of a detector" in said
    assert snapshot(tmp_path / "run") == before


def test_broken_files_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    write(tmp_path, 6, 3)
    data = json.loads((tmp_path / "train.json").read_text())
    data["annotations"][0]["bbox"] = [1, 1, 0, 4]
    data["annotations"][1]["category_id"] = 5
    data["annotations"][2]["segmentation"] = [[1, 1, 90, 1, 90, 90]]
    data["images"].append({"id": 999, "file_name": "gone.png", "width": 64, "height": 64})
    (tmp_path / "train.json").write_text(json.dumps(data))
    (tmp_path / "val.json").write_text("{")
    before = files_of(tmp_path)
    code, said = run(train_words("run"), tmp_path)
    assert code == 2
    for text in (
        "annotations[0] (id 2).bbox must have a width and a height above 0",
        "annotations[1] (id 7).category_id must be one of categories, got 5",
        "annotations[2] (id 12).segmentation must have polygons inside of the picture of 64x64",
        "image 999 must be a file that exists",
        "val.json:1:2: the file must be JSON",
    ):
        assert text in said
    assert "Traceback" not in said
    assert files_of(tmp_path) == before


def test_pictures_without_objects_teach_nothing(tmp_path: Path) -> None:
    write(tmp_path, 3, 3)
    data = json.loads((tmp_path / "train.json").read_text())
    data["annotations"] = []
    (tmp_path / "train.json").write_text(json.dumps(data))
    code, said = run(train_words("run"), tmp_path)
    assert code == 2
    assert "the pictures to learn from must show objects" in said


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    write(tmp_path, 3, 3)
    requirements = load_detection(tmp_path / "shapes.yaml")
    network = build_detector(
        requirements.detector.own(), read_body(requirements.detector.body), 4
    ).train()
    nn.init.constant_(network.roi_heads.box_predictor.cls_score.weight, float("inf"))
    picture, target = example(
        read_coco({"train": requirements.data.train})["train"].images[0], is_mirrored=False
    )
    optimizer = optimizer_of(network, requirements.training)
    with pytest.raises(TrainingFailed, match="the loss must be a finite number") as caught:
        _step(network, optimizer, [picture], [target])
    assert (caught.value.reason, caught.value.exit_code) == ("diverged", 4)


def test_a_folder_without_a_detector(tmp_path: Path) -> None:
    for words in (["eval", "."], ["predict", ".", "x.png"], ["export", ".", "--format", "onnx"]):
        code, said = run(["detect", *words], tmp_path)
        assert code == 2
        assert "must be a file that exists" in said or "a detector's folder holds a" in said


# -- what is learnt from ---------------------------------------------------------------------------


def test_a_mirrored_picture_has_its_boxes_where_its_masks_are(trained: Path) -> None:
    requirements = load_detection(trained / "shapes.yaml")
    images = read_coco({"train": requirements.data.train})["train"].images
    image = next(each for each in images if len(each.objects) > 1)
    picture, target = example(image, is_mirrored=False)
    mirrored, turned = example(image, is_mirrored=True)
    assert torch.equal(picture.flip(-1), mirrored)
    assert picture.shape == (3, 64, 64) and picture.min() >= 0 and picture.max() <= 1
    for boxes, masks in ((target["boxes"], target["masks"]), (turned["boxes"], turned["masks"])):
        for (left, top, right, bottom), mask in zip(boxes.tolist(), masks, strict=True):
            rows, columns = np.nonzero(mask.numpy())
            assert abs(columns.min() - left) < 2 and abs(columns.max() + 1 - right) < 2
            assert abs(rows.min() - top) < 2 and abs(rows.max() + 1 - bottom) < 2
    assert torch.equal(target["labels"], turned["labels"])


def member_of(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A member with weights that no drawing gives."""
    body = read_body(str(folder / "proto.yaml"))
    network = build_network(body.architecture)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
    member = folder / "member"
    member.mkdir()
    (member / "architecture.json").write_text(json.dumps(body.architecture.to_dict()))
    (member / "weights.pt").write_bytes(weights_bytes(network))
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (member / "certificate.json").write_text(json.dumps(statistics))
    return member, load_variant(member).state_dict()


def test_a_members_weights_are_where_training_begins(tmp_path: Path) -> None:
    write(tmp_path, 3, 3)
    member, weights = member_of(tmp_path)
    overrides = [f"detector.body={member}"]
    detector = load_detection(tmp_path / "shapes.yaml", overrides).detector
    body = read_body(detector.body)
    network = build_detector(detector.own(), body, 4)
    own = network.backbone.body.state_dict()
    assert own and all(torch.equal(value, weights[name]) for name, value in own.items())
    assert network.transform.image_mean == [0.1, 0.2, 0.3]
    assert network.transform.image_std == [0.4, 0.5, 0.6]
    # Its statistics stay, those of the new parts are learnt.
    _training_mode(network, keeps_statistics=True)
    inside = set(map(id, network.backbone.body.modules()))
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    assert {each.training for each in norms if id(each) in inside} == {False}
    assert {each.training for each in norms if id(each) not in inside} == {True}


def test_the_first_picture_tells_nothing_of_the_maps_scales(tmp_path: Path) -> None:
    """Of a picture of 64x27 pixels, padded to 64x64, torchvision guesses other scales."""
    write(tmp_path, 3, 3)
    detector = load_detection(tmp_path / "shapes.yaml").detector
    network = build_detector(detector.own(), read_body(detector.body), 4).eval()
    with torch.inference_mode():
        network([torch.rand(3, 27, 64)])
    pools = (network.roi_heads.box_roi_pool, network.roi_heads.mask_roi_pool)
    assert [each.scales for each in pools] == [[1 / 4, 1 / 8]] * 2
    # At an input of 64: 224 * 64 / 800 pixels belong to level 4, which is no finer than stride 8.
    levels = pools[0].map_levels([torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 30, 30]])])
    assert levels.tolist() == [0, 1]


def test_the_rate_rises_and_falls() -> None:
    written = DetectionTraining(epochs=1, learning_rate=0.4, warm_up=4)
    rates = [rate_at(step, 104, written) for step in range(104)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[54] == pytest.approx(0.2)
    assert rates[-1] < 0.001
    # A short training warms up for a tenth of its steps at most.
    assert [rate_at(step, 20, written) for step in range(2)] == pytest.approx([0.2, 0.4])
    assert DetectionTraining(batch=4).highest_rate == pytest.approx(0.01)
    assert DetectionTraining(optimizer="adamw").highest_rate == 2e-4


def test_a_side_is_rounded_to_the_nearest_pixel(tmp_path: Path) -> None:
    write(tmp_path, 3, 3)
    overrides = ["detector.image.min=64", "detector.image.max=100"]
    detector = load_detection(tmp_path / "shapes.yaml", overrides).detector
    transform = build_detector(detector.own(), read_body(detector.body), 4).transform
    target = {
        "boxes": torch.tensor([[0.0, 0, 32, 50]]),
        "masks": torch.ones((1, 128, 150), dtype=torch.uint8),
    }
    image, resized = transform.resize(torch.rand(3, 128, 150), target)
    assert image.shape == (3, 64, 75)
    assert resized["masks"].shape == (1, 64, 75)
    assert resized["boxes"].tolist() == [[0, 0, 16, 25]]
    for side in range(65, 400):
        short, long = sorted(transform.resize(torch.rand(3, side, side + 9))[0].shape[1:])
        assert (short, long) == (64, int(64 / side * (side + 9) + 0.5))
    # The longer side at most 100, where the shorter one would make it more.
    assert transform.resize(torch.rand(3, 100, 300))[0].shape == (3, 33, 100)


def test_a_detector_on_a_members_weights_trains(tmp_path: Path) -> None:
    write(tmp_path, 8, 3)
    member, weights = member_of(tmp_path)
    more = ["--set", f"detector.body={member}", "--set", "training.epochs=1"]
    code, said = run(train_words("run", *more), tmp_path)
    assert code == 0, said
    after = weights_of(tmp_path / "run")
    name = "stem.norm.running_mean"
    assert torch.equal(after[f"backbone.body.{name}"], weights[name])
    assert not torch.equal(after["backbone.body.stem.conv.weight"], weights["stem.conv.weight"])


# -- pictures --------------------------------------------------------------------------------------


def test_what_is_found_is_drawn_and_written(trained: Path, tmp_path: Path) -> None:
    names = sorted((trained / "val").glob("*.png"))[:6]
    Image.open(names[0]).convert("L").save(tmp_path / "grey.png")
    other = tmp_path / names[0].name
    Image.open(names[1]).convert("P").save(other)
    pictures = [*names, tmp_path / "grey.png", other]
    words = ["--into", str(tmp_path / "out"), "--least", "0.3", *CPU]
    code, said = run(["detect", "predict", "run", *map(str, pictures), *words], trained)
    assert code == 0, said
    answer = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [each["picture"] for each in answer] == list(map(str, pictures))
    # Two pictures of one name are two drawings.
    assert len({each["drawn"] for each in answer}) == len(pictures)
    assert sum(len(each["objects"]) for each in answer) > 0
    for picture, each in zip(pictures, answer, strict=True):
        drawn = Image.open(each["drawn"])
        assert drawn.size == (each["width"], each["height"]) == (64, 64)
        before = np.asarray(Image.open(picture).convert("RGB"))
        is_changed = (np.asarray(drawn) != before).any(axis=2)
        assert is_changed.any() == bool(each["objects"])
        for found in each["objects"]:
            assert CATEGORIES[found["category_id"]] == found["category"]
            assert found["score"] >= 0.3
            pixels = coco_mask.decode(found["segmentation"]).astype(bool)
            assert pixels.shape == (64, 64)
            assert is_changed[pixels].mean() > 0.9


def test_all_pictures_that_cannot_be_read_are_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    words = [
        str(tmp_path / "text.png"),
        str(tmp_path / "gone.png"),
        "--into",
        str(tmp_path / "out"),
    ]
    code, said = run(["detect", "predict", "run", *words, *CPU], trained)
    assert code == 2
    assert "text.png: not a picture" in said and "gone.png" in said
    assert not (tmp_path / "out").exists()


# -- ONNX ------------------------------------------------------------------------------------------


def test_onnx_finds_what_torch_finds(trained: Path, tmp_path: Path) -> None:
    # Of another shape than the picture that the model was traced with.
    wide = Image.new("RGB", (150, 90))
    for index, name in enumerate(sorted((trained / "val").glob("*.png"))[:2]):
        wide.paste(Image.open(name), (10 + 70 * index, 12))
    wide.save(tmp_path / "wide.png")
    # Of sides that come to 64 pixels in single precision, and to a little less in double.
    for side in (67, 73, 98, 101, 129):
        Image.open(name).resize((side, side)).save(tmp_path / f"{side}.png")
    pictures = [*sorted(tmp_path.glob("*.png")), *sorted((trained / "val").glob("*.png"))[:8]]
    words = [word for each in pictures for word in ("--picture", str(each))]
    code, said = run(["detect", "export", "run", "--format", "onnx", "--json", *words], trained)
    assert code == 0, said
    answer = json.loads(said[said.index("{") :])
    assert answer["agrees"] and answer["unmatched"] == 0
    assert answer["pictures"] == 14 and answer["objects"] > 14
    assert answer["largest_difference"] <= 0.5 and answer["lowest_iou"] > 0.99
    assert Path(trained / answer["file"]).stat().st_size == answer["bytes"]


def test_a_model_that_differs_ends_with_4(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = exporting.run_model

    def moved(session: Any, picture: torch.Tensor) -> list[Found]:
        return [
            replace(each, box=(each.box[0] + 0.6, *each.box[1:])) for each in real(session, picture)
        ]

    monkeypatch.chdir(trained)
    monkeypatch.setattr(exporting, "run_model", moved)
    assert export(Path("run"), "onnx", (), as_json=False) == 4
    assert "more than rounding makes" in capsys.readouterr().out


# -- the commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cost", "train", "eval", "predict", "export"])
def test_every_command_explains_itself(tmp_path: Path, name: str) -> None:
    code, said = run(["detect", name, "--help"], tmp_path)
    assert code == 0
    assert said.startswith(f"Usage: collabdesign detect {name} ")
    script = (
        "import sys, collabdesign.cli.main as cli\n"
        f"sys.argv = ['collabdesign', 'detect', {name!r}, '--help']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([*command()[:1], "-c", script], capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert done.returncode == 0
    assert not loaded & {"torch", "torchvision", "numpy", "pydantic", "rich", "yaml", "PIL"}
