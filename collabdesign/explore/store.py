"""The only writer of a run's study: claims candidates, finishes them, survives kills."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.explore.faults import MOST_FAULTS
from collabdesign.explore.front import directions_of, values_of
from collabdesign.explore.lock import fault_of, is_at_work
from collabdesign.explore.proposals import distributions_of
from collabdesign.explore.record import (
    CANDIDATE_KEY,
    DATABASE,
    SCHEMA_VERSION,
    Candidate,
    Record,
    read_record,
)

_STUDY_NAME = "collabdesign"

_FAULT = "fault: "


class Store:
    """A run's study, open for writing, also in several processes at once.

    To be made and closed while :func:`collabdesign.explore.lock.claiming`.

    Args:
        run_dir: An existing folder; an existing study in it is continued.
        space: For the parameters' distributions.
        objectives: Of the study.

    Raises:
        InputError: The study is none of ours, or cannot be written.
    """

    def __init__(self, run_dir: Path, space: DesignSpace, objectives: Sequence[str]) -> None:
        self._run_dir = run_dir
        self._space = space
        self._objectives = tuple(objectives)
        self._study = self._open()

    def close(self) -> None:
        """Let go of the database.

        After the last process it is a single file again that needs no place to write to be read.
        """
        with suppress(SQLAlchemyError), self._storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")  # fails while others have it
        self._storage.engine.dispose()

    def read(self) -> Record:
        """The record as it stands."""
        return read_record(self._run_dir)

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Write attributes of the study."""
        with self._writing():
            for key, value in attributes.items():
                self._study.set_user_attr(key, value)

    def claim(self, candidate: Candidate, violations: Mapping[str, float]) -> Candidate:
        """Enter a candidate as being trained, in one transaction; gives it its number.

        The caller is claiming, and has the sign that the candidate names as its worker's.
        """
        with self._writing():
            before = len(self._study.get_trials(deepcopy=False))
            distributions = self._compatible(distributions_of(self._space, candidate.params))
            self._study.add_trial(
                create_trial(
                    state=TrialState.RUNNING,
                    params={name: candidate.params[name] for name in distributions},
                    distributions=distributions,
                    constraints=dict(violations),
                    user_attrs={CANDIDATE_KEY: candidate.to_json()},
                )
            )
        return replace(candidate, number=before)

    def _compatible(
        self, distributions: Mapping[str, BaseDistribution]
    ) -> dict[str, BaseDistribution]:
        """Those that Optuna takes: a study keeps the choices that a parameter began with.

        Where the prototype changed since, by consent, the others are in the attribute alone.
        """
        known: dict[str, BaseDistribution] = {}
        for trial in self._study.get_trials(deepcopy=False):
            known = {**trial.distributions, **known}
        kept = {}
        for name, distribution in distributions.items():
            with suppress(ValueError):
                check_distribution_compatibility(known.get(name, distribution), distribution)
                kept[name] = distribution
        return kept

    def finish(self, candidate: Candidate) -> None:
        """Enter what became of a claimed candidate: trained, stopped or failed."""
        with self._writing():
            self._write_outcome(self._trial_id(candidate.number), candidate)

    def release(self, candidate: Candidate) -> None:
        """Give a claimed candidate back: killed from outside, not counted, done again."""
        with self._writing():
            self._storage.set_trial_state_values(self._trial_id(candidate.number), TrialState.FAIL)

    def take_from_the_dead(self) -> None:
        """What dead processes left running: finished is finished, the rest is given back.

        The caller is claiming.
        """
        with self._writing():
            for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                candidate = Candidate.from_json(trial.number, trial.user_attrs[CANDIDATE_KEY])
                if is_at_work(self._run_dir, candidate.worker):
                    continue
                fault = fault_of(self._run_dir, candidate.worker)
                if fault and candidate.outcome == "running":
                    candidate = self._after(fault, candidate)
                if candidate.outcome == "running":
                    self._storage.set_trial_user_attr(
                        trial._trial_id, CANDIDATE_KEY, candidate.to_json()
                    )
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                else:
                    self._write_outcome(trial._trial_id, candidate)

    def _after(self, fault: str, candidate: Candidate) -> Candidate:
        """A candidate whose process died of a fault: noted, and failed where it did before."""
        before = [
            earlier
            for trial in self._study.get_trials(deepcopy=False, states=[TrialState.FAIL])
            if (earlier := trial.user_attrs[CANDIDATE_KEY])["id"] == candidate.architecture.id
            and earlier["reason"].startswith(_FAULT)
        ]
        if len(before) + 1 < MOST_FAULTS:
            return replace(candidate, reason=f"{_FAULT}{fault}")
        reason = (
            f"{_FAULT}a training must leave its process alive, got {MOST_FAULTS} times: {fault}"
        )
        return replace(candidate, outcome="failed", reason=reason)

    def given_back(self, index: int) -> Candidate | None:
        """What was last claimed for an index and given back, if anything was."""
        for trial in reversed(self._study.get_trials(deepcopy=False, states=[TrialState.FAIL])):
            if trial.user_attrs[CANDIDATE_KEY]["index"] == index:
                return Candidate.from_json(trial.number, trial.user_attrs[CANDIDATE_KEY])
        return None

    def _write_outcome(self, trial_id: int, candidate: Candidate) -> None:
        # The attribute goes first: take_from_the_dead finishes what a kill between the two leaves.
        self._storage.set_trial_user_attr(trial_id, CANDIDATE_KEY, candidate.to_json())
        if candidate.accuracy is None:
            self._storage.set_trial_state_values(trial_id, TrialState.PRUNED)
        else:
            values = values_of(self._objectives, candidate.accuracy, candidate.cost)
            self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def _open(self) -> optuna.Study:
        path = self._run_dir / DATABASE
        if path.exists():
            read_record(self._run_dir)  # refuses what is none of ours before anything writes it
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        for leftover in self._run_dir.glob(f"{DATABASE}.*.new*"):
            leftover.unlink(missing_ok=True)
        temporary = path.with_name(f"{DATABASE}.{os.getpid()}.new")
        try:
            if not path.exists():
                # A study is complete or not there: a kill in between leaves no half of one.
                storage = RDBStorage(f"sqlite:///{temporary}")
                study = optuna.create_study(
                    storage=storage,
                    study_name=_STUDY_NAME,
                    directions=directions_of(self._objectives),
                )
                study.set_user_attr("version", SCHEMA_VERSION)
                storage.engine.dispose()
                os.replace(temporary, path)
            self._storage = RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            event.listen(self._storage.engine, "connect", _tune)
            self._storage.engine.dispose()  # the connection made before the listener was there
            return optuna.load_study(storage=self._storage, study_name=_STUDY_NAME)
        except (OSError, SQLAlchemyError, RuntimeError, KeyError) as error:
            raise InputError(_unwritable(path, error)) from None
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            raise InputError(_unwritable(self._run_dir / DATABASE, error)) from None


def _unwritable(path: Path, error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    reason = getattr(cause, "orig", None) or cause  # without the statement in SQL
    return (
        f"the study {str(path)!r} must be writable, got: {reason}; what was written stands: make "
        "room or mend it, and the same command continues"
    )


def _tune(connection: Any, _: Any) -> None:
    """A commit costs one write-ahead append; a kill loses nothing that was committed."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
