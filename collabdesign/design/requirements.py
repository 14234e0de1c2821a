"""Everything that a human asks for: budgets, goals, the data, how long to look.

The models here check single values; :mod:`collabdesign.design.files.reading` builds them from a
file and checks what needs two values or the folders of the data. ``limits`` are hard budgets
known without training; ``goals`` are judged after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, create_model

from collabdesign.design.cost import MEASURED, QUANTITIES
from collabdesign.design.exports import EXPORTS
from collabdesign.design.files import values
from collabdesign.design.files.document import write_text
from collabdesign.design.files.values import LIMITS as LIMITS
from collabdesign.design.files.values import Section
from collabdesign.design.prototype import Prototype
from collabdesign.design.recipes import RECIPES
from collabdesign.design.sources import Data as Data
from collabdesign.design.sources import foreign_keys

FREE_KEYS = ("search.trials", "family")
"""What may change between two runs of one search; see :meth:`Requirements.changes`."""

PLACES = ("data.train", "data.test", "data.root", "data.download")
"""Where the pictures lie: what they are is told by their fingerprint."""

MEASURING = ("latency.timeout", "latency.folder")
"""Where and how long the command that measures may run: neither is what it measures."""


_NUMBERS = {"count": int, "bytes": int, "ms": float}

if TYPE_CHECKING:

    class Limits(Section):
        """A field for each quantity."""

        def __getattr__(self, name: str) -> Any: ...
else:
    Limits = create_model(
        "Limits",
        __base__=Section,
        __module__=__name__,
        __doc__="Hard budgets, known without training: no network over one of them is trained.",
        **{
            name: (
                Annotated[_NUMBERS[quantity.unit], values.limit(quantity)] | None,
                Field(default=None, description=quantity.limit),
            )
            for name, quantity in QUANTITIES.items()
        },
    )


class Deploy(Section):
    """What the networks will run as."""

    precision: Literal["float32", "float16", "int8"] = Field(
        default="float32", description="Precision at which the limits in bytes are counted."
    )


class Latency(Section):
    """How latency_ms is measured: here by onnxruntime on one thread, or by a command."""

    command: Annotated[str, values.COMMAND] | None = Field(
        default=None,
        description="Measures a network and prints milliseconds as its last line, such as "
        "'./on_device.sh {onnx}'; {onnx} stands for the path of an ONNX file (default: "
        "onnxruntime measures here, on one thread).",
    )
    timeout: Annotated[float, values.number(0, 86_400, above=True)] = Field(
        default=60.0, description="Seconds that the command may take for one network."
    )
    folder: Annotated[Path, values.PATH] | None = Field(
        default=None, description="Where the command is run (default: this file's folder)."
    )


class Goals(Section):
    """What a finished network shall reach, judged on test."""

    accuracy: Annotated[float, values.ACCURACY] | None = Field(
        default=None, description="test_accuracy of a variant, as a share of 1 such as 0.80."
    )
    accuracy_int8: Annotated[float, values.ACCURACY] | None = Field(
        default=None,
        description="The same of its int8 form, by onnxruntime; needs the extra export.",
    )

    @property
    def aimed(self) -> float | None:
        """The accuracy that the search aims at: a network loses by int8, so the float32 of one
        that is to reach ``accuracy_int8`` is at least that."""
        goals = [goal for goal in (self.accuracy, self.accuracy_int8) if goal is not None]
        return max(goals, default=None)


class Training(Section):
    """How a network is trained; the short proxy and the full training differ in this only."""

    recipe: Annotated[str, values.key_of(RECIPES)] = Field(
        default=next(iter(RECIPES)),
        description=" ".join(f"{name}: {row.help}." for name, row in RECIPES.items()),
    )
    epochs: Annotated[int, values.whole(1, 100_000)] = Field(
        default=6, description="Passes over the training images."
    )
    batch: Annotated[int, values.whole(2, 65_536)] | None = Field(
        default=None, description="Images a step (default: chosen from the size of the data)."
    )
    learning_rate: Annotated[float, values.number(0, 100, above=True)] | None = Field(
        default=None, description="Highest of the one cycle (default: chosen from the batch)."
    )
    weight_decay: Annotated[float, values.number(0, 1)] = Field(
        default=5e-4, description="Of SGD on weights, not on biases."
    )
    label_smoothing: Annotated[float, values.number(0, 0.9)] = Field(
        default=0.1, description="Share of a label that is spread over all classes."
    )
    min_steps: Annotated[int, values.whole(0, 10_000_000)] = Field(
        default=150,
        description="Steps to make at least: small data is given small batches, then more epochs.",
    )


class ProxyTraining(Training):
    """The short training that ranks candidates."""

    images: Annotated[int, values.count("images")] | None = Field(
        default=None,
        description="Train proxies on this many images of the train part only, the same fixed "
        "choice for each, balanced over the classes; full trainings use all (default: all).",
    )
    inherit: StrictBool = Field(
        default=False,
        description="Whether a network that differs in a few choices from a trained one begins "
        "with that one's weights where layers agree, and is trained for inherit_epochs only. "
        "Accuracies of such proxies profit from the other's training.",
    )
    inherit_epochs: Annotated[int, values.whole(1, 100_000)] = Field(
        default=2, description="Passes of a proxy that begins with another network's weights."
    )


class FamilyTraining(Training):
    """The full training of a family member."""

    epochs: Annotated[int, values.whole(1, 100_000)] = Field(
        default=60, description="Passes over the training images."
    )
    seeds: Annotated[int, values.whole(1, 100)] = Field(
        default=1, description="Trainings of each member, to tell skill from luck."
    )


# A heading whose lines are all commented out stands for its defaults.
_IfWritten = BeforeValidator(lambda value: {} if value is None else value)


class Search(Section):
    """How long to look, and how."""

    trials: Annotated[int, values.whole(1, 1_000_000)] = Field(
        default=60, description="Networks to train briefly; those over a limit do not count."
    )
    seed: Annotated[int, values.whole(0, 2**32 - 1)] = Field(
        default=0, description="The same seed gives the same search on the same machine."
    )
    sampler: Literal["generative", "nsga2", "tpe", "random"] = Field(
        default="generative", description="How proposals are made."
    )
    proxy: Annotated[ProxyTraining, _IfWritten] = Field(
        default=ProxyTraining(), description="The short training that ranks candidates."
    )
    aim: bool = Field(
        default=True,
        description="Whether trainings are spent on networks that may come to goals.accuracy, "
        "where it is set, and not on all of the front.",
    )
    early_stopping: bool = Field(
        default=True,
        description="Whether a proxy is stopped as soon as it is expected to end below a network "
        "that costs no more.",
    )


class Family(Section):
    """What is handed over: from AttoNet-A, the most accurate, to the smallest."""

    size: Annotated[int, values.whole(1, 26)] = Field(default=4, description="Members at most.")
    finalists: Annotated[int, values.whole(1, 100)] = Field(
        default=4,
        description="So many of the best proxies, as far as they are about as good, are trained "
        "fully beside the prototype's default network; the best of these on the held-out part is "
        "the most accurate member. 1: the best proxy is.",
    )
    training: Annotated[FamilyTraining, _IfWritten] = Field(
        default=FamilyTraining(), description="The full training of each member."
    )
    export: Annotated[tuple[str, ...], values.some_of(EXPORTS)] | None = Field(
        default=None,
        description="Other forms of each member to write beside model.py: "
        + "; ".join(f"{name}: {row.help}" for name, row in EXPORTS.items())
        + " (default: onnx and int8 where the extra export is installed; [] for none).",
    )


class Requirements(Section):
    """Everything that a human asks for."""

    version: Annotated[int, values.whole(1, 1)] = Field(
        default=1, description="Of this file format."
    )
    name: Annotated[str, values.NAME] = Field(description="Names the run folder, runs/NAME.")
    prototype: Prototype = Field(
        description="The network's macro-architecture with its freedoms: a file, relative to "
        "this one, or written in place."
    )
    data: Data
    limits: Annotated[Limits, _IfWritten] = Limits()
    deploy: Annotated[Deploy, _IfWritten] = Deploy()
    latency: Annotated[Latency, _IfWritten] = Latency()
    goals: Annotated[Goals, _IfWritten] = Goals()
    objectives: Annotated[tuple[str, ...], values.FRONT] = Field(
        default=("accuracy", "macs", "params"),
        description="What the front trades: accuracy, and costs to make small.",
    )
    storage: Annotated[str, values.DATABASE] | None = Field(
        default=None,
        description="Database that holds the study, such as postgresql://user@host/name, for a "
        "team's Optuna dashboard (default: study.db in the run folder). Keep the password out of "
        "it: PGPASSWORD or ~/.pgpass has it.",
    )
    search: Annotated[Search, _IfWritten] = Search()
    family: Annotated[Family, _IfWritten] = Family()

    @property
    def measured(self) -> tuple[str, ...]:
        """Of what has to be measured, the names that are limited or an objective."""
        limits, objectives = self.limits, self.objectives
        return tuple(
            name for name in MEASURED if getattr(limits, name) is not None or name in objectives
        )

    def violations(self, cost: Mapping[str, float]) -> dict[str, float]:
        """How far a cost is from each limit that is set, as a share of the limit.

        Args:
            cost: By the name of the limit.

        Returns:
            ``{limit: cost / limit - 1}``; at most 0 is met.
        """
        return {
            name: cost[name] / limit - 1
            for name in LIMITS
            if (limit := getattr(self.limits, name)) is not None
        }

    def fits(self, cost: Mapping[str, float]) -> bool:
        """Whether a cost keeps every limit that is set."""
        return all(value <= 0 for value in self.violations(cost).values())

    def changes(self, other: Requirements, free: Sequence[str] = ()) -> list[str]:
        """What another one asks differently, a line for each key: ``limits.macs: 3M -> 4M``.

        Args:
            other: What is asked now.
            free: Keys that may change, with all below them; see ``FREE_KEYS``.
        """
        before, after = _flat(self.to_dict()), _flat(other.to_dict())
        return [
            f"{key}: {before.get(key, 'not set')} -> {after.get(key, 'not set')}"
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key)
            and not any(key == name or key.startswith(f"{name}.") for name in free)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data as a person could have written it: all defaults, the prototype in place."""
        written = self.model_dump(mode="json", exclude_none=True)
        foreign = foreign_keys(self.data.source)
        written["data"] = {key: v for key, v in written["data"].items() if key not in foreign}
        return written


def resolved_yaml(requirements: Requirements) -> str:
    """The file that reads back as equal requirements."""
    return write_text(requirements.to_dict())


def _flat(data: Any, key: str = "") -> dict[str, str]:
    """Dotted keys to written values; lists of plain values stay whole."""
    if isinstance(data, dict):
        items = [(f"{key}.{name}" if key else name, value) for name, value in data.items()]
    elif isinstance(data, list) and any(isinstance(item, dict) for item in data):
        items = [(f"{key}[{index}]", value) for index, value in enumerate(data)]
    else:
        return {key: data if isinstance(data, str) else json.dumps(data)}
    return {key: text for name, value in items for key, text in _flat(value, name).items()}
