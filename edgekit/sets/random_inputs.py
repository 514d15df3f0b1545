"""Random inputs for a model without data.

Floats have the statistics of the import's example, else fill the span of the signature, else are normal with standard
deviations from 0.25 to 8: they reach far below 0 and above 1. 8-bit integers take all their values, token ids all rows
of the table they are looked up in, other integers the range of the example, else 0 and 1. A text has no padding, and is
the first of a pair.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.sets.reading import sample_set

RANDOM_SAMPLES = 64

#: the size of an open axis of a sequence (tokens, frames, time steps) if nothing specifies it
SEQUENCE_LENGTH = 8

#: the least and greatest standard deviation of values of which nothing is known
SCALES = (0.25, 8.0)

#: how much longer the second size of an open axis of a sequence is; images are twice as large
LONGER = 5

#: an example of an image's height and width, for messages
IMAGE_SIDE, LENGTH = 320, 128

Shape = Sequence[int | None]
#: input name → its sizes, batch included
Shapes = Mapping[str, Sequence[int]]


class OpenSize(InputError):
    """The size of an input is open, and nothing specifies it."""


def random_inputs(
    artifact: Artifact, root: Artifact, shapes: Shapes | None = None, *, open_length: int | None = None
) -> SampleSet:
    """RANDOM_SAMPLES random samples; in `more` a single one, in a second size where an axis is open.

    `root` is the import at the start of the artifact's chain. The size of an open axis is that of `shapes`, of the
    import's example, or of the signature; else, for a sequence, SEQUENCE_LENGTH. Raises OpenSize for any other open
    axis, unless `open_length` gives its size, and InputError for a type that cannot be generated.
    """
    sizes = {spec.name: _sizes(spec, artifact, root, shapes or {}, open_length) for spec in artifact.inputs}
    inputs = _generated(artifact, root, sizes, RANDOM_SAMPLES)
    second = {spec.name: _second(spec, sizes[spec.name]) for spec in artifact.inputs}
    single = sample_set("random", _generated(artifact, root, second, 1), None)
    data = sample_set("random", inputs, None)
    return dataclasses.replace(data, random=True, more=(dataclasses.replace(single, random=True),))


def known_sizes(spec: TensorSpec, candidates: Sequence[Sequence[int] | None]) -> tuple[int, ...] | None:
    """The first of the candidates that the input can have, else what its signature says; None if a size stays open."""
    for sizes in candidates:
        if sizes and fits(spec, sizes):
            return tuple(sizes)
    merged = list(spec.shape)
    for axis, size in _signed_sizes(spec).items():
        merged[axis] = merged[axis] or size
    if any(merged[axis] is None for axis in spec.open_axes):
        return None
    return tuple(size or 1 for size in merged)


def candidates(spec: TensorSpec, artifact: Artifact, root: Artifact, shapes: Shapes) -> list[Sequence[int] | None]:
    """The sizes of an artifact's input in `shapes`, and in the example of the import that its chain starts from."""
    name = _origin(spec, artifact, root)
    return [shapes.get(spec.name), shapes.get(name), root.details.get("example", {}).get(name)]


def _origin(spec: TensorSpec, artifact: Artifact, root: Artifact) -> str:
    """What the import calls an artifact's input: the same, else the one at its place."""
    names = [other.name for other in root.inputs]
    if spec.name in names or len(names) != len(artifact.inputs):
        return spec.name
    return names[[other.name for other in artifact.inputs].index(spec.name)]


def fits(spec: TensorSpec, sizes: Sequence[int]) -> bool:
    """Do these sizes keep the fixed ones of an input, apart from the batch?"""
    pairs = enumerate(zip(spec.shape, sizes, strict=False))
    return len(spec.shape) == len(sizes) and all(a in (None, b) for axis, (a, b) in pairs if axis != spec.batch_axis)


def example_shape(spec: TensorSpec) -> str:
    """What may be typed after --shape for this input, such as x=1x3x320x320."""
    open_size = IMAGE_SIDE if len(spec.shape) == 4 else LENGTH
    return f"{spec.name}=" + "x".join(
        str(size or (open_size if axis in spec.open_axes else 1)) for axis, size in enumerate(spec.shape)
    )


def open_size_error(spec: TensorSpec) -> OpenSize:
    return OpenSize(f"the size of input {spec.name} is open", next=f"pass --shape {example_shape(spec)}")


def _sizes(
    spec: TensorSpec, artifact: Artifact, root: Artifact, shapes: Shapes, open_length: int | None
) -> tuple[int, ...]:
    if spec.dtype in ("string", "sequence"):
        why = "random samples cannot be generated for it"
        raise InputError(f"input {spec.name!r} is of type {spec.dtype}", why, "pass a SET")
    if (known := known_sizes(spec, candidates(spec, artifact, root, shapes))) is not None:
        return known
    length = SEQUENCE_LENGTH if _is_sequence(spec, artifact) else open_length
    if length is None:
        raise open_size_error(spec)
    return tuple(size or (length if axis in spec.open_axes else 1) for axis, size in enumerate(spec.shape))


def _is_sequence(spec: TensorSpec, artifact: Artifact) -> bool:
    """May its open axis have any size: is it the length of a sequence, or does the model take open lists of tokens?"""
    tokens = any("int" in other.dtype and len(other.shape) == 2 and other.shape[1] is None for other in artifact.inputs)
    return tokens or (len(spec.shape) <= 3 and len(spec.open_axes) == 1)


def _signed_sizes(spec: TensorSpec) -> dict[int, int]:
    """Axis → size, as the signature gives it."""
    signature = spec.signature
    if not isinstance(signature, InputSignature):
        return {}
    if signature.kind == "text" and signature.max_length and len(spec.shape) == 2:
        return {1: signature.max_length}
    if signature.kind == "audio" and signature.rate and signature.seconds:
        return {len(spec.shape) - 1: round(signature.rate * signature.seconds)}
    if signature.height_width is None or len(spec.shape) < 3:
        return {}
    first = 1 if signature.layout in ("NHWC", "NHW") else len(spec.shape) - 2
    return dict(zip((first, first + 1), signature.height_width, strict=True))


def _second(spec: TensorSpec, sizes: Sequence[int]) -> tuple[int, ...]:
    """A second size of the open axes: twice as large for images (which keeps multiples of 32), a little longer else; of
    a text, which may have as many tokens as the model has places, half."""
    if isinstance(spec.signature, InputSignature) and spec.signature.kind == "text":
        return tuple(size if axis not in spec.open_axes else max(1, size // 2) for axis, size in enumerate(sizes))
    return tuple(
        size if axis not in spec.open_axes else size * 2 if len(sizes) == 4 else size + LONGER
        for axis, size in enumerate(sizes)
    )


def _generated(
    artifact: Artifact, root: Artifact, sizes: Mapping[str, Sequence[int]], count: int
) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    inputs = {}
    for spec in artifact.inputs:
        per_sample = sizes[spec.name]
        shape = (count, *(per_sample[1:] if spec.batch_axis == 0 else per_sample))
        inputs[spec.name] = _values(rng, spec, _origin(spec, artifact, root), root.details, shape)
    return inputs


def _values(
    rng: np.random.Generator, spec: TensorSpec, origin: str, details: Mapping[str, Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """`origin`: what the import, whose `details` these are, calls the input."""
    if isinstance(spec.signature, InputSignature) and spec.signature.part:
        return np.full(shape, spec.signature.part == "mask", spec.dtype)
    if spec.quantization is not None:
        scale, zero_point = spec.quantization
        limits = np.iinfo(spec.dtype)
        stored = rng.integers(limits.min, limits.max, shape, endpoint=True)
        return ((stored - zero_point) * scale).astype(np.float32)
    if "float" in spec.dtype:
        return _floats(rng, spec, details.get("statistics", {}).get(origin), shape).astype(spec.dtype)
    if spec.dtype in ("int8", "uint8"):
        low, high = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
    else:
        low, high = details.get("ranges", {}).get(origin, (0, 1))
    return rng.integers(low, high, shape, endpoint=True).astype(spec.dtype)


def _floats(
    rng: np.random.Generator, spec: TensorSpec, example: Mapping[str, float] | None, shape: tuple[int, ...]
) -> NDArray[Any]:
    if example and example["std"] > 0:
        values = rng.normal(example["mean"], example["std"], shape)
        return np.clip(values, example["min"], example["max"])
    span = spec.signature.span() if isinstance(spec.signature, InputSignature) else None
    if span is not None:
        return rng.uniform(*span, shape)
    scales = np.geomspace(*SCALES, shape[0]) if shape[0] > 1 else np.array([1.0])
    scaled: NDArray[Any] = rng.normal(size=shape) * rng.permutation(scales).reshape(-1, *[1] * (len(shape) - 1))
    return scaled
