"""The errors a person can meet. Each message states the rule, then what came.

Bugs are not here: what breaks one of our own invariants raises ``AssertionError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CollabdesignError(Exception):
    """Base of every error that is shown to a person without a traceback."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what a person wrote, and where it stands.

    Attributes:
        message: The rule, then what came.
        hint: What to do about it, empty where the message says it already.
        file: The file as the person named it, empty where there is none.
        line: Counted from 1, 0 where unknown.
        column: Counted from 1, 0 where unknown.
    """

    message: str
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}\n    {self.hint}" if self.hint else text


class InputError(CollabdesignError, ValueError):
    """Raised for what a person wrote, with every problem found at once."""

    def __init__(self, problems: str | Problem | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class OutsideSpace(InputError):
    """Raised when an architecture or a parameter set lies outside a design space."""


class NothingFits(CollabdesignError):
    """Raised when no network of the space keeps the limits, or none new is found."""

    exit_code = 3


class NotMeasured(CollabdesignError):
    """Raised when what has to be measured of a network cannot be, such as on a device that does not
    answer. A search ends; once that is mended, the same command goes on."""


class GoalsNotMet(CollabdesignError):
    """Raised when a search finished and its goals are not met, or every training failed."""

    exit_code = 4


class TrainingFailed(CollabdesignError):
    """Raised when one network cannot be trained: a failed candidate, not the end of a search.

    Attributes:
        reason: ``diverged`` or ``out_of_memory``.
    """

    exit_code = 4

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)
