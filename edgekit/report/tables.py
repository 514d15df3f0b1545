"""Tables for the terminal: columns without lines, as wide as the terminal, or 80 columns; plain where piped.

Commands give strings and tables in order, `show` prints them, `lines` gives them as text. Text wraps at spaces, and no
word is cut. If a table is too wide, its spare columns are left out, the leftmost first, and a line says which; if that
is not enough, each row becomes a line with its first cell and below it the others, each with its heading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgekit.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: columns of what is no terminal, if COLUMNS does not say otherwise
WIDTH = 80
#: the least columns for text that wraps
NARROWEST = 20


@dataclass(frozen=True)
class Column:
    """A column; without a name it has no heading. Numbers stand to the right and do not wrap."""

    name: str
    number: bool = False
    width: int = 0
    spare: bool = False


@dataclass
class Table:
    columns: tuple[Column, ...]
    rows: list[tuple[list[Text], str]] = field(default_factory=list)


def console() -> Console:
    """That of stdout."""
    from rich.console import Console

    return Console(highlight=False)


def table(*columns: Column) -> Table:
    """A table without rows."""
    return Table(columns)


def words(name: str = "", width: int = 0) -> Column:
    """A column of text, which wraps; `width` is the least. In the last column, what has too long a word
    stands below its row."""
    return Column(printable(name), width=width)


def numbers(name: str = "", spare: bool = False) -> Column:
    """A column to the right, which does not wrap; a `spare` one is left out where the terminal is too narrow."""
    return Column(printable(name), number=True, spare=spare)


def add(into: Table, *cells: str | Text, style: str | None = None) -> None:
    """A row. Cells are text, not rich's markup; a cell may have several lines."""
    into.rows.append(([_text(cell) for cell in cells], style or ""))


def show(items: Iterable[str | Text | Table]) -> None:
    """Print on stdout."""
    from rich.text import Text

    out = console()
    for item in items:
        for line in _lines(item, out):
            out.print(line if out.is_terminal else Text(line.plain), soft_wrap=True)


def lines(items: Iterable[str | Text | Table]) -> list[str]:
    """The same as plain text, in WIDTH columns."""
    from rich.console import Console

    out = Console(width=WIDTH)
    return [line.plain for item in items for line in _lines(item, out)]


def _lines(item: str | Text | Table, out: Console) -> Iterator[Text]:
    if isinstance(item, Table):
        yield from _fitted(item, out)
        return
    text = _text(item)
    indent = len(text.plain) - len(text.plain.lstrip(" "))
    if text.cell_len <= out.width or not text.plain.strip():
        yield text
        return
    for number, line in enumerate(_wrapped(text[indent:], out.width - indent - 2)):
        yield _text(" " * (indent + 2 * (number > 0))) + line


def _fitted(table: Table, out: Console) -> Iterator[Text]:
    """The table's lines: with all columns, without the spare ones, or stacked."""
    shown = list(range(len(table.columns)))
    least = [_least(table, position) for position in shown]
    spare = [position for position in shown if table.columns[position].spare]
    last = not table.columns[-1].number  # it may be as narrow as NARROWEST: a longer word ends beyond the terminal
    dropped: list[str] = []

    def room() -> int:
        """What is left of a line, negative if a column does not fit."""
        fixed = sum(least[position] for position in (shown[:-1] if last else shown))
        return out.width - fixed - (len(shown) - 1) - (min(least[-1], NARROWEST) if last else 0)

    full = out.width - room()
    while room() < 0 and spare:
        shown.remove(spare[0])
        dropped.append(table.columns[spare.pop(0)].name)
    if room() < 0:
        yield from _stacked(table, out)
        return
    yield from _grid(table, shown, out.width)
    if dropped:
        yield from _lines(f"not shown: {', '.join(dropped)} ({full} columns show all, as JSON does)", out)


def _least(table: Table, position: int) -> int:
    """The columns that a column needs: its longest number or word."""
    from rich.cells import cell_len

    column = table.columns[position]
    texts = [column.name, *(cells[position].plain for cells, _ in table.rows)]
    parts = [part for text in texts for part in (text.split("\n") if column.number else text.split())]
    return max(column.width, *map(cell_len, parts), 0)


def _widths(table: Table, shown: Sequence[int], width: int) -> list[int]:
    """Each column gets what it needs, text a share of what is left; the last one all of it."""
    from rich.cells import cell_len

    widths = [_least(table, position) for position in shown]
    left = width - (len(shown) - 1) - sum(widths)
    for place, position in enumerate(shown):
        texts = [table.columns[position].name, *(cells[position].plain for cells, _ in table.rows)]
        wanted = max(cell_len(part) for text in texts for part in text.split("\n"))
        extra = max(0, min(wanted - widths[place], left))
        widths[place] += extra
        left -= extra
    if left < 0 and not table.columns[shown[-1]].number:
        widths[-1] = max(NARROWEST, widths[-1] + left)
    return widths


def _grid(table: Table, shown: Sequence[int], width: int) -> Iterator[Text]:
    columns = [table.columns[position] for position in shown]
    widths = _widths(table, shown, width)
    heading = [([_text(column.name) for column in table.columns], "bold")]
    for cells, style in (heading if any(column.name for column in columns) else []) + table.rows:
        parts = [_wrapped(cells[position], room) for position, room in zip(shown, widths, strict=True)]
        below: list[Text] = []
        if not columns[-1].number and any(part.cell_len > widths[-1] for part in parts[-1]):  # too long a word
            below = [_text("  ") + part for part in _wrapped(cells[shown[-1]], width - 2)]
            parts[-1] = []
        for number in range(max(map(len, parts))):
            line = _text("")
            for column, room, lines in zip(columns, widths, parts, strict=True):
                part = lines[number].copy() if number < len(lines) else _text("")
                part.align("right" if column.number else "left", max(room, part.cell_len))
                line = line + " " * (column is not columns[0]) + part
            below.insert(number, line)
        for line in below:
            line.rstrip()
            line.stylize_before(style)
            yield line


def _stacked(table: Table, out: Console) -> Iterator[Text]:
    """Each row as its first cell, and below it the others with their headings."""
    for cells, style in table.rows:
        pairs = zip(table.columns[1:], cells[1:], strict=True)
        below = ", ".join(f"{column.name} {cell.plain}".strip() for column, cell in pairs if cell.plain.strip("- "))
        for line in (*_lines(cells[0], out), *_lines(f"  {below}", out)):
            line.stylize_before(style)
            yield line


def _text(cell: str | Text) -> Text:
    """A cell as rich's text, made printable; what is Text already has been."""
    from rich.text import Text

    return cell if isinstance(cell, Text) else Text("\n".join(map(printable, cell.split("\n"))))


def _wrapped(text: Text, width: int) -> list[Text]:
    """Lines, broken at spaces only (rich's `wrap` cuts words that are too long)."""
    from rich.cells import cell_len

    lines: list[Text] = []
    for paragraph in text.split("\n", allow_blank=True):
        breaks, start = [], 0
        for word in re.finditer(r"\S+", paragraph.plain):
            if word.start() > start and cell_len(paragraph.plain[start : word.end()]) > width:
                start = word.start()
                breaks.append(start)
        lines += paragraph.divide(breaks)
    for line in lines:
        line.rstrip()
    return lines
