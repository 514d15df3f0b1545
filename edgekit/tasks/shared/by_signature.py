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
from edgekit.core.task import Scorer, Scores, chosen_metric
from edgekit.networks.signatures import heads
from edgekit.ondevice import detections
from edgekit.sets.boxes import AREA, are_boxes
from edgekit.tasks.shared.boxes import mean_average_precision
from edgekit.tasks.shared.mask_outputs import Masks

#: the metrics that can be chosen where labels are classes
SIGNATURE = "import the model with another --signature"
CHOICES = ("top1", "top5", "recall@1")


def scorer(data: SampleSet, model: Artifact, metric: str = "") -> Scorer:
    """The metric for these labelled samples; `metric`: one of CHOICES, for labels that are classes.

    Raises InputError if the labels are boxes or masks, and the outputs unknown, or if they do not allow the metric.
    """
    labels = data.labels
    assert labels is not None
    has_boxes = are_boxes(labels)
    has_masks = labels.ndim == 3 and labels.dtype.kind in "iu"
    if metric and (has_boxes or has_masks or labels.ndim != 1 or labels.dtype.kind not in "iu"):
        has = "boxes" if has_boxes else "masks" if has_masks else "no classes"
        raise InputError(f"--metric {metric} does not apply", f"the labels of {data.name} are {has}", "leave it out")
    if has_boxes:
        return Boxes(data, model)
    if has_masks:
        return Masks(data, model, _stated(model))
    if labels.ndim == 2 and labels.dtype.kind in "iu" and model.states:
        return metrics.perplexity
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        return metrics.scorer(labels)
    return _of_classes(model, metric)


def _of_classes(model: Artifact, metric: str) -> Scorer:
    """Top-1 accuracy of the class scores, else, of an embedding, recall@1."""
    kinds = [record.kind for record in _stated(model)]
    scores = next((i for i, kind in enumerate(kinds) if kind in ("logits", "probabilities")), None)
    embedding = kinds.index("embedding") if "embedding" in kinds else None
    chosen = metric or ("recall@1" if embedding is not None and scores is None else "top1")
    if chosen == "recall@1":
        if embedding is None and kinds[0]:
            why = f"by its signature its outputs are {', '.join(kind or '?' for kind in kinds)}"
            raise InputError(f"{model.name} has no embedding", why, 'state kind = "embedding" in an [[output]]')
        return OfOutput(metrics.Recall(), model, embedding or 0)
    if scores is None and embedding is not None:
        what = f"--metric {chosen} needs class scores"
        raise InputError(what, "by its signature the output is an embedding", "use --metric recall@1")
    if chosen == "top5":
        return OfOutput(metrics.TopK(5), model, scores or 0)
    return OfOutput(metrics.top1, model, scores) if scores else metrics.top1


class OfOutput:
    """A metric of one of several outputs, which other formats of the model may name differently."""

    def __init__(self, metric: Scorer, model: Artifact, index: int) -> None:
        self._metric, self._output, self._index = metric, model.outputs[index].name, index
        self.name = chosen_metric(metric)

    def __call__(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        name, index = self._output, self._index
        return self._metric({name: outputs[name] if name in outputs else list(outputs.values())[index]}, labels)

    def notes(self, labels: NDArray[Any]) -> tuple[str, ...]:
        notes: tuple[str, ...] = self._metric.notes(labels) if isinstance(self._metric, metrics.Recall) else ()
        return notes


def _stated(model: Artifact) -> list[OutputSignature]:
    """What the signature says of each output."""
    records = [spec.signature for spec in model.outputs]
    return [record if isinstance(record, OutputSignature) else OutputSignature() for record in records]


class Boxes:
    """COCO's mAP@[.5:.95] of a detector's outputs, decoded as its signature says, clipped to the image.

    It is computed in pixels of the model's input: IoU does not change with the scale of an axis.
    """

    def __init__(self, data: SampleSet, model: Artifact) -> None:
        stated = _stated(model)
        assert data.labels is not None
        if not ((data.labels[..., 0] >= 0) & (data.labels[..., 5] == 0)).any():
            why = "mAP cannot be computed: no image of it has one"
            raise InputError(f"there is no box in {data.name}", why, "check where its label files are, and its split")
        if not heads.complete(stated):
            raise heads.unknown(model.name, model.outputs)
        self._records = [plain(record) for record in stated]
        self._names = [spec.name for spec in model.outputs]
        self._size = _image_size(data, model)
        self._classes = _class_count(data, model, stated)

    def __call__(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        arrays = [outputs[n] for n in self._names] if set(self._names) <= set(outputs) else list(outputs.values())
        try:
            found = detections.decode(arrays, self._records, self._size, detections.MEASURED)
        except ValueError as error:
            raise InputError("the outputs are not those that the signature describes", str(error)) from error
        if why := detections.doubt(arrays, self._records, self._size):
            raise InputError("the outputs are not those that the signature describes", why, SIGNATURE)
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
            ids = (
                array
                if record["kind"] == "class-ids"
                else array[..., 5]
                if record.get("columns") == "score-class"
                else None
            )
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
