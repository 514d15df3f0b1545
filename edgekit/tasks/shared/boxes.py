"""Object detection: mAP by pycocotools, computed from rows that can be resampled, and CenterNet's target maps."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import Missing
from edgekit.core.task import Scores
from edgekit.ondevice.boxes import MAX_BOXES, STRIDE

#: IoU thresholds of COCO's mAP: 0.50, 0.55, …, 0.95
THRESHOLDS = 10


def mean_average_precision(detections: list[NDArray[Any]], labels: NDArray[Any], classes: int) -> Scores:
    """COCO's mAP@[.5:.95]. `detections`: per sample (n, 6) from `boxes.decoded`; `labels` (N, M, 5).

    One row per sample: for each class the number of ground-truth boxes, then for each detection its score and whether
    COCOeval matched it, at each threshold. COCOeval can accumulate any selection of rows.
    """
    evaluation = _evaluation(detections, labels, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    rows = np.zeros((len(labels), classes, 1 + MAX_BOXES * (1 + THRESHOLDS)), np.float32)
    for index, entry in enumerate(evaluation.evalImgs):
        class_index, sample = divmod(index, len(labels))
        if entry is None:
            continue
        count = len(entry["dtScores"])
        rows[sample, class_index, 0] = len(entry["gtIds"])
        rows[sample, class_index, 1 : 1 + count] = entry["dtScores"]
        hits = rows[sample, class_index, 1 + MAX_BOXES :].reshape(MAX_BOXES, THRESHOLDS)
        hits[:count] = np.asarray(entry["dtMatches"]).T > 0
    return Scores("mAP", "fraction", True, rows.reshape(len(labels), -1), _Accumulated(classes))


class _Accumulated:
    """Rows of `mean_average_precision` → mAP, by COCOeval's accumulation."""

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def __call__(self, rows: NDArray[Any]) -> float:
        from pycocotools.cocoeval import COCOeval

        count = len(rows)
        rows = np.asarray(rows).reshape(count, self._classes, -1)
        evaluation = COCOeval(iouType="bbox")
        parameters = evaluation.params
        parameters.imgIds, parameters.catIds = list(range(count)), list(range(1, self._classes + 1))
        parameters.areaRng, parameters.areaRngLbl, parameters.maxDets = parameters.areaRng[:1], ["all"], [MAX_BOXES]
        evaluation._paramsEval = parameters
        evaluation.evalImgs = [_evaluation_entry(rows[i, k]) for k in range(self._classes) for i in range(count)]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        precision = evaluation.eval["precision"]
        valid = precision[precision > -1]
        return float(valid.mean()) if valid.size else float("nan")


def _evaluation_entry(row: NDArray[Any]) -> dict[str, Any] | None:
    """COCOeval's record of one picture and class."""
    scores = row[1 : 1 + MAX_BOXES]
    count, true_count = int((scores > 0).sum()), int(row[0])
    if not count and not true_count:
        return None
    hits = row[1 + MAX_BOXES :].reshape(MAX_BOXES, THRESHOLDS)[:count].T
    return {
        "dtScores": scores[:count].astype(float),
        "dtMatches": hits,
        "dtIgnore": np.zeros((THRESHOLDS, count), bool),
        "gtIgnore": np.zeros(true_count),
    }


def _evaluation(detections: list[NDArray[Any]], labels: NDArray[Any], classes: int) -> Any:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise Missing.install("scoring boxes", "pycocotools", "metrics") from error
    ground_truth, predictions = COCO(), COCO()
    images = [{"id": i} for i in range(len(labels))]
    categories = [{"id": k + 1} for k in range(classes)]
    true_count = [(i, *box) for i, boxes in enumerate(labels) for box in boxes if box[0] >= 0]
    ground_truth.dataset = {
        "images": images,
        "categories": categories,
        "annotations": [_box(n, *w) for n, w in enumerate(true_count)],
    }
    boxes_by_image = [(i, box[0], *box[2:], box[1]) for i, boxes in enumerate(detections) for box in boxes[:MAX_BOXES]]
    predictions.dataset = {**ground_truth.dataset, "annotations": [_box(n, *a) for n, a in enumerate(boxes_by_image)]}
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
        predictions.createIndex()
        evaluation = COCOeval(ground_truth, predictions, "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.params.maxDets = [MAX_BOXES]
    return evaluation


def _box(
    number: int, image: int, class_index: float, x: float, y: float, width: float, height: float, score: float = 1.0
) -> dict[str, Any]:
    area = float(width) * float(height)
    box = [float(x), float(y), float(width), float(height)]
    # ids start at 1: COCOeval treats 0 as no match
    return {
        "id": number + 1,
        "image_id": image,
        "category_id": int(class_index) + 1,
        "bbox": box,
        "area": area,
        "iscrowd": 0,
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
