"""What a calibration of the proxy found, and the file in the run folder that holds it.

:mod:`collabdesign.explore.calibrate` trains the networks; here is what the search and the
report need of it, without torch.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from collabdesign.design.requirements import PLACES, Requirements
from collabdesign.errors import InputError
from collabdesign.explore.rank import Estimate
from collabdesign.explore.record import Record
from collabdesign.files import write_json

CALIBRATION = "calibration.json"

# A proxy that orders networks less like the full training than this is not recommended.
KEPT_CORRELATION = 0.8

# Networks within this factor of each other's multiply-adds cost about the same. What a search has
# near its limit are such networks, and multiply-adds rank nothing among them.
SAME_COST = 1.3

# As many as the four networks make that a calibration needs at least.
_FEWEST_PAIRS = 6

_VERSION = 1

# What the trainings depend on. Lengths of proxies and numbers of seeds may change: each
# training is stored with its own. Paths may too: the images have a fingerprint. A calibration's
# proxies all begin from nothing.
_BINDING = ("prototype", "data.", "limits.", "deploy.", "search.seed", "search.proxy.", "family.t")
_FREE = (
    *(*PLACES, "search.proxy.epochs", "family.training.seeds"),
    *("search.proxy.inherit", "search.proxy.inherit_epochs"),
)


class Point(NamedTuple):
    """One network, trained both ways: its id, and mean accuracies on the held-out part, 0 to 1."""

    architecture: str
    macs: int
    proxy: float
    full: float


@dataclass(frozen=True)
class Budget:
    """How well proxies of one length rank networks as the full training does.

    Attributes:
        asked: The ``search.proxy.epochs`` that gives it.
        epochs: Passes that this comes to; see ``plan_training``.
        spearman: With the full training, of one proxy a network as in a search.
        seconds: Mean wall time of one such proxy.
        same_cost: As ``spearman``, among networks of about the same cost; None where there are
            none, or an earlier version calibrated.
    """

    asked: int
    epochs: int
    steps: int
    spearman: Estimate
    seconds: float
    same_cost: Estimate | None = None


@dataclass(frozen=True)
class SameCost:
    """How well the proxy ranks networks of about the same cost: those whose multiply-adds are
    within a factor of :data:`SAME_COST` of each other.

    Attributes:
        pairs: How many pairs of them there are.
        spearman: Between mean proxy and mean full accuracy, among these pairs; ``kendall``
            likewise.
        macs_alone: Spearman of multiply-adds with full accuracy among these pairs, what needs no
            training to be known.
    """

    pairs: int
    spearman: Estimate
    kendall: Estimate
    macs_alone: Estimate


@dataclass(frozen=True)
class Calibration:
    """Whether the proxy can be trusted to rank networks.

    Attributes:
        points: The networks that were trained both ways.
        failed: How many more could not be.
        asked: The ``search.proxy.epochs`` that was calibrated; it comes to ``proxy_epochs``.
        proxy_seeds: Proxies a network; ``full_seeds`` likewise.
        spearman: Between mean proxy and mean full accuracy; ``kendall`` likewise.
        noise: Standard deviation of proxy_accuracy between seeds, of one network; a share of 1.
        budgets: Shortest proxy first.
        seconds: Wall time of all trainings that count here.
        macs_alone: Spearman of multiply-adds with mean full accuracy: what of ``spearman`` needs no
            training. None where an earlier version calibrated.
        same_cost: The same among networks of about the same cost, None where no two are.
        proxy_images: That proxies were trained on; None where on all, as full trainings are.
    """

    points: tuple[Point, ...]
    failed: int
    asked: int
    proxy_epochs: int
    proxy_seeds: int
    full_epochs: int
    full_seeds: int
    spearman: Estimate
    kendall: Estimate
    noise: float
    budgets: tuple[Budget, ...]
    seconds: float
    macs_alone: Estimate | None = None
    same_cost: SameCost | None = None
    proxy_images: int | None = None

    @property
    def proxy_words(self) -> str:
        """Of what length the proxy is: ``6 epochs``, ``6 epochs on 10,000 images``."""
        part = "" if self.proxy_images is None else f" on {self.proxy_images:,} images"
        return f"{self.proxy_epochs} epochs{part}"

    @property
    def noise_points(self) -> float:
        """Difference of two proxies, in percentage points, that seeds alone pass 1 time in 20."""
        return 100 * 1.96 * math.sqrt(2) * self.noise

    @property
    def noise_sentence(self) -> str:
        """The same in words."""
        return f"differences under {self.noise_points:.1f} points are noise"

    @property
    def why_none(self) -> str:
        """What a missing :attr:`cheapest` may come from, in words."""
        return self._why_none()

    @property
    def why_none_at_same_cost(self) -> str:
        """The same of :attr:`cheapest_at_same_cost`."""
        pairs = 0 if self.same_cost is None else self.same_cost.pairs
        if pairs < _FEWEST_PAIRS:
            return (
                "To judge a proxy by networks of about the same cost takes "
                f"{_FEWEST_PAIRS} pairs of them, got {pairs}: raise --networks"
            )
        return self._why_none(" among networks of about the same cost")

    def _why_none(self, among: str = "") -> str:
        accuracies = [point.full for point in self.points]
        low, high = 100 * min(accuracies), 100 * max(accuracies)
        longer = "" if self.proxy_images is None else " or search.proxy.images"
        return (
            f"No proxy reaches a Spearman of {KEPT_CORRELATION}{among}. Either the proxies are too "
            f"short: raise search.proxy.epochs{longer}. Or the networks' "
            f"full trainings ({low:.1f} to {high:.1f} %) lie too close together to be ranked: "
            "raise family.training.seeds"
        )

    @property
    def cheapest(self) -> Budget | None:
        """The proxy of fewest epochs that keeps the rank correlation, None where none does."""
        kept = [each for each in self.budgets if each.spearman.value >= KEPT_CORRELATION]
        return min(kept, key=_length, default=None)

    @property
    def cheapest_at_same_cost(self) -> Budget | None:
        """The same among networks of about the same cost; None too where they are too few."""
        if self.same_cost is None or self.same_cost.pairs < _FEWEST_PAIRS:
            return None
        kept = [
            each
            for each in self.budgets
            if each.same_cost is not None and each.same_cost.value >= KEPT_CORRELATION
        ]
        return min(kept, key=_length, default=None)

    def proxy_for(self, full: float) -> float | None:
        """The proxy_accuracy from which full training comes to this accuracy, by a line through
        the networks (Theil-Sen); within the proxies that were seen, beyond which nothing is known.

        ``None`` where it is not sure that a better proxy lets one expect a better full training.

        Args:
            full: Accuracy after full training, 0 to 1.
        """
        if self.spearman.low <= 0:
            return None
        from scipy.stats import theilslopes  # takes most of a second to load

        proxies = [point.proxy for point in self.points]
        line = theilslopes([point.full for point in self.points], proxies)
        if line.slope <= 0:
            return None
        wanted = (full - line.intercept) / line.slope
        return float(min(max(wanted, min(proxies)), max(proxies)))


def _length(budget: Budget) -> tuple[int, int]:
    return budget.epochs, budget.steps


class Key(NamedTuple):
    """Which training: two with one key are the same."""

    architecture: str
    kind: str  # proxy or full
    batch: int
    epochs: int
    seed: int


class Trained(NamedTuple):
    """What became of one training: accuracy on the held-out part after the last pass, 0 to 1, None
    where it failed; wall time; and why it failed, else empty."""

    key: Key
    accuracy: float | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class CalibrationFile:
    """All of ``calibration.json``; ``result`` is of the last calibration that came to its end."""

    requirements: Requirements
    data_fingerprint: str
    trained: tuple[Trained, ...] = ()
    result: Calibration | None = None

    def changes(self, requirements: Requirements, data_fingerprint: str) -> list[str]:
        """What is asked differently now and makes other trainings, a line each."""
        changes = [
            change
            for change in self.requirements.changes(requirements, _FREE)
            if change.startswith(_BINDING)
        ]
        if self.data_fingerprint != data_fingerprint:
            changes.append("data: the images are others")
        return changes

    def write(self, run_dir: Path) -> None:
        """Write it whole or not at all."""
        write_json(
            run_dir / CALIBRATION,
            {
                "version": _VERSION,
                "requirements": self.requirements.to_dict(),
                "data_fingerprint": self.data_fingerprint,
                "trained": [[*each.key, *each[1:]] for each in self.trained],
                "result": self.result and asdict(self.result),
            },
        )


def read_calibration(run_dir: Path) -> CalibrationFile | None:
    """The run folder's file, None where there is none.

    Raises:
        InputError: It is none of ours, or of another version.
    """
    path = run_dir / CALIBRATION
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (version := data.pop("version")) != _VERSION:
            raise ValueError(f"it has version {version}")
        trained = [(row[:5], *row[5:]) for row in data["trained"]]
        return TypeAdapter(CalibrationFile).validate_python({**data, "trained": trained})
    except (ValueError, KeyError, TypeError) as error:
        reason = "requirements of another version" if isinstance(error, ValidationError) else error
        raise InputError(
            f"{str(path)!r} must be a calibration of this version of collabdesign, and it is not "
            f"({reason}); move it away, or choose another --run-dir"
        ) from None


def calibration_of(
    run_dir: Path, requirements: Requirements, data_fingerprint: str
) -> tuple[Calibration | None, list[str]]:
    """What was found for these requirements and images, None where that is not calibrated; and
    why the run folder's calibration is not of these, a line each.

    Raises:
        InputError: The run folder's file is none of ours.
    """
    found = read_calibration(run_dir)
    misfits = [] if found is None else found.changes(requirements, data_fingerprint)
    return (None if found is None or misfits else found.result), misfits


def noted_calibration(record: Record) -> Calibration | None:
    """What the search wrote down when it began or was last continued."""
    noted = record.attributes.get("calibration")
    return TypeAdapter(Calibration).validate_python(noted) if noted else None


def proxy_goal(requirements: Requirements, found: Calibration | None) -> float | None:
    """The proxy_accuracy that lets one expect ``goals.accuracy`` of a full training.

    ``None`` where no accuracy is asked or aimed at, no calibration of these very proxies tells (of
    those that begin with other networks' weights none does), or proposals are made at random.
    """
    goal, search = requirements.goals.aimed, requirements.search
    if goal is None or found is None or not search.aim or search.sampler == "random":
        return None
    if search.proxy.inherit:
        return None
    return found.proxy_for(goal) if found.asked == search.proxy.epochs else None
