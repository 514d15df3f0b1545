"""Tables for the terminal: columns without lines, in 80 columns, without colours or padding where piped.

Commands give strings and tables in order, `show` prints them, `lines` gives them as text.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

WIDTH = 80


def console() -> Console:
    """That of stdout."""
    from rich.console import Console

    return Console(highlight=False)


def table(*columns: Column) -> Table:
    """A table without rows; columns without a name have no heading."""
    from rich.table import Table

    headed = any(column.header for column in columns)
    return Table(*columns, box=None, pad_edge=False, show_header=headed, header_style="bold", padding=(0, 1, 0, 0))


def words(name: str = "", width: int | None = None) -> Column:
    """A column of text, which wraps; `width` is the least."""
    from rich.table import Column
    from rich.text import Text

    return Column(Text(printable(name)), overflow="fold", min_width=width)


def numbers(name: str = "", width: int | None = None) -> Column:
    """A column to the right, which does not wrap; `width` is the least."""
    from rich.table import Column
    from rich.text import Text

    return Column(Text(printable(name)), justify="right", no_wrap=True, min_width=width)


def add(into: Table, *cells: str, style: str | None = None) -> None:
    """A row. Cells are text, not rich's markup; a cell may have several lines."""
    from rich.text import Text

    into.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in cells), style=style)


def show(items: Iterable[str | Table]) -> None:
    """Print on stdout: tables as wide as the terminal, strings as they are."""
    from rich.text import Text

    out = console()
    for item in items:
        if not out.is_terminal:
            for line in lines([item]):
                out.print(Text(line), soft_wrap=True)
        else:
            out.print(Text(printable(item)) if isinstance(item, str) else item, soft_wrap=isinstance(item, str))


def lines(items: Iterable[str | Table]) -> list[str]:
    """Tables in at most 80 columns, strings as they are."""
    from rich.console import Console

    text: list[str] = []
    for item in items:
        if isinstance(item, str):
            text.append(printable(item))
        else:
            out = Console(file=io.StringIO(), width=WIDTH, color_system=None, highlight=False)
            with out.capture() as captured:
                out.print(item)
            text += [line.rstrip() for line in captured.get().splitlines()]
    return text
