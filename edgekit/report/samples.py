"""Predictions one can look at: a confusion matrix, boxes, masks, features with their prediction, as SVG on its own.

Colours of classes follow Okabe and Ito (https://jfly.uni-koeln.de/color), which most colour-blind people tell apart.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import Missing

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#f0e442", "#999999")
#: pixels of the picture per sample, and around it
CELL, GAP, LINE = 144, 12, 18
FONT = 'font-family="system-ui, sans-serif" font-size="12"'


def confusion(wanted: NDArray[Any], found: NDArray[Any], classes: Sequence[str]) -> str:
    """Labels (N,) and predictions (N,) → rows are what it was, columns what was said, in per cent of the row."""
    count = len(classes)
    table = np.zeros((count, count))
    np.add.at(table, (wanted, found), 1)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side, left, top = 44, 16 + 7 * max(map(len, classes)), 76
    parts = []
    for row in range(count):
        y = top + row * side
        parts.append(_text(left - 8, y + side / 2 + 4, classes[row], "end"))
        turned = f'transform="rotate(-40 {left + (row + 0.5) * side:.0f} {top - 8})"'
        parts.append(_text(left + (row + 0.5) * side, top - 8, classes[row], "start", turned))
        for column in range(count):
            value = share[row, column]
            x = left + column * side
            fill = f"rgb({255 - 255 * value:.0f},{255 - 141 * value:.0f},{255 - 77 * value:.0f})"
            parts.append(f'<rect x="{x}" y="{y}" width="{side - 1}" height="{side - 1}" fill="{fill}"/>')
            if value >= 0.005:
                colour = "#fff" if value > 0.5 else "#222"
                parts.append(_text(x + side / 2, y + side / 2 + 4, f"{100 * value:.0f}", "middle", f'fill="{colour}"'))
    title = "Rows: what it was; columns: what was said; in per cent of the row."
    return _svg(left + count * side + 60, top + count * side + 8, parts, title)


def boxes(
    images: NDArray[Any], wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]], classes: Sequence[str]
) -> str:
    """(N, 3, H, W) uint8 with true boxes (n, 5: class, x, y, w, h; dashed) and found ones (n, 6: class, score, …)."""
    parts, size = [], images.shape[2:]
    for index, image in enumerate(images):
        x, y = _place(index)
        parts.append(_image(image, x, y))
        scale = CELL / size[1], CELL / size[0]
        for box in wanted[index]:
            parts.append(_rect(x, y, scale, box[1:], COLOURS[int(box[0]) % 8], 'stroke-dasharray="4 3"'))
        for box in found[index]:
            colour = COLOURS[int(box[0]) % 8]
            parts.append(_rect(x, y, scale, box[2:], colour, ""))
            label = f"{classes[int(box[0])]} {100 * box[1]:.0f}"
            at = max(y + 11, y + box[3] * scale[1] - 3)
            parts.append(_text(x + max(0, box[2] * scale[0]), at, label, "start", f'fill="{colour}" {OUTLINE}'))
    return _panels(len(images), parts, classes, "Boxes found (lines, with their score) and true (dashed).")


OUTLINE = 'stroke="#fff" stroke-width="3" paint-order="stroke" font-weight="600"'


def masks(images: NDArray[Any], wanted: NDArray[Any], found: NDArray[Any], classes: Sequence[str]) -> str:
    """(N, 3, H, W) uint8, masks (N, H, W): each image, its mask and what was found. Class 0 is the background."""
    parts = []
    for index, image in enumerate(images):
        for row, mask in enumerate((None, wanted[index], found[index])):
            shown = image if mask is None else _coloured(image, mask)
            parts.append(_image(shown, GAP + index * (CELL + GAP), GAP + row * (CELL + GAP)))
    width, height = GAP + len(images) * (CELL + GAP), GAP + 3 * (CELL + GAP)
    parts += _legend(classes[1:], height)
    return _svg(width, height + LINE, parts, "From above: the image, its true mask, the mask found.")


def features(values: NDArray[Any], captions: Sequence[str]) -> str:
    """(N, time, bands) features, spectrograms for one, each under its caption (what it is, what was said)."""
    parts = []
    for index, one in enumerate(values):
        x, y = _place(index, LINE)
        low, high = float(one.min()), float(one.max())
        gray = (255 * (one - low) / max(high - low, 1e-9)).astype(np.uint8).T[::-1]
        parts.append(_image(np.stack([gray] * 3), x, y))
        parts.append(_text(x, y - 5, captions[index], "start"))
    return _panels(len(values), parts, (), "Features over time; above each what it was, and what was said.", LINE)


def _place(index: int, above: int = 0) -> tuple[int, int]:
    return GAP + index % 4 * (CELL + GAP), GAP + above + index // 4 * (CELL + GAP + above)


def _panels(count: int, parts: list[str], classes: Sequence[str], title: str, above: int = 0) -> str:
    width = GAP + min(count, 4) * (CELL + GAP)
    height = GAP + -(-count // 4) * (CELL + GAP + above)
    return _svg(width, height + LINE * bool(classes), [*parts, *_legend(classes, height)], title)


def _legend(classes: Sequence[str], y: float) -> list[str]:
    parts, x = [], float(GAP)
    for index, name in enumerate(classes):
        parts.append(f'<rect x="{x}" y="{y}" width="11" height="11" fill="{COLOURS[index % 8]}"/>')
        parts.append(_text(x + 15, y + 10, name, "start"))
        x += 32 + 7.5 * len(name)
    return parts


def _coloured(image: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.uint8]:
    out = image.astype(np.float64) * 0.35
    for kind in (int(k) for k in np.unique(mask) if 0 < k < 255):
        colour = [int(COLOURS[(kind - 1) % 8][i : i + 2], 16) for i in (1, 3, 5)]
        out[:, mask == kind] += 0.65 * np.array(colour)[:, None]
    return np.clip(out, 0, 255).astype(np.uint8)


def _image(pixels: NDArray[Any], x: float, y: float) -> str:
    """(3, H, W) as a PNG within the SVG."""
    try:
        from PIL import Image
    except ImportError as error:
        raise Missing.install("pictures of samples", "pillow", "images") from error
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    place = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}" preserveAspectRatio="none"'
    return f'<image {place} style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'


def _rect(x: float, y: float, scale: tuple[float, float], box: NDArray[Any], colour: str, more: str) -> str:
    left, top, width, height = (float(v) * scale[i % 2] for i, v in enumerate(box))
    place = f'x="{x + left:.1f}" y="{y + top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="none" stroke="{colour}" stroke-width="2" {more}/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT} {more}>{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    """The picture, its title below."""
    parts, height = [*parts, _text(GAP, height + 12, title, "start")], height + LINE + 2
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    inner = "".join(parts)
    back = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{title}</title>{back}{inner}</svg>\n'
