"""Tables of the terminal: plain where piped, in 80 columns, and nothing that a cell says is lost."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from edgekit.report import tables


def example() -> list[object]:
    made = tables.table(tables.words("name"), tables.numbers("ms"), tables.words("note"))
    tables.add(made, "[bold]markup[/]", "1.5", "a note of many words " * 8)
    tables.add(made, "x" * 30, "12,345.5", "two\nlines", style="dim")
    return ["a line that is longer than the terminal: " + "y" * 80, made]


def test_cells_wrap_at_words_and_nothing_is_lost() -> None:
    first, head, *rows = tables.lines(example())  # type: ignore[arg-type]
    assert first.endswith("y" * 80), "a line that is no table stays whole, to be copied"
    assert max(map(cell_len, [head, *rows])) <= 80
    assert not any(line.endswith(" ") for line in [head, *rows])
    text = "\n".join(rows)
    assert "[bold]markup[/]" in text and "x" * 30 in text and "12,345.5" in text
    assert text.split().count("many") == 8 and "…" not in text
    assert head.split() == ["name", "ms", "note"]


def test_piped_it_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(example())  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert printed.splitlines() == tables.lines(example())  # type: ignore[arg-type]
    assert "\x1b" not in printed


def test_control_characters_of_a_name_are_not_printed() -> None:
    made = tables.table(tables.words(), tables.words())
    tables.add(made, "a\x1b[31mb", "c")
    assert tables.lines([made]) == ["a\ufffd[31mb c"], "and columns without a name have no heading"
