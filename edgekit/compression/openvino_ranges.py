"""Set the ranges of an OpenVINO model's FakeQuantize operators: activations from statistics, weights from their values.

FakeQuantize (OpenVINO opset 1) clamps to [low, high], rounds to one of `levels` equally spaced values, and scales back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.bounded_weights import HALVED, LARGEST, bound
from edgekit.compression.calibration.openvino import computed, key
from edgekit.compression.calibration.ranges import choose
from edgekit.core.errors import InputError
from edgekit.formats.ranges import Histogram

if TYPE_CHECKING:
    from openvino import Model, Node, Output

Range = tuple[float, float]

#: operators whose outputs are values of their first input
_PASSING = frozenset(
    "MaxPool ReduceMax Reshape Squeeze Unsqueeze Split VariadicSplit Transpose Tile StridedSlice Slice Broadcast Pad "
    "Gather DepthToSpace SpaceToDepth ShuffleChannels".split()
)
_ATTENTION = "ScaledDotProductAttention"


#: the input channels' axis of an operator's weights
_INPUTS = {
    "Convolution": 1,
    "GroupConvolution": 2,
    "ConvolutionBackpropData": 0,
    "GroupConvolutionBackpropData": 1,
}


def set_ranges(
    model: Model, statistics: Mapping[str, Histogram], method: str, symmetric: bool = False, bounded: bool = False
) -> None:
    """Set the range of every FakeQuantize: activations by `method`, weights by each channel's largest magnitude.

    The range stays symmetric for the input of squeeze-and-excite (with a zero point a MobileNetV3 took 1.04 times as
    long) and of an attention operator; with `symmetric`, wherever it was symmetric. Inputs of a Concat that share a
    range keep one range, so that none is rescaled. With `bounded`, no sum of two neighbouring products leaves 16 bits:
    weights are bounded, and the second factor of a product of activations has 7 bits. Raises InputError if the
    statistics lack a tensor: they are of another model.
    """
    live = computed(model)
    for node in quantizers(model):
        if node.get_friendly_name() not in live:
            _set_weights(node)
            if bounded:
                _bound(node)
    nodes = {node.get_friendly_name(): node for node in quantizers(model) if node.get_friendly_name() in live}
    centred = {name for name, node in nodes.items() if _is_symmetric(node, symmetric)}
    chosen = {name: _chosen(node, statistics, method, name in centred) for name, node in nodes.items()}
    for group in _joined(model, nodes):
        low, high = min(chosen[name][0] for name in group), max(chosen[name][1] for name in group)
        chosen |= dict.fromkeys(group, (low, high))
    for name, node in nodes.items():
        levels = node.get_attributes()["levels"]
        low, high = (_symmetric if name in centred else zero_aligned)(*chosen[name], levels)
        if bounded and _is_second_factor(node.output(0)):
            low, high = 2 * low, 2 * high
        _set(node, np.array(low, np.float32), np.array(high, np.float32))


def quantizers(model: Model) -> list[Node]:
    """Its FakeQuantize operators, in the order of computation."""
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]


def zero_aligned(low: float, high: float, levels: int = 256) -> Range:
    """The range moved by at most half a step, so that zero is one of its `levels` quantization levels.

    If only zeros were observed: 0 to 1, since any range contains zero.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (levels - 1) if high > low else 1 / (levels - 1)
    zero = round(-low / step)
    return -zero * step, (levels - 1 - zero) * step


def _symmetric(low: float, high: float, levels: int = 256) -> Range:
    """From -128 to 127 steps, wide enough for both ends; unsigned if no value is below zero."""
    if low >= 0:
        return zero_aligned(low, high, levels)
    half = levels // 2
    step = max(-low / (half - 1), high / (half - 1))
    return -half * step, (half - 1) * step


def _chosen(node: Node, statistics: Mapping[str, Histogram], method: str, symmetric: bool) -> Range:
    name = key(node.input_value(0))
    if name not in statistics:
        why = f"they have none for {name!r}"
        raise InputError("these ranges are of another model", why, "calibrate this model")
    return choose(statistics[name], method, symmetric=symmetric)


def _is_symmetric(node: Node, anywhere: bool) -> bool:
    """Is it before squeeze-and-excite, or was it made symmetric on purpose: for attention, or `anywhere`?"""
    low, high = (_constant(node.input_value(index)).reshape(-1)[0] for index in (1, 2))
    placed = bool(np.isclose(low * 127, high * -128, rtol=1e-4) and low < 0)
    readers = list(_readers(node.output(0)))
    attends = any(reader.get_type_name() == _ATTENTION for reader in readers)
    return any(map(weighs_channels, readers)) or (placed and (anywhere or attends))


def _is_second_factor(port: Output) -> bool:
    """Does a product of two activations, as attention's of queries and keys, have this output as its second factor?"""
    for entry in port.get_target_inputs():
        reader = entry.get_node()
        kind = reader.get_type_name()
        if kind in ("MatMul", _ATTENTION) and entry.get_index() == 1:
            return True
        if kind in _PASSING and any(map(_is_second_factor, reader.outputs())):
            return True
    return False


def weighs_channels(node: Node) -> bool:
    """Is it squeeze-and-excite's product of a tensor and a factor per channel, (N, C, 1, 1), neither a constant?"""
    if node.get_type_name() != "Multiply":
        return False
    if any(port.get_node().get_type_name() == "Constant" for port in node.input_values()):
        return False
    sides = [list(port.get_partial_shape()) for port in node.input_values()]
    single = [all(size.is_static and size.get_length() == 1 for size in shape[2:]) for shape in sides]
    return all(len(shape) > 2 for shape in sides) and sorted(single) == [False, True]


def _readers(port: Output) -> Iterator[Node]:
    """The operators that read this output, directly or through operators that only pass values on."""
    for entry in port.get_target_inputs():
        reader = entry.get_node()
        yield reader
        if reader.get_type_name() in _PASSING:
            for output in reader.outputs():
                yield from _readers(output)


def _joined(model: Model, nodes: Mapping[str, Node]) -> Iterator[list[str]]:
    """Names of the quantizers before each Concat whose inputs have one common range."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Concat":
            continue
        before = [name for port in node.input_values() for name in _before(port)]
        if len(before) > 1 and all(name in nodes for name in before):
            ranges = {tuple(float(_constant(nodes[name].input_value(i)).max()) for i in (1, 2)) for name in before}
            if len(ranges) == 1:
                yield before


def _before(port: Output) -> list[str]:
    """The last quantizers before this output, seen through operators that only pass values on; "" if there is none."""
    node = port.get_node()
    if node.get_type_name() == "FakeQuantize":
        return [node.get_friendly_name()]
    if node.get_type_name() == "Concat":
        return [name for source in node.input_values() for name in _before(source)]
    return _before(node.input_value(0)) if node.get_type_name() in _PASSING else [""]


def _set_weights(node: Node) -> None:
    """Set each channel's range to its largest magnitude, so that weights that are already int8 values do not change.

    NNCF widens channels below a hundredth of the largest.
    """
    low, high = (_constant(node.input_value(index)) for index in (1, 2))
    values = np.abs(_constant(node.input_value(0)))
    shape = (1,) * (values.ndim - high.ndim) + high.shape
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    largest = values.max(axis=axes, keepdims=True).reshape(high.shape)
    if not largest.any():
        return
    new_high = largest * (high.max() / largest.max())
    new_high = np.where(largest > largest.max() * 1e-6, new_high, high).astype(np.float32)
    _set(node, (low / high * new_high).astype(np.float32), new_high)


def _bound(node: Node) -> None:
    """Replace the weights by bounded ones (see `bounded_weights`), by 7-bit ones if their operator is not known."""
    from openvino import opset13 as ops

    high = _constant(node.input_value(2))
    values = _constant(node.input_value(0))
    shape = (1,) * (values.ndim - high.ndim) + high.shape
    inputs = _inputs_axis(node, values.ndim)
    if _is_depthwise(node, values.shape):
        return
    if inputs is None or shape[inputs] > 1:
        wider = (high * (LARGEST / HALVED)).astype(np.float32)
        _set(node, -wider, wider)
        return
    channels = [axis for axis, size in enumerate(shape) if size > 1]
    order = [*channels, inputs, *(axis for axis in range(values.ndim) if axis not in (*channels, inputs))]
    ordered = values.transpose(order)
    weights, scales = bound(ordered.reshape(-1, *ordered.shape[len(channels) :]))
    restored = np.ascontiguousarray(weights.reshape(ordered.shape).transpose(np.argsort(order)))
    name = node.input_value(0).get_node().get_friendly_name()
    node.input(0).replace_source_output(ops.constant(restored, name=name).output(0))
    limits = (scales * LARGEST).reshape(high.shape)
    _set(node, -limits, limits)


def _is_depthwise(node: Node, shape: tuple[int, ...]) -> bool:
    """Is it of a convolution with a single input and output per group? Its products are added in 32 bits."""
    kinds = {entry.get_node().get_type_name() for entry in node.output(0).get_target_inputs()}
    return kinds == {"GroupConvolution"} and shape[0] > 1 and shape[1:3] == (1, 1)


def _inputs_axis(node: Node, rank: int) -> int | None:
    """The axis of the weights that their operator sums over; None if it is not known."""
    entries = list(node.output(0).get_target_inputs())
    reader, port = entries[0].get_node(), entries[0].get_index()
    kind = reader.get_type_name()
    if len(entries) > 1:
        return None
    if kind == "MatMul":
        transposed = reader.get_attributes()["transpose_b" if port else "transpose_a"]
        return rank - 1 if transposed == bool(port) else rank - 2
    return _INPUTS.get(kind)


def _set(node: Node, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
    """Set its four constants: the input and output ranges are equal."""
    from openvino import opset13 as ops

    for index, values in enumerate((low, high, low, high), 1):
        name = node.input_value(index).get_node().get_friendly_name()
        node.input(index).replace_source_output(ops.constant(values, name=name).output(0))


def _constant(port: Output) -> NDArray[Any]:
    """The value of an output that does not depend on the model's inputs."""
    node = port.get_node()
    if node.get_type_name() == "Constant":
        return np.asarray(node.data)
    import openvino

    folded = openvino.Model([port], [], "constant")
    compiled = openvino.Core().compile_model(folded, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled({})[0])
