"""Measurements → a summary on one page: headline, three numbers, picture, short table, and how it was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edgekit.core.measurement import Measurement
from edgekit.report.advice import recommended
from edgekit.report.devices import measured_on
from edgekit.report.headline import Figure, Headline, headlines
from edgekit.report.labels import text_width
from edgekit.report.legend import text
from edgekit.report.notes import grouped
from edgekit.report.pareto import fronts
from edgekit.report.picture import panel
from edgekit.report.points import short
from edgekit.report.rows import Row, facts, metric_name, rows, scopes
from edgekit.report.style import PICTURE, safe, variables

#: Width of the page and its margin, in pixels.
WIDTH, MARGIN = 960, 40
#: The most rows of the table.
MOST_ROWS = 6
#: Columns of the table: title, field of a row, position of its left or right edge.
COLUMNS = (
    ("artifact", "artifact", 0.0),
    ("runtime", "runtime", 0.34),
    ("metric", "accuracy", 0.6),
    ("drop, pp", "drop", 0.72),
    ("p50, ms", "p50", 0.86),
    ("file, kB", "size", 1.0),
)
#: of a name, so that it ends before the next column
ARTIFACT_WIDTH = COLUMNS[1][2] * (WIDTH - 2 * MARGIN) - 8


def summary(measurements: Sequence[Measurement], title: str = "") -> str:
    """A stand-alone SVG on transparent ground, in the reader's light or dark scheme.

    It shows the first device with a recommendation; the recommendations for others are sentences below the table.
    """
    all_headlines = headlines(measurements)
    first = all_headlines[0] if all_headlines else None
    scoped = _scope_of(first, measurements)
    sentence = first.sentence if first else "No measurements."
    parts: list[str] = []
    y = _lines(parts, " · ".join(filter(None, [title, measured_on(measurements)])), MARGIN + 6.0, 14, 20, "ek-soft")
    y = _lines(parts, sentence, y + 16, 28, 36, "ek-bold") + 18
    if first and first.figures:
        y = _tiles(parts, first.figures, y) + 22
    if scoped:
        scope = next(iter(scopes(scoped)))
        svg, height = panel(scope, scoped, WIDTH - 2 * MARGIN, chosen=recommended(scoped))
        parts.append(f'<g transform="translate({MARGIN} {y:.0f})">{svg}</g>')
        y = _table(parts, scoped, first, y + height + 30)
    for other in all_headlines[1:]:
        y = _lines(parts, f"{other.advice.target}: {other.sentence}", y + 6, 14, 20, "")
    y += 14
    for line in _how(first, scoped, measurements):
        y = _lines(parts, line, y, 12, 17, "ek-soft")
    height = y + MARGIN - 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ek" role="img" aria-labelledby="ek-title ek-desc" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}">'
        f'<title id="ek-title">{safe(title or "Summary")}</title><desc id="ek-desc">{safe(sentence)}</desc>'
        f"<style>{variables()}{PICTURE}</style>{''.join(parts)}</svg>\n"
    )


def _scope_of(first: Headline | None, measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements comparable with the recommended one; without one, the first that can be drawn."""
    choice = first.advice.measurement if first else None
    all_scopes = list(scopes(measurements).values())
    return next((ms for ms in all_scopes if any(m is choice for m in ms)), all_scopes[0] if all_scopes else [])


def _selected(scoped: Sequence[Measurement], first: Headline | None) -> list[tuple[Row, bool]]:
    """The recommended row, what it is compared with, the Pareto front, then the others, as many as fit."""
    choice, base = (first.advice.measurement, first.baseline) if first else (None, None)
    front = {id(m) for ms in fronts(scoped).values() for m in ms}

    def rank(i: int) -> tuple[bool, bool, bool, int]:
        return scoped[i] is not choice, scoped[i] is not base, id(scoped[i]) not in front, i

    all_rows = rows(scoped)
    return [(all_rows[i], scoped[i] is choice) for i in sorted(range(len(scoped)), key=rank)[:MOST_ROWS]]


def _tiles(parts: list[str], figures: Sequence[Figure], top: float) -> float:
    width = (WIDTH - 2 * MARGIN) / len(figures)
    bottom = top
    for i, figure in enumerate(figures):
        x = MARGIN + i * width
        tone = f"ek-{figure.tone}" if figure.tone else "ek-soft"
        parts.append(text(x, top + 44, figure.value, 40, f"ek-bold {tone}"))
        y = top + 72
        for words, size, line, classes in ((figure.label, 16, 21, "ek-bold"), (figure.detail, 12, 16, "ek-soft")):
            for piece in _wrapped(words, width - 24, size, "bold" in classes):
                parts.append(text(x, y, piece, size, classes))
                y += line
        bottom = max(bottom, y)
    return bottom


def _table(parts: list[str], scoped: Sequence[Measurement], first: Headline | None, top: float) -> float:
    y = top
    for title, field, edge in COLUMNS:
        words = metric_name(scoped) if field == "accuracy" else title
        parts.append(text(MARGIN + edge * (WIDTH - 2 * MARGIN), y, words, 13, "ek-soft", _anchor(edge, field)))
    for row, is_recommended in _selected(scoped, first):
        parts.append(f'<path class="ek-grid" d="M{MARGIN} {y + 9:.0f}H{WIDTH - MARGIN}"/>')
        y += 28
        for _, field, edge in COLUMNS:
            words = short(getattr(row, field))
            classes = "ek-bold ek-good" if is_recommended else "ek-soft" if _is_invalid(row) else ""
            if field == "artifact":
                note = " (recommended)" if is_recommended else " (invalid)" if _is_invalid(row) else ""
                while len(words) > 1 and text_width(words + note, 14, is_recommended) > ARTIFACT_WIDTH:
                    words = f"{words[:-2]}…"
                words += note
            parts.append(text(MARGIN + edge * (WIDTH - 2 * MARGIN), y, words, 14, classes, _anchor(edge, field)))
    if len(scoped) > MOST_ROWS:
        y += 24
        parts.append(text(MARGIN, y, f"and {len(scoped) - MOST_ROWS} more", 12, "ek-soft"))
    return y + 18


def _anchor(edge: float, field: str) -> str:
    return "start" if field in ("artifact", "runtime") else "end"


def _is_invalid(row: Row) -> bool:
    return any(note.startswith("invalid") for note in row.notes)


def _how(first: Headline | None, scoped: Sequence[Measurement], measurements: Sequence[Measurement]) -> Iterator[str]:
    target = first.advice.target if first else ""
    lines = [line for line in facts(measurements) if line.startswith(f"{target}:")]
    if lines:
        yield ". ".join(lines) + "."
    yield from grouped(rows(scoped or [m for m in measurements if m.target == target]))
    for text_ in first.advice.unproven if first else ():
        yield f"Not proven: {text_}"


def _lines(parts: list[str], words: str, y: float, size: float, line: float, classes: str) -> float:
    """Wrapped text from `y` down; gives the next free y."""
    for piece in _wrapped(words, WIDTH - 2 * MARGIN, size, "bold" in classes):
        parts.append(text(MARGIN, y + size, piece, size, classes))
        y += line
    return y


def _wrapped(words: str, width: float, size: float, is_bold: bool) -> Iterator[str]:
    line = ""
    for word in re.findall(r"\S+(?: %\S*)?", words):  # "99 %" stays on one line
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size, is_bold) > width:
            yield line
            longer = word
        line = longer
    if line:
        yield line
