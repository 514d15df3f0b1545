"""Object detection: mAP by pycocotools, computed from rows that can be resampled, and CenterNet's target maps."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import Missing
from edgekit.core.task import Scores
from edgekit.ondevice.boxes import STRIDE

#: IoU thresholds of COCO's mAP: 0.50, 0.55, …, 0.95
THRESHOLDS = 10
#: the most boxes of a class and an image that COCO's mAP considers, and the recalls at which precision is read
MAX_BOXES, RECALLS = 100, np.linspace(0, 1, 101)
#: an mAP that boxes reach which are right by luck
LUCK = 0.005


def mean_average_precision(detections: list[NDArray[Any]], labels: NDArray[Any], classes: int) -> Scores:
    """COCO's mAP@[.5:.95]. `detections`: per sample (n, 6): class, score, x, y, width, height.

    `labels` (N, M, 5 or 6): class (below 0: no box), x, y, width, height, and 1 for a crowd.

    One row per sample: for each class the number of ground-truth boxes, then for each detection its class, its score,
    and as bits whether COCOeval matched it, and whether it ignores it, at each threshold. A score of 0: no detection.
    """
    evaluation = _evaluation(detections, labels, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    counts = np.zeros((len(labels), classes), np.float32)
    found: list[list[NDArray[np.float32]]] = [[] for _ in labels]
    powers = 2 ** np.arange(THRESHOLDS)
    for index, entry in enumerate(evaluation.evalImgs):
        class_index, sample = divmod(index, len(labels))
        if entry is None:
            continue
        counts[sample, class_index] = np.sum(np.asarray(entry["gtIgnore"]) == 0)
        if scores := entry["dtScores"]:
            matched = powers @ (np.asarray(entry["dtMatches"]) > 0)
            ignored = powers @ np.asarray(entry["dtIgnore"], bool)
            kind = np.full(len(scores), class_index)
            found[sample].append(np.stack([kind, scores, matched, ignored], axis=1).astype(np.float32))
    joined = [np.concatenate(parts) if parts else np.zeros((0, 4), np.float32) for parts in found]
    rows = np.zeros((len(labels), max(1, *map(len, joined)), 4), np.float32)
    for sample, part in enumerate(joined):
        rows[sample, : len(part)] = part
    per_sample = np.concatenate([counts, rows.reshape(len(labels), -1)], axis=1)
    accumulated = _Accumulated(classes)
    return Scores("mAP", "fraction", True, per_sample, accumulated, LUCK, accumulated.by_class, detections)


class _Accumulated:
    """Rows of `mean_average_precision` → mAP, as COCOeval accumulates it: precision at 101 recalls, from above."""

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def __call__(self, rows: NDArray[Any]) -> float:
        precisions = self._precisions(np.asarray(rows))
        return float(np.mean(list(precisions.values()))) if precisions else float("nan")

    def by_class(self, rows: NDArray[Any]) -> dict[str, NDArray[np.floating]]:
        """AP@[.5:.95], AP at an IoU of 0.5 (both NaN for a class without boxes), and the number of boxes."""
        rows = np.asarray(rows)
        table = np.full((2, self._classes), np.nan)
        for index, values in self._precisions(rows).items():
            table[:, index] = values.mean(), values[0]
        return {"AP": table[0], "AP50": table[1], "boxes": rows[:, : self._classes].sum(axis=0)}

    def _precisions(self, rows: NDArray[Any]) -> dict[int, NDArray[np.floating]]:
        """Class → its average precision at each threshold, for those with boxes."""
        counts = rows[:, : self._classes].sum(axis=0)
        found = rows[:, self._classes :].reshape(-1, 4)
        found = found[found[:, 1] > 0]
        found = found[np.argsort(-found[:, 1], kind="stable")]
        kinds = found[:, 0].astype(np.intp)
        shifts = np.arange(THRESHOLDS)[:, None]
        matched, ignored = ((found[:, column].astype(np.int64) >> shifts) & 1 > 0 for column in (2, 3))
        precisions = {}
        for index in np.flatnonzero(counts):
            of_class = np.flatnonzero(kinds == index)
            right, skipped = matched[:, of_class], ignored[:, of_class]
            precisions[int(index)] = _average_precision(right & ~skipped, ~right & ~skipped, counts[index])
        return precisions


def _average_precision(right: NDArray[np.bool_], wrong: NDArray[np.bool_], count: float) -> NDArray[np.floating]:
    """One class's, at each threshold; `right`, `wrong` (thresholds, detections), by descending score."""
    hits, misses = np.cumsum(right, axis=1, dtype=float), np.cumsum(wrong, axis=1, dtype=float)
    recall = hits / count
    precision = hits / (hits + misses + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    return np.array([p[np.searchsorted(r, RECALLS)].mean() for p, r in zip(padded, recall, strict=True)])


def _evaluation(detections: list[NDArray[Any]], labels: NDArray[Any], classes: int) -> Any:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise Missing.install("scoring boxes", "pycocotools", "metrics") from error
    ground_truth, predictions = COCO(), COCO()
    images = [{"id": i} for i in range(len(labels))]
    categories = [{"id": k + 1} for k in range(classes)]
    true_boxes = [(i, box) for i, boxes in enumerate(labels) for box in boxes if box[0] >= 0]
    ground_truth.dataset = {
        "images": images,
        "categories": categories,
        "annotations": [_box(n, i, box) for n, (i, box) in enumerate(true_boxes)],
    }
    boxes_by_image = [(i, (box[0], *box[2:]), box[1]) for i, boxes in enumerate(detections) for box in boxes]
    predictions.dataset = {**ground_truth.dataset, "annotations": [_box(n, *a) for n, a in enumerate(boxes_by_image)]}
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
        predictions.createIndex()
        evaluation = COCOeval(ground_truth, predictions, "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.params.maxDets = [MAX_BOXES]
    return evaluation


def _box(number: int, image: int, values: Any, score: float = 1.0) -> dict[str, Any]:
    """`values`: class, x, y, width, height, and maybe 1 for a crowd."""
    class_index, *box = map(float, values[:5])
    area = box[2] * box[3]
    # ids start at 1: COCOeval treats 0 as no match
    return {
        "id": number + 1,
        "image_id": image,
        "category_id": int(class_index) + 1,
        "bbox": box,
        "area": area,
        "iscrowd": int(values[5]) if len(values) > 5 else 0,
        "score": float(score),
    }


def centre_maps(labels: Any, classes: int, height: int, width: int) -> tuple[Any, Any, Any]:
    """Boxes (N, M, 5) in pixels → CenterNet's targets: heatmap (N, classes, h, w), boxes (N, 4, h, w), mask (N, h, w).

    The heatmap holds a Gaussian around each centre, with a sigma of a sixth of the box; `boxes` holds offsets and
    sizes in cells; the mask is 1 at the centres.
    """
    import torch

    class_index, x, y, wide, high = (labels[..., i] for i in range(5))
    valid = class_index >= 0
    cx, cy = (x + wide / 2) / STRIDE, (y + high / 2) / STRIDE
    column, row = cx.floor().clamp(0, width - 1), cy.floor().clamp(0, height - 1)
    sigma_x, sigma_y = (side.clamp(min=1) / STRIDE / 6 + 0.3 for side in (wide, high))
    grid_y = torch.arange(height, device=labels.device)[None, None, :, None]
    grid_x = torch.arange(width, device=labels.device)[None, None, None, :]
    gaussians = torch.exp(
        -((grid_x - column[..., None, None]) ** 2) / (2 * sigma_x[..., None, None] ** 2)
        - (grid_y - row[..., None, None]) ** 2 / (2 * sigma_y[..., None, None] ** 2)
    )
    heat = torch.zeros(len(labels), classes, height, width, device=labels.device)
    for index in range(classes):
        heat[:, index] = (gaussians * ((class_index == index) & valid)[..., None, None]).amax(dim=1)
    sizes = torch.zeros(len(labels), 4, height, width, device=labels.device)
    mask = torch.zeros(len(labels), height, width, device=labels.device)
    sample, number = valid.nonzero(as_tuple=True)
    r, c = row[sample, number].long(), column[sample, number].long()
    sizes[sample, :, r, c] = torch.stack([cx - column, cy - row, wide / STRIDE, high / STRIDE], dim=-1)[sample, number]
    mask[sample, r, c] = 1
    return heat, sizes, mask
