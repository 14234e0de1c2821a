"""Costs of detectors: against torch's own counter on the built networks, and written out here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from requirements_files import SHIPPED
from spaces import conv, module, network, space_of, written
from tiny_search import run
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn

from collabdesign.design.architecture import Architecture, Stem
from collabdesign.design.cost import body_costs, cost_of
from collabdesign.detect.bodies import REFERENCE_BODIES, Body, read_body
from collabdesign.detect.cost import PARTS, DetectorCost, detector_cost
from collabdesign.detect.detector import (
    BOX_KINDS,
    LAYERS,
    BoxHead,
    Detector,
    MaskHead,
    Pyramid,
    RegionHead,
)
from collabdesign.detect.lifetimes import Step, peaks
from collabdesign.detect.network import build_detector
from collabdesign.detect.reading import load_detector
from collabdesign.detect.reference_detectors import REFERENCES
from collabdesign.evaluate.network import build_network

ATTO = SHIPPED / "detectors" / "atto.yaml"

# Of the mobile prototype's own network, so that tests draw bodies as people would name them.
MOBILE = read_body(str(SHIPPED / "prototypes" / "mobile.yaml"))


# -- the independent count --------------------------------------------------------------------


@contextmanager
def counting(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Multiply-accumulates so far: half of torch's flops, and one for each element with a bias."""
    biases = 0

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal biases
        biases += output.numel() if module.bias is not None else 0

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [
        part.register_forward_hook(hook) for part in model.modules() if isinstance(part, kinds)
    ]
    with FlopCounterMode(display=False) as counter:
        yield lambda: counter.get_total_flops() // 2 + biases
    for each in hooks:
        each.remove()


def parts_of(
    model: MaskRCNN, height: int, width: int, proposals: int, detections: int
) -> dict[str, tuple[int, int]]:
    """(macs, params) of each part of a model on the meta device, where shapes alone are."""
    found: dict[str, tuple[int, int]] = {}
    model.eval()
    names = [name for name, _ in model.backbone.named_children()]
    body, pyramid = (getattr(model.backbone, name) for name in names)
    heads = model.roi_heads

    def look(part: str, *modules: nn.Module) -> None:
        params = sum(p.numel() for each in modules for p in each.parameters())
        found[part] = (macs() - sum(value for value, _ in found.values()), params)

    with torch.device("meta"), torch.no_grad(), counting(model) as macs:
        maps = body(torch.empty(1, 3, height, width))
        look("body", body)
        maps = pyramid(maps)
        look("pyramid", pyramid)
        model.rpn.head(list(maps.values()))
        look("region head", model.rpn.head)
        channels = model.backbone.out_channels
        heads.box_predictor(heads.box_head(torch.empty(proposals, channels, 7, 7)))
        look("box head", heads.box_head, heads.box_predictor)
        heads.mask_predictor(heads.mask_head(torch.empty(detections, channels, 14, 14)))
        look("mask head", heads.mask_head, heads.mask_predictor)
    assert sum(params for _, params in found.values()) == sum(p.numel() for p in model.parameters())
    return found


def counted(cost: DetectorCost) -> dict[str, tuple[int, int]]:
    return {part.name: (part.macs, part.params) for part in cost.parts}


def built(detector: Detector, body: Body, classes: int) -> MaskRCNN:
    with torch.device("meta"):
        return build_detector(detector, body, classes)


# -- torchvision's own -------------------------------------------------------------------------


def test_torchvisions_mask_r_cnn_is_counted_part_by_part() -> None:
    with torch.device("meta"):
        model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    cost = detector_cost("ResNet-50-FPN", *REFERENCES["ResNet-50-FPN"])
    assert (cost.height, cost.width) == (800, 1344)
    assert counted(cost) == parts_of(model, 800, 1344, 1000, 100)


def test_the_published_figures() -> None:
    cost = detector_cost("ResNet-50-FPN", *REFERENCES["ResNet-50-FPN"])
    body, *outside = cost.parts
    assert body.name == "body"
    # torchvision's trained weights are 44,401,393: 53,120 of normalisation are frozen there.
    assert cost.params == 44_401_393 + 53_120
    assert round(sum(part.params for part in outside) / 1e6, 1) == 20.9
    assert round(sum(part.macs for part in outside) / 1e9, 1) == 181.7
    # Biases are one per output element: without them there are 269.2G.
    pyramid = 2 * 256 * (200 * 336 + 100 * 168 + 50 * 84 + 25 * 42)
    region = (256 + 15) * (200 * 336 + 100 * 168 + 50 * 84 + 25 * 42 + 13 * 21)
    box = 1000 * (1024 + 1024 + 91 + 4 * 91)
    mask = 100 * (4 * 256 * 14**2 + (256 + 91) * 28**2)
    assert round(cost.macs / 1e9, 1) == 269.3
    assert round((cost.macs - pyramid - region - box - mask) / 1e9, 1) == 269.2
    # The first linear layer of the box head.
    assert 256 * 7 * 7 * 1024 + 1024 == 12_846_080


def test_the_reference_bodies_are_torchvisions() -> None:
    assert cost_of(REFERENCE_BODIES["resnet50"].architecture).params == 25_557_032
    detector, body = REFERENCES["MobileNet-V3-large-FPN"]
    cost = detector_cost("MobileNet-V3-large-FPN", detector, body, size=(320, 480))
    assert counted(cost) == parts_of(built(detector, body, 91), 320, 480, 1000, 100)


def test_the_resnet_as_an_architecture_computes_what_torchvisions_does() -> None:
    """So a member of it, trained by our recipes, can be the body as torchvision's is."""
    torch.manual_seed(0)
    theirs, ours = (
        resnet50(weights=None).eval(),
        build_network(REFERENCE_BODIES["resnet50"].architecture).eval(),
    )
    # Both list their weights in the order in which they run, the shortcut's last.
    pairs = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({name: value for (name, _), value in pairs})
    picture = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.allclose(ours(picture), theirs(picture), atol=1e-5)


# -- our own, drawn ------------------------------------------------------------------------------


@st.composite
def detectors(draw: st.DrawFn) -> Detector:
    width = st.integers(8, 40)
    layers = st.sampled_from(LAYERS)
    return Detector(
        min_side=draw(st.integers(32, 200)),
        max_side=draw(st.integers(200, 300)),
        pyramid=Pyramid(draw(width), draw(layers), draw(st.integers(1, 5))),
        region=RegionHead(draw(layers), draw(st.integers(1, 3))),
        box=BoxHead(
            draw(st.sampled_from(BOX_KINDS)), draw(layers), draw(width), draw(st.integers(1, 4))
        ),
        mask=MaskHead(draw(layers), draw(width), draw(st.integers(1, 4))),
        proposals=draw(st.integers(1, 50)),
        detections=draw(st.integers(1, 20)),
    )


BODIES = [MOBILE, REFERENCE_BODIES["resnet50"], REFERENCE_BODIES["mobilenet_v3_large"]]


@settings(max_examples=12, deadline=None)
@given(detectors(), st.sampled_from(BODIES), st.integers(2, 12))
def test_a_built_detector_costs_what_was_counted(
    detector: Detector, body: Body, classes: int
) -> None:
    cost = detector_cost("drawn", detector, body, classes=classes)
    model = built(detector, body, classes)
    shape = cost.height, cost.width, detector.proposals, detector.detections
    assert counted(cost) == parts_of(model, *shape)


SPACE = space_of(written("mixed"), 32)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), detectors())
def test_any_architecture_is_a_body(seed: int, detector: Detector) -> None:
    architecture = SPACE.decode(SPACE.sample(np.random.default_rng(seed)))
    body = Body("drawn", architecture)
    levels = min(detector.pyramid.levels, len(body.maps))
    pyramid = Pyramid(detector.pyramid.channels, detector.pyramid.layers, levels)
    detector = Detector(**{**vars(detector), "pyramid": pyramid})
    cost = detector_cost("drawn", detector, body, size=(64, 96), classes=4)
    model = built(detector, body, 4)
    assert counted(cost) == parts_of(model, 64, 96, detector.proposals, detector.detections)


# -- peak activation -----------------------------------------------------------------------------


def test_a_tensor_lives_from_its_writing_to_its_last_reading() -> None:
    steps = [
        Step("first", "b", 10, ("a",)),
        Step("first", "c", 1, ("b",)),
        Step("second", "d", 5, ("a", "c")),
        Step("second", "e", 2, ("d",)),
    ]
    # a+b, then a+b+c, where b ends; a+c+d, where a and c end; d+e.
    assert peaks(steps, {"a": 100}) == {"first": 111, "second": 106}


def test_a_square_body_that_keeps_nothing_is_the_network_without_its_head() -> None:
    architecture = MOBILE.architecture
    costs = list(body_costs(architecture, 224, 224, ()))
    assert sum(each.macs for each in costs) == cost_of(architecture).macs - 224 * 1000 - 1000
    assert (
        max(each.peak_elements for each in costs) * 4 == cost_of(architecture).peak_activation_bytes
    )


def two_modules() -> Architecture:
    return network(
        module([conv(3, 10, stride=2)], channels=10, stride=2),
        module([conv(3, 20, stride=2)], channels=20, stride=2, stage=1),
        module([conv(3, 20)], channels=20, stage=1, shortcut="projection"),
        stem=Stem(3, 1, 8),
    )


def test_kept_maps_stay_alive() -> None:
    """Of a picture of 8x16: the stem's map has 8x8x16 elements, the modules' 10x4x8 and 20x2x4."""
    stem, first, second = 8 * 8 * 16, 10 * 4 * 8, 20 * 2 * 4
    freed = [each.peak_elements for each in body_costs(two_modules(), 8, 16, ())]
    assert freed == [3 * 8 * 16 + stem, stem + first, first + second, 3 * second]
    kept = [each.peak_elements for each in body_costs(two_modules(), 8, 16, (0, 1, 2))]
    assert kept == [
        3 * 8 * 16 + stem,
        stem + first,
        stem + first + second,
        # The joined map, the projection and their sum, beside the input that stays.
        stem + first + 4 * second,
    ]


def test_the_most_of_a_pyramid_is_told_by_hand() -> None:
    """One level of 10 channels at 4x4 of a body, 8 of the pyramid, all dense."""
    detector = Detector(
        32, 32, Pyramid(8, "dense", 1), RegionHead("dense", 1), BoxHead("dense", "", 8, 2),
        MaskHead("dense", 8, 1), proposals=1, detections=1,
    )  # fmt: skip
    body = Body("small", network(module([conv(3, 10, stride=2)], channels=10, stride=2),
                                 stem=Stem(3, 2, 8)))  # fmt: skip
    cost = detector_cost("small", detector, body, size=(32, 32), classes=2)
    pixels = 8 * 8
    # The body's map beside the lateral one; after it the lateral one beside the smoothed one.
    assert cost.parts[1].peak_activation_bytes == 4 * (10 + 8) * pixels


# -- the claim, and the command --------------------------------------------------------------------


def test_the_shipped_detector_is_ten_times_cheaper() -> None:
    written_ = load_detector(ATTO)
    own = detector_cost("atto", written_.own(), read_body(written_.body))
    shape = own.height, own.width, own.proposals, own.detections, own.classes
    assert shape == (800, 1344, 1000, 100, 91)
    reference = detector_cost("ResNet-50-FPN", *REFERENCES["ResNet-50-FPN"])
    assert reference.macs >= 10 * own.macs
    assert reference.params >= 10 * own.params


def test_the_readme_has_these_figures() -> None:
    readme = (SHIPPED.parent / "README.md").read_text()
    written_ = load_detector(ATTO)
    own = detector_cost("atto", written_.own(), read_body(written_.body))
    everyone = [detector_cost(name, *each) for name, each in REFERENCES.items()]
    for cost in (*everyone, own):
        body = cost.parts[0]
        macs = f"{cost.macs / 1e9:.1f}G | {body.macs / 1e9:.1f}G"
        assert f" | {macs} | {cost.params / 1e6:.2f}M | {body.params / 1e6:.3g}M |" in readme


def test_the_shipped_resnet_is_the_reference() -> None:
    written_ = load_detector(SHIPPED / "detectors" / "resnet50.yaml")
    assert (written_.own(), read_body(written_.body)) == REFERENCES["ResNet-50-FPN"]


def test_the_command_tells_all_parts_and_its_convention(tmp_path: Path) -> None:
    code, said = run(["detect", "cost", str(ATTO)], tmp_path)
    assert code == 0
    assert "800x1333 pixels, padded to 800x1344; 1,000 proposals, 100 detections" in said
    assert all(said.count(f"\n{part} ") == 3 for part in PARTS)
    assert "269G" in said and "44.5M" in said
    assert "a bias one per output element" in said


def test_the_command_answers_programs(tmp_path: Path) -> None:
    words = ["--size", "480x640", "--proposals", "300", "--detections", "50", "--classes", "3"]
    code, said = run(["detect", "cost", str(ATTO), *words, "--json"], tmp_path)
    assert code == 0
    answer = json.loads(said)
    own, *others = answer["detectors"]
    assert [each["name"] for each in others] == list(REFERENCES)
    for each in answer["detectors"]:
        assert each["input"] == [480, 640]
        assert (each["proposals"], each["detections"], each["classes"]) == (300, 50, 3)
        for key in ("macs", "params"):
            assert each[key] == sum(part[key] for part in each["parts"].values())
    cost = detector_cost("", *REFERENCES["ResNet-50-FPN"], size=(480, 640), proposals=300,
                         detections=50, classes=3)  # fmt: skip
    assert others[0]["macs"] == cost.macs
    assert own["macs"] < others[0]["macs"]


@pytest.mark.parametrize("size", ["800", "800x", "10x10", "800X1333", "800x1333x3"])
def test_a_size_is_height_and_width(tmp_path: Path, size: str) -> None:
    code, said = run(["detect", "cost", str(ATTO), "--size", size], tmp_path)
    assert code == 2
    assert "--size must be height and width of at least 32 pixels" in said
