"""Predictions of each model for a few of the samples it was measured on, stored for the report.

The samples are stored once in the run folder (`samples-SET.json`, images as small PNGs), the predictions in the
artifact's folder (`answers-KEY.json`), with the confusion matrix of all samples, or the metric of each class. Of a
detector, a few images with their boxes are stored; masks are not.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import Artifact
from edgekit.core.local_paths import names_only
from edgekit.core.measurement import Run
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.measure import sample_boxes
from edgekit.runs import written
from edgekit.runs.store import SAMPLES

#: samples to store, evenly spread over the set; the report shows the most informative of them
COUNT = 24
#: pixels of a stored image's longer side at most, and of its shorter side at least
PIXELS, SMALLEST = 96, 8
#: a confusion matrix is stored for no more classes
MOST_CLASSES = 30
#: a metric by class is stored for no more classes, the first that occur
MOST_BY_CLASS = 100
#: characters of a prediction's text at most
LONGEST = 120


def store(
    artifact: Artifact,
    run: Run,
    data: SampleSet,
    task: Task | None,
    run_folder: Path,
    key: str,
    scores: Scores | None = None,
) -> None:
    """Write the predictions of this run, and the samples if they are not stored yet; `run_folder` holds both."""
    classes = tuple(task.classes) if task else ()
    document: dict[str, Any] = {"set_sha256": data.sha256, "answers": []}
    samples: list[dict[str, Any]] = []
    names = classes or artifact.signature.classes or data.classes
    if scores is not None and scores.by_class is not None:
        document["by_class"] = _by_class(scores.by_class(scores.per_sample), names)
    if scores is not None and scores.boxes is not None:
        assert data.labels is not None
        for i in sample_boxes.chosen(data.labels):
            pixels = sample_boxes.image(artifact, data, i)
            png_text = None if pixels is None else base64.b64encode(png(pixels)).decode()
            true = sample_boxes.true_boxes(artifact, data, i, names)
            found = sample_boxes.predicted_boxes(artifact, data, scores.boxes[i], i, names)
            samples.append({"index": i, "label": "", "png": png_text, "boxes": true})
            document["answers"].append({"text": "", "right": None, "boxes": found})
    else:
        chosen = np.unique(np.linspace(0, len(data) - 1, COUNT).astype(int))
        predictions = [_prediction(artifact, run.outputs, data, task, classes, int(i)) for i in chosen]
        if any(prediction["text"] for prediction in predictions):
            document["answers"] = predictions
            samples = [
                {"index": int(i), "label": _label(data.labels, int(i), classes), "png": _png_of(data.inputs, int(i))}
                for i in chosen
            ]
            if matrix := _confusion(run.outputs, data.labels, classes):
                document["confusion"] = matrix
    name = SAMPLES.format(data.sha256.replace("/", "-"))
    if samples and not (run_folder / name).is_file():
        described = {"set": names_only(data.name), "set_sha256": data.sha256, "samples": samples}
        written.write(run_folder, name, json.dumps(described) + "\n")
    if samples or "by_class" in document:
        written.write_beside(artifact, f"answers-{key}.json", json.dumps(document) + "\n")


def _by_class(values: Mapping[str, NDArray[Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """The values of the classes that occur, and how many more there are."""
    occur = np.flatnonzero(~np.isnan(next(iter(values.values()))))
    first = occur[:MOST_BY_CLASS]
    return {
        "classes": [_class(int(i), names) for i in first],
        "values": {name: [round(float(v), 5) for v in array[first]] for name, array in values.items()},
        "left_out": len(occur) - len(first),
    }


def _confusion(
    outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any] | None, classes: tuple[str, ...]
) -> dict[str, Any] | None:
    """Counts of all samples, a row per true class and a column per predicted one; None unless the only output is
    (samples, classes), with at most MOST_CLASSES, and the labels are classes.
    """
    scores = next(iter(outputs.values()))
    if len(outputs) != 1 or scores.ndim != 2 or not 2 <= scores.shape[1] <= MOST_CLASSES:
        return None
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(scores):
        return None
    count = scores.shape[1]
    if labels.min() < 0 or labels.max() >= count:
        return None
    counts = np.zeros((count, count), np.int64)
    np.add.at(counts, (labels, scores.argmax(axis=1)), 1)
    return {"classes": [_class(i, classes) for i in range(count)], "counts": counts.tolist()}


def _prediction(
    artifact: Artifact,
    outputs: Mapping[str, NDArray[Any]],
    data: SampleSet,
    task: Task | None,
    classes: tuple[str, ...],
    index: int,
) -> dict[str, Any]:
    """{"text": the prediction in words, "right": is it the label's class (None: unknown)}."""
    first = next(iter(outputs.values()))[index]
    label = data.labels[index] if data.labels is not None else None
    if task is not None and task.tell is not None:
        own = {name: array[index] for name, array in outputs.items()}
        sample = {name: array[index] for name, array in data.inputs.items()}
        return {"text": str(task.tell(own, sample, artifact.path)["text"])[:LONGEST], "right": None}
    if len(outputs) == 1 and first.ndim == 1 and len(first) > 1 and (label is None or _is_class(label)):
        predicted = int(first.argmax())
        return {"text": _class(predicted, classes), "right": None if label is None else predicted == int(label)}
    if len(outputs) == 1 and first.size == 1:
        return {"text": f"{float(first.reshape(-1)[0]):.4g}", "right": None}
    return {"text": "", "right": None}


def _is_class(label: Any) -> bool:
    array = np.asarray(label)
    return array.ndim == 0 and array.dtype.kind in "iu"


def _class(index: int, classes: tuple[str, ...]) -> str:
    return classes[index] if index < len(classes) else str(index)


def _label(labels: NDArray[Any] | None, index: int, classes: tuple[str, ...]) -> str:
    if labels is None:
        return ""
    if _is_class(labels[index]):
        return _class(int(labels[index]), classes)
    value = np.asarray(labels[index])
    return f"{float(value.reshape(-1)[0]):.4g}" if value.size == 1 and value.dtype.kind in "fiu" else ""


def _png_of(inputs: Mapping[str, NDArray[Any]], index: int) -> str | None:
    """The sample as a PNG in base64 if it is one image of bytes: (H, W), (1 or 3, H, W), (H, W, 1 or 3)."""
    if len(inputs) != 1:
        return None
    pixels = np.asarray(next(iter(inputs.values()))[index])
    if pixels.dtype != np.uint8:
        return None
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or min(pixels.shape[:2]) < SMALLEST:
        return None
    step = -(-max(pixels.shape[:2]) // PIXELS)
    return base64.b64encode(png(pixels[::step, ::step])).decode()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W) gray or (H, W, 3) colour → a PNG (W3C, third edition), without an image library."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
