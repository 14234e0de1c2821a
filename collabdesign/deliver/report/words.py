"""Numbers and networks in words, as the report and the command line show them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import groupby

from collabdesign.design import cost
from collabdesign.design.architecture import Architecture, Module
from collabdesign.design.cost import METRICS, Quantity, part_costs
from collabdesign.design.layer_words import describe_branch
from collabdesign.design.operators import ATTENTIONS, UNUSED_ACTIVATION
from collabdesign.design.requirements import Requirements
from collabdesign.explore.aim import Aim

TIMES = "\u00d7"
SPACE = "\u00a0"  # between a number and its unit, where no line breaks

QUANTITIES = {
    **{name: row.title for name, row in cost.QUANTITIES.items()},
    "accuracy": "accuracy",
    "accuracy_int8": "accuracy in int8",
}
# Of narrow columns.
HEADS = {name: row.short or row.title for name, row in cost.QUANTITIES.items()}


def quantities_of(requirements: Requirements) -> dict[str, Quantity]:
    """What is shown of a cost: all that is counted, and what was asked of the rest."""
    return {**METRICS, **{name: cost.MEASURED[name] for name in requirements.measured}}


def counted(count: int, noun: str) -> str:
    """``1 network``, ``2,000 networks``."""
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def short_count(value: float) -> str:
    """Three significant digits and a decimal suffix: ``1.23M``, ``320k``, ``87``."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T"))


def short_bytes(value: float) -> str:
    """Three significant digits and a binary unit: ``512 KiB``, ``1.14 MiB``, ``87 B``."""
    return _scaled(value, 1024, tuple(SPACE + unit for unit in ("B", "KiB", "MiB", "GiB")))


def short_milliseconds(value: float) -> str:
    """Three significant digits: ``2.5 ms``, ``0.0312 ms``, ``1234 ms``."""
    return f"{value:.3g}{SPACE}ms" if value < 1000 else f"{value:.0f}{SPACE}ms"


_SHORT: Mapping[str, Callable[[float], str]] = {
    "count": short_count,
    "bytes": short_bytes,
    "ms": short_milliseconds,
}


def percent(value: float, digits: int = 1) -> str:
    """A share of 1 in per cent: ``98.6 %``.

    It is rounded towards zero so that a number never reads as a goal that it just missed.
    """
    scale = 10**digits
    # 0.97 * 1000 is 969.9999...: a share is a ratio of counts, nine digits tell it exactly.
    return f"{math.floor(round(value * 100 * scale, 9)) / scale:.{digits}f}{SPACE}%"


def short_quantity(name: str, value: float) -> str:
    """A cost or an accuracy in its unit."""
    if name in cost.QUANTITIES:
        return _SHORT[cost.QUANTITIES[name].unit](value)
    return percent(value) if "accuracy" in name else short_count(value)


def exact_quantity(name: str, value: float) -> str:
    """A cost in full: ``1,234,567``, ``1,024 bytes``, ``2.3457 ms``."""
    unit = cost.QUANTITIES[name].unit
    number = f"{value:,.4f}" if unit == "ms" else f"{value:,.0f}"
    return number if unit == "count" else f"{number} {unit}"


def short_time(value: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def aim_words(aim: Aim) -> str:
    """Where a search aims and why, in a sentence."""
    floor, anchor = aim.proxy_accuracy - aim.margin, aim.anchor
    where = f"networks with a proxy accuracy of at least {percent(max(0.0, floor))}"
    if anchor is None or anchor.select_accuracy is None:
        return f"The search aims at {where}, from which {percent(aim.goal)} is expected"
    until = ", and at the best while none has it" if floor > anchor.proxy_accuracy else ""
    if floor >= 1:
        where, until = "the most accurate networks", ""
    return (
        f"The search aims at {where}{until}: the prototype's default network went from "
        f"{percent(anchor.proxy_accuracy)} to {percent(anchor.select_accuracy)} by full training, "
        f"the goal is {percent(aim.goal)}, and {100 * aim.margin:.1f} points are left for noise"
    )


def _scaled(value: float, base: int, suffixes: tuple[str, ...]) -> str:
    power = 0
    # 999.5 would be written as 1000: it belongs to the next suffix.
    while abs(value) >= 999.5 and power < len(suffixes) - 1:
        value /= base
        power += 1
    digits = 0 if power == 0 else max(0, 2 - math.floor(math.log10(max(abs(value), 1.0))))
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text + suffixes[power]


def _module(module: Module, in_channels: int) -> str:
    branches = [describe_branch(branch, in_channels) for branch in module.branches]
    text = branches[0] if len(branches) == 1 else f"{module.join}[ {' | '.join(branches)} ]"
    attention = ATTENTIONS[module.attention]
    if attention is not None:
        text += f" · {attention.label}"
    if module.shortcut != "none":
        text += f" + {module.shortcut}"
    notes = [] if module.activation == UNUSED_ACTIVATION else [module.activation]
    if module.output == "linear":
        notes.append("linear")
    return f"{text} ({', '.join(notes)})" if notes else text


def describe(architecture: Architecture) -> tuple[str, ...]:
    """The structure in words: one line for the stem, each run of equal modules and the head.

    A layer is told by its word in YAML: ``pw(64)`` has 64 output channels, ``dw3/2`` a stride of
    2. ``SE`` is squeeze-and-excitation, ``(linear)`` a module whose output is not activated; the
    activation is named where it is not ``relu``. Equal modules that follow each other share a
    line, told by their count.
    """
    stem, parts = architecture.stem, part_costs(architecture)
    activation = "" if stem.activation == UNUSED_ACTIVATION else f" ({stem.activation})"
    stride = "/2" if stem.stride == 2 else ""
    side = parts[0].resolution_out
    lines = [f"stem, {side} px: conv{stem.kernel}({stem.channels}){stride}{activation}"]
    triples = zip(architecture.modules, parts, parts[1:], strict=False)
    for stage, members in groupby(triples, key=lambda each: each[0].stage):
        label = f"stage {stage + 1}"
        worded = [
            (
                f"{part.resolution_out} px, {module.channels} ch: ",
                _module(module, before.channels_out),
            )
            for module, before, part in members
        ]
        for (where, text), run in groupby(worded):
            count = len(list(run))
            lines.append(f"{label}, {where}{f'{count} {TIMES} ' if count > 1 else ''}{text}")
    head = architecture.head
    features = f"pw({head.features}) - " if head.features else ""
    activation = "" if head.activation == UNUSED_ACTIVATION else f" ({head.activation})"
    lines.append(f"head: {features}average - linear({architecture.classes}){activation}")
    return tuple(lines)
