"""Does a signature fit a model? Sizes, channels and the number of classes are compared with the model's tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Signature, T, matched

#: where channels, height and width are in an input's shape; NHW has no channel axis
AXES = {"NCHW": (1, 2, 3), "NHWC": (3, 1, 2), "NHW": (None, 1, 2)}

#: the numbers of channels of an image
CHANNELS = (1, 3)


def signed(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], signature: Signature
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The tensors with their signature; an image's layout and colour are filled in from the shape.

    Raises InputError, with every contradiction, if the signature does not fit the model.
    """
    problems: list[str] = []
    signed_inputs, signed_outputs = [], []
    for spec, record in zip(inputs, _matched("input", signature.inputs, inputs, problems), strict=True):
        if record is not None:
            record = dataclasses.replace(completed(record, spec), name="")
            problems += input_problems(record, spec)
        signed_inputs.append(dataclasses.replace(spec, signature=record))
    for spec, meaning in zip(outputs, _matched("output", signature.outputs, outputs, problems), strict=True):
        if meaning is not None:
            meaning = dataclasses.replace(meaning, name="")
            problems += output_problems(meaning, spec)
        signed_outputs.append(dataclasses.replace(spec, signature=meaning))
    if problems:
        raise InputError("the signature contradicts the model", "; ".join(problems), "fix the signature, then repeat")
    return tuple(signed_inputs), tuple(signed_outputs)


def _matched(side: str, records: Sequence[T], specs: Sequence[TensorSpec], problems: list[str]) -> list[T | None]:
    try:
        return matched(records, [spec.name for spec in specs])
    except ValueError as error:
        problems.append(f"{side}: {error}")
        return [None] * len(specs)


def completed(record: InputSignature, spec: TensorSpec) -> InputSignature:
    """The record with an image's layout and colour order, where it leaves them out and the shape decides them."""
    if record.kind != "image":
        return record
    layout = record.layout or layout_of(spec)
    if not layout:
        return record
    channels = _at(spec, AXES[layout][0]) if layout != "NHW" else 1
    colour = record.colour or ("gray" if channels == 1 else "RGB" if channels == 3 else "")
    return dataclasses.replace(record, layout=layout, colour=colour)  # type: ignore[arg-type]


def layout_of(spec: TensorSpec) -> str:
    """NHW without a channel axis; of NCHW and NHWC the one with 1 or 3 channels, NCHW if both or neither; "" for a
    tensor that is no image."""
    if len(spec.shape) == 3:
        return "NHW"
    if len(spec.shape) != 4:
        return ""
    return "NHWC" if spec.shape[3] in CHANNELS and spec.shape[1] not in CHANNELS else "NCHW"


def input_problems(record: InputSignature, spec: TensorSpec) -> Iterator[str]:
    """What contradicts the tensor, a sentence each."""
    if record.columns and None not in spec.shape[1:]:
        width, taken = sum(column.width for column in record.columns), math.prod(n or 1 for n in spec.shape[1:])
        if width != taken:
            yield f"the columns are {width} values, and {spec} takes {taken}"
    if record.kind == "image":
        if len(spec.shape) not in (3, 4) or not record.layout or len(AXES[record.layout]) != 3:
            yield f"{spec} is no image, which has 3 or 4 axes"
            return
        if (len(spec.shape) == 3) != (record.layout == "NHW"):
            yield f"{spec} has {len(spec.shape)} axes, and the layout is {record.layout}"
            return
        channel_axis, *sides = AXES[record.layout]
        channels = _at(spec, channel_axis) if channel_axis is not None else 1
        if channels and channels not in CHANNELS:
            yield f"{spec} has {channels} channels in {record.layout}; an image has 1 or 3"
        wanted = {"gray": (1, 3), "RGB": (3,), "BGR": (3,)}.get(record.colour, ())
        if channels and wanted and channels not in wanted:
            yield f"colour is {record.colour}, and {spec} has {channels} channel(s)"
        if channels:
            yield from _per_channel(record, channels, str(spec))
        size = tuple(_at(spec, axis) for axis in sides)
        if record.height_width and any(a and a != b for a, b in zip(size, record.height_width, strict=True)):
            has, takes = (" x ".join(map(str, (a or "?" for a in pair))) for pair in (record.height_width, size))
            yield f"its images become {has} (height x width), and {spec} takes {takes}"
        if record.crop is None and record.resize is not None and record.resize.mode == "shortest":
            side = record.resize.size
            if None not in size and side != min(filter(None, size)):
                takes = " x ".join(map(str, size))
                yield f"the shorter side of its images becomes {side}, and {spec} takes {takes} (height x width)"
    if record.kind == "audio":
        yield from _per_channel(record, 1, str(spec))
        lengths = [size for size in spec.shape[1:] if size not in (1, None)]
        samples = round(record.seconds * record.rate)
        if len(lengths) == 1 and samples and samples != lengths[0]:
            yield f"{record.seconds:g} s at {record.rate} Hz are {samples} samples, and {spec} takes {lengths[0]}"
    integers = spec.dtype.startswith(("int", "uint")) and spec.quantization is None
    if integers and record.kind in ("image", "audio") and record.normalizes:
        yield f"{spec} takes integers, which scale, mean and std would make fractions"


def _per_channel(record: InputSignature, channels: int, name: str) -> Iterator[str]:
    for what, values in (("mean", record.mean), ("std", record.std)):
        if len(values) not in (0, 1, channels):
            yield f"{what} has {len(values)} values, and {name} has {channels} channel(s)"


def output_problems(record: OutputSignature, spec: TensorSpec) -> Iterator[str]:
    """What contradicts the tensor, a sentence each."""
    count = len(record.classes)
    if record.kind in ("logits", "probabilities", "mask") and count and len(spec.shape) >= 2:
        axes = [spec.shape[-1]] if len(spec.shape) == 2 else [spec.shape[1], spec.shape[-1]]
        one_value = count == 2 and 1 in axes  # a single score of two classes
        class_map = record.kind == "mask" and (len(spec.shape) == 3 or 1 in axes)  # the best class of each pixel
        if not class_map and None not in axes and count not in axes and not one_value:
            yield f"it names {count} classes, and {spec} has {' or '.join(map(str, dict.fromkeys(axes)))}"
    if record.kind == "scores" and count and len(spec.shape) == 3:
        scored = spec.shape[1 if record.transposed else 2]
        if scored is not None and scored != count + bool(record.background):
            yield f"it names {count} classes, and {spec} has {scored - bool(record.background)}"
    if record.kind == "boxes" and record.columns:
        yield from _box_problems(record, spec)


def _box_problems(record: OutputSignature, spec: TensorSpec) -> Iterator[str]:
    if len(spec.shape) != 3:
        yield f"boxes with scores have 3 axes, and {spec} has {len(spec.shape)}"
        return
    values = spec.shape[1 if record.transposed else 2]
    before = {"scores": 4, "objectness": 5, "score-class": 6}[record.columns]
    classes = len(record.classes) + bool(record.background)
    if values is None:
        return
    if values < before + (record.columns != "score-class"):
        yield f"a box and {record.columns} are more than the {values} values of {spec}"
    elif record.classes and record.columns != "score-class" and values != before + classes:
        yield f"it names {len(record.classes)} classes, and {spec} has {values - before - bool(record.background)}"


def _at(spec: TensorSpec, axis: int | None) -> int | None:
    return None if axis is None else spec.shape[axis]
