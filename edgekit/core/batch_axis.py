"""Which axis of each input runs over the samples: the names of a model's open axes say it, else the shapes do.

It is the first axis of nearly every input. A recurrent network's state has layers first, (layers, batch, units); a
sampling rate or a mask of a fixed length has no batch at all.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from edgekit.core.artifact import TensorSpec

#: names that exporters and people give to the batch axis
BATCH_NAME = re.compile(r"n|b|bs|.*batch.*", re.IGNORECASE)

#: tensor name → open axis → its name in the file
AxisNames = Mapping[str, Mapping[int, str]]


def with_batch_axes(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], names: AxisNames, known: Mapping[str, int | None]
) -> tuple[TensorSpec, ...]:
    """The inputs with their `batch_axis`. `known`: those of the model that this one was made from, by name here."""
    batch = _batch_name(inputs, names)
    open_batch = bool(batch) or any(spec.shape[:1] == (None,) for spec in inputs)
    firsts = {spec.shape[:1] for spec in (*inputs, *outputs)}

    def axis_of(spec: TensorSpec) -> int | None:
        axis = known.get(spec.name, 0)
        if spec.name in known and (axis is None or axis < len(spec.shape)):
            return axis
        if not spec.shape:
            return None
        own = names.get(spec.name, {})
        if named := [axis for axis, name in sorted(own.items()) if name == batch or _says_batch(axis, name)]:
            return named[0]
        if spec.shape[0] is None:
            return None if own.get(0) and BATCH_NAME.fullmatch(batch) else 0
        if open_batch:
            is_state = len(spec.shape) > 2 and [axis for axis, size in enumerate(spec.shape) if size is None] == [1]
            return 1 if is_state and not own else 0 if spec.shape[0] == 1 else None
        if spec.shape[0] == 1 or len(firsts) == 1:
            return 0
        fixed_to_one = any(other.shape[:1] == (1,) for other in inputs) and spec.shape.count(1) == 1
        return spec.shape.index(1) if fixed_to_one else None

    return tuple(dataclasses.replace(spec, batch_axis=axis_of(spec)) for spec in inputs)


def _batch_name(inputs: Sequence[TensorSpec], names: AxisNames) -> str:
    """The name of the batch axis: one that says so, else that of an input's first axis; "" if none has a name."""
    all_names = [item for spec in inputs for item in sorted(names.get(spec.name, {}).items())]
    firsts = [names[spec.name][0] for spec in inputs if 0 in names.get(spec.name, {})]
    return next((name for axis, name in all_names if _says_batch(axis, name)), firsts[0] if firsts else "")


def _says_batch(axis: int, name: str) -> bool:
    """Is it the batch axis by its name? A later one that is called N may be anything: the points of a cloud."""
    return bool(BATCH_NAME.fullmatch(name)) and (axis == 0 or "batch" in name.lower())
