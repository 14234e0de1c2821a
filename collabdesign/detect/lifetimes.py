"""The tensors of a computation as plain data: what each costs, and which are alive together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        part: Of the network that it belongs to.
        output: Name of the tensor that it writes.
        elements: Of the output.
        reads: Names of the tensors that it reads.
        macs: Multiply-accumulates.
        params: Parameters that no earlier step has.
    """

    part: str
    output: str
    elements: int
    reads: tuple[str, ...]
    macs: int = 0
    params: int = 0


def peaks(steps: Sequence[Step], given: Mapping[str, int]) -> dict[str, int]:
    """The largest sum of elements alive in each part.

    A tensor lives from its writing to its last reading; one that is never read stays, it is a
    result.

    Args:
        steps: In the order in which they run; names of tensors differ.
        given: Elements of the tensors that are there at the beginning, by name.
    """
    last = {name: index for index, step in enumerate(steps) for name in step.reads}
    alive = dict(given)
    found: dict[str, int] = {}
    for index, step in enumerate(steps):
        assert step.output not in alive and all(name in alive for name in step.reads)
        alive[step.output] = step.elements
        found[step.part] = max(found.get(step.part, 0), sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, len(steps)) > index}
    return found


def totals(steps: Sequence[Step]) -> Iterator[tuple[str, int, int]]:
    """Each part with its multiply-accumulates and parameters, in the order of the parts."""
    for part in dict.fromkeys(step.part for step in steps):
        own = [step for step in steps if step.part == part]
        yield part, sum(step.macs for step in own), sum(step.params for step in own)
