"""Caveats of rows → lines, each said once with the rows that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edgekit.report.rows import Row

#: as many rows at most are named
MAX_NAMES = 4
#: how the notes of invalid rows begin
INVALID_NOTE = "invalid: "
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def grouped(rows: Sequence[Row], mark: str = "") -> Iterator[str]:
    """The notes of all rows, except their plan. Those that differ only in numbers are one, with the range of these.

    `mark` stands before those of invalid rows.
    """
    several_targets = len({row.target for row in rows}) > 1
    groups: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        name = f"{row.artifact} on {row.target}" if several_targets else row.artifact
        for note in row.notes:
            if note != row.plan:
                groups.setdefault(_NUMBER.sub("0", note), []).append((name, note))
    for entries in groups.values():
        names = list(dict.fromkeys(name for name, _ in entries))
        where = ", ".join(names)
        if len(names) > MAX_NAMES:
            where = f"all {len(rows)} rows" if len(entries) == len(rows) else f"{len(entries)} of {len(rows)} rows"
        text = _ranges([note for _, note in entries])
        yield f"{mark}{where}: {text}" if text.startswith(INVALID_NOTE) else f"{where}: {text}"


def _ranges(notes: Sequence[str]) -> str:
    """ "with 36% left" and "with 51% left" → "with 36 to 51% left"."""
    texts = []
    for column in zip(*map(_NUMBER.findall, notes), strict=True):
        words = sorted(set(column), key=lambda word: float(word.replace(",", "")))
        texts.append(words[0] if len(words) == 1 else f"{words[0]} to {words[-1]}")
    numbers = iter(texts)
    return _NUMBER.sub(lambda _: next(numbers), notes[0])
