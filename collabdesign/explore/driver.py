"""The search: one process owns the study, proposes, hands trainings out and enters what they show.

Proposals are made while trainings run, and the sampler is told which run. After each pass of a
training the driver decides whether it goes on. With one training at a time a candidate is a
function of the seed, its index and the outcomes before it.

Where the search aims by an anchor, the prototype's default network is trained fully as soon as its
proxy has ended. It takes one place; in the others, proposals are made without an aim until then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from collabdesign.design.cost import MEASURED, Cost
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import NothingFits, OutsideSpace
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.aim import ANCHOR, Aim, Anchor, aim_of, anchor_of, needs_anchor
from collabdesign.explore.executors.executor import (
    Died,
    Event,
    Executor,
    Failed,
    PassEnded,
    Start,
    Task,
    Trained,
)
from collabdesign.explore.feasible import default_params, explain, feasibility
from collabdesign.explore.front import scale_of_record
from collabdesign.explore.full_training import FULL_TRAININGS, full_task
from collabdesign.explore.inheritance import WEIGHTS, ProxyWeights
from collabdesign.explore.interrupts import held_back
from collabdesign.explore.measurements import DEFAULT
from collabdesign.explore.pricing import Pricing
from collabdesign.explore.progress import FullProgress, Notice, Progress, Standing
from collabdesign.explore.proposals import PassedOver, Proposals, distributions_of
from collabdesign.explore.record import (
    Candidate,
    CurvePoint,
    Rejection,
    as_of_today,
    best_accuracy,
)
from collabdesign.explore.rungs import FullCurve, Rungs, costs_of, full_curve
from collabdesign.explore.study_writer import StudyWriter
from collabdesign.explore.trainings import Carrier, Ended
from collabdesign.sampler.generation import NothingFound

log = logging.getLogger(__name__)

# A search ends when so many proposals in a row brought nothing new that fits.
PATIENCE = 500

_LOOK_SECONDS = 0.5


class Driver:
    """One search, whose study has begun.

    Args:
        run_dir: Gets the checkpoints of full trainings, and the weights of trained proxies where
            others begin with them.
        on_event: Called after each proposal and event, and while waiting; and with the aim.
        pricing: What networks cost before the first candidate; may be left out where nothing has to
            be measured.
    """

    def __init__(
        self,
        study: StudyWriter,
        requirements: Requirements,
        space: DesignSpace,
        executor: Executor,
        run_dir: Path,
        on_event: Callable[[Progress | Aim | Notice], None],
        pricing: Pricing | None = None,
    ) -> None:
        self._weights = ProxyWeights(run_dir / WEIGHTS)
        self._study = study
        self._requirements = requirements
        self._space = space
        self._executor = executor
        self._on_event = on_event
        record = study.read()
        self._epochs = record.proxy_epochs
        self._select_images = record.attributes["data"]["select_images"]
        self._standing = Standing(requirements, self._epochs, scale_of_record(record, requirements))
        self._pricing = pricing or Pricing(requirements)
        self._proposals = Proposals(space, requirements, self._pricing)
        self._begun_with = record
        self._aim = aim_of(record, requirements)
        self._lacks_anchor = (
            needs_anchor(record, requirements) and anchor_of(record, requirements) is None
        )
        self._full_trainings = run_dir / FULL_TRAININGS
        self._carrier = Carrier(executor, self._full_trainings, self._full_pass_ended)
        self._full_progress = FullProgress(0, record.attributes["data"]["family_epochs"], 0.0)
        self._running: dict[str, int] = {}  # keys of trainings to indices of candidates
        self._candidates: dict[int, Candidate] = {}
        self._known: dict[str, int] = {}  # ids of architectures to indices of candidates
        self._full: list[FullCurve] = []
        # Since the last candidate, where nothing new was found: the search has run out.
        self._passed_over: PassedOver | None = None
        today = {each.index: each for each in as_of_today(record.finished, requirements)}
        self._of_others: set[int] = set()
        for candidate in sorted(record.finished, key=lambda each: each.index):
            if candidate.index in today:
                self._take_in(today[candidate.index])
            else:
                # The pictures changed, by consent: it counts as a trial, and tells nothing.
                self._of_others.add(candidate.index)
                self._candidates[candidate.index] = candidate
        self._expect()

    def _expect(self) -> None:
        """What is expected of stopped candidates of studies in which that was not written down."""
        for index, each in self._candidates.items():
            if each.outcome == "stopped" and each.expected is None:
                seen = [point.accuracy for point in each.curve]
                costs = costs_of(each, self._requirements.objectives)
                expected = self._rungs().expected_accuracy(seen, costs)
                self._candidates[index] = replace(each, expected=expected)

    def run(self) -> None:
        """Until the budget is met and nothing is training any more.

        Raises:
            NothingFits: 500 proposals in a row brought nothing new.
            NotMeasured: What has to be measured of a proposal cannot be; trainings under way are
                given back.
            TrainersDied: Nothing lives long enough to train.
        """
        if self._aim is not None:
            self._on_event(self._aim)
        self._show()
        try:
            while True:
                under_way = len(self._running) + len(self._carrier.under_way)
                room = self._executor.slots + self._executor.ahead - under_way
                if room > 0 and (default := self._to_anchor()) is not None:
                    self._start_anchor(default)
                    room -= 1
                elif room > 0 and (candidate := self._next()) is not None:
                    self._start(candidate)
                    room -= 1
                elif not under_way:
                    break
                else:
                    room = 0
                event = self._executor.wait(0 if room > 0 else _LOOK_SECONDS)
                if event is not None:
                    self._hear(event)
                self._show()
        except BaseException:
            for index in self._running.values():
                self._study.give_back(self._candidates[index])
            raise
        if self._passed_over and len(self._candidates) < self._requirements.search.trials:
            raise NothingFits(self._why_nothing_new(self._passed_over))

    # -- the next candidate -----------------------------------------------------------------

    def _next(self) -> Candidate | None:
        """What was given back comes before what is new; None where there is neither."""
        if len(self._candidates) >= self._requirements.search.trials:
            return None
        index = next(index for index in count() if index not in self._candidates)
        again = self._study.given_back(index)
        if again is not None and (cost := self._cost_of_open(again)) is not None:
            return again.to_train(cost)
        return self._propose(index) if self._passed_over is None else None

    def _cost_of_open(self, candidate: Candidate) -> Cost | None:
        """Its cost today, None where it may not be trained since the requirements changed."""
        try:
            architecture = self._space.decode(candidate.params)
        except OutsideSpace:
            return None
        is_open = architecture == candidate.architecture and architecture.id not in self._known
        if not is_open:
            return None
        cost = self._pricing.at(candidate.index).known(architecture)
        return cost if self._requirements.fits(cost) else None

    def _propose(self, index: int) -> Candidate | None:
        """A new candidate: the prototype's default first, then what the sampler proposes."""
        if index == 0:
            own = default_params(self._space, self._requirements, self._pricing)
            if own is not None:
                architecture = self._space.decode(own)
                cost = self._pricing.at(DEFAULT).known(architecture)
                return Candidate(-1, index, own, architecture, cost, "prototype")
        todays, pricing = self._todays(), self._pricing.at(index)
        aim = self._least_accuracy(todays)
        proposer = self._proposals.at(index, todays, aim, pricing)
        passed_over, predictor = proposer.passed_over, pricing.predictor
        for _ in range(PATIENCE):
            try:
                params = proposer.ask()
            except NothingFound as error:
                passed_over.rejected += error.tried
                break
            architecture = self._space.decode(params)
            cost, violations = pricing.judged(architecture)
            candidate = Candidate(-1, index, params, architecture, cost, "machine")
            if any(value > 0 for value in violations.values()):
                proposer.tell_rejected(Rejection(params, cost, violations))
            elif (known := self._known.get(candidate.architecture.id)) is not None:
                proposer.tell_repeated(params, self._candidates[known])
            else:
                proposer.accept()
                predicted = proposer.expected_accuracy()
                parent = None
                if self._requirements.search.proxy.inherit:
                    parent = self._weights.parent_of(params, todays)
                return replace(
                    candidate,
                    predicted=predicted,
                    parent=None if parent is None else parent.number,
                    **vars(passed_over),
                )
            self._show(passed_over)
            if pricing.predictor is not predictor and self._proposals.know_costs:
                predictor = pricing.predictor
                proposer = self._proposals.at(index, todays, aim, pricing, passed_over)
        self._passed_over = passed_over
        counts = ("rejected", "repeated", "rejected_by")
        self._study.set({"tail": {name: getattr(passed_over, name) for name in counts}})
        return None

    def _todays(self) -> list[Candidate]:
        return [each for each in self._candidates.values() if each.index not in self._of_others]

    def _least_accuracy(self, candidates: Sequence[Candidate]) -> float | None:
        """That a proxy is to have to be worth its training."""
        fitting = (each for each in candidates if self._requirements.fits(each.cost))
        best = best_accuracy(fitting)
        return None if self._aim is None or best is None else self._aim.at_least(best)

    def _why_nothing_new(self, last: PassedOver) -> str:
        lines = [
            f"a search ends when {PATIENCE} proposals in a row bring nothing new that fits; "
            f"of the last, {last.rejected} broke a limit and {last.repeated} were known, "
            f"after {len(self._candidates)} of {self._requirements.search.trials} trials"
        ]
        if last.rejected > last.repeated:
            found = feasibility(self._space, self._requirements, pricing=self._pricing)
            lines.append(explain(found, self._requirements))
        else:
            lines.append("    the space holds little more that fits: lower search.trials")
        return "\n".join(lines)

    # -- the anchor -------------------------------------------------------------------------

    def _to_anchor(self) -> Candidate | None:
        """The prototype's default network, where its full training is to begin now."""
        trials_left = len(self._candidates) < self._requirements.search.trials
        if not self._lacks_anchor or self._carrier.under_way or not trials_left:
            return None
        drawn = (each for each in self._todays() if each.proposed_by == "prototype")
        return next((each for each in drawn if each.accuracy is not None), None)

    def _start_anchor(self, default: Candidate) -> None:
        self._full_trainings.mkdir(parents=True, exist_ok=True)
        if ended := self._carrier.begin(full_task(default.architecture, 0, self._requirements)):
            self._take_in_anchor(ended)

    def _full_pass_ended(self, task: Task, record: EpochRecord) -> None:
        self._full_progress = replace(
            self._full_progress, epoch=record.epoch, seconds_each=record.seconds
        )

    def _take_in_anchor(self, ended: Ended) -> None:
        """From now on it is known where to aim, or that this cannot be known."""
        name = ended.task.architecture.id
        default = self._candidates[self._known[name]]
        reached = None if ended.reason else ended.curve[-1].accuracy
        anchor = Anchor.of(default, self._requirements, reached, ended.reason)
        self._study.set({ANCHOR: anchor.to_json()})
        self._lacks_anchor = False
        self._full_progress = replace(self._full_progress, epoch=0)
        self._aim = aim_of(self._begun_with, self._requirements, anchor)
        if self._aim is not None:
            log.info("the default network came to %.2f %% by full training", 100 * (reached or 0))
            self._on_event(self._aim)
        else:
            text = f"the full training of the default network failed ({ended.reason})"
            log.warning(text)
            self._on_event(Notice(f"{text}: the search does not aim"))

    # -- trainings --------------------------------------------------------------------------

    def _start(self, candidate: Candidate) -> None:
        """Enter it in the study and hand its training out."""
        start = self._start_of(candidate)
        if start is None:
            candidate = replace(candidate, parent=None)
        candidate = self._study.begin(
            candidate,
            distributions_of(self._space, candidate.params),
            self._requirements.violations(candidate.cost),
        )
        self._take_in(candidate)
        key = f"candidate {candidate.number}"
        self._running[key] = candidate.index
        search, network = self._requirements.search, candidate.architecture
        task = Task(key, network, search.proxy, seed_of(network.id, search.seed))
        if start is not None:
            epochs = {"epochs": search.proxy.inherit_epochs}
            task = replace(task, recipe=search.proxy.model_copy(update=epochs), start=start)
        elif search.proxy.inherit:
            task = replace(task, keeps_weights=True)  # only what began from nothing is a parent
        self._executor.submit(task)

    def _start_of(self, candidate: Candidate) -> Start | None:
        """What its training begins with: its parent's weights where it has one."""
        if candidate.parent is None or not self._requirements.search.proxy.inherit:
            return None
        parents = (each for each in self._todays() if each.number == candidate.parent)
        parent = next(parents, None)
        if parent is None or (weights := self._weights.of(parent)) is None:
            return None
        return Start(parent.architecture, weights)

    def _hear(self, event: Event) -> None:
        if event.key in self._carrier.under_way:
            if ended := self._carrier.hear(event):
                self._take_in_anchor(ended)
            return
        index = self._running.get(event.key)
        if index is None:
            return  # it was stopped, and had not heard of it yet
        candidate = self._candidates[index]
        match event:
            case PassEnded():
                self._pass_ended(event, candidate)
            case Trained():
                if event.weights is not None:
                    self._weights.keep(candidate, event.weights)
                accuracy = candidate.curve[-1].accuracy
                self._finish(event.key, replace(candidate, outcome="trained", accuracy=accuracy))
            case Failed():
                self._finish(event.key, replace(candidate, outcome="failed", reason=event.reason))
            case Died():
                self._died(event, candidate)

    def _pass_ended(self, event: PassEnded, candidate: Candidate) -> None:
        record = event.record
        candidate = replace(
            candidate,
            curve=(*candidate.curve, CurvePoint(record.epoch, record.loss, record.accuracy)),
            seconds=candidate.seconds + record.seconds,
        )
        self._candidates[candidate.index] = candidate
        # What the human drew is always seen to its end: all else is compared with it. What began
        # with another's weights is beyond the others at the same epoch, and soon through.
        is_whole = candidate.proposed_by == "prototype" or candidate.parent is not None
        if not self._requirements.search.early_stopping or is_whole:
            return
        accuracies = [point.accuracy for point in candidate.curve]
        costs = costs_of(candidate, self._requirements.objectives)
        if stop := self._rungs().verdict(accuracies, costs):
            self._executor.cancel(event.key)
            expected = self._rungs().expected_accuracy(accuracies, costs)
            stopped = replace(candidate, outcome="stopped", reason=str(stop), expected=expected)
            self._finish(event.key, stopped)

    def _died(self, event: Died, candidate: Candidate) -> None:
        """Done again; of a fault of its own it would die forever."""
        log.warning("%s died while it trained candidate %d", event.how, candidate.number)
        with held_back():
            failed = self._study.give_back(candidate, event.fault)
            del self._running[event.key]
            if failed is not None:
                self._take_in(failed)
                _log(failed)
            else:
                del self._candidates[candidate.index]
                del self._known[candidate.architecture.id]

    def _finish(self, key: str, candidate: Candidate) -> None:
        with held_back():  # what is in the study is in the log, and is not given back
            self._study.finish(candidate)
            _log(candidate)
            del self._running[key]
            self._take_in(candidate)

    def _take_in(self, candidate: Candidate) -> None:
        """It is known from now on as it is; its curve counts if it is a full one within limits."""
        self._candidates[candidate.index] = candidate
        self._known[candidate.architecture.id] = candidate.index
        if candidate.accuracy is not None and self._requirements.fits(candidate.cost):
            self._standing.add(candidate.accuracy, candidate.cost)
            if len(candidate.curve) == self._epochs and candidate.parent is None:
                self._full.append(full_curve(candidate, self._requirements.objectives))

    def _rungs(self) -> Rungs:
        return Rungs(tuple(self._full), self._select_images)

    def _show(self, passed_over: PassedOver | None = None) -> None:
        last = passed_over or self._passed_over or PassedOver()
        candidates, slots = self._candidates.values(), self._executor.slots
        full = self._full_progress if self._carrier.under_way else None
        self._on_event(self._standing.at(candidates, slots, last.rejected, last.repeated, full))


def _log(candidate: Candidate) -> None:
    result = f"stopped {candidate.reason}" if candidate.outcome == "stopped" else candidate.reason
    if candidate.accuracy is not None:
        result = f"{100 * candidate.accuracy:.2f} %"
    measured = [f"{candidate.cost[n]:.4g} {n}" for n in MEASURED if n in candidate.cost]
    log.info(
        f"candidate {candidate.number} ({candidate.architecture.id}): {result}, "
        f"{candidate.cost.macs:,} MACs, {candidate.cost.params:,} params, "
        f"{''.join(f'{each}, ' for each in measured)}"
        f"{candidate.seconds:.1f} s, "
        f"{candidate.rejected} rejected and {candidate.repeated} repeated before"
        + (f", begun with the weights of {candidate.parent}" * (candidate.parent is not None))
    )
