"""Training curves as SVG: losses and metric by epoch, and the epoch whose weights were kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.core.history import History, best
from edgekit.report.labels import Box
from edgekit.report.legend import text
from edgekit.report.panels import grid, joined, sheet
from edgekit.report.scales import Scale, spans_decade

WIDTH, LEFT, RIGHT = 720, 76, 20
PANEL, GAP = 120, 34


def picture(history: History, title: str = "") -> str:
    """The `<svg>` of a train step's `details["history"]`, in the reader's light or dark scheme."""
    top = 50.0 if title else 20.0
    parts = [text(LEFT, 24, title, 15, "ek-bold")] if title else []
    if not history:
        parts.append(text(LEFT, top + 10, "No data: no epoch was finished.", 13, "ek-soft"))
        return _page(parts, top + 34, title, history)
    epochs = [float(entry["epoch"]) for entry in history]
    x = Scale.over(epochs, LEFT, WIDTH - RIGHT, 8, False)
    best_epoch = best(history)["epoch"]
    for lines in _panels(history):
        area = Box(LEFT, top, WIDTH - RIGHT, top + PANEL)
        parts.append(_panel(lines, epochs, x, area))
        parts.append(f'<path class="ek-front ek-other" d="M{x(best_epoch):.1f} {area.top:.0f}V{area.bottom:.0f}"/>')
        top += PANEL + GAP
    for value, _ in x.ticks(10):
        if value == round(value):
            parts.append(text(x(value), top - GAP + 18, f"{value:.0f}", 12, "ek-soft", "middle"))
    parts.append(text(LEFT, top + 4, f"Epoch; dotted: epoch {best_epoch}, whose weights are kept.", 12, "ek-soft"))
    return _page(parts, top + 18, title, history)


def summary(history: History) -> str:
    """One line: the number of epochs, the one that was kept, and its validation values."""
    if not history:
        return "no epoch was finished"
    best_epoch = best(history)
    names = sorted((name for name in best_epoch if name.startswith("val_")), key=lambda name: name != "val_loss")
    values_by_name = {name.removeprefix("val_"): best_epoch[name] for name in names}
    values_text = ", ".join(f"{name} {value:.4g}" for name, value in values_by_name.items() if math.isfinite(value))
    return f"{len(history)} epochs, epoch {best_epoch['epoch']} kept: validation {values_text}"


#: label, values by epoch, colour
Line = tuple[str, list[float], str]


def _panels(history: History) -> list[list[Line]]:
    """One panel for the losses, one for each metric."""

    def values(name: str) -> list[float]:
        return [float(entry[name]) for entry in history]

    losses = [("training loss", values("loss"), "f1"), ("validation loss", values("val_loss"), "f0")]
    metrics = [name for name in history[0] if name.startswith("val_") and name != "val_loss"]
    return [losses, *([(name.removeprefix("val_"), values(name), "f2")] for name in metrics)]


def _panel(lines: Sequence[Line], epochs: Sequence[float], x: Scale, area: Box) -> str:
    """Three lines of a grid, and each line's values; an epoch without a finite one leaves a gap.

    Values over more than a decade, as of a loss that falls far, have a logarithmic scale.
    """
    known = [value for _, values, _ in lines for value in values if math.isfinite(value)]
    log = bool(known) and spans_decade(known)
    y = Scale.over(known or [0.0], area.bottom, area.top, 8, log)
    parts = [*grid(y, area, 4)]
    place = area.left
    for words, values, colour in lines:
        pairs = zip(epochs, values, strict=True)
        points = [(x(epoch), y(value)) if math.isfinite(value) else None for epoch, value in pairs]
        marks = (point for point in points if point)
        parts += [f'<circle class="ek-mark {colour}" cx="{left:.1f}" cy="{top:.1f}" r="2"/>' for left, top in marks]
        parts.append(joined(points, colour))
        parts.append(f'<path class="ek-bar {colour}" d="M{place:.0f} {area.top - 7:.0f}h14"/>')
        parts.append(text(place + 19, area.top - 3, words, 12, "ek-soft"))
        place += 40 + 7 * len(words)
    if log:
        parts.append(text(area.right, area.top - 3, "log scale", 12, "ek-soft", "end"))
    return "".join(parts)


def _page(parts: Sequence[str], height: float, title: str, history: History) -> str:
    return sheet(parts, WIDTH, height, title or "A training", summary(history))
