"""The only writer of a run's study.

The states of trials: RUNNING is handed out, COMPLETE is trained, PRUNED is stopped early or failed
for good, FAIL ended before its end: never counted, done again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna import __version__ as optuna_version
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    json_to_distribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from collabdesign.errors import InputError
from collabdesign.explore.faults import FAULT, MOST_FAULTS
from collabdesign.explore.front import directions_of, values_of
from collabdesign.explore.record import SCHEMA_VERSION, Candidate, Record
from collabdesign.explore.study import (
    CANDIDATE,
    DATABASE,
    DISTRIBUTIONS,
    ELSEWHERE,
    STUDY_NAME,
    address_of,
    has_study,
    read_record,
    reading,
    reason_of,
    trials_of,
    unreachable,
    with_driver,
    without_password,
)
from collabdesign.files import write_json

# SQLite's write-ahead log is shared memory between processes, which no network disk has.
_NETWORK_DISKS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gpfs", "lustre"}
    | {"nfs", "nfs4", "smb3", "smbfs"}
)
_MOUNTS = Path("/proc/self/mounts")


class StudyWriter:
    """A run's study, open for writing by one process.

    Args:
        run_dir: An existing folder; a study that it has is continued.
        objectives: Of the study.
        storage: Address of a database that holds the study; a file in the run folder where None.
        name: What a new study in a database is called, made unique.

    Raises:
        InputError: The study is none of ours, cannot be reached or cannot be written.
    """

    def __init__(
        self, run_dir: Path, objectives: Sequence[str], storage: str | None = None, name: str = ""
    ) -> None:
        self._run_dir = run_dir
        self._objectives = tuple(objectives)
        if has_study(run_dir):
            read_record(run_dir)  # refuses what is none of ours before anything writes it
        else:
            with _writing(storage or str(run_dir / DATABASE)):
                _make(run_dir, self._objectives, storage, name)
        self._storage, self._study_id = _open(run_dir)
        with reading(run_dir) as (rows, self._place):
            self._distributions = {
                name: json_to_distribution(text) for name, text in rows(DISTRIBUTIONS)
            }
            self._given_back = [each for state, each in trials_of(rows) if state == "FAIL"]

    def close(self) -> None:
        """Let go of the database; a file needs no place to write to be read from then on."""
        if self._storage.engine.dialect.name == "sqlite":
            with suppress(SQLAlchemyError), self._storage.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        self._storage.remove_session()
        self._storage.engine.dispose()

    def read(self) -> Record:
        """The record as it stands."""
        return read_record(self._run_dir)

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Write attributes of the study."""
        with _writing(self._place):
            for key, value in attributes.items():
                self._storage.set_study_user_attr(self._study_id, key, value)

    def begin(
        self,
        candidate: Candidate,
        distributions: Mapping[str, BaseDistribution],
        violations: Mapping[str, float],
    ) -> Candidate:
        """Enter a candidate as being trained, in one transaction; gives it its number."""
        kept = {}
        for each, distribution in distributions.items():
            # A study keeps the choices that a parameter began with. Where the prototype changed
            # since, by consent, the others are in the attribute alone.
            with suppress(ValueError):
                known = self._distributions.setdefault(each, distribution)
                check_distribution_compatibility(known, distribution)
                kept[each] = distribution
        trial = create_trial(
            state=TrialState.RUNNING,
            params={name: candidate.params[name] for name in kept},
            distributions=kept,
            constraints=dict(violations),
            user_attrs={CANDIDATE: candidate.to_json()},
        )
        with _writing(self._place):
            trial_id = self._storage.create_new_trial(self._study_id, trial)
            return replace(candidate, number=self._storage.get_trial_number_from_id(trial_id))

    def finish(self, candidate: Candidate) -> None:
        """Enter what became of a candidate: trained, stopped or failed."""
        with _writing(self._place):
            trial = self._trial_id(candidate)
            # The attribute goes first: `take_back` finishes what a kill between the two leaves.
            self._storage.set_trial_user_attr(trial, CANDIDATE, candidate.to_json())
            if candidate.accuracy is None:
                self._storage.set_trial_state_values(trial, TrialState.PRUNED)
            else:
                values = values_of(self._objectives, candidate.accuracy, candidate.cost)
                self._storage.set_trial_state_values(trial, TrialState.COMPLETE, values)

    def give_back(self, candidate: Candidate, fault: str = "") -> Candidate | None:
        """Enter that a training ended before its end: it does not count, and is done again.

        Args:
            fault: What its process died of, empty where it was killed from outside.

        Returns:
            The candidate as failed where its network has ended its process too often, which
            counts as an outcome; None where it is done again.
        """
        reason = f"{FAULT}{fault}" if fault else ""
        earlier = [
            each
            for each in self._given_back
            if each.reason.startswith(FAULT) and each.architecture.id == candidate.architecture.id
        ]
        if fault and len(earlier) + 1 >= MOST_FAULTS:
            rule = f"a training must leave its process alive, got {MOST_FAULTS} times: {fault}"
            failed = replace(candidate, outcome="failed", reason=f"{FAULT}{rule}")
            self.finish(failed)
            return failed
        candidate = replace(candidate, reason=reason)
        with _writing(self._place):
            trial = self._trial_id(candidate)
            if fault:
                self._storage.set_trial_user_attr(trial, CANDIDATE, candidate.to_json())
            self._storage.set_trial_state_values(trial, TrialState.FAIL)
        self._given_back.append(candidate)
        return None

    def take_back(self, fault: str = "") -> None:
        """What a dead process left running: the finished is finished, the rest is given back."""
        with reading(self._run_dir) as (rows, _):
            left = [each for state, each in trials_of(rows) if state == "RUNNING"]
        for candidate in left:
            if candidate.outcome == "running":
                self.give_back(candidate, fault)
            else:
                self.finish(candidate)

    def given_back(self, index: int) -> Candidate | None:
        """What was last given back of an index, if anything was."""
        return next((each for each in reversed(self._given_back) if each.index == index), None)

    def _trial_id(self, candidate: Candidate) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(
            self._study_id, candidate.number
        )


def _make(run_dir: Path, objectives: Sequence[str], storage: str | None, name: str) -> None:
    """A study is complete or not there: a kill in between leaves no half of one."""
    directions = [StudyDirection[each.upper()] for each in directions_of(objectives)]

    def make(url: str, study: str) -> None:
        database = RDBStorage(url)
        study_id = database.create_new_study(directions, study)
        database.set_study_user_attr(study_id, "version", SCHEMA_VERSION)
        database.engine.dispose()

    if storage is not None:
        study = f"{name}-{secrets.token_hex(4)}"
        make(with_driver(storage), study)
        write_json(run_dir / ELSEWHERE, {"storage": storage, "study": study})
        return
    for leftover in run_dir.glob(f"{DATABASE}.*.new*"):
        leftover.unlink(missing_ok=True)
    path = run_dir / DATABASE
    temporary = path.with_name(f"{DATABASE}.{os.getpid()}.new")
    try:
        make(f"sqlite:///{temporary}", STUDY_NAME)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _open(run_dir: Path) -> tuple[RDBStorage, int]:
    if (run_dir / ELSEWHERE).is_file():
        url, study = address_of(run_dir)
        with _writing(url):
            storage = RDBStorage(url)
            return storage, storage.get_study_id_from_name(study)
    path = run_dir / DATABASE
    with _writing(str(path)):
        storage = RDBStorage(f"sqlite:///{path}", {"connect_args": {"timeout": 60}})
        journal = "DELETE" if on_network_disk(run_dir) else "WAL"

        @event.listens_for(storage.engine, "connect")
        def tune(connection: Any, _: object) -> None:
            # A commit costs one write-ahead append; a kill loses nothing that was committed.
            connection.execute(f"PRAGMA journal_mode={journal}")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()  # the connection made before the listener was there
        return storage, storage.get_study_id_from_name(STUDY_NAME)


def on_network_disk(path: Path) -> bool:
    """Whether a folder lies on a disk of another machine, as far as the system tells."""
    with suppress(OSError):
        mounts = dict(line.split()[1:3] for line in _MOUNTS.read_text().splitlines())
        place = path.resolve()
        holding = [each for each in map(str, (place, *place.parents)) if each in mounts]
        return bool(holding) and mounts[holding[0]] in _NETWORK_DISKS
    return False


@contextmanager
def _writing(place: str) -> Iterator[None]:
    place = without_password(place)
    try:
        yield
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        raise InputError(
            f"the study {place!r} must have the tables of Optuna {optuna_version}, got: {error}"
        ) from None
    except (OSError, SQLAlchemyError, StorageInternalError, ImportError, KeyError) as error:
        if "://" in place:
            raise InputError(unreachable(place, error)) from None
        raise InputError(
            f"the study {place!r} must be writable, got: {reason_of(error)}; what was written "
            "stands: make room or mend it, and the same command continues"
        ) from None
