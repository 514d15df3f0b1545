"""Places labels next to their points without overlaps: greedy and deterministic; a label without room is dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Pixels kept free around a label.
GAP = 2.0
#: Label positions in order of preference: right, left, above, below, then the corners.
SIDES = ((1, 0), (-1, 0), (0, -1), (0, 1), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7))
#: Distances from the bubble, nearest first; from LEADER_FROM on, a line connects label and bubble.
RINGS = (4.0, 9.0, 18.0, 30.0, 46.0, 64.0)
LEADER_FROM = 18.0


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        return (
            self.left < other.right + gap
            and other.left < self.right + gap
            and self.top < other.bottom + gap
            and other.top < self.bottom + gap
        )

    def contains(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        return min(self.right, max(self.left, x)), min(self.bottom, max(self.top, y))


@dataclass(frozen=True)
class Anchor:
    """A bubble and the size of its label; those of higher `priority` are labelled before the others."""

    x: float
    y: float
    radius: float
    width: float
    height: float
    priority: int = 0

    def touches(self, box: Box, gap: float = 0.0) -> bool:
        x, y = box.nearest(self.x, self.y)
        return math.hypot(x - self.x, y - self.y) < self.radius + gap


@dataclass(frozen=True)
class Label:
    """A label's box; `leader` is the line to its bubble, if any."""

    box: Box
    leader: tuple[float, float, float, float] | None = None


def place(anchors: Sequence[Anchor], area: Box, lines: Sequence[Box]) -> list[Label | None]:
    """A label per anchor, inside `area`, over no bubble and no other label; `lines` are avoided if possible.

    None for a label without room.
    """
    labels: list[Label | None] = [None] * len(anchors)
    placed_labels: list[Label] = []
    for index in sorted(range(len(anchors)), key=lambda i: (-anchors[i].priority, -_neighbours(i, anchors), i)):
        choices = [
            (_cost(rank, label, lines), rank, label)
            for rank, label in enumerate(_candidates(anchors[index]))
            if area.contains(label.box) and _has_room(label, index, anchors, placed_labels)
        ]
        if choices:
            best = min(choices, key=lambda choice: choice[:2])[2]
            labels[index] = best
            placed_labels.append(best)
    return labels


def _neighbours(index: int, anchors: Sequence[Anchor]) -> int:
    """The number of bubbles around an anchor: the most crowded are labelled first."""
    a = anchors[index]
    return sum(abs(a.x - b.x) < a.width + b.radius and abs(a.y - b.y) < 4 * a.height for b in anchors)


def _candidates(anchor: Anchor) -> Iterator[Label]:
    for ring in RINGS:
        for dx, dy in SIDES:
            x = anchor.x + dx * (anchor.radius + ring) + _sign(dx) * anchor.width / 2
            y = anchor.y + dy * (anchor.radius + ring) + _sign(dy) * anchor.height / 2
            half_width, half_height = anchor.width / 2, anchor.height / 2
            box = Box(x - half_width, y - half_height, x + half_width, y + half_height)
            yield Label(box, _leader(anchor, box) if ring >= LEADER_FROM else None)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _leader(anchor: Anchor, box: Box) -> tuple[float, float, float, float]:
    x, y = box.nearest(anchor.x, anchor.y)
    ratio = anchor.radius / max(1e-6, ((x - anchor.x) ** 2 + (y - anchor.y) ** 2) ** 0.5)
    return anchor.x + (x - anchor.x) * ratio, anchor.y + (y - anchor.y) * ratio, x, y


def _has_room(label: Label, index: int, anchors: Sequence[Anchor], placed_labels: Sequence[Label]) -> bool:
    if any(a.touches(label.box, GAP if i != index else 0.0) for i, a in enumerate(anchors)):
        return False
    for other in placed_labels:
        if label.box.overlaps(other.box, GAP):
            return False
        if other.leader and _crosses(other.leader, label.box):
            return False
        if label.leader and _crosses(label.leader, other.box):
            return False
    own = anchors[index]
    apart = [a for a in anchors if math.hypot(a.x - own.x, a.y - own.y) > max(a.radius, own.radius)]
    return not label.leader or not any(_crosses_anchor(label.leader, a) for a in apart)


def _cost(rank: int, label: Label, lines: Sequence[Box]) -> float:
    """Nearer positions cost less, then better sides; overlapping a line costs most."""
    ring, side = divmod(rank, len(SIDES))
    return 4 * ring + side + 40 * sum(label.box.overlaps(line, 1.0) for line in lines)


def _line_points(line: tuple[float, float, float, float]) -> Iterator[tuple[float, float]]:
    """Points on a line, close enough to hit every label and bubble it crosses."""
    x0, y0, x1, y1 = line
    return ((x0 + (x1 - x0) * i / 16, y0 + (y1 - y0) * i / 16) for i in range(17))


def _crosses(line: tuple[float, float, float, float], box: Box) -> bool:
    return any(box.left <= x <= box.right and box.top <= y <= box.bottom for x, y in _line_points(line))


def _crosses_anchor(line: tuple[float, float, float, float], anchor: Anchor) -> bool:
    return any(math.hypot(x - anchor.x, y - anchor.y) < anchor.radius for x, y in _line_points(line))


def text_width(text: str, size: float, bold: bool = False) -> float:
    """The estimated width in pixels (an upper bound) of a text in a sans-serif font."""
    ems = sum(0.36 if c in "iljtfI.,:;|!'()[] -" else 0.95 if c in "mwMW@%" else _em(c) for c in text)
    return size * ems * (1.12 if bold else 1.0)


def _em(character: str) -> float:
    return 1.05 if ord(character) > 0x2E80 else 0.72 if character.isupper() else 0.61
