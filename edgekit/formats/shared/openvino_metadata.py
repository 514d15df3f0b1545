"""Signatures in an OpenVINO IR's `rt_info`: edgekit's own, and OpenVINO Model API's `model_info`.

https://github.com/open-edge-platform/model_api: values are strings, those of lists are separated by spaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from edgekit.core.artifact import TensorSpec
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature, distinct
from edgekit.core.signature_check import AXES, layout_of
from edgekit.formats.shared.signature_json import from_text, meanings, per_pixel, records, to_text

#: where in `rt_info`
EDGEKIT, SIGNATURE, INFO = "edgekit", "signature", "model_info"

#: Model API's names
KINDS: Mapping[str, Any] = {"logits": "Classification", "probabilities": "Classification", "mask": "Segmentation"}
INTERPOLATIONS: Mapping[str, Any] = {"LINEAR": "bilinear", "CUBIC": "bicubic", "NEAREST": "nearest"}


def read(root: ET.Element, inputs: Sequence[TensorSpec]) -> tuple[Signature, str]:
    own = root.find(f"rt_info/{EDGEKIT}/{SIGNATURE}")
    if own is not None and (signature := from_text(own.get("value", ""))):
        return signature, "edgekit's metadata"
    info = {element.tag: element.get("value", "") for element in root.iterfind(f"rt_info/{INFO}/*")}
    if not info:
        return Signature(), ""
    image = next((spec for spec in inputs if len(spec.shape) == 4), None)
    record = _image(info, image) if image is not None else None
    known = (record,) if record else ()
    return Signature(known, tuple(_meaning(info))), "OpenVINO's model_info"


def write(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    tree = ET.parse(path)  # noqa: S314
    root = tree.getroot()
    rt_info = root.find("rt_info")
    rt_info = ET.SubElement(root, "rt_info") if rt_info is None else rt_info
    for place in (EDGEKIT, INFO):
        for element in rt_info.findall(place):
            rt_info.remove(element)
    _add(rt_info, EDGEKIT, {SIGNATURE: to_text(inputs, outputs)})
    info = {**_image_info(inputs), **_class_info(outputs)}
    if info:
        _add(rt_info, INFO, info)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _add(rt_info: ET.Element, place: str, values: Mapping[str, str]) -> None:
    parent = ET.SubElement(rt_info, place)
    for name, value in values.items():
        ET.SubElement(parent, name, value=value)


def _image_info(inputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Of the first image. A shorter side longer than the crop becomes the crop's, the nearest that Model API has."""
    record = next((record for _, record in records(inputs) if record.kind == "image"), None)
    if record is None:
        return {}
    means, stds = per_pixel(record)
    info = {"mean_values": _words(means), "scale_values": _words(stds)}
    if record.colour in ("RGB", "BGR"):  # images come as BGR
        info["reverse_input_channels"] = str(record.colour == "RGB")
    # Model API's fit_to_window is no letterbox-corner: it rounds to the nearest pixel, and its fill is black
    modes = {"stretch": "standard", "shortest": "crop", "letterbox": "fit_to_window_letterbox"}
    if record.resize is not None and record.resize.mode in modes:
        info["resize_type"] = modes[record.resize.mode]
        if record.resize.mode == "letterbox":
            info["pad_value"] = str(round(record.resize.fill))
    words = {name: word for word, name in INTERPOLATIONS.items()}
    if record.interpolation in words:
        info["interpolation_mode"] = words[record.interpolation]
    return info


def _class_info(outputs: Sequence[TensorSpec]) -> dict[str, str]:
    for index, meaning in meanings(outputs):
        rank = len(outputs[index].shape)
        if meaning.kind in KINDS and (rank == 2) == (KINDS[meaning.kind] == "Classification"):
            labels = " ".join("_".join(name.split()) for name in meaning.classes)
            return {"model_type": KINDS[meaning.kind], **({"labels": labels} if labels else {})}
    return {}


def _image(info: Mapping[str, str], spec: TensorSpec) -> InputSignature | None:
    """None for preprocessing that a signature cannot express, or that is in the model already."""
    sides = AXES[layout_of(spec)][1:]
    height, width = (spec.shape[axis] or 0 for axis in sides if axis is not None)
    resize, crop = _resize(info, height, width)
    unknown = height and resize is None
    if unknown or _is_true(info, "embedded_processing") or info.get("input_dtype", "u8") != "u8":
        return None
    intensity = info.get("intensity_mode") or "none"
    most = _numbers(info, "intensity_max_value") or (255.0,)
    if intensity not in ("none", "scale_to_unit"):
        return None
    return InputSignature(
        "image",
        colour="RGB" if _is_true(info, "reverse_input_channels") else "",
        resize=resize,
        crop=crop,
        interpolation=INTERPOLATIONS.get(info.get("interpolation_mode") or "LINEAR", "bilinear"),
        antialias=False,
        scale=1 / most[0] if intensity == "scale_to_unit" else 1.0,
        mean=_numbers(info, "mean_values"),
        std=_numbers(info, "scale_values"),
    )


def _resize(info: Mapping[str, str], height: int, width: int) -> tuple[Resize | None, int | None]:
    if not height or not width:
        return None, None
    sides = height if height == width else (height, width)
    kind = info.get("resize_type") or "standard"
    if kind == "standard":
        return Resize("stretch", sides), None
    if kind == "fit_to_window_letterbox":
        return Resize("letterbox", sides, next(iter(_numbers(info, "pad_value")), 0.0)), None
    if kind == "crop" and height == width:
        return Resize("shortest", height), height
    return None, None


def _meaning(info: Mapping[str, str]) -> Iterator[OutputSignature]:
    labels = distinct(info.get("labels", "").split())
    is_mask = info.get("model_type", "").lower() == "segmentation"
    if labels or is_mask:
        yield OutputSignature("mask" if is_mask else "", classes=labels)


def _is_true(info: Mapping[str, str], key: str) -> bool:
    return info.get(key, "").lower() in ("true", "yes", "1")


def _numbers(info: Mapping[str, str], key: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in info.get(key, "").replace(",", " ").split())
    except ValueError:
        return ()


def _words(values: Sequence[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)
