"""What a person writes of a detector, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from requirements_files import SHIPPED, Wrong
from spaces import conv, module, network

from collabdesign.design.architecture import Stem
from collabdesign.design.feature_maps import FeatureMap, feature_maps
from collabdesign.detect.bodies import REFERENCE_BODIES, read_body
from collabdesign.detect.detector import BoxHead, Detector
from collabdesign.detect.detector_freedoms import DetectorFreedoms
from collabdesign.detect.reading import load_detection, load_detector
from collabdesign.errors import InputError, OutsideSpace, Problem

DETECTORS = sorted((SHIPPED / "detectors").glob("*.yaml"))

DETECTOR = """\
body: resnet50
image: {min: 320, max: 640}
pyramid: {channels: [64, 32, 96], layers: dense, levels: 3}
box: {kind: conv, width: {low: 64, high: 128, step: 32}}
"""

DETECTION = """\
name: mine
detector: detector.yaml
data:
  train: {annotations: train.json, images: pictures}
  val: {annotations: val.json, images: pictures}
training: {epochs: 3}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "detector.yaml").write_text(DETECTOR)
    (tmp_path / "mine.yaml").write_text(DETECTION)
    (tmp_path / "pictures").mkdir()
    for name in ("train.json", "val.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def problems_of(path: Path, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        load_detection(path, overrides)
    return caught.value.problems


# -- feature maps and anchors -----------------------------------------------------------------


def test_an_architecture_tells_its_last_map_at_each_stride() -> None:
    architecture = network(
        module([conv(3, 8)], channels=8),
        module([conv(3, 12, stride=2)], channels=12, stage=1, stride=2),
        module([conv(3, 12)], channels=12, stage=1),
        module([conv(3, 20, stride=2)], channels=20, stage=2, stride=2),
        stem=Stem(3, 2, 8),
    )
    assert feature_maps(architecture) == (
        FeatureMap("body.0", 8, 2),
        FeatureMap("body.2", 12, 4),
        FeatureMap("body.3", 20, 8),
    )


def test_a_stem_alone_at_its_stride_is_a_map() -> None:
    architecture = network(
        module([conv(3, 12, stride=2)], channels=12, stride=2), stem=Stem(3, 2, 8)
    )
    assert feature_maps(architecture) == (FeatureMap("stem", 8, 2), FeatureMap("body.0", 12, 4))


def detector(**changes: object) -> Detector:
    return DetectorFreedoms.model_validate({"body": "resnet50", **changes}).own()


def test_anchors_follow_from_strides_and_input() -> None:
    maps = detector().maps_of(REFERENCE_BODIES["resnet50"].maps)
    assert [each.stride for each in maps] == [4, 8, 16, 32]
    # As published: 32 to 512 pixels at 800.
    assert detector().anchor_sides(maps) == (32, 64, 128, 256, 512)
    half = detector(image={"min": 400, "max": 666})
    assert half.anchor_sides(maps) == (16, 32, 64, 128, 256)
    assert (detector().canonical_side, half.canonical_side) == (224, 112)
    # 8 strides times 96 / 800 were less than one stride: four strides is the least.
    assert detector(image={"min": 96, "max": 96}).anchor_sides(maps) == (16, 32, 64, 128, 256)
    assert detector().anchor_sides(maps[1:3]) == (64, 128, 256)


def test_a_body_with_too_few_maps_is_refused() -> None:
    maps = REFERENCE_BODIES["resnet50"].maps
    with pytest.raises(InputError, match=r"levels must be at most 5, the feature maps .* got 6"):
        detector(pyramid={"levels": 6}).maps_of(maps)


# -- values and freedoms ----------------------------------------------------------------------


def test_own_values_are_the_first_and_the_middle(folder: Path) -> None:
    written = load_detector(folder / "detector.yaml")
    own = written.own()
    assert (own.pyramid.channels, own.box.width, own.min_side) == (64, 96, 320)
    chosen = written.decide({"pyramid.channels": 96, "box.width": 128})
    assert (chosen.pyramid.channels, chosen.box.width) == (96, 128)
    assert chosen.mask == own.mask
    with pytest.raises(OutsideSpace, match=r"pyramid.channels must be one of \[64, 32, 96\]"):
        written.decide({"pyramid.channels": 65})
    with pytest.raises(OutsideSpace, match=r"no 'pyramid.colour' to choose"):
        written.decide({"pyramid.colour": 1})


def test_two_spellings_of_a_dense_box_head_are_one() -> None:
    assert BoxHead("dense", "depthwise", 64, 7) == BoxHead("dense", "dense", 64, 2)
    assert BoxHead("conv", "depthwise", 64, 7) != BoxHead("conv", "dense", 64, 7)


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_shipped_detectors_read(path: Path) -> None:
    written = load_detector(path)
    body = read_body(written.body)
    assert len(written.own().maps_of(body.maps)) == written.own().pyramid.levels


@pytest.mark.parametrize(
    "path", sorted((SHIPPED / "detection").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_detections_read(path: Path) -> None:
    written = load_detection(path, check_places=False)
    body = read_body(written.detector.body)
    assert written.detector.own().maps_of(body.maps)


# -- files ------------------------------------------------------------------------------------


def test_a_detection_file_names_its_detector(folder: Path) -> None:
    written = load_detection(folder / "mine.yaml", ["training.epochs=5", "detector.image.max=700"])
    assert (written.training.epochs, written.detector.image.max) == (5, 700)
    assert written.data.train.images == folder / "pictures"
    # The detector of a detection file is read as it stands, also by what asks for it alone.
    assert load_detector(folder / "mine.yaml") == load_detector(folder / "detector.yaml")
    assert load_detector(folder / "detector.yaml", ["image.max=700"]).image.max == 700


def test_paths_are_relative_to_the_file_that_they_stand_in(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "proto.yaml").write_text((SHIPPED / "prototypes" / "mobile.yaml").read_text())
    (inner / "detector.yaml").write_text(DETECTOR.replace("resnet50", "proto.yaml"))
    (folder / "mine.yaml").write_text(DETECTION.replace("detector.yaml", "inner/detector.yaml"))
    body = read_body(load_detection(folder / "mine.yaml").detector.body)
    assert [each.stride for each in body.maps] == [2, 4, 8, 16, 32]


WRONG = [
    Wrong("resnet50", "^resnet51", "body must be a member's folder, a prototype file, or one"),
    Wrong("min: 320", "min: ^16", "image.min must be a whole number from 32 to 4096, got 16"),
    Wrong("max: 640", "max: ^300", "image.max must be at least the 320 of image.min, got 300"),
    Wrong("dense, levels", "^dens, levels", "pyramid.layers must be one of", "did you mean dense?"),
    Wrong("levels: 3", "levels: ^0", "pyramid.levels: must be a whole number from 1 to 6, got 0"),
    Wrong("pyramid:", "^pyramids:", "no key 'pyramids'", "did you mean pyramid?"),
    Wrong("body: resnet50\n", "", "body must be given, got nothing", "A member's folder"),
    Wrong("high: 128", "high: 120", "the step of a range must lead from low to high"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.new[-25:])
def test_what_is_wrong_with_a_detector_has_its_place(folder: Path, wrong: Wrong) -> None:
    text = DETECTOR.replace(wrong.old, wrong.new, 1)
    (folder / "detector.yaml").write_text(text.replace("^", ""))
    (problem,) = problems_of(folder / "mine.yaml")
    assert wrong.message.replace("levels: must", "levels must") in problem.message
    assert wrong.hint in problem.hint
    assert problem.file == str(folder / "detector.yaml")
    if "^" in text:
        before = text[: text.index("^")]
        assert (problem.line, problem.column) == (
            before.count("\n") + 1,
            len(before) - before.rfind("\n"),
        )


def test_every_problem_of_both_files_is_told_at_once(folder: Path) -> None:
    (folder / "detector.yaml").write_text(DETECTOR.replace("levels: 3", "levels: many"))
    text = DETECTION.replace("epochs: 3", "epochs: 0").replace("val.json", "gone.json")
    (folder / "mine.yaml").write_text(text)
    said = [str(problem) for problem in problems_of(folder / "mine.yaml", "training.batch=none")]
    assert len(said) == 4
    assert "data.val.annotations must be a file that exists" in said[0]
    assert "training.epochs must be a whole number from 1" in said[1]
    assert any("pyramid.levels must be a whole number" in each for each in said)
    assert any("--set training.batch=none" in each for each in said)


def test_a_file_that_is_no_detector_is_told_what_to_give(folder: Path) -> None:
    (problem,) = problems_of(folder / "detector.yaml")
    assert "the file must ask for a detection, got a detector" in problem.message
    (problem,) = problems_of(folder / "mine.yaml", "detector=gone.yaml")
    assert "detector must name a detector file, got gone.yaml" in problem.message


def test_a_body_is_a_prototype_or_a_member(tmp_path: Path) -> None:
    (tmp_path / "no.yaml").write_text("name: mine\n")
    with pytest.raises(InputError, match="must be a prototype where it is a file"):
        read_body(str(tmp_path / "no.yaml"))
    (tmp_path / "architecture.json").write_text("{}")
    with pytest.raises(InputError, match="must be a member's folder"):
        read_body(str(tmp_path))
