"""The tensors of two OpenVINO models in OpenVINO, as additional results of their graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgekit.compression.calibration.openvino import computed, key, read
from edgekit.runtimes.openvino import asks_for_dynamic
from edgekit.workflows.inspect.matched_tensors import Feed, MatchedTensors, Node, grouped

if TYPE_CHECKING:
    from openvino import Model, Output

_LINEAR = ("Convolution", "GroupConvolution", "MatMul", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
#: operators that NNCF puts no FakeQuantize in front of if they follow one of those: biases and activations
_BIASES = ("Add", "Multiply", "Subtract")
_ACTIVATIONS = ("Relu", "Clamp", "PRelu", "Elu", "Sigmoid", "Tanh", "HSwish", "HSigmoid", "Swish", "Mish", "Gelu")


def match(path: Path, other: Path) -> MatchedTensors:
    """Open both. A tensor that the other model quantizes is read after its FakeQuantize."""
    import openvino
    from openvino import opset13 as ops

    first, second = read(path), read(other)
    graph = _grouped(first)
    ours, theirs = _ports(first), _matches(second)
    names = [name for node in graph for name in node.writes if name in ours and name in theirs]
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "CACHE_DIR": ""}
    requests, starts = [], []
    for model, ports, file in ((first, ours, path), (second, theirs, other)):
        starts.append(len(model.outputs))
        model.add_results([ops.result(ports[name]) for name in names])
        dynamic = asks_for_dynamic(file)  # type: ignore[no-untyped-call]
        grouping: dict[str, Any] = {} if dynamic else {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        requests.append(openvino.Core().compile_model(model, "CPU", options | grouping).create_infer_request())
    inputs = [min(port.get_names(), default=port.node.get_friendly_name()) for port in first.inputs]

    def run(feed: Feed) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
        for request in requests:
            request.infer([feed[name] for name in inputs], share_inputs=True)
        for index, name in enumerate(names):
            values = (r.get_output_tensor(start + index).data for r, start in zip(requests, starts, strict=True))
            yield name, next(values), next(values)

    return MatchedTensors(graph, run)


def nodes(path: Path) -> tuple[Node, ...]:
    """See `matched_tensors.nodes`."""
    return _grouped(read(path))


def _grouped(model: Model) -> tuple[Node, ...]:
    return grouped(_nodes(model), _follows, [key(port.get_node().input_value(0)) for port in model.outputs])


def _nodes(model: Model) -> Iterator[Node]:
    live = computed(model)
    for node in model.get_ordered_ops():
        if node.get_friendly_name() in live and node.get_type_name() not in ("Parameter", "Result"):
            sources = [port for port in node.input_values() if port.get_node().get_friendly_name() in live]
            reads = tuple(dict.fromkeys(map(key, sources)))
            yield Node(node.get_friendly_name(), node.get_type_name(), reads, tuple(map(key, node.outputs())))


def _follows(before: Node, node: Node) -> bool:
    parts = before.type.split("+")
    if node.type in _BIASES:
        return parts[0] in _LINEAR and parts[-1] not in _ACTIVATIONS
    return node.type in _ACTIVATIONS and parts[-1] not in _ACTIVATIONS


def _ports(model: Model) -> dict[str, Output]:
    """Name → port of every float tensor that is computed from the inputs."""
    from openvino import Type

    live = computed(model)
    nodes = [node for node in model.get_ordered_ops() if node.get_friendly_name() in live]
    ports = [port for n in nodes if n.get_type_name() not in ("Parameter", "Result") for port in n.outputs()]
    return {key(port): port for port in ports if port.get_element_type() in (Type.f32, Type.f16)}


def _matches(model: Model) -> dict[str, Output]:
    """Tensor of the float model → the port of this model that holds its values as their readers see them."""
    ports = _ports(model)
    for name, port in list(ports.items()):
        readers = [reader.get_node() for reader in port.get_target_inputs()]
        quantizer = next((node for node in readers if node.get_type_name() == "FakeQuantize"), None)
        if quantizer is not None and port.get_node().get_type_name() != "FakeQuantize":
            ports[name] = quantizer.output(0)
    return ports
