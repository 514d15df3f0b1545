"""Infinities in a TFLite model's constants, such as the scores of padding: int8 has no value for them.

They are left out of the calibrated ranges. In the int8 file a finite value takes their place, so far below the scores
(or above them) that its softmax rounds to zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.calibration.infinities import INFINITE, LARGE, has_infinities, has_large
from edgekit.compression.calibration.ranges import Ranges
from edgekit.formats.ranges import Histogram

#: types of a TensorT in the schema
FLOAT32, FLOAT16 = 0, 1
#: exp(-8) is a third of a thousandth, which the 256 steps of a softmax in int8 round to zero
MARGIN = 8.0
#: operators whose output holds values of their inputs, or sums and products of them
PASSING = frozenset(
    "ADD BROADCAST_TO CAST CONCATENATION EXPAND_DIMS FILL GATHER MUL NEG PACK RESHAPE SELECT SELECT_V2 SLICE SPLIT "
    "SQUEEZE STRIDED_SLICE SUB TILE TRANSPOSE".split()
)


@dataclass(frozen=True)
class Mask:
    """A constant with infinities. `carriers`: the tensors that take values from it; `near`: those it is applied to.

    `limit`: the magnitude from which on its values are infinities.
    """

    tensor: Any
    values: NDArray[np.float32]
    carriers: tuple[str, ...]
    near: tuple[str, ...]
    limit: float = INFINITE

    @property
    def negative(self) -> bool:
        return bool((self.values < 0).any() and self.values.min() <= -self.limit)

    @property
    def positive(self) -> bool:
        return bool(self.values.max() >= self.limit)

    def ends(self, statistics: Mapping[str, Histogram]) -> tuple[float, float]:
        """The finite values in place of minus and plus infinity, beyond a sum with any finite value."""
        known = [statistics[name] for name in (*self.carriers, *self.near) if name in statistics]
        low = min([h.minimum for h in known if h.count], default=0.0)
        high = max([h.maximum for h in known if h.count], default=0.0)
        return low - (high - low) - MARGIN, high + (high - low) + MARGIN


def masks(model: Any) -> list[Mask]:
    """The constants of a ModelT with infinities, those of padding excluded.

    Large finite constants are a mask where only a softmax reads what they are added to, and what they are multiplied by
    is made of integers or is an input.
    """
    graph = model.subgraphs[0]
    kinds = [_kind(model, operator) for operator in graph.operators]
    padding = {int(o.inputs[2]) for o, kind in zip(graph.operators, kinds, strict=True) if kind == "PADV2"}
    found = []
    for index, tensor in enumerate(graph.tensors):
        values = _floats(model, tensor)
        if values is None or index in padding or np.isnan(values).any():
            continue
        limit = INFINITE if has_infinities(values) else LARGE
        if limit == LARGE and not has_large(values):
            continue
        carried, near, readers = {index}, set(), set()
        for operator, kind in zip(graph.operators, kinds, strict=True):
            inputs = {int(i) for i in operator.inputs if i >= 0}
            if carried & inputs:
                factors = inputs - carried if limit == LARGE and kind == "MUL" else set()
                if not all(_from_integers(graph, kinds, factor) for factor in factors):
                    readers.add("scaled")  # a temperature, not a mask that says where it applies
                near |= inputs - carried
                readers.add(kind)
                carried |= set(map(int, operator.outputs)) if kind in PASSING else set()
        if limit == LARGE and (not readers <= PASSING | {"SOFTMAX"} or carried & set(map(int, graph.outputs))):
            continue
        names = [sorted(graph.tensors[i].name.decode() for i in some) for some in (carried - {index}, near)]
        found.append(Mask(tensor, values, tuple(names[0]), tuple(names[1]), limit))
    return found


def _from_integers(graph: Any, kinds: Sequence[str], index: int) -> bool:
    """Are the values of a tensor made of integers or of an input, as zeros and ones of a mask are?"""
    tensor = graph.tensors[index]
    if tensor.type not in (FLOAT32, FLOAT16) or index in map(int, graph.inputs):
        return True
    made = [(o, kind) for o, kind in zip(graph.operators, kinds, strict=True) if index in map(int, o.outputs)]
    if not made:
        return bool(tensor.buffer)  # a constant
    operator, kind = made[0]
    return kind in PASSING and all(_from_integers(graph, kinds, int(i)) for i in operator.inputs if i >= 0)


def replace(model: Any, found: Iterable[Mask], statistics: Mapping[str, Histogram]) -> None:
    """Write finite values into the constants of the ModelT."""
    from ai_edge_litert.schema_py_generated import BufferT

    for mask in found:
        low, high = mask.ends(statistics)
        values = np.where(mask.values <= -mask.limit, low, np.where(mask.values >= mask.limit, high, mask.values))
        buffer = BufferT()
        buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
        mask.tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)


def widened(tensor_ranges: Ranges, found: Iterable[Mask], statistics: Mapping[str, Histogram]) -> Ranges:
    """The ranges, those of tensors that carry a mask wide enough for it."""
    ranges = dict(tensor_ranges)
    for mask in found:
        ends = mask.ends(statistics)
        for name in (name for name in mask.carriers if name in ranges):
            low, high = ranges[name]
            varies = low < high  # else there is nothing but the mask in it
            if mask.negative:
                low = low - MARGIN if varies else ends[0]
            if mask.positive:
                high = high + MARGIN if varies else ends[1]
            ranges[name] = low, high
    return ranges


def _floats(model: Any, tensor: Any) -> NDArray[np.float32] | None:
    from ai_edge_litert.schema_py_generated import TensorType

    data = model.buffers[tensor.buffer].data
    if tensor.type != TensorType.FLOAT32 or data is None or not len(data):
        return None
    return np.frombuffer(bytes(data), np.float32)


def _kind(model: Any, operator: Any) -> str:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    return next((name for name, value in vars(BuiltinOperator).items() if value == code), "")
