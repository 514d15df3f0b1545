"""Visualized predictions as stand-alone SVG: confusion matrix, boxes, masks, and features with their prediction.

Class colours follow Okabe and Ito (https://jfly.uni-koeln.de/color), which are safe for most colour-blind readers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import Missing
from edgekit.report.style import safe

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#f0e442", "#999999")
#: size of a sample's picture, gap between pictures, and line height, in pixels
CELL, GAP, LINE = 144, 12, 18
FONT = 'font-family="system-ui, sans-serif" font-size="12"'


def confusion(labels: NDArray[Any], predictions: NDArray[Any], classes: Sequence[str]) -> str:
    """Labels (N,) and predictions (N,) → confusion matrix: rows are true classes, columns predicted ones,
    row-normalised.
    """
    count = len(classes)
    table = np.zeros((count, count))
    np.add.at(table, (labels, predictions), 1)
    ratios = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side, left, top = 44, 16 + 7 * max(map(len, classes)), 76
    parts = []
    for row in range(count):
        y = top + row * side
        parts.append(_text(left - 8, y + side / 2 + 4, classes[row], "end"))
        rotation = f'transform="rotate(-40 {left + (row + 0.5) * side:.0f} {top - 8})"'
        parts.append(_text(left + (row + 0.5) * side, top - 8, classes[row], "start", rotation))
        for column in range(count):
            value = ratios[row, column]
            x = left + column * side
            fill = f"rgb({255 - 255 * value:.0f},{255 - 141 * value:.0f},{255 - 77 * value:.0f})"
            parts.append(f'<rect x="{x}" y="{y}" width="{side - 1}" height="{side - 1}" fill="{fill}"/>')
            if value >= 0.005:
                colour = "#fff" if value > 0.5 else "#222"
                parts.append(_text(x + side / 2, y + side / 2 + 4, f"{100 * value:.0f}", "middle", f'fill="{colour}"'))
    title = "Rows: true class; columns: predicted class; row-normalised, in %."
    return _svg(left + count * side + 60, top + count * side + 8, parts, title)


def boxes(
    images: NDArray[Any], labels: Sequence[NDArray[Any]], predictions: Sequence[NDArray[Any]], classes: Sequence[str]
) -> str:
    """(N, 3, H, W) uint8, ground-truth boxes (n, 5: class, x, y, w, h) and predicted boxes (n, 6: class, score, …)."""
    parts, size = [], images.shape[2:]
    for index, image in enumerate(images):
        x, y = _position(index)
        parts.append(_image(image, x, y))
        scale = CELL / size[1], CELL / size[0]
        for box in labels[index]:
            parts.append(_rect(x, y, scale, box[1:], COLOURS[int(box[0]) % 8], 'stroke-dasharray="4 3"'))
        for box in predictions[index]:
            colour = COLOURS[int(box[0]) % 8]
            parts.append(_rect(x, y, scale, box[2:], colour, ""))
            label = f"{classes[int(box[0])]} {100 * box[1]:.0f}"
            text_y = max(y + 11, y + box[3] * scale[1] - 3)
            parts.append(_text(x + max(0, box[2] * scale[0]), text_y, label, "start", f'fill="{colour}" {OUTLINE}'))
    return _panels(len(images), parts, classes, "Boxes: predicted (solid, with score) and ground truth (dashed).")


OUTLINE = 'stroke="#fff" stroke-width="3" paint-order="stroke" font-weight="600"'


def masks(images: NDArray[Any], labels: NDArray[Any], predictions: NDArray[Any], classes: Sequence[str]) -> str:
    """(N, 3, H, W) uint8, masks (N, H, W): image, ground-truth and predicted mask. Class 0 is the background."""
    parts = []
    for index, image in enumerate(images):
        for row, mask in enumerate((None, labels[index], predictions[index])):
            pixels = image if mask is None else _overlay(image, mask)
            parts.append(_image(pixels, GAP + index * (CELL + GAP), GAP + row * (CELL + GAP)))
    width, height = GAP + len(images) * (CELL + GAP), GAP + 3 * (CELL + GAP)
    parts += _legend(classes[1:], height)
    return _svg(width, height + LINE, parts, "From top: image, ground-truth mask, predicted mask.")


def features(values: NDArray[Any], captions: Sequence[str]) -> str:
    """(N, time, bands) features, such as spectrograms, each with a caption (true and predicted class)."""
    parts = []
    for index, values_of_sample in enumerate(values):
        x, y = _position(index, LINE)
        low, high = float(values_of_sample.min()), float(values_of_sample.max())
        gray = (255 * (values_of_sample - low) / max(high - low, 1e-9)).astype(np.uint8).T[::-1]
        parts.append(_image(np.stack([gray] * 3), x, y))
        parts.append(_text(x, y - 5, captions[index], "start"))
    return _panels(len(values), parts, (), "Features over time, with true and predicted class.", LINE)


def _position(index: int, caption_height: int = 0) -> tuple[int, int]:
    return GAP + index % 4 * (CELL + GAP), GAP + caption_height + index // 4 * (CELL + GAP + caption_height)


def _panels(count: int, parts: list[str], classes: Sequence[str], title: str, caption_height: int = 0) -> str:
    width = GAP + min(count, 4) * (CELL + GAP)
    height = GAP + -(-count // 4) * (CELL + GAP + caption_height)
    return _svg(width, height + LINE * bool(classes), [*parts, *_legend(classes, height)], title)


def _legend(classes: Sequence[str], y: float) -> list[str]:
    parts, x = [], float(GAP)
    for index, name in enumerate(classes):
        parts.append(f'<rect x="{x}" y="{y}" width="11" height="11" fill="{COLOURS[index % 8]}"/>')
        parts.append(_text(x + 15, y + 10, name, "start"))
        x += 32 + 7.5 * len(name)
    return parts


def _overlay(image: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.uint8]:
    blended = image.astype(np.float64) * 0.35
    for class_index in (int(k) for k in np.unique(mask) if 0 < k < 255):
        colour = [int(COLOURS[(class_index - 1) % 8][i : i + 2], 16) for i in (1, 3, 5)]
        blended[:, mask == class_index] += 0.65 * np.array(colour)[:, None]
    return np.clip(blended, 0, 255).astype(np.uint8)


def _image(pixels: NDArray[Any], x: float, y: float) -> str:
    """(3, H, W) as an embedded PNG."""
    try:
        from PIL import Image
    except ImportError as error:
        raise Missing.install("pictures of samples", "pillow", "images") from error
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    attributes = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}" preserveAspectRatio="none"'
    return f'<image {attributes} style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'


def _rect(x: float, y: float, scale: tuple[float, float], box: NDArray[Any], colour: str, more: str) -> str:
    left, top, width, height = (float(v) * scale[i % 2] for i, v in enumerate(box))
    attributes = f'x="{x + left:.1f}" y="{y + top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {attributes} fill="none" stroke="{colour}" stroke-width="2" {more}/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT} {more}>{safe(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    """The picture with its title below."""
    parts, height = [*parts, _text(GAP, height + 12, title, "start")], height + LINE + 2
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    inner = "".join(parts)
    back = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{title}</title>{back}{inner}</svg>\n'
