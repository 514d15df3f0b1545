"""Calibration samples as the model's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.ondevice import state
from edgekit.sets.edges import laid_out


def fitting(data: SampleSet, model: Artifact) -> Mapping[str, Any]:
    """The set's arrays by the model's input names. Raises InputError, naming the difference."""
    if not len(data):
        raise InputError(f"{data.name} is empty", "there is nothing to calibrate on", "name a set with samples")
    arrays = dict(laid_out(data, model.inputs).inputs)
    if len(model.inputs) == 1 and len(arrays) == 1:
        arrays = {model.inputs[0].name: next(iter(arrays.values()))}
    names = {spec.name for spec in model.inputs}
    if set(arrays) != names:
        both = f"the model takes {', '.join(sorted(names))}; the set holds {', '.join(sorted(arrays))}"
        raise InputError(f"{data.name} does not fit {model.name}", both, "name the arrays as the model's inputs")
    for spec in model.inputs:
        actual = arrays[spec.name].shape[1:]
        expected = spec.shape if is_whole(arrays[spec.name], spec) else spec.shape[1:]
        if len(actual) != len(expected) or any(e not in (None, a) for e, a in zip(expected, actual, strict=True)):
            what = f"{spec.name!r} takes {list(expected)} per sample; the set holds {list(actual)}"
            raise InputError(f"{data.name} does not fit {model.name}", what, "reshape the samples")
        dtype = arrays[spec.name].dtype
        if dtype.kind not in "biuf" or (dtype.kind == "f" and spec.dtype.startswith(("int", "uint", "bool"))):
            what = f"{spec.name!r} takes {spec.dtype} {list(expected)}; the set holds {dtype} {list(actual)}"
            raise InputError(f"{data.name} does not fit {model.name}", what, f"convert the samples to {spec.dtype}")
    return arrays


def is_whole(samples: NDArray[Any], spec: TensorSpec) -> bool:
    """Is each sample the whole input? If not, the input's first axis is the batch."""
    return samples.ndim > len(spec.shape)


def batch_size(arrays: Mapping[str, NDArray[Any]], model: Artifact) -> int:
    """The number of samples in one inference: what the model fixes, else 1. Raises InputError if inputs differ."""
    sizes = {1 if is_whole(arrays[spec.name], spec) else spec.shape[0]: spec.name for spec in model.inputs}
    fixed = sorted(size for size in sizes if size is not None)
    if fixed and fixed[-1] > 1 and len(sizes) > 1:
        what = f"{sizes[fixed[-1]]!r} takes {fixed[-1]} samples at once, and another input does not"
        raise InputError(what, next=f"give each of its samples as a whole input, of shape (samples, {fixed[-1]}, …)")
    return fixed[0] if fixed else 1


def empty_states(model: Artifact, batch: int) -> dict[str, NDArray[Any]]:
    """The states of a model for so many samples, as they are at first; nothing for a model without."""
    inputs = [one.input.to_json() for one in model.states]
    empty: dict[str, NDArray[Any]] = state.empty(inputs, [spec["name"] for spec in inputs], batch)
    return empty


def to_model_type(values: NDArray[Any], spec: TensorSpec, data: SampleSet, taken: NDArray[np.int64]) -> NDArray[Any]:
    """Cast to the input's dtype. Raises InputError, naming the sample, for a value that it cannot represent."""
    with np.errstate(over="ignore"):
        cast = np.asarray(values, dtype=spec.dtype, order="C")  # ascontiguousarray would give a scalar an axis
    bad = ~np.isfinite(cast) if cast.dtype.kind == "f" else cast != values
    if bad.any():
        sample = taken[int(np.argwhere(bad)[0][0])] if len(taken) > 1 else taken[0]
        why = "NaN or infinity" if cast.dtype.kind == "f" else f"a number that {spec.dtype} cannot represent"
        what = f"sample {sample} of {data.name} cannot be used for calibration"
        raise InputError(what, f"its {spec.name!r} holds {why}", "remove or fix the sample")
    return cast
