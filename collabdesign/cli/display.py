"""What every command shows with: two consoles, one live foot of a terminal, JSON.

Progress goes to standard error, answers to standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from collabdesign.cli import streams
from collabdesign.cli.live import Foot
from collabdesign.deliver.report.words import percent, short_time

if TYPE_CHECKING:
    from collabdesign.deliver.baselines import CompareProgress
    from collabdesign.detect.run import DetectEvent
    from collabdesign.detect.training import DetectProgress
    from collabdesign.explore.calibrate import CalibrateProgress
    from collabdesign.explore.full_training import FamilyProgress
    from collabdesign.explore.progress import Progress as SearchProgress
    from collabdesign.explore.rank import Estimate
    from collabdesign.pipeline import RunEvent

# Without a terminal a line now and then is enough for a log.
_LINE_EVERY_SECONDS = 10.0

_NAMES_SHOWN = 8


class _Console(Console):
    def __init__(self, *, stderr: bool) -> None:
        stream = sys.stderr if stderr else sys.stdout
        super().__init__(
            stderr=stderr,
            # Rich would take a colour that is asked for as word of a terminal.
            force_terminal=streams.moves_cursor(stream),
            color_system="standard" if streams.has_colour(stream) else None,
            highlight=False,
            soft_wrap=True,
            emoji=False,  # `:cat:` is the name of a folder
        )

    def on_broken_pipe(self) -> None:
        raise  # rich would exit, with a code that tells nothing


out = _Console(stderr=False)
err = _Console(stderr=True)


def say(text: str) -> None:
    """A line of the answer, as it is."""
    out.print(text, markup=False)


def note(text: str) -> None:
    """A line beside the answer, as it is."""
    err.print(text, markup=False)


def print_json(data: Any) -> None:
    """Frozen data, for programs."""

    def plain(value: Any) -> Any:
        is_data = is_dataclass(value) and not isinstance(value, type)
        return asdict(value) if is_data else dict(value)

    text = json.dumps(data, indent=2, ensure_ascii=False, default=plain)
    if not streams.shows(text):
        text = json.dumps(data, indent=2, default=plain)
    streams.say_line(text)


Line = tuple[str, float, float, str, bool]
"""What goes on, how much of how much is done, in words, and whether that is all."""


class Display:
    """A live foot on a terminal; elsewhere a plain line now and then."""

    def __init__(self) -> None:
        self._last_line = 0.0
        self._foot = Foot()

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Show it while the block runs."""
        with Live(self._foot, console=err, transient=True) if err.is_terminal else nullcontext():
            yield self

    def doing(self, text: str) -> None:
        """What is done now, of which nobody knows how long it takes; on a terminal alone."""
        self._foot.lines = {text: (0, 0, "")}

    def count(self, what: str, done: int, total: int) -> None:
        """So many of so many."""
        self._update(*_count(what, done, total))

    def tell(self, event: RunEvent) -> None:
        """Show one event of a run; what is no progress is shown elsewhere."""
        self.stage(type(event).__name__, event)

    def tell_detection(self, event: DetectEvent) -> None:
        """The same of a detection."""
        self.stage(type(event).__name__, event)

    def stage(self, name: str, at: Any) -> None:
        """Show where a stage stands, by the name of what tells it."""
        if name in _LINES:
            self._update(*_LINES[name](at))

    def _update(self, what: str, done: float, total: float, text: str, final: bool) -> None:
        if err.is_terminal:
            others = {name: at for name, at in self._foot.lines.items() if at[0] < at[1]}
            self._foot.lines = {**others, what: (done, total, text)}
            return
        now = time.monotonic()
        if final or now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            note(f"{what}: {text}")


def _count(what: str, done: int, total: int) -> Line:
    return what, done, total, f"{done:,} of {total:,}", done == total


def _search(at: SearchProgress) -> Line:
    done = at.trained + at.stopped + at.failed
    best = "none yet" if at.best is None else percent(at.best)
    training = f"epoch {at.epoch}/{at.epochs}" if at.epoch else ""
    full = f"default's full training, epoch {at.full_epoch}/{at.full_epochs}"
    parts = [
        f"{done}/{at.trials} trials",
        f"{at.stopped} stopped early" if at.stopped else "",
        f"{at.failed} failed" if at.failed else "",
        f"{at.rejected} rejected",
        f"{at.repeated} repeated",
        f"best {best}",
        f"hypervolume {at.hypervolume:.3f}",
        f"{at.workers} workers" if at.workers > 1 else training,
        full if at.full_epochs else "",
        "" if at.seconds_left is None else f"about {short_time(max(0.0, at.seconds_left))} left",
    ]
    within = at.epoch / at.epochs if at.epochs and done < at.trials else 0
    final = done == at.trials and at.epoch == 0
    return "search", done + within, at.trials, " · ".join(filter(None, parts)), final


def _family(at: FamilyProgress) -> Line:
    done = at.done + at.under_way / at.epochs
    text = (
        f"{at.done}/{at.trainings} trainings · candidate {at.candidate}, epoch "
        f"{at.epoch}/{at.epochs}: {percent(at.accuracy)} on the held-out part"
    )
    return "family", done, at.trainings, text, done == at.trainings


def _compare(at: CompareProgress) -> Line:
    text = (
        f"{at.done}/{at.trainings} trainings · {at.network}, epoch {at.epoch}/{at.epochs}: "
        f"{percent(at.accuracy)} on the held-out part"
    )
    done = at.done + at.under_way
    return f"compare, {at.kind}", done, at.trainings, text, at.done == at.trainings


def _calibrate(at: CalibrateProgress) -> Line:
    parts = [
        f"{at.done}/{at.trainings} trainings",
        f"{at.kind}, epoch {at.epoch}/{at.epochs}" if at.epoch else "",
        "" if at.accuracy is None else f"{percent(at.accuracy)} on the held-out part",
        f"about {short_time(at.seconds_left)} left",
    ]
    done = at.done + at.under_way
    text = " · ".join(filter(None, parts))
    return "calibrate", done, at.trainings, text, at.done == at.trainings


def _detect(at: DetectProgress) -> Line:
    parts = [
        f"epoch {at.epoch}/{at.epochs}",
        f"step {at.step}/{at.steps}" if at.step < at.steps else "held-out part",
        "" if at.loss is None else f"loss {at.loss:.3f}",
        "" if at.mask_ap is None else f"best mask AP {percent(at.mask_ap)} on the held-out part",
        "" if at.seconds_left is None else f"about {short_time(at.seconds_left)} left",
    ]
    done = at.epoch - 1 + at.step / at.steps
    final = at.epoch == at.epochs and at.step == at.steps
    return "detect", done, at.epochs, " · ".join(filter(None, parts)), final


_LINES: dict[str, Callable[[Any], Line]] = {
    "Reading": lambda at: _count(f"reading {at.what}", at.done, at.total),
    "Measuring": lambda at: _count("measuring networks", at.done, at.total),
    "Progress": _search,
    "FamilyProgress": _family,
    "CalibrateProgress": _calibrate,
    "CompareProgress": _compare,
    "DetectProgress": _detect,
    "PicturesRead": lambda at: _count(at.what, at.done, at.total),
}


def interval(found: Estimate) -> str:
    """An estimate in words."""
    return f"{found.value:.2f} (95 % interval {found.low:.2f} to {found.high:.2f})"


def named(what: str, names: Sequence[str], count: int | None = None) -> None:
    """The first few of many, and how many more; of all there are ``count``."""
    count = len(names) if count is None else count
    if names:
        out.print(f"  {what}: {count}")
    for name in names[:_NAMES_SHOWN]:
        out.print(f"    {escape(name)}")
    if count > _NAMES_SHOWN:
        out.print(f"    and {count - _NAMES_SHOWN} more")
