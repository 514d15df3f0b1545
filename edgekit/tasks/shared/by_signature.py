"""Metrics for models without a task, by what their signature says of their outputs and by the labels of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core import metrics
from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, OutputSignature, plain
from edgekit.core.signature_check import AXES, layout_of
from edgekit.core.task import Scorer, Scores
from edgekit.networks.signatures import heads
from edgekit.ondevice import detections
from edgekit.sets.boxes import AREA
from edgekit.tasks.shared.boxes import mean_average_precision


def scorer(data: SampleSet, model: Artifact) -> Scorer:
    """The metric for these labelled samples. Raises InputError if the labels are boxes, and the outputs unknown."""
    assert data.labels is not None
    if data.labels.ndim == 3 and data.labels.shape[2] == 6 and data.labels.dtype.kind == "f":
        return Boxes(data, model)
    return metrics.scorer(data.labels)


class Boxes:
    """COCO's mAP@[.5:.95] of a detector's outputs, decoded as its signature says, clipped to the image.

    It is computed in pixels of the model's input: IoU does not change with the scale of an axis.
    """

    def __init__(self, data: SampleSet, model: Artifact) -> None:
        records = [spec.signature for spec in model.outputs]
        stated = [record if isinstance(record, OutputSignature) else OutputSignature() for record in records]
        if not heads.complete(stated):
            raise heads.unknown(model.name, model.outputs)
        self._records, self._shapes = [plain(record) for record in stated], [spec.shape for spec in model.outputs]
        self._names = [spec.name for spec in model.outputs]
        self._size = _image_size(data, model)
        self._classes = _class_count(data, model, stated)

    def __call__(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        arrays = [outputs[n] for n in self._names] if set(self._names) <= set(outputs) else list(outputs.values())
        try:
            found = detections.decode(arrays, self._records, self._size, detections.MEASURED)
        except ValueError as error:
            raise InputError("the outputs are not those that the signature describes", str(error)) from error
        if detections.looks_like_logits(arrays, self._records):
            why = "they are below 0 and above 1: a sigmoid is still to be applied"
            raise InputError("the scores of the boxes are none", why, 'state activation = "sigmoid" in the signature')
        if len(beyond := [k for k in np.concatenate(found)[:, 0] if k >= self._classes]) and self._whole(arrays):
            why = f"it finds the class {int(max(beyond))}, and there are {self._classes}, numbered from 0"
            raise InputError("the model has more classes than the data", why, "name its classes: import --classes")
        areas = [label[label[:, 0] == AREA][:1, 1:5] for label in labels]
        found = [
            detections.clipped(boxes, area[0]) if len(area) else boxes for boxes, area in zip(found, areas, strict=True)
        ]
        return mean_average_precision([boxes[boxes[:, 0] < self._classes] for boxes in found], labels, self._classes)

    def _whole(self, arrays: Sequence[NDArray[Any]]) -> bool:
        """Are class ids whole numbers? Those of a badly quantized model are not."""
        for array, record in zip(arrays, self._records, strict=True):
            ids = array if record["kind"] == "class-ids" else array[..., 5] if record.get("columns") else None
            if ids is not None and np.abs(ids - np.round(ids)).max() > 1e-3:
                return False
        return True


def _image_size(data: SampleSet, model: Artifact) -> tuple[int, int]:
    """(height, width) of the images as the model sees them, in pixels."""
    for spec in model.inputs:
        array = data.inputs.get(spec.name, next(iter(data.inputs.values())))
        layout = spec.signature.layout if isinstance(spec.signature, InputSignature) and spec.signature.layout else ""
        axes = AXES[layout or layout_of(spec) or "NCHW"]
        if array.ndim > max(axes[1:]):
            return array.shape[axes[1]], array.shape[axes[2]]
    raise InputError(f"{model.name} takes no images", ", ".join(map(str, model.inputs)), "name other data")


def _class_count(data: SampleSet, model: Artifact, records: Sequence[OutputSignature]) -> int:
    """How many classes the model tells apart. Raises InputError if the data has others."""
    if named := len(model.signature.classes):
        return named
    count = _scored(model.outputs, records)
    if count is None:
        return len(data.classes) or int(max(data.labels[..., 0].max(), 0)) + 1  # type: ignore[index]
    if data.classes and len(data.classes) != count:
        names = ", ".join(data.classes[:5]) + (", …" if len(data.classes) > 5 else "")
        what = f"{data.name} has {len(data.classes)} classes, and the model {count}"
        raise InputError(what, f"the data's are {names}", "name the model's classes: edgekit import --classes FILE")
    return count


def _scored(specs: Sequence[TensorSpec], records: Sequence[OutputSignature]) -> int | None:
    """The classes that have a score, without the background; None if the outputs hold only the best class."""
    for spec, record in zip(specs, records, strict=True):
        before = {"scores": 4, "objectness": 5}.get(record.columns) if record.kind == "boxes" else 0
        if record.kind not in ("boxes", "scores") or before is None or len(spec.shape) != 3:
            continue
        if (record.kind == "boxes") != bool(record.columns):
            continue
        values = spec.shape[1 if record.transposed else 2]
        return values - before - bool(record.background) if values else None
    return None
