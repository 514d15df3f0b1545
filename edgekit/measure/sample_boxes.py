"""A few images of a detector's set with the true boxes and the predicted ones, as the report shows them.

Coordinates are shares of the image (0 to 1), without the bars of a letterbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.core.signature_check import AXES, layout_of
from edgekit.ondevice.detections import SHOWN
from edgekit.sets.boxes import are_boxes

#: images to store, the pixels of their longer side, and the boxes of each at most
COUNT, PIXELS, MOST_BOXES = 6, 160, 30

Box = dict[str, Any]


def chosen(labels: NDArray[Any]) -> list[int]:
    """The images to store, evenly spread over those with boxes: they do not depend on a model."""
    with_boxes = np.flatnonzero((labels[..., 0] >= 0).any(axis=1))
    candidates = with_boxes if len(with_boxes) else np.arange(len(labels))
    return [int(candidates[i]) for i in np.unique(np.linspace(0, len(candidates) - 1, COUNT).astype(int))]


def true_boxes(artifact: Artifact, data: SampleSet, index: int, names: Sequence[str]) -> list[Box]:
    """{"name": the class, "box": [x, y, width, height]} of each."""
    assert data.labels is not None
    rows = [row for row in data.labels[index] if row[0] >= 0][:MOST_BOXES]
    area = _area(artifact, data, index)
    return [{"name": _name(row[0], names), "box": _shares(row[1:5], area)} for row in rows]


def predicted_boxes(
    artifact: Artifact, data: SampleSet, boxes: NDArray[Any], index: int, names: Sequence[str]
) -> list[Box]:
    """As `true_boxes`, with "score", of `boxes` (n, 6) above the score for showing, by descending score."""
    rows = sorted((row for row in boxes if row[1] >= SHOWN), key=lambda row: -float(row[1]))[:MOST_BOXES]
    area = _area(artifact, data, index)
    return [
        {"name": _name(row[0], names), "score": round(float(row[1]), 4), "box": _shares(row[2:6], area)} for row in rows
    ]


def image(artifact: Artifact, data: SampleSet, index: int) -> NDArray[np.uint8] | None:
    """(h, w) or (h, w, 3), at most PIXELS wide and high, RGB; None if no input is an image."""
    found = _input(artifact, data)
    if found is None:
        return None
    spec, axes = found
    values = np.asarray(data.inputs[spec.name][index])
    values = values[..., None] if axes[0] is None else np.moveaxis(values, axes[0] - 1, -1)
    if values.shape[2] not in (1, 3):
        return None
    grey = _grey_levels(values, data.decoded.get(spec.name) or spec.signature)
    x, y, width, height = (round(side) for side in _area(artifact, data, index))
    part = grey[max(y, 0) : max(y, 0) + height, max(x, 0) : max(x, 0) + width]
    if min(part.shape[:2]) < 1:
        return None
    step = -(-max(part.shape[:2]) // PIXELS)
    rows, columns = (np.arange(0, side, step) for side in part.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(part, rows, axis=0), columns, axis=1)
    counts = (
        np.diff(np.append(rows, part.shape[0]))[:, None, None] * np.diff(np.append(columns, part.shape[1]))[:, None]
    )
    small: NDArray[np.uint8] = np.clip(np.round(sums / counts), 0, 255).astype(np.uint8)
    return np.squeeze(small, axis=2) if small.shape[2] == 1 else small


def _input(artifact: Artifact, data: SampleSet) -> tuple[TensorSpec, tuple[int | None, int, int]] | None:
    """The first input that is an image, and its axes of channels, height and width."""
    for spec in artifact.inputs:
        signature = spec.signature if isinstance(spec.signature, InputSignature) else InputSignature()
        layout = signature.layout or layout_of(spec)
        if spec.name in data.inputs and layout and data.inputs[spec.name].ndim == len(AXES[layout]) + (layout != "NHW"):
            return spec, AXES[layout]
    return None


def _grey_levels(values: NDArray[Any], signature: object) -> NDArray[np.floating]:
    """What the file had, from 0 to 255: the signature's normalization is undone, and blue first becomes red first."""
    values = values.astype(np.float32)
    if isinstance(signature, InputSignature):
        std, mean = (np.array(v or (d,), np.float32) for v, d in ((signature.std, 1), (signature.mean, 0)))
        values = (values * std + mean) / np.float32(signature.scale)
        values = values[..., ::-1] if signature.colour == "BGR" else values
    return values


def _area(artifact: Artifact, data: SampleSet, index: int) -> tuple[float, float, float, float]:
    """Where the image lies in the input: x, y, width, height in pixels."""
    found = _input(artifact, data)
    shape = data.inputs[found[0].name].shape if found else ()
    high, wide = (shape[found[1][1]], shape[found[1][2]]) if found else (1, 1)
    assert data.labels is not None
    if not are_boxes(data.labels):
        return 0, 0, wide, high
    x, y, width, height = map(float, data.labels[index, 0, 1:5])
    left, top = max(x, 0), max(y, 0)  # a crop leaves out what is beyond the input
    return left, top, min(x + width, wide) - left, min(y + height, high) - top


def _shares(box: NDArray[Any], area: Sequence[float]) -> list[float]:
    (x, y, width, height), (left, top, wide, high) = map(float, box), area
    return [round(v, 4) for v in ((x - left) / wide, (y - top) / high, width / wide, height / high)]


def _name(index: float, names: Sequence[str]) -> str:
    return names[int(index)] if 0 <= int(index) < len(names) else str(int(index))
