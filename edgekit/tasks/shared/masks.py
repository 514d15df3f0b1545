"""Semantic segmentation: class maps from a network's outputs, and mIoU from rows that can be resampled."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.task import Scores
from edgekit.ondevice.preprocess import torch_nearest, torch_taps
from edgekit.sets.masks import IGNORED

#: more classes than this are no classes, but an output of another kind
MOST_CLASSES = 4096


def miou(predicted: Iterable[NDArray[np.integer]], labels: NDArray[np.integer], classes: int) -> Scores:
    """mIoU over the pixels of all samples: the mean over classes of intersection / union (PASCAL VOC).

    `predicted`: per sample (H, W) classes, as `labels` (N, H, W), where 255 is ignored. Classes that are neither
    predicted nor in a label do not count. One row per sample: (2, classes) pixels of intersection and union. `luck` is
    what one class everywhere reaches, or random classes as often as the labels have them, whichever is more.
    """
    tables = [_confusion(one, label, classes) for one, label in zip(predicted, labels, strict=True)]
    count = max(len(table) for table in tables)
    rows, expected = np.zeros((len(tables), 2, count)), np.zeros(count)
    for row, table in zip(rows, tables, strict=True):
        size, both = len(table), np.diagonal(table)
        row[0, :size], row[1, :size] = both, table.sum(axis=0) + table.sum(axis=1) - both
        expected[:size] += table.sum(axis=1)
    return Scores("mIoU", "fraction", True, rows, mean_iou, _luck(expected), iou_by_class)


def mean_iou(rows: NDArray[np.floating]) -> float:
    """(samples, 2, classes) pixels of intersection and union → mean IoU over the classes that occur; else NaN."""
    values = iou_by_class(rows)["IoU"]
    occurs = ~np.isnan(values)
    return float(values[occurs].mean()) if occurs.any() else float("nan")


def iou_by_class(rows: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """As `mean_iou`: the IoU of each class, NaN for one that does not occur."""
    intersection, union = np.asarray(rows, np.float64).sum(axis=0)
    return {"IoU": np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)}


def class_map(values: NDArray[np.floating], size: tuple[int, int], threshold: float | None) -> NDArray[np.integer]:
    """(classes, h, w) scores of a sample → (H, W) classes, as torch's bilinear interpolation, align_corners=False.

    One score per pixel is that of class 1 of two, which is predicted above `threshold`.
    """
    values = np.asarray(values)
    if values.shape[1:] != size:
        values = _interpolated(values.astype(np.float32), *size)
    if threshold is not None:
        return np.asarray(values[0] > threshold, np.uint8)
    return np.asarray(values.argmax(axis=0))


def resized(classes: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    """(h, w) classes → (H, W): the nearest, as torch's."""
    rows, columns = (torch_nearest(old, new) for old, new in zip(classes.shape, size, strict=True))
    return np.asarray(classes[rows][:, columns])


def _interpolated(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    indexes, weights = torch_taps(values.shape[2], width, "bilinear")
    wide = sum(values[:, :, index] * weight for index, weight in zip(indexes, weights, strict=True))
    indexes, weights = torch_taps(values.shape[1], height, "bilinear")
    return np.asarray(sum(wide[:, index] * weight[:, None] for index, weight in zip(indexes, weights, strict=True)))


def _confusion(predicted: NDArray[np.integer], label: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """(classes, classes) pixels, a row per class of the label; more where others are predicted."""
    counted = label != IGNORED
    found, expected = predicted[counted].astype(np.int64), label[counted].astype(np.int64)
    if found.size and (found.min() < 0 or found.max() >= MOST_CLASSES):
        why = f"its values are from {found.min()} to {found.max()}"
        raise InputError("the mask output holds no classes", why, "name the output that is the mask: --signature")
    count = max(classes, int(found.max(initial=0)) + 1)
    return np.bincount(expected * count + found, minlength=count * count).reshape(count, count)


def _luck(expected: NDArray[np.floating]) -> float:
    """`expected`: pixels of each class in the labels."""
    pixels = expected[expected > 0]
    if not len(pixels):
        return float("nan")
    share = pixels / pixels.sum()
    most = np.arange(len(pixels)) == pixels.argmax()
    constant = mean_iou(np.stack([pixels * most, np.where(most, pixels.sum(), pixels)])[None])
    return max(constant, float((share / (2 - share)).mean()))
