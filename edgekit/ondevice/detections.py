"""Decode a detector's outputs into boxes: for the host and for devices. Python 3.8 and numpy.

`records`: the signature of each output, in order, as plain values (`OutputSignature` in edgekit/core/signature.py
documents the keys; a missing key has its default there). `size`: (height, width) of the model's input in pixels.
Boxes are float32 (n, 6): class, score, x, y, width, height in pixels of the model's input, by descending score;
`in_image` puts them into the image's pixels.
"""

import math

import numpy as np

# A box below this score is dropped: for showing, and for measuring average precision, which counts the weak ones too.
SHOWN, MEASURED = 0.25, 0.001
# If two boxes of a class have a larger IoU (intersection over union), the one with the lower score is dropped.
MAX_IOU = 0.7
# The most boxes of an image, and the most that are considered (class by class).
MAX_BOXES, MAX_CANDIDATES = 300, 30000


def decodes(records):
    """Do these signatures say how boxes are decoded?"""
    kinds = [record.get("kind") for record in records]
    complete = [bool(r.get("columns")) for r in records if r.get("kind") == "boxes" and r.get("boxes")]
    return complete == [True] or (complete == [False] and "scores" in kinds)


def decode(outputs, records, size, min_score=SHOWN, max_iou=MAX_IOU):
    """One array of boxes for each sample. `outputs`: arrays with the samples first, in the order of `records`.

    Raises ValueError if the outputs do not have the shapes that the signature says.
    """
    geometry, after, ids, counts, record = _parts(outputs, records)
    result = []
    for i in range(len(geometry)):
        boxes = _corners(geometry[i], record, size)
        scores, classes, index = _candidates(after[i], None if ids is None else ids[i], record, min_score)
        valid = index < counts[i]
        result.append(_selected(boxes, scores[valid], classes[valid], index[valid], record, max_iou))
    return result


def doubt(outputs, records, size):
    """Why the signature cannot be right about these outputs; "" if it can. A badly quantized model's score may be 5."""
    geometry, after, _, _, record = _parts(outputs, records)
    if not after.size or not geometry.size:
        return ""
    if not record.get("activation") and (after.max() > 10 or (after.max() > 1.001 and after.min() < -0.5)):
        worst = after.max() if after.max() > 10 else after.min()
        return "a score is from 0 to 1, and there is %.3g: state activation, or other columns" % worst
    best = after.reshape(after.shape[:2] + (-1,)).max(axis=2) > SHOWN
    pixels = not record.get("relative") and not record.get("strides") and max(size) > 8
    if pixels and best.sum() >= 3 and np.abs(geometry[best]).max() <= 2:
        return "every box lies within 2 pixels: state relative = true if they are shares of the input"
    return ""


def _parts(outputs, records):
    """Boxes (N, boxes, 4), what follows them, the class ids or None, the valid counts, and how it is all encoded."""
    by_kind = {}
    for output, record in zip(outputs, records):
        by_kind.setdefault(record.get("kind", ""), (np.asarray(output, np.float32), record))
    values, record = by_kind["boxes"]
    values = _rows(values, record)
    geometry, after = values[..., :4], values[..., 4:]
    ids, columns = None, record.get("columns", "")
    if not columns:
        scores, scored = by_kind["scores"]
        ids, named = by_kind.get("class-ids", (None, {}))
        ids = ids - 1 if named.get("background") == "first" else ids
        after = scores if scores.ndim == 2 else _rows(scores, scored)
        record = dict(record, activation=scored.get("activation", ""), background=scored.get("background", ""))
    elif columns == "score-class":
        _at_least(after, 2, "a score and a class")
        after, ids = after[..., 0], after[..., 1]
    else:
        _at_least(after, 2 if columns == "objectness" else 1, "scores")
    counts = by_kind["count"][0].reshape(-1) if "count" in by_kind else np.full(len(values), values.shape[1])
    return geometry, after, ids, counts, record


def in_image(boxes, placement, size):
    """Boxes in pixels of the image, clipped to it; those outside are dropped.

    `placement`: (scale_y, scale_x, top, left) of `preprocess.placement`; `size`: (height, width) of the image.
    """
    scale_y, scale_x, top, left = placement
    x0, y0 = (boxes[:, 2] - left) / scale_x, (boxes[:, 3] - top) / scale_y
    x1, y1 = x0 + boxes[:, 4] / scale_x, y0 + boxes[:, 5] / scale_y
    return _clipped(boxes, x0, y0, x1, y1, (0, 0, size[0], size[1]))


def clipped(boxes, area):
    """The boxes within `area`, (x, y, width, height) in the same pixels; those outside are dropped."""
    x, y, width, height = area
    x0, y0 = boxes[:, 2], boxes[:, 3]
    return _clipped(boxes, x0, y0, x0 + boxes[:, 4], y0 + boxes[:, 5], (y, x, y + height, x + width))


def entries(boxes, labels):
    """Boxes as plain values: class name, score, and x, y, width, height, rounded to a tenth of a pixel."""
    return [
        {
            "class": labels[int(box[0])] if int(box[0]) < len(labels) else str(int(box[0])),
            "score": round(float(box[1]), 4),
            "box": [round(float(side), 1) for side in box[2:]],
        }
        for box in boxes
    ]


def text(found):
    """One line about `entries`."""
    words = ["%s %.0f%% at %g,%g %gx%g" % ((e["class"], 100 * e["score"]) + tuple(map(round, e["box"]))) for e in found]
    return "; ".join(words) or "no boxes"


def agreement(first, second, min_score=SHOWN, slack=0.1):
    """The share of the sure boxes of either list of arrays that the other has too: of the same class, IoU above 0.5.

    Sure is `slack` above `min_score`, so that a box near the threshold does not count. None if there are none.
    """
    count, shared = 0, 0
    for one, other in [pair for pairs in zip(first, second) for pair in (pairs, pairs[::-1])]:
        for box in one[one[:, 1] > min_score + slack]:
            count += 1
            same = other[(other[:, 0] == box[0]) & (other[:, 1] > min_score - slack)]
            shared += bool(len(same)) and bool((_iou(box, same) > 0.5).any())
    return shared / float(count) if count else None


def _iou(box, others):
    low = np.maximum(box[2:4], others[:, 2:4])
    high = np.minimum(box[2:4] + box[4:6], others[:, 2:4] + others[:, 4:6])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    return shared / (box[4] * box[5] + others[:, 4] * others[:, 5] - shared)


def _clipped(boxes, x0, y0, x1, y1, limits):
    low_y, low_x, high_y, high_x = limits
    x0, x1 = np.clip(x0, low_x, high_x), np.clip(x1, low_x, high_x)
    y0, y1 = np.clip(y0, low_y, high_y), np.clip(y1, low_y, high_y)
    inside = (x1 > x0) & (y1 > y0)
    return np.stack([boxes[:, 0], boxes[:, 1], x0, y0, x1 - x0, y1 - y0], axis=1)[inside].astype(np.float32)


def _rows(values, record):
    """(N, boxes, values)."""
    if values.ndim != 3:
        raise ValueError("a detector's boxes have three axes, not %s" % (list(values.shape),))
    return np.swapaxes(values, 1, 2) if record.get("transposed") else values


def _at_least(after, count, what):
    if after.shape[-1] < count:
        raise ValueError("%d values per box are no box and %s" % (4 + after.shape[-1], what))


def _corners(geometry, record, size):
    """(boxes, 4): x0, y0, x1, y1 in pixels."""
    height, width = size
    if record.get("strides"):
        geometry = _of_cells(geometry, record, size)
    a, b, c, d = geometry.T
    form = record["boxes"]
    if form == "yxyx":
        a, b, c, d = b, a, d, c
    elif form == "xywh":
        c, d = a + c, b + d
    elif form == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    scale = np.array([width, height, width, height], np.float32) if record.get("relative") else np.float32(1)
    return np.stack([a, b, c, d], axis=1) * scale


def _of_cells(geometry, record, size):
    """(boxes, 4): centre and size in pixels; stride by stride, row by row, anchor by anchor.

    Centre = offset * side + origin, size = exp(size) * side: a side is the stride's, and the origin the cell's corner
    (YOLOX, Ge et al. 2021), or an anchor's (SSD, Liu et al. 2016, arXiv:1512.02325; RetinaNet).
    """
    strides, anchors = record["strides"], record.get("anchors")
    variances = np.array(record.get("variances") or (1, 1, 1, 1), np.float32)
    inside = record.get("origin", 0.5) if anchors else 0.0
    origins, sides = [], []
    for index, stride in enumerate(strides):
        rows, columns = (math.ceil(side / stride) for side in size)
        row, column = np.divmod(np.arange(rows * columns), columns)
        own = np.array(anchors[index] if anchors else [[stride, stride]], np.float32)
        corners = (np.stack([column, row], axis=1) + inside) * stride
        origins.append(np.repeat(corners, len(own), axis=0))
        sides.append(np.tile(own, (len(corners), 1)))
    origins, sides = np.concatenate(origins).astype(np.float32), np.concatenate(sides)
    if len(origins) != len(geometry):
        what = "the grids of strides %s have %d %s, and the output %d boxes"
        raise ValueError(what % (list(strides), len(origins), "anchors" if anchors else "cells", len(geometry)))
    codes = geometry * variances
    return np.concatenate([codes[:, :2] * sides + origins, np.exp(np.minimum(codes[:, 2:], 20)) * sides], axis=1)


def _candidates(after, ids, record, min_score):
    """Scores above `min_score`, with their class and the box they belong to; several classes of a box are several."""
    columns = record.get("columns", "")
    objectness = None
    if columns == "objectness":
        objectness, after = _activated(after[:, :1], dict(record, activation=_sigmoid_only(record))), after[:, 1:]
    scores = _activated(after, record)
    if objectness is not None:
        scores = scores * objectness
    if scores.ndim == 1 or ids is not None:
        flat = scores.reshape(len(scores), -1).max(axis=1)
        ids = np.zeros(len(flat)) if ids is None else np.round(ids)
        index = np.flatnonzero((flat > min_score) & np.isfinite(ids) & (ids >= 0))
        return flat[index], ids[index], index
    background = record.get("background", "")
    scores = scores[:, 1:] if background == "first" else scores[:, :-1] if background == "last" else scores
    index, classes = np.nonzero(scores > min_score)
    return scores[index, classes], classes, index


def _sigmoid_only(record):
    return "sigmoid" if record.get("activation") else ""


def _activated(scores, record):
    activation = record.get("activation", "")
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(scores, -60, 60)))
    if activation == "softmax":
        shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    return scores


def _selected(boxes, scores, classes, index, record, max_iou):
    """The best boxes, by descending score; of overlapping ones of a class the best alone."""
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    scores, classes, corners = scores[order], classes[order], boxes[index[order]]
    finite = np.isfinite(corners).all(axis=1)
    scores, classes, corners = scores[finite], classes[finite], corners[finite]
    kept = np.arange(len(scores))[:MAX_BOXES]
    if not record.get("suppressed"):
        kept = _suppressed(corners, classes, max_iou)
    x0, y0, x1, y1 = corners[kept].T
    return np.stack([classes[kept], scores[kept], x0, y0, x1 - x0, y1 - y0], axis=1).astype(np.float32)


def _suppressed(corners, classes, max_iou):
    """Indices that greedy non-maximum suppression per class keeps, at most MAX_BOXES; the best boxes come first."""
    left, kept = np.arange(len(corners)), []
    area = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    while len(left) and len(kept) < MAX_BOXES:
        best, left = left[0], left[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[left, :2])
        high = np.minimum(corners[best, 2:], corners[left, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[best] + area[left] - shared
        left = left[(classes[left] != classes[best]) | (shared <= max_iou * union)]
    return np.array(kept, np.intp)
