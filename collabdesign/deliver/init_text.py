"""The texts that ``init`` writes: requirements and a prototype, with a reason for each choice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import yaml

from collabdesign.design.cost import Cost
from collabdesign.design.files.units import exact_bytes, exact_count

REQUIREMENTS_FILE, PROTOTYPE_FILE = "requirements.yaml", "prototype.yaml"

_STAGE_CHANNELS = ((16, 40, 8), (24, 72, 8), (32, 128, 16))


@dataclass(frozen=True)
class Choices:
    """What was found and chosen, for the requirements.

    Attributes:
        name: Of the run.
        train: The train folder, as it is written.
        test: The test folder, as it is written, or the fraction of train put aside.
        test_images: In the test folder; 0 where there is none.
        classes: Number of them.
        images: In the train folder.
        train_images: The subset to train on; None for all.
        sizes: What is known of the pictures' sizes, in a sentence.
        resolution: Side of the network's input in pixels.
        channels: 1 or 3.
        flip: Whether pictures may be mirrored.
        proxy_epochs: Of the short training.
        full_epochs: Of the full training.
        trials: Of the search.
        macs: The limit.
        params: The limit.
        own: Cost of the prototype's own network.
        share_that_fits: Of random proposals within the limits, 0 to 1.
    """

    name: str
    train: str
    test: str | float
    test_images: int
    classes: int
    images: int
    train_images: int | None
    sizes: str
    resolution: int
    channels: int
    flip: bool
    proxy_epochs: int
    full_epochs: int
    trials: int
    macs: int
    params: int
    own: Cost
    share_that_fits: float


def requirements_text(choices: Choices) -> str:
    """The requirements file; it names the prototype beside it."""
    c = choices
    if isinstance(c.test, str):
        test = _scalar(c.test)
        about_test = f"{c.test_images:,} pictures; or write a fraction of train such as 0.2."
    else:
        test = str(c.test)
        about_test = f"{c.test:.0%} of the pictures are put aside; or name a folder like train."
    if c.train_images is None:
        train_images = f"# train_images: {exact_count(rounded_up(max(2, c.images // 4)))}"
    else:
        train_images = f"train_images: {exact_count(c.train_images)}"
    return f"""\
# Requirements for networks that tell {c.classes} classes apart, written from \
{c.images:,} pictures.
# Change what you like, then
#
#     collabdesign check {REQUIREMENTS_FILE}
#     collabdesign search {REQUIREMENTS_FILE}
#
# Paths are relative to this file.
version: 1
name: {_scalar(c.name)}
prototype: {PROTOTYPE_FILE}

data:
  source: folder
  train: {_scalar(c.train)}

  # Read once for each finished network, and never to choose.
  # {about_test}
  test: {test}

  # Side in pixels of what a network sees. {c.sizes}
  # Twice the side shows finer detail and costs four times the multiply-adds: change
  # the strides in {PROTOTYPE_FILE} and the limits below with it.
  resolution: {c.resolution}

  # 3 for colour, 1 for grey.{" All pictures are grey." if c.channels == 1 else ""}
  channels: {c.channels}

  # Whether training may mirror a picture: false where that makes it another class, as with
  # digits, letters and arrows.
  flip: {str(c.flip).lower()}

  # Fewer images, a fixed choice balanced over the classes, make a quicker search.
  {train_images}

# Hard budgets: no network over one of them is trained. The prototype's own network takes
# {c.own.macs:,} multiply-adds and {c.own.params:,} parameters; {c.share_that_fits:.0%} of \
random proposals keep these
# limits. Put in what your device has; `collabdesign check` says what then fits.
limits:
  macs: {exact_count(c.macs)}
  params: {exact_count(c.params)}
  # weight_bytes: {exact_bytes(rounded_up(c.own.weight_bytes))}
  # peak_activation_bytes: {exact_bytes(rounded_up(c.own.peak_activation_bytes))}

# float32, float16 or int8: at which the limits in bytes are counted.
deploy: {{precision: float32}}

# The accuracy on test that you need, as a share of 1.
goals:
  # accuracy: 0.90

# What the front trades against each other.
objectives: [accuracy, macs, params]

# How many networks to train briefly, and for how many passes over the images. More trials find
# better networks; more passes rank them better.
search: {{trials: {c.trials}, seed: 0, proxy: {{epochs: {c.proxy_epochs}}}}}

# How many to train fully and hand over, from the most accurate to the smallest.
family: {{size: 4, training: {{epochs: {c.full_epochs}, seeds: 1}}}}
"""


def prototype_text(resolution: int) -> str:
    """The prototype file for an input of this side: inverted residuals in up to three stages."""
    halvings = _halvings(resolution)
    in_stem = 1 if halvings > len(_STAGE_CHANNELS) else 0
    in_stages = halvings - in_stem
    assert in_stages <= len(_STAGE_CHANNELS)
    strides = [1] * (2 - in_stages) + [2] * in_stages
    left = resolution
    for _ in range(halvings):
        left = math.ceil(left / 2)
    stages = []
    for number, (stride, channels) in enumerate(zip(strides, _STAGE_CHANNELS, strict=False)):
        low, high, step = channels
        modules = "[1, 2]," if number == 0 else "[2, 1, 3],"
        width = f"{{low: {low}, high: {high}, step: {step}}},"
        stages.append(
            f"  - {{modules: {modules:10} stride: {stride}, channels: {width:31} module: residual}}"
        )
    features = "[0, 128, 256]"
    return f"""\
# The overall shape of your networks, with what the machine may choose inside.
#
# One value is fixed. A list is choices with yours first. {{low, high, step}} is a range with yours
# in the middle. All of yours together are the network that the search starts from.

# The first convolution. Stride 2 halves the resolution.
stem: {{kernel: 3, stride: {in_stem + 1}, channels: {{low: 8, high: 24, step: 4}}}}

# Stages, each at one resolution: how many modules, how many channels, of which kind. All
# strides together take {resolution}x{resolution} pixels to {left}x{left}; 3 to 8 on a side \
suit most pictures.
stages:
{chr(10).join(stages)}

# A last 1x1 convolution with this many channels, 0 for none. Many classes want more.
head: {{features: {features}, activation: hardswish}}

# Kinds of module: up to three parallel branches of up to four layers. `collabdesign schema`
# tells all keys and values.
modules:
  residual:
    shortcut: [identity, projection]     # add none to let go of the residual principle
    branches: [1, 2]
    join: [add, concat]
    depth: [3, 1, 2, 4]                  # layers in a branch
    layers:                              # position by position
      - [pw, dw3, conv3, conv3/g4, pool3]
      - [dw3, dw5, conv3, conv3/g4, pw]
      - [pw, dw3, conv3/g4]
      - [pw, dw3]
    widths: [2, 0.25, 0.5, 1, 3, 4]      # hidden widths, times the stage's channels
    attention: [none, squeeze_excite]    # take out squeeze_excite where the device has no sigmoid
    activation: [relu, hardswish]        # relu alone is easiest on int8 devices
    output: [linear, activated]          # linear: nothing after the sum, as in MobileNet-V2
    share: stage                         # module: each its own design; more freedom, longer search
"""


def _halvings(resolution: int) -> int:
    """How often to halve, so that 3 to 7 pixels are left on a side."""
    return max(0, round(math.log2(resolution / 4.5)))


def rounded_up(value: int) -> int:
    """To two digits, the second of them 0, 2 or 5 below 5 and 0 above."""
    power: int = 10 ** max(0, len(str(value)) - 2)
    steps = (10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100)
    return power * next(step for step in steps if step * power >= value)


def _scalar(text: str) -> str:
    """As YAML, in quotes unless it is plainly a word or a path."""
    if re.fullmatch(r"[A-Za-z./][A-Za-z0-9._/-]*[A-Za-z/]|[A-Za-z./]+", text) and not re.fullmatch(
        r"\.inf|\.nan|null|true|false", text, re.IGNORECASE
    ):
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6)
    return quoted.strip()
