"""torchvision's transforms (v1, v2, presets) and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature, distinct

UNIT = 1 / 255

FILE = "write a signature file"


def is_weights(value: Any) -> bool:
    return any(cls.__name__ == "WeightsEnum" for cls in type(value).__mro__)


def is_transform(value: Any) -> bool:
    name = type(value).__module__
    return name.startswith(("torchvision.transforms", "timm.data.transforms")) or _is_sequential(value)


def of_weights(weights: Any) -> Signature:
    """A WeightsEnum member: its transforms and its categories. Raises InputError."""
    transform = weights.transforms()
    categories = distinct(weights.meta.get("categories") or ())
    if type(transform).__name__ == "ObjectDetection":  # the network normalizes images itself
        # the first stands for no object: __background__, or of keypoints "no person"
        return Signature((), (OutputSignature("boxes", family="torchvision", classes=categories[1:]),))
    kinds: Mapping[str, Any] = {"ImageClassification": "logits", "SemanticSegmentation": "mask"}
    kind = kinds.get(type(transform).__name__)
    outputs = (OutputSignature(kind, classes=categories),) if kind else ()
    return Signature((of_transform(transform),), outputs)


def is_one_stage(network: Any) -> bool:
    return type(network).__module__ == "edgekit.networks.torchvision_detectors"


def of_one_stage(network: Any, image: TensorSpec) -> Signature:
    """Of a detector whose outputs are tensors (`torchvision_detectors`); nothing if its images have no fixed size."""
    height, width = image.shape[2:] if len(image.shape) == 4 else (None, None)
    signature: Signature = network.signature(height, width) if height and width else Signature()
    return signature


def of_transform(transform: Any) -> InputSignature:
    """What the transform does to an image. Raises InputError, naming the transform that cannot be expressed."""
    image = _Image(InputSignature("image"))
    for part in _parts(transform):
        _apply(part, image)
    return image.record


@dataclasses.dataclass
class _Image:
    """What has been done to an image so far."""

    record: InputSignature
    is_tensor: bool = False

    def set(self, **values: Any) -> None:
        self.record = dataclasses.replace(self.record, **values)


def _is_sequential(value: Any) -> bool:
    return type(value).__module__.startswith("torch.nn") and type(value).__name__ == "Sequential"


def _parts(transform: Any) -> Iterator[Any]:
    if _is_sequential(transform):
        inner = list(transform)
    elif is_transform(transform) and type(transform).__name__ in ("Compose", "Sequential"):
        inner = list(transform.transforms)
    else:
        yield transform
        return
    for part in inner:
        yield from _parts(part)


def _apply(part: Any, image: _Image) -> None:
    name = type(part).__name__
    if name.startswith("Random") or name in _TRAINING:
        raise _refused(name, "it is for training", "name the transform of validation")
    if name in ("function", "method", "builtin_function_or_method"):
        name = getattr(part, "__name__", name)
        raise _refused(name, "it is a function, which can do anything", FILE)
    known = is_transform(part) or type(part).__module__.startswith("torch.nn")
    if not known or name not in _EFFECTS:
        raise _refused(name, "a signature has no word for it", FILE)
    _EFFECTS[name](part, image)


def _refused(name: str, why: str, next: str) -> InputError:
    return InputError(f"{name} cannot be expressed", why, next)


def _nothing(part: Any, image: _Image) -> None:
    pass


def _resize(part: Any, image: _Image) -> None:
    if getattr(part, "max_size", None) is not None:
        raise _refused("Resize", f"max_size is {part.max_size}", FILE)
    if part.size is None:
        raise _refused("Resize", "it has no size", FILE)
    _resized(part.size, part.interpolation, part.antialias, image)


def _resized(size: Any, interpolation: Any, antialias: Any, image: _Image) -> None:
    if image.record.crop is not None or image.record.resize is not None:
        raise _refused("Resize", "it follows another resize or a crop", FILE)
    sides = [int(side) for side in size] if isinstance(size, list | tuple) else [int(size)]
    resize = Resize("shortest", sides[0]) if len(sides) == 1 else Resize("stretch", _sides(sides))
    word = str(getattr(interpolation, "value", interpolation)).lower()
    if word not in _INTERPOLATIONS or (image.is_tensor and word == "nearest"):
        raise _refused("Resize", f"its interpolation is {word}", FILE)
    # Pillow's filters always widen; nearest has none
    filters = word not in ("nearest", "nearest-exact")
    widens = not image.is_tensor or not filters or bool(antialias)
    image.set(resize=resize, interpolation=_INTERPOLATIONS[word], antialias=widens)


def _crop(part: Any, image: _Image) -> None:
    _cropped(part.size, image)


def _cropped(size: Any, image: _Image) -> None:
    if image.record.crop is not None:
        raise _refused("CenterCrop", "it follows another crop", FILE)
    sides = [int(side) for side in size] if isinstance(size, list | tuple) else [int(size)]
    image.set(crop=_sides(sides))


def _sides(sides: list[int]) -> int | tuple[int, int]:
    return sides[0] if len(sides) == 1 or sides[0] == sides[1] else (sides[0], sides[1])


def _gray(part: Any, image: _Image) -> None:
    if image.record.mean or image.record.std:
        raise _refused("Grayscale", "it follows Normalize", FILE)
    image.set(colour="gray")


def _rgb(part: Any, image: _Image) -> None:
    image.set(colour="RGB")


def _tensor(part: Any, image: _Image) -> None:
    image.is_tensor = True


def _unit(part: Any, image: _Image) -> None:
    image.is_tensor = True
    image.set(scale=UNIT)


def _dtype(part: Any, image: _Image) -> None:
    if not getattr(part, "scale", True):  # v2's ToDtype; v1's ConvertImageDtype always scales
        return
    if isinstance(part.dtype, Mapping):
        raise _refused(type(part).__name__, "it has a type for each kind of input", FILE)
    if "float" in str(part.dtype):
        image.set(scale=UNIT)
    elif image.record.scale != 1:
        raise _refused(type(part).__name__, f"it makes {part.dtype} of fractions", FILE)


def _normalize(part: Any, image: _Image) -> None:
    if image.record.mean or image.record.std:
        raise _refused("Normalize", "it is the second", FILE)
    image.set(mean=_floats(part.mean), std=_floats(part.std))


def _floats(values: Any) -> tuple[float, ...]:
    """timm's are float32 tensors: 0.485, not 0.48500001430511475."""
    if hasattr(values, "detach"):
        return tuple(float(str(value)) for value in np.asarray(values.detach(), np.float32).reshape(-1))
    return tuple(map(float, values)) if isinstance(values, list | tuple) else (float(values),)


def _preset(part: Any, image: _Image) -> None:
    if getattr(part, "resize_size", None) is not None:
        _resized(part.resize_size, part.interpolation, part.antialias, image)
    if getattr(part, "crop_size", None) is not None:
        _cropped(part.crop_size, image)
    _unit(part, image)
    if hasattr(part, "mean"):
        _normalize(part, image)


#: transforms that are for training and are not called Random…
_TRAINING = ("ColorJitter", "AutoAugment", "RandAugment", "TrivialAugmentWide", "AugMix", "MixUp", "CutMix", "JPEG")

_INTERPOLATIONS: Mapping[str, Any] = {
    **{word: word for word in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")},
    "nearest-exact": "nearest",
}

_EFFECTS: Mapping[str, Callable[[Any, _Image], None]] = {
    "Identity": _nothing,
    "ToPureTensor": _nothing,
    "ToPILImage": _nothing,
    "Resize": _resize,
    "CenterCrop": _crop,
    "Grayscale": _gray,
    "RGB": _rgb,
    "ToTensor": _unit,
    "MaybeToTensor": _unit,
    "PILToTensor": _tensor,
    "MaybePILToTensor": _tensor,
    "ToImage": _tensor,
    "ToImageTensor": _tensor,
    "ConvertImageDtype": _dtype,
    "ConvertDtype": _dtype,
    "ToDtype": _dtype,
    "Normalize": _normalize,
    "ImageClassification": _preset,
    "SemanticSegmentation": _preset,
    "ObjectDetection": _preset,
}
