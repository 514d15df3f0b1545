"""timm's data configuration, and the one that its networks carry (`pretrained_cfg`)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature, distinct
from edgekit.networks.signatures.torchvision_ import FILE, UNIT

#: timm's DEFAULT_CROP_PCT
CROP_SHARE = 0.875

INTERPOLATIONS: Sequence[Any] = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


def is_config(value: Mapping[str, Any]) -> bool:
    return "input_size" in value and bool({"mean", "std", "interpolation", "crop_pct"} & set(value))


def is_network(network: Any) -> bool:
    return bool(_config(network))


def of_network(network: Any) -> Signature:
    """Of its configuration; the classes only where the network still has as many."""
    config = dict(_config(network))
    config["num_classes"] = getattr(network, "num_classes", config.get("num_classes"))
    try:
        return of_config(config)
    except InputError:  # the classes are known all the same
        return Signature((), _outputs(config))


def of_config(config: Mapping[str, Any]) -> Signature:
    """Raises InputError for preprocessing that cannot be expressed."""
    channels, height, width = (int(size) for size in config["input_size"])
    interpolation: Any = config.get("interpolation") or "bilinear"
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"the interpolation {interpolation!r} cannot be expressed", next=FILE)
    record = InputSignature(
        "image",
        colour="gray" if channels == 1 else "RGB",
        resize=_resize(config, height, width),
        crop=height if height == width else (height, width),
        interpolation=interpolation,
        scale=UNIT,
        mean=tuple(map(float, config.get("mean") or ())),
        std=tuple(map(float, config.get("std") or ())),
    )
    return Signature((record,), _outputs(config))


def _resize(config: Mapping[str, Any], height: int, width: int) -> Resize:
    share, mode = config.get("crop_pct") or CROP_SHARE, config.get("crop_mode") or "center"
    sides = math.floor(height / share), math.floor(width / share)
    if mode == "squash":
        return Resize("stretch", sides[0] if height == width else sides)
    if mode != "center":
        raise InputError(f"crop_mode {mode!r} cannot be expressed", "it fills the border with a colour", FILE)
    if height != width:
        raise InputError("a centred crop that is no square cannot be expressed", f"{height} x {width}", FILE)
    return Resize("shortest", sides[0])


def _outputs(config: Mapping[str, Any]) -> tuple[OutputSignature, ...]:
    count, names = config.get("num_classes"), config.get("label_names")
    if count is None:
        return ()
    if not count:
        return (OutputSignature("embedding"),)
    return (OutputSignature("logits", classes=distinct(names) if names and len(names) == count else ()),)


def _config(network: Any) -> Mapping[str, Any]:
    """The network's configuration; empty for networks that are not timm's."""
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    return config if isinstance(config, Mapping) and is_config(config) else {}
