"""Where tables are printed: on a terminal as wide as it is, elsewhere as wide as they are."""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console
from rich.table import Table


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """rich would exit here; what a broken pipe means is for the command to say."""
        raise BrokenPipeError


def console() -> Console:
    """Prints text as it is: "[s]" is a unit and no markup for struck-out."""
    width = None if sys.stdout.isatty() else 10_000
    return _Console(markup=False, emoji=False, highlight=False, width=width)


def table(*columns: str, title: str | None = None) -> Table:
    """Columns that are too narrow fold; nothing is cut off."""
    made = Table(title=title)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made
