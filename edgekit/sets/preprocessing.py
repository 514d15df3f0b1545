"""How files become a model's input: by the model's signature, else by the options of the SET.

The decoding itself is `edgekit/ondevice/preprocess.py`, which a device runs, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, Resize, plain
from edgekit.core.signature_check import AXES, CHANNELS, layout_of
from edgekit.sets.options import Options

Record = dict[str, Any]


def image_signature(spec: TensorSpec | None, options: Options, name: str) -> InputSignature:
    """How the images of the SET `name` are decoded for this input (None: for no model in particular).

    Without a signature they are stretched to the options' or the input's size with Pillow's bicubic filter, and keep
    their grey levels unless the options normalize them. Raises InputError if the options contradict the signature.
    """
    signature = _signature(spec, "image", name)
    if signature is None:
        return _from_options(spec, options)
    _check_options(signature, _from_options(spec, options), options, name)
    return signature


def audio_signature(spec: TensorSpec | None, options: Options, name: str) -> InputSignature:
    """How the sounds of the SET `name` are decoded. Raises InputError if the options contradict the signature."""
    by_options = InputSignature(
        "audio", rate=options.rate, seconds=options.seconds, scale=1 / options.scale, mean=options.mean, std=options.std
    )
    signature = _signature(spec, "audio", name)
    if signature is None:
        return by_options
    _check_options(signature, by_options, options, name)
    return signature


def image_record(signature: InputSignature, spec: TensorSpec | None, channels: int = 0) -> Record:
    """What `preprocess.image` takes. `channels`: of the options or the first image, where the input leaves it open."""
    layout = signature.layout or "NCHW"
    sizes: dict[str, int] = {}
    if spec is not None and len(spec.shape) == len(AXES[layout]) + (layout != "NHW"):
        axes = dict(zip(("channels", "height", "width"), AXES[layout], strict=True))
        sizes = {what: spec.shape[axis] or 0 for what, axis in axes.items() if axis is not None}
    sizes["channels"] = 1 if layout == "NHW" else channels or sizes.get("channels", 0)
    return {**plain(signature), **{what: size for what, size in sizes.items() if size}}


def array_record(spec: TensorSpec, options: Options) -> Record:
    """What the bundle's program takes to read files for this input: of an image, a sound, a table, or an array only."""
    signature = spec.signature if isinstance(spec.signature, InputSignature) else None
    kind = signature.kind if signature else "tensor"
    if signature and signature.columns:
        return {**plain(signature), "input": spec.name, "shape": [size or -1 for size in spec.shape[1:]]}
    one_axis = sum(size != 1 for size in spec.shape[1:]) == 1
    if kind == "image" or (kind == "tensor" and len(spec.shape) in (3, 4) and not one_axis):
        try:
            picture = image_signature(spec, options, "")
        except InputError:
            return {"kind": "tensor"}
        record = image_record(picture, spec, options.channels)
        known = picture.height_width or (record.get("height") and record.get("width"))
        return {**record, "input": spec.name} if record.get("channels") in CHANNELS and known else {"kind": "tensor"}
    if kind == "audio" or (kind == "tensor" and one_axis):
        sound = audio_signature(spec, options, "")
        length = max((size or 0 for size in spec.shape[1:]), default=0)
        length = (0 if length == 1 else length) or round(sound.seconds * sound.rate)
        return {**plain(sound), "input": spec.name, "length": length, "shape": list(spec.shape[1:])}
    return {"kind": kind}


def _signature(spec: TensorSpec | None, kind: Literal["image", "audio"], name: str) -> InputSignature | None:
    """The input's signature, if it is of this kind; None if nothing is known. Raises InputError for another kind."""
    signature = spec.signature if spec else None
    if not isinstance(signature, InputSignature) or signature.kind == "tensor":
        return None
    if signature.kind != kind:
        holds = {"image": "images", "audio": "sounds"}[kind]
        why = f"by its signature, input {spec.name!r} takes {signature.kind}" if spec else ""
        raise InputError(f"{name} holds {holds}", why, "name other data, or import the model with another --signature")
    return signature


def _from_options(spec: TensorSpec | None, options: Options) -> InputSignature:
    given = {"nchw": "NCHW", "nhwc": "NHWC"}.get(options.layout, "")
    layout = given or ("NCHW" if spec is None else layout_of(spec) or "NCHW")
    size = options.height_width if options.size else None
    if size is None and spec is not None and len(spec.shape) >= 3:
        height, width = (spec.shape[axis] or 0 for axis in AXES[layout][1:])
        size = (height, width) if height and width else None
    return InputSignature(
        "image",
        layout=layout,  # type: ignore[arg-type]
        colour={1: "gray", 3: "RGB"}.get(options.channels, ""),  # type: ignore[arg-type]
        resize=Resize("stretch", size) if size else None,
        interpolation="bicubic",
        scale=1 / options.scale,
        mean=options.mean,
        std=options.std,
    )


def _check_options(signature: InputSignature, other: InputSignature, options: Options, name: str) -> None:
    """Raises InputError if an option of the SET says something else than the model's signature."""
    given = {
        "size": (options.size, signature.height_width, other.height_width),
        "layout": (options.layout, signature.layout, other.layout),
        "channels": (options.channels, signature.colour.replace("BGR", "RGB"), other.colour),
        "scale": (options.scale != 1, round(signature.scale, 9), round(other.scale, 9)),
        "mean": (options.mean, signature.mean, options.mean),
        "std": (options.std, signature.std, options.std),
        "rate": (options.rate, signature.rate, options.rate),
        "seconds": (options.seconds, signature.seconds, options.seconds),
    }
    different = [what for what, (stated, model, here) in given.items() if stated and model != here]
    if different:
        what = f"{name} contradicts the signature of the model: {', '.join(different)}"
        known = ", ".join(f"{option} {given[option][1]}" for option in different)
        next = "leave the options out, or import the model with another --signature"
        raise InputError(what, f"the model's: {known}", next)


def normalize(array: NDArray[Any], options: Options, axis: int | None) -> NDArray[Any]:
    """(x / scale - mean) / std as float32, with the channels at `axis`; the unchanged array if none is given."""
    if not options.normalizes:
        return array

    def per_channel(values: Sequence[float], default: float) -> NDArray[np.float32]:
        constants = np.array(values or [default], np.float32)
        channels = 1 if axis is None else array.shape[axis]
        if len(constants) not in (1, channels):
            what = f"mean and std hold {len(constants)} values"
            raise InputError(what, f"the samples have {channels} channels", "give one value, or one per channel")
        shape = [1] * array.ndim
        if axis is not None:
            shape[axis] = len(constants)
        return constants.reshape(shape)

    scaled = array.astype(np.float32) / np.float32(options.scale)
    return (scaled - per_channel(options.mean, 0.0)) / per_channel(options.std, 1.0)
