"""The page's sections of a metric by class, and of test images with a detector's boxes."""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgekit.report import labels
from edgekit.report.boxes_drawn import COLOURS
from edgekit.report.style import safe

#: pixels of a drawn image's width, and of the text in it
WIDTH, TEXT = 240, 12
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class ByClass:
    """`values`: what it is (AP, AP50, IoU, boxes) → one for each of the `classes`; `left_out`: how many more occur."""

    classes: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    left_out: int = 0

    def problems(self) -> Iterator[str]:
        if any(len(values) != len(self.classes) for values in self.values.values()):
            yield "there must be one value for each class"
        if not set(self.values) - {"boxes"}:
            yield "there must be a metric"


@dataclass(frozen=True)
class Box:
    """A box of class `name`: x, y, width and height as shares of the image; `score` is None for a true one."""

    name: str
    box: tuple[float, float, float, float]
    score: float | None = None

    def problems(self) -> Iterator[str]:
        if not all(math.isfinite(value) and abs(value) < 1000 for value in (*self.box, self.score or 0.0)):
            yield "a box is shares of the image"


@dataclass(frozen=True)
class Boxed:
    """An image of the set, a base64 PNG, with its true and predicted boxes."""

    index: int
    png: str | None
    true: tuple[Box, ...]
    predicted: tuple[Box, ...]


def by_class(models: Sequence[tuple[str, ByClass]]) -> str:
    """A table with a row per class and a column per (name, values); "" without any."""
    if not models:
        return ""
    first = models[0][1]
    classes = list(dict.fromkeys(name for _, each in models for name in each.classes))
    counted = "boxes" in first.values
    heads = "".join(f'<th scope="col" class="n">{safe(name)}</th>' for name, _ in models)
    rows = "".join(
        f'<tr><th scope="row">{safe(name)}</th>'
        + (f'<td class="n">{_count(first, name)}</td>' if counted else "")
        + "".join(f'<td class="n">{_cell(each, name)}</td>' for _, each in models)
        + "</tr>"
        for name in classes
    )
    names = [name for name in first.values if name != "boxes"]
    about = {
        "AP": "Average precision over IoU thresholds of 0.50 to 0.95, and below it at 0.50 (AP50), in per cent.",
        "IoU": "Intersection over union of each class, in per cent.",
    }.get(names[0] if names else "", "")
    more = f" {first.left_out} more classes are not shown." if first.left_out else ""
    count_head = '<th scope="col" class="n">boxes</th>' if counted else ""
    return (
        f'<section id="classes"><h2>Metric by class</h2><p>{about}{more}</p>'
        '<div class="scroll" role="region" aria-label="Metric by class" tabindex="0"><table>'
        f'<caption>Metric by class</caption><thead><tr><th scope="col">class</th>{count_head}{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _count(each: ByClass, name: str) -> str:
    return f"{each.values['boxes'][each.classes.index(name)]:,.0f}" if name in each.classes else "-"


def _cell(each: ByClass, name: str) -> str:
    if name not in each.classes:
        return "-"
    index = each.classes.index(name)
    main, *others = ((what, values[index]) for what, values in each.values.items() if what != "boxes")
    below = "".join(f"<small>{safe(what)} {100 * value:.1f}</small>" for what, value in others)
    return f"{100 * main[1]:.1f}{below}"


def pictures(models: Sequence[tuple[str, Sequence[Boxed]]]) -> str:
    """For each (name, images): the images with their boxes, and what they are in words; "" without any."""
    all_boxes = [box for _, images in models for image in images for box in (*image.true, *image.predicted)]
    names = sorted({box.name for box in all_boxes})
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    parts = "".join(
        f'<h3>{safe(name)}</h3><div class="boxed">{"".join(_figure(image, colours) for image in images)}</div>'
        for name, images in models
    )
    if not parts:
        return ""
    about = (
        "Test images, evenly spread over those with objects: predicted boxes (solid, a score of 25 % or more) and true "
        "ones (dashed)."
    )
    return f'<section id="boxes"><h2>Boxes in test images</h2><p>{about}</p>{parts}</section>'


def _figure(image: Boxed, colours: Mapping[str, str]) -> str:
    drawn = _drawn(image, colours) if image.png and _BASE64.fullmatch(image.png) else ""
    true = ", ".join(box.name for box in image.true) or "none"
    predicted = ", ".join(f"{box.name} {100 * (box.score or 0):.0f} %" for box in image.predicted) or "none"
    words = f"<dt>true</dt><dd>{safe(true)}</dd><dt>predicted</dt><dd>{safe(predicted)}</dd>"
    return f"<figure>{drawn}<figcaption>sample {image.index}<dl>{words}</dl></figcaption></figure>"


def _drawn(image: Boxed, colours: Mapping[str, str]) -> str:
    size = _size(image.png or "")
    if size is None:
        return ""
    height = WIDTH * size[1] / size[0]
    rects, texts = [], []
    placed: list[labels.Box] = []
    for box in reversed(image.predicted):  # the surest on top
        rects += [_rect(box, height, 'class="under"'), _rect(box, height, f'stroke="{colours[box.name]}"')]
    for box in image.true:
        rects += [_rect(box, height, f'class="{name}"') for name in ("true-under", "true")]
    for box in image.predicted:
        label = f"{box.name} {100 * (box.score or 0):.0f}"
        room = _label_room(label, box, height)
        if not any(room.overlaps(other) for other in placed):
            placed.append(room)
            texts.append(f'<text x="{room.left:.1f}" y="{room.bottom - 3:.1f}" font-size="{TEXT}">{safe(label)}</text>')
    return (
        f'<svg class="ek" viewBox="0 0 {WIDTH} {height:.1f}" role="img" aria-label="sample {image.index}">'
        f'<image width="{WIDTH}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{image.png}"/>{"".join(rects)}{"".join(texts)}</svg>'
    )


def _rect(box: Box, height: float, more: str) -> str:
    x, y, wide, high = (share * side for share, side in zip(box.box, (WIDTH, height) * 2, strict=True))
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0):.1f}" height="{max(high, 0):.1f}"'
    return f"<rect {place} {more}/>"


def _label_room(label: str, box: Box, height: float) -> labels.Box:
    """Above the box's upper left corner, else within the image."""
    wide, high = labels.text_width(label, TEXT), TEXT + 3
    left = min(max(box.box[0] * WIDTH, 2), max(WIDTH - wide - 2, 2))
    top = min(max(box.box[1] * height - high, 0), max(height - high, 0))
    return labels.Box(left, top, left + wide, top + high)


def _size(png: str) -> tuple[int, int] | None:
    """(width, height) in a PNG's header; None if it is none, or of another shape than a picture's."""
    try:
        header = base64.b64decode(png[:32])
    except ValueError:
        return None
    if len(header) < 24 or not header.startswith(b"\x89PNG"):
        return None
    width, height = struct.unpack(">II", header[16:24])
    return (width, height) if 0 < width < 8 * height < 64 * width else None
