"""Signatures in an ONNX file's `metadata_props`: edgekit's own, and what Ultralytics writes."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.core.artifact import TensorSpec
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature, distinct
from edgekit.formats.shared.signature_json import KEY, classes, from_text, to_text

#: Ultralytics' class names, which other tools read too: {0: 'person', 1: 'bicycle'}
NAMES = "names"

#: the grey that Ultralytics fills a letterbox with
FILL = 114.0


def read(props: Mapping[str, str], outputs: Sequence[TensorSpec]) -> tuple[Signature, str]:
    if signature := from_text(props.get(KEY, "")):
        return signature, "edgekit's metadata"
    names = _literal(props.get(NAMES, ""))
    if not isinstance(names, Mapping) or list(names) != list(range(len(names))) or not names:
        return Signature(), ""
    labels = distinct(list(names.values()))
    if props.get("author") != "Ultralytics":
        return Signature((), (OutputSignature(classes=labels),)), "the file's metadata"
    return _ultralytics(props, labels, outputs), "Ultralytics' metadata"


def write(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    props = {entry.key: entry.value for entry in model.metadata_props}
    props[KEY] = to_text(inputs, outputs)
    if names := classes(outputs):
        props[NAMES] = str(dict(enumerate(names)))
    onnx.helper.set_model_props(model, props)
    path.write_bytes(model.SerializeToString())


def _ultralytics(props: Mapping[str, str], labels: tuple[str, ...], outputs: Sequence[TensorSpec]) -> Signature:
    """https://docs.ultralytics.com: detectors see a letterbox, classifiers a centred crop; both from 0 to 1."""
    size = _literal(props.get("imgsz", ""))
    kinds: Mapping[str, Any] = {"classify": "probabilities", "detect": "boxes"}
    kind = kinds.get(props.get("task", ""), "")
    boxes: Any = "" if kind != "boxes" else "xyxy" if _suppresses(props) else "cxcywh"
    meaning = (OutputSignature(kind, classes=labels, boxes=boxes),)
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return Signature((), meaning)
    height, width = size
    sides = height if height == width else (height, width)
    image = InputSignature("image", colour="RGB", scale=1 / 255)
    if kind != "probabilities":
        letterbox = Resize("letterbox", sides, FILL)
        image = InputSignature("image", colour="RGB", exif=True, resize=letterbox, antialias=False, scale=1 / 255)
    elif height == width:
        image = InputSignature("image", colour="RGB", resize=Resize("shortest", height), crop=height, scale=1 / 255)
    return Signature((image,), meaning)


def _suppresses(props: Mapping[str, str]) -> bool:
    """Is non-maximum suppression in the model? Its boxes are corners then."""
    arguments = _literal(props.get("args", ""))
    exported_with = isinstance(arguments, Mapping) and arguments.get("nms") is True
    return exported_with or _literal(props.get("end2end", "")) is True


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
