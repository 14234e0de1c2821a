"""Rows under columns, or a list where a terminal is too narrow for these: nothing is cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from collabdesign.cli.streams import shown

_BETWEEN = 2

# In a list, what a row has nothing of is left out.
_NOTHING = ("", "-", "\N{EN DASH}")


class Sheet:
    """The first column stands to the left, the others to the right.

    Where that is too wide, the columns' titles go onto several lines; where that is too wide as
    well, each row is a list of its own. What is written to no terminal has the width it needs.

    Args:
        first: Title of the first column.
        columns: Of the others.
    """

    def __init__(self, first: str, *columns: str) -> None:
        self._titles = [shown(title) for title in (first, *columns)]
        self._rows: list[list[Text]] = []

    def add_row(self, *cells: str) -> None:
        """One more; cells may have rich's markup."""
        assert len(cells) == len(self._titles)
        self._rows.append([Text.from_markup(shown(cell), emoji=False) for cell in cells])

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        cells = [max([0, *(row[at].cell_len for row in self._rows)]) for at in self._columns]
        whole = [max(Text(title).cell_len, cell) for title, cell in self._with_titles(cells)]
        folded = [
            max([cell, *(Text(word).cell_len for word in title.split())])
            for title, cell in self._with_titles(cells)
        ]
        is_free = not console.file.isatty() and "COLUMNS" not in os.environ
        if is_free or _total(whole) <= console.width:
            yield self._table(whole)
        elif _total(folded) <= console.width:
            yield self._table(folded)
        else:
            yield from self._list()

    @property
    def _columns(self) -> range:
        return range(len(self._titles))

    def _with_titles(self, widths: list[int]) -> Iterator[tuple[str, int]]:
        return zip(self._titles, widths, strict=True)

    def _table(self, widths: list[int]) -> Table:
        # As wide as it has to be: rich would squeeze it into what it takes for the width.
        table = Table(
            box=None, padding=(0, _BETWEEN, 0, 0), header_style="dim", width=_total(widths) + 2
        )
        for number, (title, width) in enumerate(self._with_titles(widths)):
            table.add_column(
                Text(title, no_wrap=False, overflow="fold"),
                justify="right" if number else "left",
                width=width,
            )
        for row in self._rows:
            table.add_row(*row)
        return table

    def _list(self) -> Iterator[Text]:
        for row in self._rows:
            yield Text.assemble((f"{self._titles[0]} ".lstrip(), "dim"), row[0])
            for title, cell in zip(self._titles[1:], row[1:], strict=True):
                if cell.plain not in _NOTHING:
                    yield Text.assemble(f"  {title}: ", cell)


def _total(widths: list[int]) -> int:
    return sum(widths) + _BETWEEN * (len(widths) - 1)
