"""The words for layers: what a person writes (``conv3/g4``) to layers, and layers to words.

A word is its name, the side of the kernel where there is one to choose, and settings, each
behind a slash. :mod:`collabdesign.design.operators` says which words and settings there are.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cache, lru_cache

from collabdesign.design.architecture import Branch, Layer
from collabdesign.design.operators import IN_GROUPS, OPERATORS, SETTINGS, Look, Word
from collabdesign.errors import InputError, Problem

# Of any word, so that the schema does not change with the table.
WORD_PATTERN = r"^[a-z_]+[0-9]*(/[a-z_]+[0-9]*)*$"

_WORD = re.compile(r"([a-z_]+)([0-9]*)((?:/[a-z_]+[0-9]*)*)", re.ASCII)

# A space has few different layers, and a search decodes tens of thousands of networks.
_shared_layer = lru_cache(maxsize=2**16)(Layer)


@dataclass(frozen=True, slots=True)
class LayerToken:
    """A word for a layer as it was read.

    Attributes:
        operator: Its name in the table.
        kind: The word without its numbers.
        kernel: Side of the kernel.
        groups: As asked for; 1 unless written.
        settings: What else was written and is not the default.
        word: The row of its kind.
        takes_stride: Whether it can halve the resolution.
    """

    operator: str
    kind: str
    kernel: int
    groups: int
    settings: tuple[tuple[str, int | str], ...]
    word: Word = field(compare=False)
    takes_stride: bool

    @property
    def chooses_channels(self) -> bool:
        """Whether the layer is free in its output channels."""
        return self.word.chooses_channels

    def layer(self, stride: int, in_channels: int, channels: int) -> Layer:
        """The layer between these channels; groups fall to the largest divisor of both."""
        groups = in_channels if self.word.depthwise else self.groups
        while in_channels % groups or channels % groups:
            groups -= 1
        return _shared_layer(self.operator, self.kernel, stride, groups, channels, self.settings)


@cache
def parse_token(text: str) -> LayerToken:
    """Read the word for a layer.

    Raises:
        InputError: The word is none, or its kernel or a setting breaks a rule.
    """
    match = _WORD.fullmatch(text)
    kind, kernel_text, tail = match.groups() if match else ("", "", "")
    found = _words().get(kind)
    if found is None:
        raise _no_word(text)
    name, word = found
    values: dict[str, int | str] = {}
    for part in tail.split("/")[1:]:
        for key, setting in SETTINGS.items():
            if key not in values and (value := setting.read(part)) is not None:
                values[key] = value
                break
        else:
            raise _no_word(text)
    kernel = _kernel(text, kind, word, kernel_text)
    for key, value in values.items():
        allowed = SETTINGS[key].values
        if key not in word.settings:
            raise InputError(f"{kind} has no {key} to choose, got {text!r}")
        if not SETTINGS[key].allows(value):
            rule = f"one of {', '.join(map(str, allowed))}" if allowed else "at least 1"
            raise InputError(f"{key} must be {rule}, got {text!r}")
    groups = values.pop("groups", 1)
    assert isinstance(groups, int)
    settings = sorted((k, v) for k, v in values.items() if v != SETTINGS[k].default)
    takes_stride = OPERATORS[name].takes_stride
    return LayerToken(name, kind, kernel, groups, tuple(settings), word, takes_stride)


def _words() -> dict[str, tuple[str, Word]]:
    """Every word, with its operator's name and its row."""
    return {
        kind: (name, word)
        for name, operator in OPERATORS.items()
        for kind, word in operator.words.items()
    }


def _no_word(text: str) -> InputError:
    rule = "a layer must be pw, dw3, conv3, conv3/g4, pool3 or the like"
    words = _words()
    kind = text.partition("/")[0].rstrip("0123456789")
    close = difflib.get_close_matches(kind, words, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the words are {', '.join(words)}"
    if kind in words:
        possible = [SETTINGS[name].example for name in words[kind][1].settings]
        hint = f"{kind} may be followed by {', '.join(possible)} and the like, each once"
        if not possible:
            hint = f"nothing may follow {kind}"
    return InputError(Problem(f"{rule}, got {text!r}", hint))


def _kernel(text: str, kind: str, word: Word, written: str) -> int:
    if not word.has_kernel:
        if written:
            raise InputError(f"{kind} has no kernel to choose, got {text!r}")
        return word.kernels[0]
    kernel = int(written or 0)
    if kernel not in word.kernels:
        *few, last = word.kernels
        fixed = [k for k, (_, other) in _words().items() if other.kernels == (kernel,)]
        hint = f"a layer with kernel {kernel} is {' or '.join(fixed)}" if fixed else ""
        rule = f"the kernel of {kind} must be {', '.join(map(str, few))} or {last}"
        raise InputError(Problem(f"{rule}, got {text!r}", hint))
    return kernel


# -- layers to words ------------------------------------------------------------------------


def word_of(layer: Layer, in_channels: int) -> tuple[str, Word]:
    """The word for a layer, without its numbers, and its row."""
    words = OPERATORS[layer.op].words.items()
    return next((kind, word) for kind, word in words if word.names(layer, in_channels))


def look_of(layer: Layer, in_channels: int) -> Look:
    """How a layer is drawn."""
    _, word = word_of(layer, in_channels)
    return IN_GROUPS if layer.groups > 1 and not word.depthwise else word.look


def settings_of(layer: Layer, in_channels: int) -> list[str]:
    """What is set at a layer, as it is written behind a slash: ``g4``."""
    _, word = word_of(layer, in_channels)
    groups = () if word.depthwise or layer.groups == 1 else (("groups", layer.groups),)
    return [f"{SETTINGS[name].letter}{value}" for name, value in (*groups, *layer.settings)]


def describe_layer(layer: Layer, in_channels: int) -> str:
    """A layer in words: ``pw(64)``, ``dw3/2`` with a stride of 2, ``conv3/g4(32)``."""
    kind, word = word_of(layer, in_channels)
    kernel = str(layer.kernel) if word.has_kernel else ""
    channels = f"({layer.channels})" if word.chooses_channels else ""
    text = "/".join((f"{kind}{kernel}", *settings_of(layer, in_channels)))
    return f"{text}{channels}" + (f"/{layer.stride}" if layer.stride > 1 else "")


def describe_branch(branch: Branch, in_channels: int) -> str:
    """A branch in words, from its input channels on: ``pw(64) - dw3/2 - pw(32)``."""
    return " - ".join(describe_layer(*each) for each in branch.with_inputs(in_channels))
