"""A detector and a body -> torchvision's MaskRCNN, with depthwise parts of our own.

What has dense layers is torchvision's own module with its own initialisation; depthwise layers take
their places. Pictures are normalised as the body's were.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torchvision.models import mobilenet_v3_large, resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from collabdesign.deliver.member import load_variant
from collabdesign.design.feature_maps import FeatureMap
from collabdesign.detect.bodies import Body
from collabdesign.detect.detector import (
    ASPECT_RATIOS,
    BOX_SIDE,
    MASK_SIDE,
    BoxHead,
    Detector,
    MaskHead,
    Pyramid,
    RegionHead,
)
from collabdesign.detect.resizing import Resizing
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import AttoNet, build_network

# Points at which each element of a region is read, in each direction; as torchvision has it.
_SAMPLES = 2

_ANCHORS = len(ASPECT_RATIOS)


class Separable(nn.Sequential):
    """A 3x3 convolution of each channel, a 1x1 convolution; normalisation or a bias; ReLU."""

    def __init__(
        self, inside: int, outside: int, *, is_normalised: bool = True, is_activated: bool = True
    ) -> None:
        each = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
        across = nn.Conv2d(inside, outside, 1, bias=not is_normalised)
        layers: list[nn.Module] = [each, across]
        if is_normalised:
            layers.append(nn.BatchNorm2d(outside))
        if is_activated:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)
        for convolution in (each, across):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        if across.bias is not None:
            nn.init.zeros_(across.bias)


class AttoBody(nn.Module):
    """The stem and the modules of an AttoNet; gives its maps by their place in the pyramid."""

    def __init__(self, network: AttoNet, maps: tuple[FeatureMap, ...]) -> None:
        super().__init__()
        self.stem, self.body = network.stem, network.body
        names = ["stem", *(f"body.{index}" for index in range(len(network.body)))]
        self.places = {names.index(each.name): str(n) for n, each in enumerate(maps)}

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        maps: OrderedDict[str, torch.Tensor] = OrderedDict()
        for index, part in enumerate((self.stem, *self.body)):
            x = part(x)
            if index in self.places:
                maps[self.places[index]] = x
        return maps


class Backbone(nn.Module):
    """A body with its pyramid."""

    def __init__(self, body: nn.Module, pyramid: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.body, self.pyramid = body, pyramid
        self.out_channels = out_channels

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        maps: OrderedDict[str, torch.Tensor] = self.pyramid(self.body(x))
        return maps


def build_detector(
    detector: Detector, body: Body, classes: int, *, seed: int = 0, regions: int = 512
) -> MaskRCNN:
    """Build a detector: the body with its member's weights where it has any, all else untrained.

    Args:
        detector: All but the body.
        body: The body.
        classes: The background included.
        seed: Of the weights that are drawn.
        regions: Of a picture, from which the box head learns in a step.

    Raises:
        InputError: The body has too few feature maps, or its weights cannot be read.
    """
    maps = detector.maps_of(body.maps)
    channels, canonical = detector.pyramid.channels, detector.canonical_side
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MaskRCNN(
            Backbone(_body(body, maps, seed), _pyramid(detector.pyramid, maps), channels),
            rpn_anchor_generator=AnchorGenerator(
                tuple((side,) for side in detector.anchor_sides(maps)),
                (ASPECT_RATIOS,) * (len(maps) + 1),
            ),
            rpn_head=_region_head(detector.region, channels),
            # torchvision's own at 1,000 proposals.
            rpn_pre_nms_top_n_train=2 * detector.proposals,
            rpn_post_nms_top_n_train=2 * detector.proposals,
            rpn_pre_nms_top_n_test=detector.proposals,
            rpn_post_nms_top_n_test=detector.proposals,
            box_roi_pool=_region_pooling(maps, BOX_SIDE, canonical),
            box_head=_box_head(detector.box, channels),
            box_predictor=FastRCNNPredictor(detector.box.width, classes),
            box_batch_size_per_image=regions,
            box_detections_per_img=detector.detections,
            mask_roi_pool=_region_pooling(maps, MASK_SIDE, canonical),
            mask_head=_mask_head(detector.mask, channels),
            mask_predictor=MaskRCNNPredictor(detector.mask.width, detector.mask.width, classes),
        )
    network.transform = Resizing(
        detector.min_side, detector.max_side, list(body.mean), list(body.std)
    )
    return network


def _body(body: Body, maps: tuple[FeatureMap, ...], seed: int) -> nn.Module:
    if body.name in _TORCHVISION:
        builder, places = _TORCHVISION[body.name]
        network = builder(weights=None)
        layers = network.features if hasattr(network, "features") else network
        taken = {places[each.stride]: str(n) for n, each in enumerate(maps)}
        found: nn.Module = IntermediateLayerGetter(layers, taken)
        return found
    if body.folder is not None:
        return AttoBody(load_variant(body.folder), maps)
    untrained = build_network(body.architecture)
    initialise(untrained, seed)
    return AttoBody(untrained, maps)


# By its name, what builds it and where its maps are, by their strides.
_TORCHVISION = {
    "resnet50": (
        resnet50,
        {2: "relu", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"},
    ),
    "mobilenet_v3_large": (
        mobilenet_v3_large,
        {2: "1", 4: "3", 8: "6", 16: "12", 32: "16"},
    ),
}


def _pyramid(pyramid: Pyramid, maps: tuple[FeatureMap, ...]) -> nn.Module:
    channels, inside = pyramid.channels, [each.channels for each in maps]
    is_dense = pyramid.layers == "dense"
    found: nn.Module = FeaturePyramidNetwork(
        inside,
        channels,
        extra_blocks=LastLevelMaxPool(),
        norm_layer=None if is_dense else nn.BatchNorm2d,
    )
    if not is_dense:
        found.layer_blocks = nn.ModuleList(
            Separable(channels, channels, is_activated=False) for _ in maps
        )
    return found


def _region_head(region: RegionHead, channels: int) -> nn.Module:
    found: nn.Module = RPNHead(channels, _ANCHORS, conv_depth=region.depth)
    if region.layers == "depthwise":
        found.conv = nn.Sequential(
            *(Separable(channels, channels, is_normalised=False) for _ in range(region.depth))
        )
    return found


def _region_pooling(maps: tuple[FeatureMap, ...], side: int, canonical: int) -> nn.Module:
    """RoI align over the maps, with the scales that they have.

    Left alone, torchvision guesses the scales from the first picture, wrongly where that was padded
    by more than two fifths, and keeps them.
    """
    names = [str(level) for level in range(len(maps))]
    found: Any = MultiScaleRoIAlign(names, side, _SAMPLES, canonical_scale=canonical)
    found.scales = [1 / each.stride for each in maps]
    levels = [round(math.log2(each.stride)) for each in maps]
    found.map_levels = initLevelMapper(levels[0], levels[-1], canonical_scale=canonical)
    pooling: nn.Module = found
    return pooling


def _layers(layers: str, inside: int, width: int, depth: int) -> nn.Sequential:
    if layers == "dense":
        found: nn.Sequential = MaskRCNNHeads(inside, (width,) * depth, dilation=1)
        return found
    first, *others = (
        Separable(inside, width),
        *(Separable(width, width) for _ in range(depth - 1)),
    )
    return nn.Sequential(first, *others)


def _box_head(box: BoxHead, channels: int) -> nn.Module:
    if box.kind == "dense":
        found: nn.Module = TwoMLPHead(channels * BOX_SIDE**2, box.width)
        return found
    return nn.Sequential(
        *_layers(box.layers, channels, box.width, box.depth),
        # 7x7 elements to 2x2, each an average of 4x4: the sides of a box lie in different ones.
        nn.AvgPool2d(4, stride=3),
        nn.Flatten(),
        nn.Linear(4 * box.width, box.width),
        nn.ReLU(inplace=True),
    )


def _mask_head(mask: MaskHead, channels: int) -> nn.Module:
    return _layers(mask.layers, channels, mask.width, mask.depth)
