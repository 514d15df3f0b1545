"""Maps of a centre-point detector → boxes: numpy only, shipped with every artifact that gives such maps.

boxes = decoded(centres, sizes)  # of one picture: (found, 6): class, score, x, y, width, height in pixels
"""

from __future__ import annotations

import numpy as np

#: pixels per cell
STRIDE = 4
#: the most boxes of one picture, and how sure the network must be
MOST, SURE = 20, 0.05
#: of two boxes of a class that overlap by more (intersection over union), the less sure one goes
OVERLAP = 0.5


def decoded(centres, sizes, most=MOST, sure=SURE):
    """(classes, h, w) logits and (4, h, w) boxes in cells → (found, 6), the surest first."""
    centres, sizes = np.asarray(centres, np.float32), np.asarray(sizes, np.float32)
    scores = 1 / (1 + np.exp(-centres))
    peaks = np.where(scores >= _neighbourhood(scores), scores, 0)
    flat = np.argsort(-peaks.ravel(), kind="stable")[: 3 * most]
    flat = flat[peaks.ravel()[flat] > sure]
    kind, row, column = np.unravel_index(flat, peaks.shape)
    dx, dy, width, height = sizes[:, row, column]
    width, height = np.maximum(width, 0), np.maximum(height, 0)
    x, y = column + dx - width / 2, row + dy - height / 2
    found = np.stack([kind, peaks.ravel()[flat], x * STRIDE, y * STRIDE, width * STRIDE, height * STRIDE], axis=1)
    return suppressed(found.astype(np.float32))[:most]


def suppressed(found, overlap=OVERLAP):
    """Greedy non-maximum suppression per class; `found` as from `decoded`, the surest first."""
    kept = []
    for box in found:
        if all(other[0] != box[0] or _iou(other, box) <= overlap for other in kept):
            kept.append(box)
    return np.array(kept, np.float32).reshape(-1, 6)


def _neighbourhood(scores):
    """The largest value among each cell and its eight neighbours, per class."""
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    height, width = scores.shape[1:]
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.max(shifted, axis=0)


def _iou(a, b):
    wide = min(a[2] + a[4], b[2] + b[4]) - max(a[2], b[2])
    high = min(a[3] + a[5], b[3] + b[5]) - max(a[3], b[3])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / (a[4] * a[5] + b[4] * b[5] - wide * high)
