"""What goes on, at the foot of a terminal and written anew as it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_BAR, _SHORTEST_BAR = 24, 8


@dataclass
class Foot:
    """A line for each thing that goes on; several where the terminal is too narrow for one.

    Attributes:
        lines: By what goes on: how much of how much is done, and in words. It is replaced and not
            changed, since another thread draws.
    """

    lines: dict[str, tuple[float, float, str]] = field(default_factory=dict)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        for what, (done, total, text) in self.lines.items():
            words = Text(text, no_wrap=False, overflow="fold")
            left = console.width - len(what) - 2
            if total and left >= _BAR + 1 + words.cell_len:
                yield _beside(what, _bar(done, total, _BAR), words)
                continue
            if total and left >= _SHORTEST_BAR:
                yield _beside(what, _bar(done, total, min(_BAR, left)))
            else:
                yield Text(what, no_wrap=False, overflow="fold")
            if text:
                yield words


def _beside(*parts: RenderableType) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(*parts)
    return grid


def _bar(done: float, total: float, width: int) -> ProgressBar:
    return ProgressBar(total, done, width, complete_style="magenta", finished_style="green")
