"""Hugging Face's image processors: an object, or `preprocessor_config.json`; the classes of a network's `config`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from edgekit.core.artifact import TensorSpec
from edgekit.core.config import short
from edgekit.core.errors import InputError
from edgekit.core.json import read
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature, distinct
from edgekit.networks.signatures.torchvision_ import FILE, UNIT

AGAIN = "download it again"

PROCESSOR, CONFIG = "preprocessor_config.json", "config.json"


class _Family(NamedTuple):
    """What a configuration leaves out: is `size = 224` a square, and is there a crop?"""

    square: bool
    crops: bool
    #: how `resize` differs from the common one
    special: str = ""


#: processors whose whole work is resize, crop, rescale and normalize, by the name of their class
FAMILIES: Mapping[str, _Family] = {
    "ViT": _Family(True, False),
    "DeiT": _Family(True, True),
    "Beit": _Family(True, False),
    "Segformer": _Family(True, False),
    "Siglip": _Family(True, False),
    "CLIP": _Family(False, True),
    "ChineseCLIP": _Family(False, True),
    "Bit": _Family(False, True),
    "MobileNetV1": _Family(False, True),
    "MobileNetV2": _Family(False, True),
    "MobileViT": _Family(False, True),
    "ConvNext": _Family(False, False, "crop_pct"),
    "Levit": _Family(False, True, "256/224"),
}

#: `resample`, a constant of Pillow
RESAMPLE: Sequence[Any] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


def is_processor(value: Any) -> bool:
    value = getattr(value, "image_processor", value)
    return callable(getattr(value, "to_dict", None)) and bool(_FAMILY.search(type(value).__name__))


def is_network(network: Any) -> bool:
    return isinstance(getattr(getattr(network, "config", None), "id2label", None), Mapping)


def of_processor(processor: Any) -> InputSignature:
    """Raises InputError for a processor that does more than a signature can say."""
    processor = getattr(processor, "image_processor", processor)
    bases = {base.__name__ for base in type(processor).__mro__}
    on_tensors = bool(bases & {"TorchvisionBackend", "BaseImageProcessorFast"})
    return _input(processor.to_dict(), type(processor).__name__, on_tensors)


def of_files(path: Path) -> Signature:
    """Of a `preprocessor_config.json`, or a folder with it and `config.json`. Raises InputError."""
    folder = path if path.is_dir() else path.parent
    file = folder / PROCESSOR if path.is_dir() else path
    config = read(folder / CONFIG, AGAIN) if (folder / CONFIG).is_file() else {}
    if path.is_dir() and not file.is_file() and not config:
        raise InputError(f"{path} holds no {PROCESSOR}", next="name the folder of save_pretrained, or a signature file")
    inputs: tuple[InputSignature, ...] = ()
    if file.is_file() or not path.is_dir():
        values = read(file, AGAIN)
        name = values.get("image_processor_type") or values.get("feature_extractor_type") or ""
        if not name:
            raise InputError(f"{file} names no image processor", "image_processor_type is missing", FILE)
        with _damaged(file):
            inputs = (_input(values, str(name), on_tensors=False),)
    with _damaged(folder / CONFIG):
        return Signature(inputs, of_outputs(config.get("id2label"), config.get("architectures") or ()))


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Turn what values of the wrong type raise into InputError."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path} cannot be used", short(error), AGAIN) from error


def of_network(network: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[Signature, str]:
    """The classes in its config, and the processor in the folder that it was loaded from."""
    records = of_outputs(network.config.id2label, [type(network).__name__])
    names = [spec.name for spec in outputs]
    if len(names) > 1:
        records = tuple(OutputSignature(r.kind, "logits", r.classes) for r in records if "logits" in names)
    folder = Path(getattr(network.config, "_name_or_path", "") or " ")
    signature, source = Signature((), records), "the network's config.id2label"
    if len(inputs) == 1 and (folder / PROCESSOR).is_file():
        try:
            signature = Signature(of_files(folder).inputs, records)
            source = f"{folder / PROCESSOR}" + (" and config.id2label" if records else "")
        except InputError:  # the classes are known all the same
            pass
    return (signature, source) if signature else (Signature(), "")


def of_outputs(labels: Any, architectures: Sequence[str]) -> tuple[OutputSignature, ...]:
    """One output, for networks that have one. Names like LABEL_0 stand for none."""
    architecture = next(iter(architectures), "")
    kinds: Mapping[str, Any] = {"ForImageClassification": "logits", "ForSequenceClassification": "logits"}
    kinds = {**kinds, "ForAudioClassification": "logits", "ForSemanticSegmentation": "mask"}
    kind: Any = next((kind for ending, kind in kinds.items() if str(architecture).endswith(ending)), "")
    if not kind or not isinstance(labels, Mapping) or not labels:
        return ()
    return (OutputSignature(kind, classes=class_names(labels)),)


def class_names(labels: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names in `id2label` by index; none if they do not count from 0, or say no more than LABEL_0, LABEL_1."""
    by_index = {int(index): str(name) for index, name in labels.items()}
    names = [by_index[index] for index in sorted(by_index)]
    if sorted(by_index) != list(range(len(by_index))) or names == [f"LABEL_{index}" for index in by_index]:
        return ()
    return distinct(names)


_FAMILY = re.compile(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")


def _input(values: Mapping[str, Any], name: str, on_tensors: bool) -> InputSignature:
    family = FAMILIES.get(_FAMILY.sub("", name))
    if family is None:
        known = ", ".join(FAMILIES)
        raise InputError(f"{name} cannot be expressed", f"edgekit knows the image processors of {known}", FILE)
    if values.get("do_pad"):
        raise InputError(f"{name} cannot be expressed", "it pads images (do_pad)", FILE)
    crop: int | tuple[int, int] | None
    resize, crop = _resize(values, family, name) if values.get("do_resize", True) else (None, None)
    if values.get("do_center_crop", family.crops):
        crop = _sides(values, "crop_size", name)
    normalizes = values.get("do_normalize", True)
    return InputSignature(
        "image",
        colour="BGR" if values.get("do_flip_channel_order") else "RGB",
        exif=True,
        resize=resize,
        crop=crop,
        crop_offset="even" if on_tensors or crop is None else "down",
        interpolation=_interpolation(values, name),
        scale=float(values.get("rescale_factor") or UNIT) if values.get("do_rescale", True) else 1.0,
        mean=_floats(values, "image_mean", name) if normalizes else (),
        std=_floats(values, "image_std", name) if normalizes else (),
    )


def _interpolation(values: Mapping[str, Any], name: str) -> Any:
    index = values.get("resample", 2)
    if not isinstance(index, int) or not 0 <= index < len(RESAMPLE):
        raise InputError(f"{name} cannot be expressed", f"its resample is {index!r}", FILE)
    return RESAMPLE[int(index)]


def _resize(values: Mapping[str, Any], family: _Family, name: str) -> tuple[Resize, int | None]:
    """The resize, and the crop that belongs to it."""
    size = values.get("size")
    if isinstance(size, Mapping):
        given = {key: value for key, value in size.items() if value is not None}
        if set(given) not in ({"shortest_edge"}, {"height", "width"}):
            raise InputError(f"{name} cannot be expressed", f"its size is {dict(given)}", FILE)
        shortest = int(given["shortest_edge"]) if "shortest_edge" in given else 0
    else:
        shortest = 0 if family.square or not isinstance(size, int) else size
    if not shortest:
        return Resize("stretch", _sides(values, "size", name)), None
    if family.special == "crop_pct":
        if shortest >= 384:
            return Resize("stretch", shortest), None
        return Resize("shortest", int(shortest / (values.get("crop_pct") or 224 / 256))), shortest
    return Resize("shortest", int(256 / 224 * shortest) if family.special else shortest), None


def _sides(values: Mapping[str, Any], key: str, name: str) -> int | tuple[int, int]:
    size = values.get(key)
    if isinstance(size, int):
        return size
    if isinstance(size, Mapping) and size.get("height") and size.get("width"):
        height, width = int(size["height"]), int(size["width"])
        return height if height == width else (height, width)
    raise InputError(f"{name} cannot be expressed", f"its {key} is {size!r}", FILE)


def _floats(values: Mapping[str, Any], key: str, name: str) -> tuple[float, ...]:
    numbers = values.get(key)
    if isinstance(numbers, int | float):
        return (float(numbers),)
    if not isinstance(numbers, list | tuple) or not all(isinstance(number, int | float) for number in numbers):
        raise InputError(f"{name} cannot be expressed", f"its {key} is {numbers!r}", FILE)
    return tuple(map(float, numbers))
