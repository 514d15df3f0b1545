"""`preprocessing.h` of a bundle: its preprocessing and its classes, for programs in C (`ondevice/native/preprocess.h`).

Only numbers, words of edgekit's own and escaped strings are written: nothing in a manifest becomes code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.core.printable import printable
from edgekit.core.signature import input_of
from edgekit.ondevice.predict import ASSUMED

FILTERS = {
    "nearest": "PRE_NEAREST",
    "box": "PRE_BOX",
    "bilinear": "PRE_BILINEAR",
    "hamming": "PRE_HAMMING",
    "bicubic": "PRE_BICUBIC",
    "lanczos": "PRE_LANCZOS",
}
MODES = {
    "stretch": "PRE_STRETCH",
    "shortest": "PRE_SHORTEST",
    "letterbox": "PRE_LETTERBOX",
    "letterbox-corner": "PRE_LETTERBOX_CORNER",
}

#: what `preprocess.image` takes in addition to a signature
OTHER_KEYS = ("input", "channels", "height", "width", "assumed")

HEADER = """\
/* Made by edgekit from manifest.json: how this model's input is made from an image, and the names of its classes. */
#ifndef EDGEKIT_PREPROCESSING_H
#define EDGEKIT_PREPROCESSING_H

#include "preprocess.h"

/* Why no image can be read; "" if images can be read. */
static const char *const IMAGE_PROBLEM = {problem};

/* A warning that is printed with every answer to an image; "" if there is none. */
static const char *const IMAGE_WARNING = {warning};

/* The size of the model's input in pixels; 0 if it is open. */
enum {{ INPUT_HEIGHT = {height}, INPUT_WIDTH = {width} }};

static inline PreFront preprocessing(void) {{
    PreFront front = pre_front();
{fields}    return front;
}}

/* Of the output's signature: 1, logits; 2, probabilities; 0, not known. */
enum {{ SCORES = {scores} }};

/* By index of the output. */
enum {{ CLASS_COUNT = {count} }};
static const char *const CLASSES[] = {{
{classes}}};

#endif
"""


def preprocessing_header(record: Mapping[str, Any], classes: Sequence[str], scores: str = "") -> str:
    """The text of the header for a manifest's `preprocessing` and `labels`; `scores`: the kind of the first output."""
    problem = image_problem(record)
    fields = [] if problem else list(_fields(record))
    return HEADER.format(
        problem=c_string(problem),
        warning=c_string(ASSUMED if record.get("assumed") else ""),
        height=int(record.get("height") or 0),
        width=int(record.get("width") or 0),
        fields="".join(f"    front.{name} = {value};\n" for name, value in fields),
        scores={"logits": 1, "probabilities": 2}.get(scores, 0),
        count=len(classes),
        classes="".join(f"    {c_string(printable(name))},\n" for name in classes) or "    NULL,\n",
    )


def image_problem(record: Mapping[str, Any]) -> str:
    """Why preprocess.h cannot make this input from an image; "" if it can."""
    if record["kind"] == "audio":
        return "this model takes sounds, which only predict.py reads"
    if record["kind"] == "table":
        return "this model takes rows of a table, which only predict.py reads"
    if record["kind"] == "text":
        return "this model takes texts, which only predict.py makes tokens of"
    if record["kind"] != "image":
        return "how this model's input is made from an image is not known"
    if any(len(record.get(name, ())) > 3 for name in ("mean", "std")):
        return "mean and std have more than 3 values"
    return ""


def c_string(text: str) -> str:
    """A string literal of the text in UTF-8. An octal escape has three digits: the next character is not part of it."""
    return '"' + "".join(map(_escaped, text.encode("utf-8", "replace"))) + '"'


def _escaped(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and chr(byte) not in '"\\?'  # a question mark may begin a trigraph
    return chr(byte) if plain else f"\\{byte:03o}"


def _fields(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    signature = input_of({key: value for key, value in record.items() if key not in OTHER_KEYS})
    gray = signature.layout == "NHW" or record.get("channels") == 1 or signature.colour == "gray"
    yield "channels", str(int(record.get("channels") or 0))
    yield "gray", str(int(gray))
    yield "bgr", str(int(signature.colour == "BGR"))
    yield "nhwc", str(int(signature.layout in ("NHWC", "NHW")))
    yield from _size(record)
    for axis, side in enumerate(signature.crop_size or ()):
        yield f"crop[{axis}]", str(side)
    yield "crop_down", str(int(signature.crop_offset == "down"))
    yield "filter", FILTERS[signature.interpolation]
    yield "antialias", str(int(signature.antialias))
    yield "scale", c_float(signature.scale)
    for name, values in (("mean", signature.mean), ("std", signature.std)):
        yield f"{name}s", str(len(values))
        for channel, value in enumerate(values):
            yield f"{name}[{channel}]", c_float(value)


def _size(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The resize; without resize and crop, the image is stretched to the model's input."""
    resize = input_of({"kind": "image", "resize": record["resize"]}).resize if record.get("resize") else None
    if resize is not None:
        mode, size, fill = resize.mode, resize.height_width, resize.fill
    elif record.get("crop") is None and record.get("height") and record.get("width"):
        mode, size, fill = "stretch", (int(record["height"]), int(record["width"])), 0.0
    else:
        return
    yield "mode", MODES[mode]
    for axis, side in enumerate(size):
        yield f"size[{axis}]", str(side)
    yield "fill", repr(float(fill))


def c_float(value: float) -> str:
    """A constant that a compiler reads as the same float32."""
    return f"{float(f'{np.float32(value):.9g}')!r}f"
