"""Candidates that begin with the weights of another: which one, and where these lie.

Only with ``search.proxy.inherit``. The rule, a function of the candidates as they stand at the
moment of the proposal:

- The parent is a candidate that was trained to its end and whose own training began from nothing.
  So no accuracy profits from more than one other training, however long the search.
- It differs in at most :data:`MOST_CHANGES` parameters; one that is active in one of the two alone
  counts too. Of several the nearest is taken, of equally near ones the most accurate, then the
  first.

The prototype's default network has no parent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from collabdesign.errors import InputError
from collabdesign.evaluate.checkpoint import load_weights
from collabdesign.evaluate.network import build_network
from collabdesign.explore.record import Candidate
from collabdesign.files import write_bytes

WEIGHTS = "proxies"
"""In the run folder."""

# A sampler that looks near the front mostly changes one parameter or a few; networks drawn at
# random from a shipped prototype differ in twenty or more.
MOST_CHANGES = 4

_ABSENT = object()


class ProxyWeights:
    """The weights of trained proxies, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, candidate: Candidate, weights: bytes) -> None:
        """Before the candidate is entered as trained, so that no kill leaves one without."""
        self._folder.mkdir(exist_ok=True)
        write_bytes(self._path(candidate), weights)

    def of(self, candidate: Candidate) -> bytes | None:
        """None where there are none: it was trained before they were kept, or they were removed.

        Raises:
            InputError: They are damaged.
        """
        path = self._path(candidate)
        try:
            weights = path.read_bytes()
            load_weights(build_network(candidate.architecture), weights)
        except FileNotFoundError:
            return None
        except InputError as error:
            raise InputError(
                f"{str(path)!r} must hold the weights of candidate {candidate.number}, and does "
                f"not: {error}; remove it, and the same command goes on without it"
            ) from None
        return weights

    def parent_of(
        self, params: Mapping[str, Any], candidates: Collection[Candidate]
    ) -> Candidate | None:
        """Whose weights a proposal begins with, None where none is near enough."""
        near = [
            (distance, -each.proxy_accuracy, each.index, each)
            for each in candidates
            if each.outcome == "trained"
            and each.parent is None
            and (distance := changes(params, each.params)) <= MOST_CHANGES
            and self._path(each).is_file()
        ]
        return min(near, default=(None,))[-1]

    def _path(self, candidate: Candidate) -> Path:
        return self._folder / f"{candidate.architecture.id}.pt"


def changes(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """In how many parameters two parameter sets differ."""
    return sum(one.get(name, _ABSENT) != other.get(name, _ABSENT) for name in {**one, **other})
