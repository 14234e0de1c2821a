"""Where a run's study lies, and what it holds.

A search lives in an Optuna study: an SQLite file in the run folder, or in a database that the
requirements name (``storage: postgresql://...``); then ``study.json`` in the run folder says where.
Each candidate is a trial with one JSON attribute, which :class:`Candidate` reads and writes;
:mod:`collabdesign.explore.study_writer` is the only writer. Reading is plain SQL: a running or
finished search is told in milliseconds, without Optuna or torch.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from collabdesign.errors import InputError
from collabdesign.explore.record import SCHEMA_VERSION, Candidate, Record

DATABASE = "study.db"
ELSEWHERE = "study.json"

STUDY_NAME = "collabdesign"
CANDIDATE = "candidate"

_ATTRIBUTES = """
    SELECT key, value_json FROM study_user_attributes JOIN studies USING (study_id)
    WHERE study_name = :study"""
DISTRIBUTIONS = """
    SELECT DISTINCT param_name, distribution_json FROM trial_params
    JOIN trials USING (trial_id) JOIN studies USING (study_id) WHERE study_name = :study"""


_TRIALS = f"""
    SELECT state, number, value_json FROM trials
    JOIN studies USING (study_id) JOIN trial_user_attributes USING (trial_id)
    WHERE study_name = :study AND key = '{CANDIDATE}' ORDER BY number"""

Rows = Callable[[str], list[Any]]


def has_study(run_dir: Path) -> bool:
    """Whether a search began in the folder."""
    return (run_dir / DATABASE).exists() or (run_dir / ELSEWHERE).is_file()


def read_record(run_dir: Path) -> Record:
    """Read a run's study as it stands, also while a search writes it.

    Raises:
        InputError: There is no study, or it is none of ours.
    """
    if not has_study(run_dir):
        raise InputError(
            f"a run folder holds a {DATABASE}, and {str(run_dir)!r} has none; name the folder "
            "of a search, such as runs/NAME"
        )
    with reading(run_dir) as (rows, place):
        attributes = {key: json.loads(value) for key, value in rows(_ATTRIBUTES)}
        if "version" not in attributes:
            raise InputError(_foreign(place))
        if attributes["version"] != SCHEMA_VERSION:
            raise InputError(
                f"{place!r} must be a study of version {SCHEMA_VERSION}, got version "
                f"{attributes['version']}: another version of collabdesign wrote it; use that, or "
                "choose another --run-dir"
            )
        trials = trials_of(rows)
        candidates = tuple(each for state, each in trials if state != "FAIL")
        return Record(attributes, candidates, killed=len(trials) - len(candidates))


@contextmanager
def reading(run_dir: Path) -> Iterator[tuple[Rows, str]]:
    """A function that answers queries, and what a person calls the study."""
    if (run_dir / ELSEWHERE).is_file():
        from sqlalchemy import NullPool, create_engine, text
        from sqlalchemy.exc import SQLAlchemyError

        url, name = address_of(run_dir)
        named, place = {"study": name}, without_password(url)
        try:
            engine = create_engine(url, poolclass=NullPool)  # no connection outlives the block
            with engine.connect() as database:
                yield lambda query: list(database.execute(text(query), named)), place
        except (SQLAlchemyError, ImportError) as error:
            raise InputError(unreachable(url, error)) from None
        return
    path = run_dir / DATABASE
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            named = {"study": STUDY_NAME}
            yield lambda query: connection.execute(query, named).fetchall(), str(path)
    except InputError:
        raise
    except sqlite3.OperationalError as error:
        if "no such" in str(error):  # table or column
            raise InputError(_foreign(str(path))) from None
        raise InputError(f"the study {str(path)!r} must be readable: {error}") from None
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{_foreign(str(path))} ({error})") from None


def address_of(run_dir: Path) -> tuple[str, str]:
    """Address and name of a study that lies in a database."""
    path = run_dir / ELSEWHERE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return with_driver(str(said["storage"])), str(said["study"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{str(path)!r} must say where the study lies, and does not: {error}"
        ) from None


def with_driver(url: str) -> str:
    """The address with the driver that the extra `postgresql` brings; SQLAlchemy's default one is
    another in each of its versions."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def without_password(address: str) -> str:
    """An address of a database as it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", address)


def unreachable(url: str, error: BaseException) -> str:
    """What is wrong with a study's database."""
    hint = ""
    if isinstance(error, ImportError):
        hint = "; `pip install collabdesign[postgresql]` brings the driver of PostgreSQL"
    return (
        f"the study's database {without_password(url)} must answer, got: {reason_of(error)}{hint}"
    )


def reason_of(error: BaseException) -> str:
    """What the database said, without the statement in SQL."""
    cause = error.__cause__ if type(error).__name__ == "StorageInternalError" else error
    return str(getattr(cause, "orig", None) or cause).strip()


def _foreign(place: str) -> str:
    return (
        f"{place!r} must be the study of a collabdesign search, and it is not; "
        "move it away or choose another --run-dir"
    )


def trials_of(rows: Rows) -> list[tuple[str, Candidate]]:
    """The state of each trial, with its candidate, in order."""
    return [
        (state, Candidate.from_json(number, json.loads(text)))
        for state, number, text in rows(_TRIALS)
    ]
