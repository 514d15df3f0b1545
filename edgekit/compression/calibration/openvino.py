"""Activations of an OpenVINO IR in OpenVINO: those that can be quantized, as results of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.compression.calibration import Feed, gather
from edgekit.compression.calibration.infinities import finite, has_infinities
from edgekit.core.step import Context
from edgekit.formats.ranges import Statistics
from edgekit.runtimes.openvino import no_telemetry

if TYPE_CHECKING:
    from openvino import Model, Node, Output

#: operators whose input is never quantized: the operator before them can stay fused with them
_FLOAT_READERS = frozenset("Relu Clamp PRelu Elu Sigmoid Tanh HSwish HSigmoid Swish Mish Gelu SoftPlus Softmax".split())
#: operators with weights, for which an Add of a constant is the bias
_LINEAR = frozenset("Convolution GroupConvolution MatMul ConvolutionBackpropData GroupConvolutionBackpropData".split())


def observe(
    path: Path,
    feeds: Iterable[Feed],
    ctx: Context,
    *,
    batch: int = 1,
    origin: str = "",
    partial: Path | None = None,
) -> Statistics:
    """Statistics by the names of `activations`, without the infinities of masks. Raises InputError: see `gather`."""
    import openvino
    from openvino import opset13 as ops

    model = read(path)
    observed = activations(model)
    inputs = {min(port.get_names(), default=port.node.get_friendly_name()): port for port in model.inputs}
    fed = {key(port): name for name, port in inputs.items() if key(port) in observed}
    names = [name for name in observed if name not in fed]
    first, infinite = len(model.outputs), _masks(model)
    model.add_results([ops.result(observed[name]) for name in names])
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "CACHE_DIR": ""}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def run(feed: Feed) -> Mapping[str, Any]:
        request.infer([feed[name] for name in inputs], share_inputs=True)
        values = {name: request.get_output_tensor(first + index).data for index, name in enumerate(names)}
        values |= {where: feed[name] for where, name in fed.items()}
        return {name: finite(value) for name, value in values.items()} if infinite else values

    return gather(run, feeds, batch=batch, origin=origin, partial=partial)


def read(path: Path) -> Model:
    """The model, with its operators' names made unique, deterministically, and without conversions to the same type.

    Those of an input OpenVINO drops when it compiles the model: a Result that is added to one then had memory that was
    not its own (2026.4: other values, and a crash).
    """
    no_telemetry()
    import openvino

    model = openvino.Core().read_model(path)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convert" and node.get_output_element_type(0) == node.get_input_element_type(0):
            for reader in node.output(0).get_target_inputs():
                if reader.get_node().get_type_name() != "Result":
                    reader.replace_source_output(node.input_value(0))
    taken: set[str] = set()
    for node in model.get_ordered_ops():
        name, count = node.get_friendly_name(), 0
        while (unique := f"{name}.{count}" if count else name) in taken:
            count += 1
        if count:
            node.set_friendly_name(unique)
        taken.add(unique)
    return model


def _masks(model: Model) -> bool:
    """Does a constant hold infinities, as a mask of attention scores?"""
    constants = (node for node in model.get_ordered_ops() if node.get_type_name() == "Constant")
    return any(has_infinities(node.get_data()) for node in constants if node.get_element_type().is_real())


def key(port: Output) -> str:
    """The name of an operator's output: the operator's name, and the port's index if it is not the first."""
    name, index = port.get_node().get_friendly_name(), port.get_index()
    return f"{name}:{index}" if index else str(name)


def activations(model: Model) -> dict[str, Output]:
    """Name → port of every float32 tensor that is computed from the inputs and can be quantized.

    Tensors are excluded if all their readers are never quantized: a bias addition, an activation function, a result.
    Observing them would prevent the fusion that makes the pass fast.
    """
    from openvino import Type

    live = computed(model)
    ports = {}
    for node in model.get_ordered_ops():
        if node.get_friendly_name() not in live or node.get_type_name() == "Result":
            continue
        for port in node.outputs():
            if port.get_element_type() == Type.f32 and any(_may_quantize(node, live, r) for r in _readers(port)):
                ports[key(port)] = port
    return ports


def _readers(port: Output) -> Iterator[Node]:
    yield from (reader.get_node() for reader in port.get_target_inputs())


def _may_quantize(node: Node, live: set[str], reader: Node) -> bool:
    kind = reader.get_type_name()
    if kind in _FLOAT_READERS or kind in ("Result", "ShapeOf"):
        return False
    if kind == "Add" and node.get_type_name() in _LINEAR:
        return all(port.get_node().get_friendly_name() in live for port in reader.input_values())
    return True


def computed(model: Model) -> set[str]:
    """Names of the operators whose outputs depend on an input or a state; the others are constant."""
    live: set[str] = set()
    for node in model.get_ordered_ops():
        sources = (port.get_node().get_friendly_name() for port in node.input_values())
        if node.get_type_name() in ("Parameter", "ReadValue") or any(name in live for name in sources):
            live.add(node.get_friendly_name())
    return live
