"""A model's signature: what its inputs are made from, and what its outputs mean.

One record per input and output, in the model's order or by `name`. It is read from a TOML file, from a library's
transforms or from a model file's metadata, stored with the artifact, and used wherever files become arrays: training,
calibration, verification, measurement, prediction, and the programs of a bundle (`edgekit/ondevice/preprocess.py`).

    [[input]]
    kind = "image"
    layout = "NCHW"
    colour = "RGB"
    resize = {mode = "shortest", size = 36}
    crop = 32
    scale = 0.00392156862745098
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]

    [[output]]
    kind = "logits"
    classes = ["airplane", "automobile"]
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from edgekit.core.config import build
from edgekit.core.errors import Problem

T = TypeVar("T", "InputSignature", "OutputSignature")

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Resize:
    """How an image gets its size, in pixels.

    `stretch` to `size` (height, width; one number: a square). `shortest`: its shorter side becomes `size`, the aspect
    ratio is kept. `letterbox`: it fits into `size` with its aspect ratio, centred, and the rest is `fill` (0 to 255).
    `letterbox-corner`: the same in the upper left corner, its sides rounded down (YOLOX, torchvision's detectors).
    """

    mode: Literal["stretch", "shortest", "letterbox", "letterbox-corner"]
    size: int | tuple[int, int]
    fill: float = 0.0

    def problems(self) -> Iterator[str]:
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if any(side < 1 for side in sides):
            yield "size must be positive"
        if self.mode == "shortest" and len(sides) == 2:
            yield "size is one number for shortest: the length of the shorter side"
        if not 0 <= self.fill <= 255:
            yield f"fill is a grey level from 0 to 255, not {self.fill:g}"

    @property
    def height_width(self) -> tuple[int, int]:
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)


@dataclass(frozen=True)
class Column:
    """A column of a table: a number, which is one value, or one of `categories`, which is one value for each of them: 1
    for the cell's, 0 for the others. `missing`: the number that a missing cell becomes, None: it is an error; among the
    categories, "" is a missing cell.
    """

    name: str
    categories: tuple[str, ...] = ()
    missing: float | None = None

    def problems(self) -> Iterator[str]:
        if len(set(self.categories)) < len(self.categories):
            yield f"two categories of {self.name!r} have one name"
        if self.missing is not None and (self.categories or not math.isfinite(self.missing)):
            yield f"missing of {self.name!r} must be a finite number, and is for a column of numbers"

    @property
    def width(self) -> int:
        """How many values of the model's input it is."""
        return len(self.categories) or 1


@dataclass(frozen=True)
class InputSignature:
    """What one input is made from. The model sees (x * scale - mean) / std, where x is the decoded value.

    image: x is a grey level from 0 to 255. `exif`: the orientation in its EXIF data is applied first (torchvision's
    ImageFolder does not, Hugging Face's processors do). Then `resize`, with `interpolation` (`antialias`: as Pillow,
    the filter widens when the image shrinks), then the centred `crop` (one number: a square; `crop_offset`: how half a
    pixel is rounded, `even` as torchvision, `down` as Hugging Face). `colour` is the order of the channels.
    audio: x is from -1 to 1; `rate` in Hz; cut or zero-padded to `seconds`, if given.
    text: `tokenizer` is a file of the artifact, and its path here; `max_length` tokens. `part`: what of them the input
    holds: their ids (""), the mask (1 for a token, 0 for padding), or the segments (0 in a first text, 1 in a second).
    table: `columns`, in this order.
    tensor: an array, as it is.
    `range`: the least and greatest value that the model's input takes; token ids, for text.
    `mean` and `std`: one value, or one for each channel, in the model's order (blue first if `colour` is BGR).
    """

    kind: Literal["image", "audio", "text", "table", "tensor"] = "tensor"
    name: str = ""
    layout: Literal["", "NCHW", "NHWC", "NHW"] = ""
    colour: Literal["", "RGB", "BGR", "gray"] = ""
    exif: bool = False
    resize: Resize | None = None
    crop: int | tuple[int, int] | None = None
    crop_offset: Literal["even", "down"] = "even"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    rate: int = 0
    seconds: float = 0.0
    tokenizer: str = ""
    max_length: int = 0
    part: Literal["", "mask", "segments"] = ""
    columns: tuple[Column, ...] = ()
    range: tuple[float, float] | None = None

    def problems(self) -> Iterator[str]:
        numbers = (self.scale, self.seconds, *self.mean, *self.std, *(self.range or ()))
        if not all(map(math.isfinite, numbers)):
            yield "scale, mean, std, seconds and range must be finite"
        if self.scale == 0 or any(value <= 0 for value in self.std):
            yield "scale must not be 0, and std must be positive"
        if len(self.mean) > 1 and len(self.std) > 1 and len(self.mean) != len(self.std):
            yield f"mean has {len(self.mean)} values, and std has {len(self.std)}"
        if self.crop is not None and min(self.crop_size or (0, 0)) < 1:
            yield "crop must be positive"
        if min(self.rate, self.seconds, self.max_length) < 0:
            yield "rate, seconds and max_length must not be negative"
        if self.range is not None and self.range[0] >= self.range[1]:
            yield "range is the least and the greatest value"
        image = {
            "layout": self.layout,
            "colour": self.colour,
            "resize": self.resize,
            "crop": self.crop,
            "exif": self.exif,
        }
        if self.kind != "image":
            yield from (f"{name} is for images, and kind is {self.kind!r}" for name, value in image.items() if value)
        if self.kind != "audio" and (self.rate or self.seconds):
            yield f"rate and seconds are for audio, and kind is {self.kind!r}"
        if self.kind != "text" and self.part:
            yield f"part is for text, and kind is {self.kind!r}"
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names) or (names and self.kind != "table"):
            yield "columns are for a table, each once"
        channels = {"gray": 1, "RGB": 3, "BGR": 3}.get(self.colour, 0)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if channels and len(values) not in (0, 1, channels):
                yield f"{name} has {len(values)} values, and {self.colour} has {channels} channel(s)"

    @property
    def crop_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The size of the image that the model sees; None if it depends on the file."""
        if self.crop is not None:
            return self.crop_size
        if self.resize is not None and self.resize.mode != "shortest":
            return self.resize.height_width
        return None

    @property
    def normalizes(self) -> bool:
        return self.scale != 1.0 or bool(self.mean) or bool(self.std)

    def span(self) -> tuple[float, float] | None:
        """The least and greatest value that the model's input can take; None if unknown."""
        if self.range is not None:
            return self.range
        least, greatest = {"image": (0.0, 255.0), "audio": (-1.0, 1.0)}.get(self.kind, (math.nan, math.nan))
        if math.isnan(least):
            return None
        count = max(len(self.mean), len(self.std), 1)
        means = [self.mean[min(i, len(self.mean) - 1)] if self.mean else 0.0 for i in range(count)]
        stds = [self.std[min(i, len(self.std) - 1)] if self.std else 1.0 for i in range(count)]
        ends = [
            (end * self.scale - mean) / std for end in (least, greatest) for mean, std in zip(means, stds, strict=True)
        ]
        return min(ends), max(ends)


@dataclass(frozen=True)
class OutputSignature:
    """What one output means. `classes`: their names by index, for logits, probabilities, boxes and masks.

    A detector's `boxes` are (N, boxes, 4 or more), or (N, 4 or more, boxes) if `transposed`:
    `boxes`: the first four values: corners (x or y first), or a corner or the centre with width and height, in pixels
    of the input or, `relative`, as a share of it. `columns`: what follows them: the class scores; an objectness, which
    they are multiplied by, and the class scores; or the score and index of the best class. If nothing follows, the
    outputs of the kinds `scores` (N, boxes, classes), or (N, boxes) with `class-ids` (N, boxes), hold it; `count` (N,)
    is how many of the boxes are valid.
    `activation`: what is still to be applied to the scores; also of a mask with one score per pixel, a logit (sigmoid)
    or a probability (none). `background`: the class that stands for no object; class ids count it, too.
    `strides`: the grids in whose cells the boxes are given, YOLOX's encoding: offset from the cell, and the logarithm
    of width and height in cells. With `anchors`, the (width, height) in pixels of each anchor of a cell, a list for
    each stride: the offset of the centre in anchors, and the logarithm of width and height in anchors, each times its
    one of the four `variances`; `origin`: where in its cell an anchor's centre lies, 0.5 in the middle.
    `suppressed`: non-maximum suppression is done already. `family`: stands for the other keys of a well-known detector:
    yolov5, yolov8 (9, 11, 12, too), yolov10, yolox, detr, rt-detr, ssd, torchvision.
    """

    kind: Literal[
        "", "logits", "probabilities", "boxes", "scores", "class-ids", "count", "mask", "embedding", "values"
    ] = ""
    name: str = ""
    classes: tuple[str, ...] = ()
    boxes: Literal["", "xyxy", "xywh", "cxcywh", "yxyx"] = ""
    relative: bool = False
    columns: Literal["", "scores", "objectness", "score-class"] = ""
    transposed: bool = False
    activation: Literal["", "none", "sigmoid", "softmax"] = ""
    background: Literal["", "first", "last"] = ""
    strides: tuple[int, ...] = ()
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    variances: tuple[float, ...] = ()
    origin: float = 0.5
    suppressed: bool = False
    family: Literal["", "yolov5", "yolov8", "yolov10", "yolox", "detr", "rt-detr", "ssd", "torchvision"] = ""

    def problems(self) -> Iterator[str]:
        doubled = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if doubled:
            yield f"two classes are called {doubled[0]!r}"
        if self.boxes and self.kind != "boxes":
            yield f"the form of boxes is {self.boxes!r}, and kind is {self.kind!r}"
        of_boxes = {
            "columns": self.columns,
            "strides": self.strides,
            "anchors": self.anchors,
            "relative": self.relative,
        }
        if self.kind != "boxes":
            yield from (f"{name} is for boxes, and kind is {self.kind!r}" for name, value in of_boxes.items() if value)
        activation = self.activation if self.kind != "mask" else ""
        scored = {"activation": activation, "background": self.background, "transposed": self.transposed}
        if self.kind == "class-ids" and self.background != "last":
            scored.pop("background")
        if self.kind not in ("boxes", "scores"):
            yield from (f"{name} is for a detector's scores" for name, value in scored.items() if value)
        if any(stride < 1 for stride in self.strides):
            yield "strides must be positive, in pixels"
        if self.anchors and len(self.anchors) != len(self.strides):
            yield f"anchors are a list for each stride, and there are {len(self.anchors)} and {len(self.strides)}"
        sides = [side for anchors in self.anchors for anchor in anchors for side in anchor]
        if self.anchors and not (all(self.anchors) and all(0 < side < math.inf for side in sides)):
            yield "an anchor is a width and a height in pixels"
        if self.variances and (
            not self.anchors or len(self.variances) != 4 or not all(map(math.isfinite, self.variances))
        ):
            yield "variances are four finite numbers, for boxes with anchors"
        if self.origin != 0.5 and not self.anchors:
            yield "origin is for boxes with anchors"
        if not 0 <= self.origin <= 1:
            yield f"origin is a share of a cell, from 0 to 1, not {self.origin:g}"
        if (self.strides or self.anchors) and (self.relative or self.boxes not in ("", "cxcywh")):
            yield "boxes of strides are cxcywh, and never relative"


TensorSignature = InputSignature | OutputSignature


def distinct(names: Sequence[Any]) -> tuple[str, ...]:
    """The names of classes from elsewhere; a name that comes again gets its index: crane, crane (517)."""
    first: dict[str, int] = {}
    return tuple(
        word if first.setdefault(word, index) == index else f"{word} ({index})"
        for index, word in enumerate(map(str, names))
    )


@dataclass(frozen=True)
class Signature:
    """Of a whole model. Inputs and outputs with a name are matched by it, others by their position."""

    inputs: tuple[InputSignature, ...] = ()
    outputs: tuple[OutputSignature, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the first output that has some."""
        return next((output.classes for output in self.outputs if output.classes), ())

    def to_table(self) -> dict[str, Any]:
        """As in a signature file: `input` and `output`, without what has its default."""
        sides: dict[str, Sequence[TensorSignature]] = {"input": self.inputs, "output": self.outputs}
        return {side: [plain(record) for record in records] for side, records in sides.items() if records}

    def to_json(self) -> str:
        """One line, the same for equal signatures."""
        return json.dumps(self.to_table(), sort_keys=True)


def plain(record: TensorSignature) -> dict[str, Any]:
    """The record as JSON values, without what has its default; `kind` always. Of a tokenizer's path its name."""
    values = dataclasses.asdict(record)
    if isinstance(record, InputSignature):
        values["tokenizer"] = record.tokenizer.rpartition("/")[2]
    defaults = dataclasses.asdict(type(record)())
    resize = record.resize if isinstance(record, InputSignature) else None
    if resize is not None and not resize.mode.startswith("letterbox"):
        values["resize"].pop("fill")
    if isinstance(record, InputSignature):
        values["columns"] = tuple(
            {key: v for key, v in column.items() if v not in (None, ())} for column in values["columns"]
        )
    changed = {key: v for key, v in values.items() if key == "kind" or v != defaults[key]}
    result: dict[str, Any] = json.loads(json.dumps(changed))
    return result


def parse(table: Mapping[str, Any], where: str = "") -> tuple[Signature, list[Problem]]:
    """The signature of a table as in a signature file, and every problem with it."""
    problems = [Problem(where, f"unknown key {key!r}", "input, output") for key in table if key not in _SIDES]
    sides: dict[str, list[Any]] = {}
    for side, record in _SIDES.items():
        entries = table.get(side, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            problems.append(Problem(side, f"must be tables: [[{side}]]"))
            continue
        sides[side] = []
        for index, entry in enumerate(entries):
            built, wrong = build(record, entry, f"{side}[{index}]")
            sides[side].append(built)
            problems += wrong
    if problems:
        return Signature(), problems
    return Signature(tuple(sides["input"]), tuple(sides["output"])), []


def input_of(table: Mapping[str, Any]) -> InputSignature:
    """The record of what `plain` wrote. Raises ValueError."""
    return _one(InputSignature, table)


def output_of(table: Mapping[str, Any]) -> OutputSignature:
    """The record of what `plain` wrote. Raises ValueError."""
    return _one(OutputSignature, table)


_SIDES: dict[str, type[InputSignature] | type[OutputSignature]] = {"input": InputSignature, "output": OutputSignature}


def _one(record: type[T], table: Mapping[str, Any]) -> T:
    built, problems = build(record, table, "signature")
    if built is None:
        raise ValueError("; ".join(map(str, problems)))
    return built


def matched(records: Sequence[T], names: Sequence[str]) -> list[T | None]:
    """The record of each of the model's tensors: by name, else by position among those without one.

    Raises ValueError if a record names no tensor, or if there are more records than tensors.
    """
    if unknown := [record.name for record in records if record.name and record.name not in names]:
        raise ValueError(f"there is no {unknown[0]!r}: the model has {', '.join(names)}")
    by_name = {record.name: record for record in records if record.name}
    unnamed = iter([record for record in records if not record.name])
    result = [by_name[name] if name in by_name else next(unnamed, None) for name in names]
    if left := list(unnamed):
        raise ValueError(f"{len(left)} more than the model's {len(names)}: {', '.join(names)}")
    return result
