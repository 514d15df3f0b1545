"""Decode the output maps of a centre-point detector into boxes: numpy only, shipped with the detector's artifacts.

boxes = decode(centres, sizes)  # of one image: (boxes, 6): class, score, x, y, width, height in pixels
"""

from __future__ import annotations

import numpy as np

#: pixels per cell
STRIDE = 4
#: the maximum number of boxes of one image, and the minimum score of a box
MAX_BOXES, MIN_SCORE = 20, 0.05
#: if two boxes of a class have a larger IoU (intersection over union), the one with the lower score is dropped
MAX_IOU = 0.5


def decode(centres, sizes, max_boxes=MAX_BOXES, min_score=MIN_SCORE):
    """(classes, h, w) logits and (4, h, w) boxes in cells → (boxes, 6), by descending score."""
    centres, sizes = np.asarray(centres, np.float32), np.asarray(sizes, np.float32)
    scores = 1 / (1 + np.exp(-centres))
    peaks = np.where(scores >= _neighbourhood(scores), scores, 0)
    flat = np.argsort(-peaks.ravel(), kind="stable")[: 3 * max_boxes]
    flat = flat[peaks.ravel()[flat] > min_score]
    kind, row, column = np.unravel_index(flat, peaks.shape)
    dx, dy, width, height = sizes[:, row, column]
    width, height = np.maximum(width, 0), np.maximum(height, 0)
    x, y = column + dx - width / 2, row + dy - height / 2
    candidates = np.stack([kind, peaks.ravel()[flat], x * STRIDE, y * STRIDE, width * STRIDE, height * STRIDE], axis=1)
    return non_maximum_suppression(candidates.astype(np.float32))[:max_boxes]


def non_maximum_suppression(boxes, max_iou=MAX_IOU):
    """Greedy non-maximum suppression per class; `boxes` as returned by `decode`, by descending score."""
    selected = []
    for box in boxes:
        if all(other[0] != box[0] or _iou(other, box) <= max_iou for other in selected):
            selected.append(box)
    return np.array(selected, np.float32).reshape(-1, 6)


def _neighbourhood(scores):
    """The maximum over each cell and its eight neighbours, per class."""
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    height, width = scores.shape[1:]
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.max(shifted, axis=0)


def _iou(a, b):
    width = min(a[2] + a[4], b[2] + b[4]) - max(a[2], b[2])
    height = min(a[3] + a[5], b[3] + b[5]) - max(a[3], b[3])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[4] * a[5] + b[4] * b[5] - width * height)
