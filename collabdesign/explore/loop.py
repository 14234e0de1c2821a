"""One worker's part of a search: claim a candidate, train it, enter what became of it.

Any number of processes do this on one study. A claim is one locked step: what dead workers left
is given back, the record read, the budget counted, and a candidate taken up again or proposed.
With one worker a candidate is a function of the seed, its index and the outcomes before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import NothingFits, OutsideSpace, TrainingFailed
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord, train
from collabdesign.explore.calibration import noted_calibration, proxy_goal
from collabdesign.explore.feasible import default_params, explain, feasibility
from collabdesign.explore.lock import claiming
from collabdesign.explore.progress import Step
from collabdesign.explore.proposals import Proposals
from collabdesign.explore.record import (
    Candidate,
    CurvePoint,
    Record,
    Rejection,
    trained_within,
)
from collabdesign.explore.rungs import Rungs, Stop, costs_of
from collabdesign.explore.store import Store
from collabdesign.explore.tail import Tail
from collabdesign.sampler.generation import NothingFound

log = logging.getLogger(__name__)

# A search ends when so many proposals in a row brought nothing new that fits.
PATIENCE = 500

# Between two looks at whether another worker died, where nothing else is left to claim.
_POLL_SECONDS = 1.0

OnStep = Callable[[Record, Step], None]


class _StoppedEarly(Exception):
    """Ends a training between two epochs; raised and caught here."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(str(stop))
        self.stop = stop


class Loop:
    """One worker, and what it keeps between two candidates.

    Args:
        run_dir: The run folder.
        store: Its study.
        requirements: Of the search.
        space: What to propose from.
        data: What to train on.
        device: Where to train.
        worker: The name of this process's sign, which it holds as long as the loop runs.
        on_step: Called with the record as this worker knows it and what it does.
    """

    def __init__(
        self,
        run_dir: Path,
        store: Store,
        requirements: Requirements,
        space: DesignSpace,
        data: ImageData,
        device: torch.device,
        worker: str,
        on_step: OnStep,
    ) -> None:
        self._run_dir = run_dir
        self._store = store
        self._requirements = requirements
        self._space = space
        self._data = data
        self._device = device
        self._worker = worker
        self._on_step = on_step
        self._epochs = plan_training(len(data.train_labels), requirements.search.proxy).epochs
        self._record = store.read()
        goal = proxy_goal(requirements, noted_calibration(self._record))
        self._proposals = Proposals(space, requirements, self._rungs, goal)

    def run(self) -> None:
        """Until the budget is met and nobody is training any more.

        Raises:
            NothingFits: 500 proposals in a row brought nothing new, and nobody is training.
        """
        self._show()
        while (candidate := self._claim()) is not None:
            self._show()
            try:
                finished = self._train(candidate)
            except BaseException:
                self._store.release(candidate)
                raise
            self._store.finish(finished)
            others = (each for each in self._record.candidates if each.number != finished.number)
            self._record = replace(self._record, candidates=(*others, finished))
            self._log(finished)
            self._show()

    def _claim(self) -> Candidate | None:
        """The next candidate, waited for while others train that may die; None at the end."""
        while True:
            with claiming(self._run_dir):
                self._store.take_from_the_dead()
                self._record = self._store.read()
                chosen = self._choose()
                if chosen is not None:
                    violations = self._requirements.violations(chosen.cost)
                    claimed = self._store.claim(replace(chosen, worker=self._worker), violations)
                    self._record = replace(
                        self._record, candidates=(*self._record.candidates, claimed)
                    )
                    return claimed
            if not self._record.running:
                break
            self._show()
            time.sleep(_POLL_SECONDS)
        if len(self._record.finished) < self._requirements.search.trials:
            raise NothingFits(self._why_nothing_new())
        return None

    def _choose(self) -> Candidate | None:
        """What was given back comes before what is new; None where there is neither."""
        candidates = self._record.candidates
        if len(candidates) >= self._requirements.search.trials:
            return None
        taken = {each.index for each in candidates}
        index = next(index for index in count() if index not in taken)
        again = self._store.given_back(index)
        if again is not None and self._is_open(again):
            cost = cost_of(again.architecture, self._requirements.deploy.precision)
            return replace(again, number=-1, cost=cost, reason="")
        return None if self._record.ran_out else self._propose(index)

    def _is_open(self, candidate: Candidate) -> bool:
        """Whether it may be trained, also where the requirements changed by consent."""
        try:
            architecture = self._space.decode(candidate.params)
        except OutsideSpace:
            return False
        cost = cost_of(architecture, self._requirements.deploy.precision)
        return (
            architecture == candidate.architecture
            and all(value <= 0 for value in self._requirements.violations(cost).values())
            and architecture.id not in {each.architecture.id for each in self._record.candidates}
        )

    def _propose(self, index: int) -> Candidate | None:
        """A new candidate: the prototype's default first, then what the sampler proposes."""
        if index == 0:
            own = default_params(self._space, self._requirements)
            if own is not None:
                return self._candidate(own, self._space.decode(own), "prototype", index)
        known = {each.architecture.id: each for each in self._record.candidates}
        history = sorted(self._record.finished, key=lambda each: each.index)
        proposer = self._proposals.at(index, history, self._record.running)
        tail = Tail()
        for _ in range(PATIENCE):
            try:
                params = proposer.ask()
            except NothingFound as error:
                tail.rejected += error.tried
                break
            architecture = self._space.decode(params)
            candidate = self._candidate(params, architecture, "machine", index)
            violations = self._requirements.violations(candidate.cost)
            if any(value > 0 for value in violations.values()):
                proposer.tell_rejected(violations)
                tail.reject(Rejection(params, candidate.cost, violations))
            elif (repeat := known.get(architecture.id)) is not None:
                proposer.tell_repeated(repeat)
                tail.repeated += 1
            else:
                return replace(tail.onto(candidate), predicted=proposer.expected_accuracy())
            self._show(Step(rejected=tail.rejected, repeated=tail.repeated))
        self._store.set({"tail": tail.to_json()})
        self._record = self._store.read()
        return None

    def _why_nothing_new(self) -> str:
        tail = self._record.attributes["tail"]
        lines = [
            f"a search ends when {PATIENCE} proposals in a row bring nothing new that fits; "
            f"of the last, {tail['rejected']} broke a limit and {tail['repeated']} were known, "
            f"after {len(self._record.finished)} of {self._requirements.search.trials} trials"
        ]
        if tail["rejected"] > tail["repeated"]:
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
        """Train the proxy; a network that is stopped or cannot be trained is a result too."""
        curve: list[CurvePoint] = []

        def on_epoch(record: EpochRecord) -> None:
            curve.append(CurvePoint(record.epoch, record.loss, record.accuracy))
            self._show(Step(epoch=record.epoch))
            if stop := self._verdict(candidate, curve):
                raise _StoppedEarly(stop)

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
        except _StoppedEarly as early:
            outcome, reason, accuracy = "stopped", str(early.stop), None
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

    def _verdict(self, candidate: Candidate, curve: Sequence[CurvePoint]) -> Stop | None:
        """Whether to stop it now: a function of its curve and of what is finished."""
        # What the human drew is always seen to its end: all else is compared with it.
        if not self._requirements.search.early_stopping or candidate.proposed_by == "prototype":
            return None
        record = self._record
        if any(each.number != candidate.number for each in record.running):
            record = self._store.read()  # others may have finished since
        costs = costs_of(candidate, self._requirements.objectives)
        rungs = self._rungs(trained_within(record, self._requirements))
        return rungs.verdict([point.accuracy for point in curve], costs)

    def _rungs(self, candidates: Sequence[Candidate]) -> Rungs:
        objectives, images = self._requirements.objectives, len(self._data.select_labels)
        return Rungs.of(candidates, objectives, self._epochs, images)

    def _log(self, candidate: Candidate) -> None:
        if candidate.accuracy is not None:
            result = f"{100 * candidate.accuracy:.2f} %"
        else:
            stopped = candidate.outcome == "stopped"
            result = f"stopped {candidate.reason}" if stopped else candidate.reason
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

    def _show(self, step: Step = Step()) -> None:  # noqa: B008
        self._on_step(self._record, step)
