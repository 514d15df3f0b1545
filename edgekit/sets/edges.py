"""Samples for a model whose images have another layout or normalization than those of the set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.core.signature_check import AXES


def takes_bytes(specs: Sequence[TensorSpec]) -> bool:
    """Does the model normalize the bytes of an image itself?"""
    return any(spec.dtype == "uint8" and spec.quantization is None and _image(spec) for spec in specs)


def laid_out(data: SampleSet, specs: Sequence[TensorSpec]) -> SampleSet:
    """The set with images as NHWC or NCHW, as the model takes them; the same set if they are so."""
    by_name = _by_name(data, specs)
    arrays = {name: _laid_out(array, by_name.get(name)) for name, array in data.inputs.items()}
    same = all(array is data.inputs[name] for name, array in arrays.items())
    return data if same else dataclasses.replace(data, inputs=arrays)


def as_bytes(data: SampleSet, specs: Sequence[TensorSpec]) -> SampleSet:
    """Images that were normalized as `specs` say, as bytes again: rounded, so that all models get the same ones."""
    by_name, arrays = _by_name(data, specs), {}
    for name, array in laid_out(data, specs).inputs.items():
        record = _image(by_name.get(name))
        if record is None or array.dtype == np.uint8:
            arrays[name] = data.inputs[name]
            continue
        scale, mean, std = _constants(record, array.ndim)
        arrays[name] = np.clip(np.round((array * std + mean) / scale), 0, 255).astype(np.uint8)
    return dataclasses.replace(data, inputs=arrays)


def from_bytes(data: SampleSet, specs: Sequence[TensorSpec]) -> SampleSet:
    """Images as bytes, normalized as the model takes them."""
    laid, by_name, arrays = laid_out(data, specs), _by_name(data, specs), {}
    for name, array in laid.inputs.items():
        record = _image(by_name.get(name))
        arrays[name] = array
        if record is not None and record.normalizes and array.dtype == np.uint8:
            scale, mean, std = _constants(record, array.ndim)
            arrays[name] = ((array.astype(np.float32) * scale - mean) / std).astype(np.float32)
    return dataclasses.replace(laid, inputs=arrays)


def _by_name(data: SampleSet, specs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    if len(data.inputs) == len(specs) == 1:
        return {next(iter(data.inputs)): specs[0]}
    return {spec.name: spec for spec in specs}


def _image(spec: TensorSpec | None) -> InputSignature | None:
    record = spec.signature if spec else None
    return record if isinstance(record, InputSignature) and record.kind == "image" else None


def _constants(record: InputSignature, rank: int) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    axis = AXES[record.layout or "NCHW"][0] if rank == 4 else None

    def shaped(values: tuple[float, ...], default: float) -> NDArray[Any]:
        array = np.array(values or [default], np.float32)
        shape = [1] * rank
        if axis is not None and len(array) > 1:
            shape[axis] = len(array)
        return array.reshape(shape if len(array) > 1 else [1] * rank)

    return np.float32(record.scale), shaped(record.mean, 0.0), shaped(record.std, 1.0)


def _laid_out(array: NDArray[Any], spec: TensorSpec | None) -> NDArray[Any]:
    if spec is None or array.ndim != 4 or len(spec.shape) != 4 or _fits(array.shape, spec):
        return array
    for order in ((0, 2, 3, 1), (0, 3, 1, 2)):
        if _fits(tuple(array.shape[axis] for axis in order), spec):
            return np.ascontiguousarray(array.transpose(order))
    return array


def _fits(shape: Sequence[int], spec: TensorSpec) -> bool:
    return all(size in (None, actual) for size, actual in zip(spec.shape[1:], shape[1:], strict=True))
