"""The arguments and options that several commands share."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collabdesign.pipeline import Machine

FILE = click.Argument(["file"], type=click.Path(path_type=Path))
RUN = click.Argument(["run_dir"], metavar="DIR", type=click.Path(path_type=Path))
FOLDER = click.Argument(["folder"], type=click.Path(path_type=Path))
REQUIREMENTS = click.Option(
    ["--requirements", "file"], type=click.Path(path_type=Path), metavar="FILE",
    help="Of the member's run, for its data (default: requirements.yaml of the run that FOLDER "
    "lies in).",
)  # fmt: skip
INTO = click.Option(
    ["--run-dir"], type=click.Path(path_type=Path), metavar="DIR",
    help="Where the run lives (default: runs/NAME).",
)  # fmt: skip
SET = click.Option(
    ["--set", "overrides"], multiple=True, metavar="KEY=VALUE",
    help="Override a key of the file, such as search.trials=80. May be given several times.",
)  # fmt: skip
JSON = click.Option(["--json", "as_json"], is_flag=True, help="Answer as JSON.")


def _use_cache(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """For this process, and for those that it starts."""
    if value is not None:
        from collabdesign.evaluate.data.cache import VARIABLE

        os.environ[VARIABLE] = str(value.absolute())


CACHE = click.Option(
    ["--cache"], type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    expose_value=False, callback=_use_cache,
    help="Where decoded pictures are kept (default: COLLABDESIGN_CACHE, else the user's cache "
    "folder).",
)  # fmt: skip
DEVICE = click.Option(
    ["--device"], metavar="NAME", help="cpu or cuda (default: the best there is)."
)
THREADS = click.Option(
    ["--threads"], type=click.IntRange(1), metavar="N",
    help="CPU threads of a training (default: 1 for small networks and where several workers "
    "train, else all cores).",
)  # fmt: skip
WORKERS = click.Option(
    ["--workers"], type=click.IntRange(1), metavar="N",
    help="Trainings at a time (default: what the machine or the cluster supports).",
)  # fmt: skip
CLUSTER = click.Option(
    ["--cluster"], metavar="ADDRESS", help="Train on a Ray cluster: auto, or its address."
)
MACHINE = (DEVICE, WORKERS, THREADS, CLUSTER, CACHE)


def machine_of(options: dict[str, Any]) -> Machine:
    """Where to train, of the options MACHINE; sets what belongs to the whole process first."""
    from collabdesign.evaluate.memory import keep_freed_memory
    from collabdesign.pipeline import Machine

    keep_freed_memory()
    return Machine(**options)


def threads_of(asked: int | None) -> None:
    """Train in this process, on so many CPU threads or on all cores."""
    import torch

    from collabdesign.evaluate.memory import keep_freed_memory
    from collabdesign.explore.environment import usable_cores

    keep_freed_memory()
    torch.set_num_threads(asked or usable_cores())


def command() -> str:
    """What the person typed, to type again."""
    return shlex.join(["collabdesign", *sys.argv[1:]])
