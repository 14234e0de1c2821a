"""Architecture -> one readable ``model.py`` that needs torch alone.

The emitted file has the network as rows at its top, then the classes of
:mod:`collabdesign.evaluate.network` and of its operators in
:mod:`collabdesign.evaluate.operators` word for word, so that both share their state-dict keys,
then how a picture becomes the network's input, from :mod:`collabdesign.evaluate.data.shown`, and
what a person needs to use it: ``load``, ``preprocess``, ``CLASSES``, and a command line
that checks the network against what was recorded and names pictures.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from collabdesign.deliver.templates import render
from collabdesign.design.architecture import Architecture, Layer, Module
from collabdesign.design.cost import cost_of, part_costs
from collabdesign.design.layer_words import word_of
from collabdesign.design.operators import JOIN_OF_ONE, OPERATORS, UNUSED_ACTIVATION, Word
from collabdesign.evaluate import operators
from collabdesign.evaluate.checkpoint import weights_bytes
from collabdesign.evaluate.data.shown import as_shown, fit_image
from collabdesign.evaluate.network import AttoNet, DesignedModule, build_network
from collabdesign.evaluate.operators import ConvNorm
from collabdesign.evaluate.precision import full_float32
from collabdesign.files import write_bytes, write_json, write_text

_WIDTH = 100

# What a module has where its row does not say.
_USUAL = {
    "stride": 1,
    "shortcut": "none",
    "join": JOIN_OF_ONE,
    "attention": "none",
    "activation": UNUSED_ACTIVATION,
    "output": "activated",
}


def check_value(network: nn.Module, channels: int, resolution: int) -> float:
    """One number that says whether a network computes what it should.

    The input is a fixed pattern of whole numbers, scaled to -1..1. The logits are summed with
    weights that rise from class to class, so that neither their signs nor their order can
    change unseen.
    """
    count = channels * resolution * resolution
    pattern = (torch.arange(count) * 37 % 101 / 50 - 1).view(1, channels, resolution, resolution)
    with torch.inference_mode():
        logits = network(pattern)[0].double()
    return float((logits * torch.arange(1, len(logits) + 1)).sum() / len(logits))


def write_model(
    folder: Path,
    architecture: Architecture,
    network: nn.Module,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
) -> float:
    """Write ``architecture.json``, ``weights.pt`` and ``model.py``, each whole or not at all.

    The recorded check value is that of a network newly built from the architecture with the
    weights as they are written: float32 on the CPU, whatever ``network`` was trained on.

    Args:
        folder: Made where it is missing; files of these names are replaced.
        architecture: Of the network.
        network: Trained; it is not changed.
        class_names: One an output, in their order.
        mean: Of each channel, pixels running from 0 to 1.
        std: Likewise.
        name: What the network is called, such as ``AttoNet-A``.

    Returns:
        The check value.
    """
    written = build_network(architecture)
    written.load_state_dict(network.state_dict())
    with full_float32():
        value = check_value(written.eval(), architecture.input_channels, architecture.resolution)
    source = model_source(
        architecture, name=name, class_names=class_names, mean=mean, std=std, value=value
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "architecture.json", architecture.to_dict())
    write_bytes(folder / "weights.pt", weights_bytes(written))
    write_text(folder / "model.py", source)
    return value


def model_source(
    architecture: Architecture,
    *,
    name: str,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    value: float,
) -> str:
    """The text of ``model.py``, of what :func:`write_model` is given; ``value`` is the
    :func:`check_value` that the file's own check expects.
    """
    assert len(class_names) == architecture.classes
    assert len(mean) == len(std) == architecture.input_channels
    assert math.isfinite(value)
    tables = _used_rows(architecture)
    used = [row for table in tables.values() for row in table.values()]
    channels, parts = architecture.input_channels, part_costs(architecture)
    return render(
        "model.py.jinja",
        title=_title(name),
        architecture=architecture,
        kind={3: "colour", 1: "grey"}.get(channels, f"{channels}-channel"),
        cost=cost_of(architecture),
        class_names="\n".join(_filled("    ", [_literal(each) for each in class_names], ",")),
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        value=value,
        join_of_one=JOIN_OF_ONE,
        unused_activation=UNUSED_ACTIVATION,
        words=_joined(_words(architecture)),
        # Each module's cost and lines.
        rows=[
            (part, _row(module, before.channels_out))
            for module, before, part in zip(architecture.modules, parts, parts[1:], strict=False)
        ],
        operators=_joined(_sources([*used, ConvNorm])),
        tables=tables,
        network=_joined(map(inspect.getsource, (DesignedModule, AttoNet))),
        check_value=inspect.getsource(check_value).strip(),
        picture=_joined([inspect.getsource(as_shown), inspect.getsource(fit_image)]),
    )


def _joined(parts: Iterable[str]) -> str:
    """Definitions with two empty lines between them."""
    return "\n\n\n".join(part.strip("\n") for part in parts)


def _title(name: str) -> str:
    """In one line, and without what would end a docstring."""
    title = " ".join(name.split())
    if not title.isprintable():
        title = ascii(title)[1:-1]
    return title.replace("\\", "\\\\").replace('"', '\\"')


def _row(module: Module, in_channels: int) -> str:
    """One line, or where that is too long one a branch and one for the other choices."""
    branches = [
        [_call(*each) for each in branch.with_inputs(in_channels)] for branch in module.branches
    ]
    choices = [
        f"{field}={_literal(getattr(module, field))}"
        for field, usual in _USUAL.items()
        if getattr(module, field) != usual
    ]
    whole = [f"branch({', '.join(calls)})" for calls in branches]
    line = f"        module({', '.join([str(module.channels), *whole, *choices])}),"
    if len(line) <= _WIDTH:
        return line
    indent = " " * len("        module(")
    lines = [f"        module({module.channels},"]
    for number, calls in enumerate(branches, start=1):
        is_last = number == len(branches) and not choices
        lines += _filled(f"{indent}branch(", calls, "))," if is_last else "),")
    return "\n".join(lines + (_filled(indent, choices, "),") if choices else []))


def _filled(opening: str, items: Sequence[str], closing: str) -> list[str]:
    """Items with commas on as few lines as they need, each line below the first item."""
    lines = [opening]
    for number, item in enumerate(items, start=1):
        piece = item + (closing if number == len(items) else ",")
        if number > 1 and len(lines[-1]) + 1 + len(piece) > _WIDTH:
            lines.append(" " * len(opening) + piece)
        else:
            lines[-1] += f" {piece}" if number > 1 else piece
    return lines


def _call(layer: Layer, in_channels: int) -> str:
    kind, word = word_of(layer, in_channels)
    arguments = [str(layer.kernel)] if word.has_kernel else []
    arguments.append(str(layer.channels))
    if layer.stride != 1:
        arguments.append(f"stride={layer.stride}")
    if layer.groups != 1 and not word.depthwise:
        arguments.append(f"groups={layer.groups}")
    arguments += [f"{name}={_literal(value)}" for name, value in layer.settings]
    return f"{kind}({', '.join(arguments)})"


# -- what the network uses of the tables ----------------------------------------------------


def _words(architecture: Architecture) -> Iterator[str]:
    """The function of each word that stands in the rows."""
    used: dict[str, bool] = {}  # whether any layer sets something
    for layer, in_channels in architecture.layers_with_inputs():
        kind, _ = word_of(layer, in_channels)
        used[kind] = used.get(kind, False) or bool(layer.settings)
    for name, operator in OPERATORS.items():
        for kind, word in operator.words.items():
            if kind in used:
                yield _word_function(kind, name, word, used[kind])


def _word_function(kind: str, operator: str, word: Word, has_settings: bool) -> str:
    takes = ["kernel: int"] if word.has_kernel else []
    takes.append("channels: int")
    values = ["kernel" if word.has_kernel else str(word.kernels[0]), "channels"]
    before_groups = "groups="
    if OPERATORS[operator].takes_stride:
        takes.append("stride: int = 1")
        values.append("stride")
        before_groups = ""
    if word.depthwise:
        values.append(f"{before_groups}channels")
    elif "groups" in word.settings:
        takes.append("groups: int = 1")
        values.append(f"{before_groups}groups")
    if has_settings:
        takes.append("**settings: Any")
        named = "" if len(values) == 4 else "settings="
        values.append(f"{named}tuple(settings.items())")
    return (
        f"def {kind}({', '.join(takes)}) -> Layer:\n"
        f'    """{word.meaning}"""\n'
        f'    return Layer("{operator}", {", ".join(values)})\n'
    )


def _used_rows(architecture: Architecture) -> dict[str, dict[str, Any]]:
    """The tables of :mod:`collabdesign.evaluate.operators`, with the rows that it names."""
    text = json.dumps(architecture.to_dict())
    return {
        table: {
            name: row for name, row in getattr(operators, table).items() if json.dumps(name) in text
        }
        for table in ("OPERATORS", "JOINS", "ATTENTIONS", "ACTIVATIONS")
    }


def _sources(rows: Iterable[Any]) -> list[str]:
    """The text of classes and functions, and before it of those that they name; each once.

    What is torch's is imported, and layers and modules have a form of their own in the file.
    """
    texts: dict[str, str] = {}

    def add(part: Any) -> None:
        home: str = part.__module__
        is_known = home.split(".")[0] in ("torch", *sys.stdlib_module_names)
        if is_known or home.startswith("collabdesign.design.") or part.__name__ in texts:
            return
        text = inspect.getsource(part)
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        for name in sorted(names - {part.__name__}):
            other = getattr(sys.modules[home], name, None)
            if inspect.isclass(other) or inspect.isfunction(other):
                add(other)
        texts[part.__name__] = text

    for row in rows:
        add(row)
    return list(texts.values())


def _literal(value: str | int) -> str:
    """As Python writes it; what does not print (line ends, marks of direction) is escaped."""
    if isinstance(value, str) and value.isprintable():
        return json.dumps(value, ensure_ascii=False)
    return ascii(value)
