"""The command line: a table of commands over the library's functions.

Alone this room prints, parses and exits. A command's file is imported when it is called, and what
takes seconds to load inside its function: every ``--help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import click

from collabdesign.cli import detect, streams
from collabdesign.cli.options import (
    CACHE,
    DEVICE,
    FILE,
    FOLDER,
    INTO,
    JSON,
    MACHINE,
    REQUIREMENTS,
    RUN,
    SET,
    THREADS,
    command,
)
from collabdesign.errors import CollabdesignError
from collabdesign.evaluate.library_warnings import keep_from_people

_INTERRUPTED = 130
_BROKEN_PIPE = 141  # as a shell says of any program that a closed pipe ended

# Nobody reads any more: these do their work to the end all the same, and the last of them, which
# may have worked for hours, end with the code of what they came to.
_TRAINS = ("calibrate", "search", "compare", "detect train")
_WRITES = ("init", "report", "export", "detect predict", "detect export", *_TRAINS)

# A command, its file here and the function in it -> what it does in short and at length, what it
# takes.
COMMANDS: dict[str, tuple[str, str, list[click.Parameter]]] = {
    "init": ("Requirements and a prototype for your pictures.", """
        Write requirements and a prototype that fit a FOLDER of pictures.

        The folder holds one folder of pictures for each class, or train and test folders of such.
    """, [
        click.Option(["--data", "folder"], required=True, type=click.Path(path_type=Path),
                     metavar="FOLDER", help="Your pictures, one folder a class."),
        click.Option(["--into"], type=click.Path(path_type=Path), default=Path(),
                     metavar="DIR", help="Where to write (default: here)."),
        click.Option(["--name"], help="Of the run (default: the folder's)."),
        click.Option(["--force"], is_flag=True, help="Write over earlier files."),
    ]),
    "check": ("Space, data and machine, before any training.", """
        Look at FILE's space, data and machine before any training.

        Exit code 3 where no network of the space fits the limits, 2 where the data cannot be read.
    """, [FILE, SET, DEVICE, THREADS, CACHE, JSON]),
    "calibrate": ("Does the proxy rank networks as full training does?", """
        Train a few networks briefly and fully: can FILE's proxy be trusted?

        Writes calibration.json into the run folder, which a search there uses and its report shows.
        The same command goes on from what was trained.
    """, [
        FILE,
        INTO,
        click.Option(["--networks"], type=click.IntRange(4), default=12, metavar="K",
                     help="How many to train both ways (default: 12; 10 to 20 tell most)."),
        SET,
        *MACHINE,
        JSON,
    ]),
    "search": ("Search, train the family, write the report.", """
        Search, train the family and write the report, as FILE asks.

        The same command on an existing run folder continues it. One command at a time works in a
        run folder; `collabdesign status --follow DIR` watches it from another terminal.

        With --workers 1 the same seed gives the same search. Several workers are faster, and which
        candidates they find depends on who is done first.
    """, [
        FILE,
        INTO,
        SET,
        *MACHINE,
        click.Option(["--accept-changes"], is_flag=True,
                     help="Continue a run although its requirements or data changed."),
    ]),
    "compare": ("The family beside well-known networks.", """
        Train well-known networks on the data of the run in DIR, by its recipe, and compare.

        Each is trained with three learning rates and keeps the best; then with half as many epochs
        more, as long as that helps; then with every seed. All this is judged on the held-out part
        of train. Test is read once for each training that counts, and nothing is chosen by it. The
        members keep the run's recipe as it is.

        Writes DIR/compare.json and the report. The same command goes on from what was trained.
    """, [
        RUN,
        click.Option(["--network", "networks"], multiple=True, metavar="NAME",
                     help="Such as 'ResNet-8' or 'prototype', the prototype's default network. May "
                     "be given several times (default: all)."),
        click.Option(["--seeds"], type=click.IntRange(1), default=3, metavar="N",
                     help="Trainings of each network that count (default: 3)."),
        click.Option(["--random", "random_run"], type=click.Path(path_type=Path), metavar="DIR",
                     help="Also the most accurate member of this run, a search as long with "
                     "search.sampler=random."),
        *MACHINE,
        JSON,
    ]),
    "status": ("Where a run stands.",
               "Tell where the search in DIR stands, running or not.", [
        RUN,
        JSON,
        click.Option(["--follow"], is_flag=True, help="Show its progress until it ends."),
    ]),
    "report": ("Write the report of a run anew.",
               "Write DIR/report.html anew from what the run holds.", [RUN]),
    "show": ("One candidate of a run.",
             "Describe one CANDIDATE of the run in DIR, by its number.", [
        RUN, click.Argument(["candidate"], type=int), JSON,
    ]),
    "verify": ("What a member's certificate says, measured anew.", """
        Measure everything anew that the certificate in FOLDER says.

        Weights, model.py, multiply-adds and parameters by three counters, accuracies on the
        held-out part and on test, and every other form of the network. Nothing of the folder is
        run but what reads weights and ONNX. Exit code 4 where a figure differs.
    """, [
        FOLDER,
        REQUIREMENTS,
        SET,
        click.Option(["--without-data"], is_flag=True,
                     help="Leave out what needs the images."),
        click.Option(["--run-model-py"], is_flag=True,
                     help="Also run the folder's model.py. It is a program: do so where you trust "
                     "who wrote it."),
        CACHE,
        JSON,
    ]),
    "export": ("A member as ONNX, int8 or ExecuTorch.", """
        Write the member in FOLDER in another form, and compare it with the network.

        It is run on the held-out part, judged once on test, and timed; the certificate is told.
    """, [
        FOLDER,
        click.Option(["--format", "form"], required=True,
                     type=click.Choice(["onnx", "executorch"]), help="What to write."),
        click.Option(["--int8"], is_flag=True,
                     help="In int8: static, per-channel weights. With onnx."),
        click.Option(["--calibrate"], type=click.Path(path_type=Path), metavar="DATA",
                     help="A folder with pictures that tell the ranges of int8 (default: the "
                     "run's train part)."),
        REQUIREMENTS,
        SET,
        CACHE,
        JSON,
    ]),
    "predict": ("What a member sees in pictures.", """
        Print the most probable classes of each PICTURE, by the member in FOLDER.
    """, [
        FOLDER,
        click.Argument(["pictures"], nargs=-1, required=True, metavar="PICTURE...",
                       type=click.Path(path_type=Path)),
        click.Option(["--form"], default="network",
                     type=click.Choice(["network", "onnx", "int8", "executorch"]),
                     help="Which of its forms answers (default: network, the weights in torch)."),
        click.Option(["--top", "most"], type=click.IntRange(1), default=5, metavar="N",
                     help="Classes of each picture (default: 5)."),
        JSON,
    ]),
    "schema": ("The JSON Schema of requirements, for editors.",
               "Print the JSON Schema of requirements files, for editors.", [
        click.Option(["--prototype"], is_flag=True, help="Of prototype files instead."),
    ]),
}  # fmt: skip


def _call(name: str, function: str, /, **options: Any) -> Any:
    return getattr(import_module(f"collabdesign.cli.{name}"), function)(**options)


def _made(commands: dict[str, tuple[str, str, list[click.Parameter]]], of: str = "") -> Any:
    return [
        click.Command(name, None, partial(_call, of + name, name), params, long, short_help=short)
        for name, (short, long, params) in commands.items()
    ]


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


_DETECT = _InOrder(
    "detect",
    _made(detect.COMMANDS, "detect_"),
    help=detect.LONG,
    short_help=detect.SHORT,
)


@click.group(
    cls=_InOrder,
    commands=[*_made(COMMANDS), _DETECT],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="collabdesign", prog_name="collabdesign")
def cli() -> None:
    """Design compact vision networks together with a machine.

    You write the budgets, the goals and a prototype; the search designs what you left open,
    trains what fits, and hands over a family of networks.
    """


def main() -> None:
    """The entry point: errors that a person can meet end in a message and an exit code."""
    # A thread that waits for work by spinning takes the core from the one that does it; on a
    # busy machine that makes small networks train ten times slower. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    words = sys.argv[1:]
    name = " ".join(words[: 2 if words[:1] == ["detect"] else 1])
    streams.prepare(lasting=name in _WRITES)
    keep_from_people()
    # What the library warns of is for the person; the run's log has the rest.
    warnings = _ToPerson(logging.WARNING)
    warnings.setFormatter(logging.Formatter("collabdesign: %(message)s"))
    logging.getLogger("collabdesign").addHandler(warnings)
    try:
        code = _run(name, words)
    except BrokenPipeError:
        code = _BROKEN_PIPE  # who reads has seen enough: nothing is left to say
    finally:
        streams.finish()
    sys.exit(code)


def _run(name: str, words: list[str]) -> int:
    """The exit code of a command, after what is to be said of its end.

    Raises:
        BrokenPipeError: Nobody reads any more.
    """
    try:
        # Not `cli.main`, which answers a closed pipe with an exit that tells nothing.
        with cli.make_context("collabdesign", words) as context:
            code: int = cli.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        if name not in _TRAINS and (lost := streams.lost()) is not None:
            raise lost
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        code = error.exit_code
    except CollabdesignError as error:
        streams.note_line(f"collabdesign: {error}")
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        if name in _TRAINS:
            streams.note_line(f"Interrupted. To continue: {command()}")
        code = _INTERRUPTED
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        if error.encoding != encoding or encoding == "utf-8":
            raise
        streams.note_line(
            f"collabdesign: names of files must be such as this system's {encoding} can write, got "
            f"{error.object}\n    set PYTHONUTF8=1 in the environment"
        )
        code = CollabdesignError.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        streams.note_line(
            f"collabdesign: the system refused: {error}; once that is mended, the same command "
            "goes on"
        )
        code = CollabdesignError.exit_code
    return code


class _ToPerson(logging.Handler):
    """Writes to what is standard error at that moment: above a live line, where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        streams.note_line(self.format(record))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not in the middle of an import.

    A package that is half imported answers it with an error of its own, or swallows it; so it
    is raised when the import is done, which takes a few seconds at most.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            return
        frame = frame.f_back
    raise KeyboardInterrupt
