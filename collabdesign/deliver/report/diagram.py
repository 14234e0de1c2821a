"""Architecture -> a drawing that a person can read: inline SVG, one row a module.

Each row reads from left to right: where the map comes in, the branches as parallel lanes of
layers, their join, attention, the shortcut's sum, the activation; then the output's shape and
the shares of multiply-adds and parameters. The rows of one stage share a band.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from operator import itemgetter

from collabdesign.deliver.report.words import TIMES, short_count
from collabdesign.design.architecture import MAX_DEPTH, Architecture, Branch, Layer, Module
from collabdesign.design.cost import PartCost, part_costs
from collabdesign.design.layer_words import look_of, settings_of, word_of
from collabdesign.design.operators import ATTENTIONS, CONVOLUTION, IN_GROUPS, OPERATORS, Look

WIDTH = 1000
TOP = 24  # room for the headings
PADDING = 8  # above and below the lanes of a row
LANE = 38
ARC = 20  # room above the lanes for a shortcut
BAND_GAP = 6
BOX_WIDTH, BOX_HEIGHT, BOX_GAP = 86, 31, 12

# Columns, from left to right.
STAGE_X = 14
IN_X = 104
BOXES_X = IN_X + 20
JOIN_X = BOXES_X + MAX_DEPTH * BOX_WIDTH + (MAX_DEPTH - 1) * BOX_GAP + 22
JOIN_WIDTH = 42
ATTENTION_X = JOIN_X + JOIN_WIDTH + 9
ATTENTION_WIDTH = 30
SUM_X = ATTENTION_X + ATTENTION_WIDTH + 19
OUT_X = SUM_X + 17
SHAPE_X = OUT_X + 92
BAR_X = SHAPE_X + 74
BAR_WIDTH = WIDTH - BAR_X - 82

# Pixels of a letter in the widest of common fonts, DejaVu Sans, and of the space about a text.
_WIDEST_LETTER, _MARGIN = 7.4, 8.0

# What no row draws: the end of every network.
AVERAGE = Look("pooling", "#e9ebee", "#7b8794")
LINEAR = Look("linear layer", "#ffffff", "#52606d")

Drawn = tuple[Look, Sequence[str]]
"""How a box looks, and its lines of text."""


def draw_architecture(architecture: Architecture, title: str = "architecture") -> str:
    """Draw a network as an SVG element for an HTML page; the page's style colours it.

    Args:
        architecture: What is drawn.
        title: What a screen reader says; escaped here.
    """
    parts = part_costs(architecture)
    macs, params = sum(part.macs for part in parts), sum(part.params for part in parts)
    longest = max(max(part.macs / macs, part.params / params) for part in parts)
    drawn: list[str] = []
    top: float = TOP
    for label, band in groupby(_rows(architecture, parts), key=itemgetter(0)):
        start, inside = top, []
        for _, row, height, middle, part in band:
            shares = _shares(part, part.macs / macs, part.params / params, longest, middle)
            inside.append(f'<g class="row" transform="translate(0 {top:g})">{row}{shares}</g>')
            top += height
        drawn += [_band(label, start, top, part), *inside]
        top += BAND_GAP
    rows = "".join(drawn)
    headings = (
        _text(BOXES_X, 14, "layers from left to right, branches one below the other", "faint")
        + _text(SHAPE_X, 14, "output", "faint")
        + _text(BAR_X, 14, "share of MACs, of params", "faint")
    )
    return (
        f'<svg class="architecture" viewBox="0 0 {WIDTH} {top + 24:g}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">'
        f"{headings}{rows}{_legend(rows, top + 6)}</svg>"
    )


def _rows(
    architecture: Architecture, parts: Sequence[PartCost]
) -> Iterator[tuple[str, str, float, float, PartCost]]:
    """(band, drawing, height, middle, cost) of the stem, of each module and of the head."""
    height: float = LANE + 2 * PADDING
    middle = height / 2
    yield "stem", _stem(architecture, middle), height, middle, parts[0]
    triples = zip(architecture.modules, parts, parts[1:], strict=False)
    for number, (module, before, part) in enumerate(triples, start=1):
        yield (f"stage {module.stage + 1}", *_module(module, number, before.channels_out), part)
    head = _head(architecture, parts[-2].channels_out, middle)
    yield "head", head, height, middle, parts[-1]


def _stem(architecture: Architecture, y: float) -> str:
    stem = architecture.stem
    layer = Layer(CONVOLUTION, stem.kernel, stem.stride, 1, stem.channels)
    box = _drawn(layer, architecture.input_channels)
    return _chain(y, [box], OUT_X, OUT_X + 6, stem.activation)


def _head(architecture: Architecture, channels: int, y: float) -> str:
    head = architecture.head
    boxes: list[Drawn] = [
        (AVERAGE, ("average pool", f"{head.features or channels} values")),
        (LINEAR, ("linear", f"{architecture.classes} classes")),
    ]
    inside = ""
    if head.features:
        boxes.insert(0, _drawn(Layer(CONVOLUTION, 1, 1, 1, head.features), channels))
        inside = f"{head.activation} after the convolution"
    last = BOXES_X + (len(boxes) - 1) * (BOX_WIDTH + BOX_GAP)
    return _chain(y, boxes, last, last + BOX_WIDTH + 14, inside)


def _chain(y: float, boxes: Iterable[Drawn], end: float, words_x: float, words: str) -> str:
    """Boxes on one wire, and words behind them."""
    wire = _wire(f"M{IN_X} {y:g}H{end}") + _entry(y)
    return wire + _boxes(y, boxes) + _text(words_x, y + 4, words, "faint")


def _module(module: Module, number: int, in_channels: int) -> tuple[str, float, float]:
    """The drawing of a module, its height and the height of its middle wire."""
    lanes = len(module.branches)
    above = PADDING + (ARC if module.shortcut != "none" else 0)
    height = above + lanes * LANE + PADDING
    middle = above + lanes * LANE / 2
    drawn = [_text(IN_X - 12, middle + 4, str(number), "number", "end")]
    for index, branch in enumerate(module.branches):
        drawn.append(_lane(branch, in_channels, above + (index + 0.5) * LANE, middle))
    drawn.append(_wire(f"M{JOIN_X} {middle:g}H{OUT_X}"))
    drawn.append(_entry(middle))
    if lanes > 1:
        drawn.append(_pill(JOIN_X, middle, JOIN_WIDTH, module.join))
    attention = ATTENTIONS[module.attention]
    if attention is not None:
        label = (attention.label,)
        drawn.append(_box(ATTENTION_X, middle, ATTENTION_WIDTH, 24, attention.look, label))
    if module.shortcut != "none":
        drawn.append(_shortcut(module, PADDING + 4, middle))
    word = module.activation if module.output == "activated" else "linear"
    drawn.append(_text(OUT_X + 6, middle + 4, word, "faint"))
    if module.output == "linear" and any(len(each.layers) > 1 for each in module.branches):
        drawn.append(_text(OUT_X + 6, middle + 17, f"({module.activation} inside)", "tiny"))
    return "".join(drawn), height, middle


def _lane(branch: Branch, in_channels: int, y: float, middle: float) -> str:
    """One branch, from the entry at the row's middle to the join and back to it."""
    end = JOIN_X - 20
    wire = _wire(
        f"M{IN_X} {middle:g}C{IN_X + 14} {middle:g} {IN_X + 4} {y:g} {BOXES_X} {y:g}"
        f"H{end}C{end + 14} {y:g} {end + 6} {middle:g} {JOIN_X} {middle:g}"
    )
    return wire + _boxes(y, [_drawn(*each) for each in branch.with_inputs(in_channels)])


def _drawn(layer: Layer, in_channels: int) -> Drawn:
    _, word = word_of(layer, in_channels)
    down = " ↓2" if layer.stride == 2 else ""
    settings = settings_of(layer, in_channels)
    lines = (
        f"{word.box.format(k=layer.kernel)}{down}",
        " · ".join((f"{layer.channels} ch", *settings)),
    )
    return look_of(layer, in_channels), lines


def _boxes(y: float, boxes: Iterable[Drawn]) -> str:
    """Boxes side by side."""
    step = BOX_WIDTH + BOX_GAP
    return "".join(
        _box(BOXES_X + index * step, y, BOX_WIDTH, BOX_HEIGHT, *box)
        for index, box in enumerate(boxes)
    )


def _shortcut(module: Module, y: float, middle: float) -> str:
    """An arc over the lanes to the node where it is added."""
    bend = 12
    drawn = _wire(
        f"M{IN_X} {middle:g}V{y + bend:g}Q{IN_X} {y:g} {IN_X + bend} {y:g}"
        f"H{SUM_X - bend}Q{SUM_X} {y:g} {SUM_X} {y + bend:g}V{middle:g}",
        "shortcut",
    )
    if module.shortcut == "projection":
        layer = Layer(CONVOLUTION, 1, module.stride, 1, module.channels)
        look, lines = _drawn(layer, 0)
        drawn += _box(BOXES_X + BOX_WIDTH, y + 0.5, 128, 17, look, (" · ".join(lines),))
    return (
        drawn
        + f'<circle cx="{SUM_X}" cy="{middle:g}" r="9" class="node"/>'
        + _text(SUM_X, middle + 4.5, "+", "", "middle")
    )


def _shares(part: PartCost, macs: float, params: float, longest: float, y: float) -> str:
    """Output shape, and two bars; the longest bar of the network fills the column."""
    if part.name == "head":
        drawn = _text(SHAPE_X, y + 4, f"{part.channels_out} classes")
    else:
        side = f"{part.resolution_out}{TIMES}{part.resolution_out} px"
        drawn = _text(SHAPE_X, y - 2, f"{part.channels_out} ch")
        drawn += _text(SHAPE_X, y + 12, side, "faint")
    for share, count, kind, offset in (
        (macs, part.macs, "macs", -12),
        (params, part.params, "params", 3),
    ):
        width = max(BAR_WIDTH * share / longest, 0.5)
        drawn += (
            f'<rect x="{BAR_X}" y="{y + offset:g}" width="{width:.1f}" height="9" '
            f'class="{kind}"/>'
            + _text(
                BAR_X + width + 5, y + offset + 8, f"{share:.0%} · {short_count(count)}", "value"
            )
        )
    return drawn


def _band(label: str, top: float, bottom: float, last: PartCost) -> str:
    y = (top + bottom) / 2
    drawn = (
        f'<rect x="0" y="{top:g}" width="{WIDTH}" height="{bottom - top:g}" rx="7" class="band"/>'
    )
    if label == "head":
        return drawn + _text(STAGE_X, y + 4, label, "stage")
    side = f"{last.resolution_out}{TIMES}{last.resolution_out} px"
    return drawn + _text(STAGE_X, y - 2, label, "stage") + _text(STAGE_X, y + 13, side, "faint")


def _legend(rows: str, top: float) -> str:
    """What the boxes that stand in the rows are, in the order of the tables."""
    order: list[Look] = []
    for operator in OPERATORS.values():
        order += [word.look for word in operator.words.values()]
        order += [IN_GROUPS] if operator.has_groups else []
    order += [AVERAGE, *(row.look for row in ATTENTIONS.values() if row), LINEAR]
    drawn = []
    x = float(STAGE_X)
    for look in dict.fromkeys(order):
        if _paint(look) in rows:
            box = f'<rect x="{x:g}" y="{top:g}" width="12" height="12" rx="3" {_paint(look)}/>'
            drawn.append(box + _text(x + 18, top + 10, look.legend, "faint"))
            x += 36 + 6.1 * len(look.legend)  # the mean advance of a letter at this size
    return "".join(drawn) + _text(x, top + 10, "↓2: stride 2 · g: groups", "faint")


def _paint(look: Look) -> str:
    return f'fill="{look.fill}" stroke="{look.border}"'


def _box(x: float, y: float, width: float, height: float, look: Look, lines: Sequence[str]) -> str:
    """A rounded box around its middle height ``y``, with one or two lines of text."""
    middle = x + width / 2
    if len(lines) == 1:
        small = "detail" if height < 20 else ""
        texts = _text(middle, y + 4, lines[0], small, "middle", width)
    else:
        texts = _text(middle, y - 2, lines[0], "", "middle", width)
        texts += _text(middle, y + 11, lines[1], "detail", "middle", width)
    return (
        f'<g class="box"><rect x="{x:g}" y="{y - height / 2:g}" width="{width:g}" '
        f'height="{height:g}" rx="4" {_paint(look)}/>{texts}</g>'
    )


def _pill(x: float, y: float, width: float, word: str) -> str:
    return (
        f'<g class="box"><rect x="{x:g}" y="{y - 10:g}" width="{width:g}" height="20" rx="10" '
        f'class="node"/>{_text(x + width / 2, y + 4, word, "detail", "middle")}</g>'
    )


def _entry(y: float) -> str:
    return f'<circle cx="{IN_X}" cy="{y:g}" r="3.5" class="dot"/>'


def _wire(path: str, kind: str = "") -> str:
    return f'<path d="{path}" class="wire {kind}"/>'


def _text(
    x: float, y: float, text: str, kind: str = "", anchor: str = "start", room: float = math.inf
) -> str:
    """Text, drawn narrower where a wide font would leave the room that it has."""
    narrow = ""
    if len(text) * _WIDEST_LETTER > room - _MARGIN:
        narrow = f' textLength="{room - _MARGIN:g}" lengthAdjust="spacingAndGlyphs"'
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}"{narrow}>'
        f"{escape(text)}</text>"
    )
