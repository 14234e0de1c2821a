"""The loop: propose, reject or train, record; resumed by running it again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.reading import load_requirements
from collabdesign.design.requirements import FREE_KEYS, Requirements, resolved_yaml
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import InputError, NothingFits, TrainingFailed
from collabdesign.evaluate.data import ImageData, load_data
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.training import (
    EpochRecord,
    choose_device,
    initialise,
    plan_training,
    seed_of,
    train,
)
from collabdesign.explore.calibration import calibration_of
from collabdesign.explore.environment import environment
from collabdesign.explore.feasible import (
    default_params,
    explain,
    feasibility,
    require_possible,
    scale_of,
)
from collabdesign.explore.front import Scale, values_of
from collabdesign.explore.lock import held
from collabdesign.explore.proposals import Proposer
from collabdesign.explore.record import (
    DATABASE,
    REJECTIONS_KEPT,
    Candidate,
    CurvePoint,
    Record,
    Rejection,
    read_record,
    requirements_of,
)
from collabdesign.explore.store import Store
from collabdesign.files import write_json, write_text

log = logging.getLogger(__name__)

# A search ends when so many proposals in a row brought nothing new that fits.
PATIENCE = 500


@dataclass(frozen=True)
class Progress:
    """Where a search stands, for whoever shows it.

    Attributes:
        trials: How many it may finish.
        trained: Candidates with a proxy_accuracy.
        failed: Candidates that could not be trained.
        rejected: Proposals over a limit.
        repeated: Proposals answered from the store.
        best: Highest proxy_accuracy within the limits, None before the first.
        hypervolume: Of the front, a share of what can be gained (0 to 1).
        epoch: Of the training under way, 0 while proposing.
        epochs: Of that training.
        seconds: Spent by this process.
        seconds_left: Estimate from the trainings so far, None before the first.
    """

    trials: int
    trained: int
    failed: int
    rejected: int
    repeated: int
    best: float | None
    hypervolume: float
    epoch: int
    epochs: int
    seconds: float
    seconds_left: float | None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Prepared:
    """What a search works with, and the family after it: read once."""

    space: DesignSpace
    data: ImageData
    device: torch.device


def search(
    requirements: Requirements | Path | str,
    run_dir: Path | str,
    *,
    device: str | None = None,
    accept_changes: bool = False,
    notes: Mapping[str, str] | None = None,
    prepared: Prepared | None = None,
    on_progress: OnProgress | None = None,
    on_data: Callable[[int, int], None] | None = None,
) -> Record:
    """Search until ``search.trials`` candidates are trained or failed; continue an earlier one.

    Args:
        requirements: Loaded, or the path of a file.
        run_dir: Made if it is not there. Holds the study; see the README for its files.
        device: ``cpu`` or ``cuda``; the best there is unless named.
        accept_changes: Continue although other keys than ``search.trials`` and ``family``
            changed since the run began.
        notes: Written into the study for the report: ``command``, ``family_rule``.
        prepared: From :func:`prepare`, where the caller needs it too.
        on_progress: Called after each proposal, epoch and candidate.
        on_data: Called with (images read, all images) while the data is loaded.

    Returns:
        The record at the end.

    Raises:
        InputError: What a person wrote cannot be used.
        NothingFits: No network fits, or no new one was found 500 proposals in a row; the
            record up to there stands.
        KeyboardInterrupt: Passed on; the candidate in training is given back.
    """
    if not isinstance(requirements, Requirements):
        requirements = load_requirements(requirements)
    run_dir = Path(run_dir)
    if prepared is None:
        prepared = prepare(
            requirements, run_dir, device=device, accept_changes=accept_changes, on_data=on_data
        )
    space, data, chosen = prepared.space, prepared.data, prepared.device
    make_folder(run_dir)
    with held(run_dir), closing(Store(run_dir, space, requirements.objectives)) as store:
        scale = _begin(store, requirements, space, data, accept_changes)
        store.set(notes or {})
        found = calibration_of(run_dir, requirements, data.fingerprint)
        store.set({"calibration": None if found is None else found.to_json()})
        write_text(run_dir / "requirements.yaml", resolved_yaml(requirements))
        write_json(run_dir / "environment.json", environment(chosen))
        _Loop(store, requirements, space, data, chosen, scale, on_progress).run()
        return store.read()


def prepare(
    requirements: Requirements,
    run_dir: Path,
    *,
    device: str | None = None,
    accept_changes: bool = False,
    on_data: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Refuse what cannot be searched, then read the images; writes nothing.

    Raises:
        InputError: What a person wrote cannot be used.
        NothingFits: No network of the space fits the limits.
    """
    space = DesignSpace(requirements)
    require_writable(run_dir)
    if (run_dir / DATABASE).exists():
        _require_same(read_record(run_dir), requirements, accept_changes)
    require_possible(space, requirements)
    chosen = choose_device(device)
    return Prepared(space, load_data(requirements.data, chosen, on_progress=on_data), chosen)


def require_writable(run_dir: Path) -> None:
    """Refuse what cannot become a run folder, before anything is written."""
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"the run folder must be a folder, and {str(run_dir)!r} is a file")
    nearest = run_dir
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InputError(f"the run folder must lie in a folder, and {str(nearest)!r} is a file")


def make_folder(run_dir: Path) -> None:
    """Make the run folder and its parents.

    Raises:
        InputError: The system refuses.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the run folder must be writable: {error}; choose another --run-dir"
        ) from None


def _require_same(record: Record, requirements: Requirements, accept_changes: bool) -> None:
    """Refuse to continue with other requirements than a run began with."""
    if "requirements" not in record.attributes:
        return
    began_with = requirements_of(record)
    if began_with.objectives != requirements.objectives:
        raise InputError(
            f"a run keeps its objectives {', '.join(began_with.objectives)}, got "
            f"{', '.join(requirements.objectives)}; choose another --run-dir"
        )
    changes = began_with.changes(requirements, FREE_KEYS)
    if changes and not accept_changes:
        raise InputError(
            "a run continues with the requirements it began with, but these changed:\n"
            + "\n".join(f"    {change}" for change in changes)
            + "\n    choose another --run-dir, or say --accept-changes"
        )


def _begin(
    store: Store,
    requirements: Requirements,
    space: DesignSpace,
    data: ImageData,
    accept_changes: bool,
) -> Scale:
    """Compare with what the run began with, or write that down."""
    before = store.read()
    _require_same(before, requirements, accept_changes)
    known = before.attributes.get("data_fingerprint", data.fingerprint)
    if known != data.fingerprint and not accept_changes:
        raise InputError(
            "a run continues on the images it began with, but the data changed; "
            "choose another --run-dir, or say --accept-changes"
        )
    scale = scale_of(space, requirements)
    own = space.decode(space.own())
    own_cost = cost_of(own, requirements.deploy.precision)
    images = len(data.train_labels)
    store.set(
        {
            "data_fingerprint": data.fingerprint,
            "data": {
                "classes": list(data.class_names),
                "train_images": images,
                "select_images": len(data.select_labels),
                "proxy_epochs": plan_training(images, requirements.search.proxy).epochs,
                "family_epochs": plan_training(images, requirements.family.training).epochs,
            },
            "scale": {"lowest": dict(scale.lowest), "highest": dict(scale.highest)},
            "prototype": {
                "architecture": own.to_dict(),
                "cost": [
                    own_cost.macs,
                    own_cost.params,
                    own_cost.weight_bytes,
                    own_cost.peak_activation_bytes,
                ],
                "fits": not any(v > 0 for v in requirements.violations(own_cost).values()),
            },
            "tail": None,
            # Last: where it stands, the rest does too, wherever a kill fell.
            "requirements": requirements.to_dict(),
        }
    )
    return scale


class _Loop:
    """One process's part of a search, and what it keeps between two candidates."""

    def __init__(
        self,
        store: Store,
        requirements: Requirements,
        space: DesignSpace,
        data: ImageData,
        device: torch.device,
        scale: Scale,
        on_progress: OnProgress | None,
    ) -> None:
        self._store = store
        self._requirements = requirements
        self._space = space
        self._data = data
        self._device = device
        self._scale = scale
        self._on_progress = on_progress
        self._plan = plan_training(len(data.train_labels), requirements.search.proxy)
        self._started = time.monotonic()
        self._history: list[Candidate] = []
        self._hypervolume = 0.0

    def run(self) -> None:
        """Until the budget is met."""
        self._history = list(self._store.read().finished)
        self._hypervolume = self._scale.hypervolume(self._front_values())
        self._show()
        while len(self._history) < self._requirements.search.trials:
            candidate = self._propose()
            candidate = self._store.claim(candidate, self._requirements.violations(candidate.cost))
            try:
                candidate = self._train(candidate)
            except BaseException:
                self._store.release(candidate)
                raise
            self._store.finish(candidate)
            self._history.append(candidate)
            self._hypervolume = self._scale.hypervolume(self._front_values())
            self._log(candidate)
            self._show()

    def _propose(self) -> Candidate:
        """The next candidate: the prototype's default first, then what the sampler proposes."""
        index = len(self._history)
        if index == 0:
            own = default_params(self._space, self._requirements)
            if own is not None:
                return self._candidate(own, self._space.decode(own), "prototype", index)
        known = {each.architecture.id: each for each in self._history}
        search = self._requirements.search
        proposer = Proposer(
            self._space,
            search.sampler,
            search.seed,
            index,
            self._requirements.objectives,
            self._history,
            list(self._requirements.violations(cost_of(self._space.decode(self._space.own())))),
        )
        tail = _Tail()
        for _ in range(PATIENCE):
            params = proposer.ask()
            architecture = self._space.decode(params)
            candidate = self._candidate(params, architecture, "machine", index)
            violations = self._requirements.violations(candidate.cost)
            if any(value > 0 for value in violations.values()):
                proposer.tell_rejected(violations)
                tail.reject(Rejection(params, candidate.cost, violations))
            elif (repeat := known.get(architecture.id)) is not None:
                proposer.tell_repeated(self._values(repeat))
                tail.repeated += 1
            else:
                return tail.onto(candidate)
            self._show(tail=tail)
        self._store.set({"tail": tail.to_json()})
        raise NothingFits(self._why_nothing_new(tail))

    def _why_nothing_new(self, tail: _Tail) -> str:
        lines = [
            f"a search ends when {PATIENCE} proposals in a row bring nothing new that fits; "
            f"of the last, {tail.rejected} broke a limit and {tail.repeated} were known, after "
            f"{len(self._history)} of {self._requirements.search.trials} trials"
        ]
        if tail.rejected > tail.repeated:
            lines.append(explain(feasibility(self._space, self._requirements), self._requirements))
        else:
            lines.append("    the space holds little more that fits: lower search.trials")
        return "\n".join(lines)

    def _candidate(
        self, params: Params, architecture: Architecture, proposed_by: str, index: int
    ) -> Candidate:
        cost = cost_of(architecture, self._requirements.deploy.precision)
        return Candidate(-1, index, params, architecture, cost, proposed_by)

    def _train(self, candidate: Candidate) -> Candidate:
        """Train the proxy; a network that cannot be trained is a result too."""
        curve: list[CurvePoint] = []

        def on_epoch(record: EpochRecord) -> None:
            curve.append(CurvePoint(record.epoch, record.loss, record.accuracy))
            self._show(epoch=record.epoch)

        seed = seed_of(candidate.architecture.id, self._requirements.search.seed)
        started = time.monotonic()
        try:
            network = build_network(candidate.architecture)
            initialise(network, seed)
            result = train(
                network,
                self._data,
                self._requirements.search.proxy,
                seed=seed,
                device=self._device,
                on_epoch=on_epoch,
            )
            outcome, reason, accuracy = "trained", "", result.accuracy
        except TrainingFailed as error:
            outcome, reason, accuracy = "failed", f"{error.reason}: {error}", None
        return replace(
            candidate,
            outcome=outcome,
            reason=reason,
            accuracy=accuracy,
            curve=tuple(curve),
            seconds=time.monotonic() - started,
        )

    def _values(self, candidate: Candidate) -> tuple[float, ...] | None:
        if candidate.accuracy is None:
            return None
        return values_of(self._requirements.objectives, candidate.accuracy, candidate.cost)

    def _front_values(self) -> list[tuple[float, ...]]:
        return [values for each in self._history if (values := self._values(each)) is not None]

    def _log(self, candidate: Candidate) -> None:
        result = (
            candidate.reason if candidate.accuracy is None else f"{100 * candidate.accuracy:.2f} %"
        )
        log.info(
            "candidate %d (%s): %s, %s MACs, %s params, %.1f s, %d rejected and %d repeated before",
            candidate.number,
            candidate.architecture.id,
            result,
            f"{candidate.cost.macs:,}",
            f"{candidate.cost.params:,}",
            candidate.seconds,
            candidate.rejected,
            candidate.repeated,
        )

    def _show(self, epoch: int = 0, tail: _Tail | None = None) -> None:
        if self._on_progress is None:
            return
        trained = [each for each in self._history if each.accuracy is not None]
        accuracies = [each.accuracy for each in trained if each.accuracy is not None]
        trials = self._requirements.search.trials
        left = None
        if self._history:
            mean = sum(each.seconds for each in self._history) / len(self._history)
            left = mean * (trials - len(self._history) - epoch / max(1, self._plan.epochs))
        self._on_progress(
            Progress(
                trials=trials,
                trained=len(trained),
                failed=len(self._history) - len(trained),
                rejected=sum(each.rejected for each in self._history)
                + (tail.rejected if tail else 0),
                repeated=sum(each.repeated for each in self._history)
                + (tail.repeated if tail else 0),
                best=max(accuracies, default=None),
                hypervolume=self._hypervolume,
                epoch=epoch,
                epochs=self._plan.epochs,
                seconds=time.monotonic() - self._started,
                seconds_left=left,
            )
        )


class _Tail:
    """What was proposed since the last candidate and not trained."""

    def __init__(self) -> None:
        self.rejected = 0
        self.repeated = 0
        self._by_limit: dict[str, int] = {}
        self._kept: list[Rejection] = []

    def reject(self, rejection: Rejection) -> None:
        self.rejected += 1
        for name, value in rejection.violations.items():
            if value > 0:
                self._by_limit[name] = self._by_limit.get(name, 0) + 1
        if len(self._kept) < REJECTIONS_KEPT:
            self._kept.append(rejection)

    def onto(self, candidate: Candidate) -> Candidate:
        return replace(
            candidate,
            rejected=self.rejected,
            rejected_by=self._by_limit,
            repeated=self.repeated,
            rejections=tuple(self._kept),
        )

    def to_json(self) -> Mapping[str, object]:
        return {
            "rejected": self.rejected,
            "repeated": self.repeated,
            "rejected_by": self._by_limit,
        }
