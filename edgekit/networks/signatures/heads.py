"""What a detector's outputs mean: by the name of its family, or from their shapes where these decide it.

Sources: the exporters of Ultralytics (YOLOv5, v8, v10, 11), YOLOX (Ge et al. 2021, arXiv:2107.08430), DETR (Carion et
al. 2020, arXiv:2005.12872), RT-DETR (Zhao et al. 2023, arXiv:2304.08069), TensorFlow Lite's
TFLite_Detection_PostProcess, and torchvision.models.detection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature, plain
from edgekit.core.signature_check import AXES, layout_of
from edgekit.ondevice import detections

Outputs = tuple[OutputSignature, ...]

_YOLO = OutputSignature("boxes", boxes="cxcywh")

#: family → its outputs, in order
FAMILIES: Mapping[str, Outputs] = {
    "yolov5": (replace(_YOLO, columns="objectness"),),
    "yolov8": (replace(_YOLO, columns="scores", transposed=True),),
    "yolov10": (OutputSignature("boxes", boxes="xyxy", columns="score-class", suppressed=True),),
    "yolox": (replace(_YOLO, columns="objectness", strides=(8, 16, 32)),),
    "detr": (
        OutputSignature("scores", activation="softmax", background="last"),
        OutputSignature("boxes", boxes="cxcywh", relative=True, suppressed=True),
    ),
    "rt-detr": (
        OutputSignature("scores", activation="sigmoid"),
        OutputSignature("boxes", boxes="cxcywh", relative=True, suppressed=True),
    ),
    "ssd": (
        OutputSignature("boxes", boxes="yxyx", relative=True, suppressed=True),
        OutputSignature("class-ids"),
        OutputSignature("scores"),
        OutputSignature("count"),
    ),
    # the lists of one image, with a batch axis of one: see `of_family` for the boxes and scores of all anchors
    "torchvision": (
        OutputSignature("boxes", boxes="xyxy", suppressed=True),
        OutputSignature("class-ids", background="first"),
        OutputSignature("scores"),
    ),
}

#: the grids of a YOLO: one cell for each so many pixels; some have a fourth grid
STRIDES = ((8, 16, 32), (8, 16, 32, 64))
ANCHORS = 3
#: the boxes that a YOLO gives which suppresses the others itself
SELECTED = 300

#: the grey that Ultralytics and YOLOX fill a letterbox with
FILL = 114.0


def of_family(name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
    """The signature of a detector of this family. Raises InputError if it has other outputs."""
    records = FAMILIES[name]
    size = _size(inputs)
    if name == "torchvision":
        outputs, records = _torchvision(outputs)
        inputs = inputs if len(records) == 3 else ()  # a network in code knows its own
    elif name.endswith("detr"):
        order = _by_last_axis(outputs)
        records = (records[1], records[0]) if order == "boxes first" else records if order else ()
    elif len(outputs) < len(records) or not _fits(name, outputs[0], size):
        records = ()
    if not records:
        shapes = ", ".join(map(str, outputs))
        raise InputError(f"these are not the outputs of {name}", shapes, "state them in a signature file: [[output]]")
    named = tuple(replace(record, name=spec.name) for record, spec in zip(records, outputs, strict=False))
    return Signature(_preprocessing(name, inputs), named)


def _torchvision(outputs: Sequence[TensorSpec]) -> tuple[Sequence[TensorSpec], Outputs]:
    """The outputs that matter, and what they mean; nothing if they are not torchvision's.

    Either the lists after suppression, in any order, or the boxes and scores of all anchors (`torchvision_detectors`).
    """
    if len(outputs) == 2 and (order := _by_last_axis(outputs)):
        found = OutputSignature("boxes", boxes="xyxy"), OutputSignature("scores", background="first")
        return outputs if order == "boxes first" else outputs[::-1], found
    boxes = [spec for spec in outputs if len(spec.shape) == 3 and spec.shape[2] == 4]
    lists = [spec for spec in outputs if len(spec.shape) == 2]
    ids = [spec for spec in lists if spec.dtype.startswith("int")]
    scores = [spec for spec in lists if spec not in ids]
    if not len(boxes) == len(ids) == len(scores) == 1:
        return outputs, ()
    return (*boxes, *ids, *scores), FAMILIES["torchvision"]


def _fits(family: str, spec: TensorSpec, size: tuple[int, int] | None) -> bool:
    """Can this be the first output of the family? Open sizes can be anything."""
    if len(spec.shape) != 3:
        return False
    boxes, values = spec.shape[1:] if not family.startswith("yolov8") else spec.shape[:0:-1]
    least = {"ssd": 4, "yolov8": 5}.get(family, 6)
    exact = {"ssd": 4, "yolov10": 6}.get(family)
    if values is not None and (values < least or (exact and values != exact)):
        return False
    each = {"yolov8": 1, "yolox": 1, "yolov5": ANCHORS}.get(family)
    if boxes is None or size is None or each is None:
        return True
    strides = STRIDES[:1] if family == "yolox" else STRIDES
    return boxes in [each * _cells(size, grids) for grids in strides]


def recognised(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], stated: Outputs = ()) -> Signature:
    """What shapes and class names decide; nothing if they leave it open.

    `stated`: what is known of the outputs, class names above all.
    """
    if any(record.kind not in ("", "boxes") for record in stated) or complete(stated):
        return Signature()
    if any(len(spec.shape) == 4 for spec in outputs):  # masks, or maps: the values of a box hold more than its scores
        return Signature()
    classes = next((record.classes for record in stated if record.classes), ())
    size = _size(inputs)
    if size and layout_of(next(spec for spec in inputs if len(spec.shape) == 4)) == "NHWC" and not classes:
        size = None  # Ultralytics' own TFLite files have boxes as shares, others in pixels
    found = {spec.name: _family(spec, size, len(classes), stated) for spec in outputs}
    named = {name: family for name, family in found.items() if family}
    if len(outputs) >= 4 and all("Detection_PostProcess" in spec.name for spec in outputs[:4]):
        named = {outputs[0].name: "ssd"}
    if len(named) != 1:
        return Signature()
    name, family = next(iter(named.items()))
    rows = family.endswith("/rows")
    family = family.removesuffix("/rows")
    records = [replace(record, name="") for record in FAMILIES[family]]
    transposed = records[0].transposed and not rows
    records[0] = replace(records[0], classes=classes, name=name, transposed=transposed)
    if len(records) > 1:
        records = [replace(r, name=spec.name) for r, spec in zip(records, outputs, strict=False)]
    return Signature(_preprocessing(family, inputs), tuple(records))


def complete(records: Sequence[OutputSignature]) -> bool:
    """Do these signatures say how boxes are decoded?"""
    return bool(detections.decodes([plain(record) for record in records]))


def unknown(what: str, outputs: Sequence[TensorSpec]) -> InputError:
    """The error that asks what the outputs mean, showing their shapes."""
    shapes = ", ".join(map(str, outputs))
    how = f'import it with --signature {"|".join(FAMILIES)}, or a signature file with [[output]] kind = "boxes"'
    return InputError(f"it is not known how the outputs of {what} become boxes", shapes, how)


def _family(spec: TensorSpec, size: tuple[int, int] | None, classes: int, stated: Outputs) -> str:
    """The family whose only output this is; "" if the shape leaves it open."""
    if len(spec.shape) != 3 or None in spec.shape[1:]:
        return ""
    first, last = (side or 0 for side in spec.shape[1:])
    corners = any(record.boxes == "xyxy" for record in stated)
    cells = [_cells(size, strides) for strides in STRIDES] if size else []
    if not size:
        return ""
    selected = corners or (first == SELECTED and classes)
    if last == 6 and selected and first not in (*cells, *(n * ANCHORS for n in cells)):
        return "yolov10"
    if corners:
        return ""
    if last in cells and first >= 5 and classes in (0, first - 4) and first not in cells:
        return "yolov8"
    if first in [n * ANCHORS for n in cells] and last >= 6 and classes in (0, last - 5):
        return "yolov5"
    if first in cells and last not in cells and classes and last == classes + 4:
        return "yolov8/rows"
    return ""


def _cells(size: tuple[int, int], strides: Sequence[int]) -> int:
    return sum(math.prod(math.ceil(side / stride) for side in size) for stride in strides)


def _size(inputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """(height, width) of the only image input; None if there is none, or if its size is open."""
    images = [spec for spec in inputs if len(spec.shape) == 4]
    if len(images) != 1:
        return None
    _, row, column = AXES[layout_of(images[0])]
    height, width = images[0].shape[row], images[0].shape[column]
    return (height, width) if height and width else None


def _by_last_axis(outputs: Sequence[TensorSpec]) -> str:
    """Which of two outputs (N, boxes, …) has the boxes; "" if that is not clear."""
    lasts = [spec.shape[-1] if len(spec.shape) == 3 else None for spec in outputs[:2]]
    if lasts.count(4) != 1 or None in lasts:
        named = [index for index, spec in enumerate(outputs[:2]) if "box" in spec.name.lower()]
        return "" if len(named) != 1 or None in lasts else ("boxes first", "scores first")[named[0]]
    return ("boxes first", "scores first")[lasts.index(4)]


def _preprocessing(family: str, inputs: Sequence[TensorSpec]) -> tuple[InputSignature, ...]:
    """What networks of the family are trained on; nothing if the size of the image is open, or for other families."""
    size = _size(inputs)
    if size is None or not family.startswith(("yolo", "torchvision")):
        return ()
    name = next(spec.name for spec in inputs if len(spec.shape) == 4)
    corner = family in ("yolox", "torchvision")
    letterbox = Resize("letterbox-corner" if corner else "letterbox", size[0] if size[0] == size[1] else size, FILL)
    image = InputSignature(
        "image", name=name, colour="RGB", exif=True, resize=letterbox, antialias=False, scale=1 / 255
    )
    return (replace(image, colour="BGR", scale=1.0) if family == "yolox" else image,)
