"""An ONNX file → its nodes and constants, everything that does not depend on the inputs computed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgekit.core.errors import CannotConvert, EdgekitError, InputError
from edgekit.networks.onnx.numbers import NUMBERS
from edgekit.networks.onnx.operators import DTYPES, TABLE, Node

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

#: a constant no longer than this may take part in the arithmetic of shapes
SHORT = 1024


@dataclass(frozen=True)
class Graph:
    """What is left to be computed, in order. `numeric` holds the outputs of nodes that compute with plain numbers."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    numeric: frozenset[str]


def read(path: Path) -> Graph:
    """Raises CannotConvert, naming every operator there is no way for, before anything is computed."""
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # damaged in one of protobuf's many ways, or without its external data
        raise InputError(f"cannot read {path}", str(error).partition("\n")[0], "export it again") from error
    return graph(model, path.name)


def graph(model: ModelProto, name: str) -> Graph:
    """See `read`."""
    model = _inlined(model)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value.name for value in model.graph.input if value.name not in given)
    protos = list(model.graph.node)
    _covered(protos, name)
    constants = {tensor.name: tensor_of(tensor) for tensor in model.graph.initializer}
    nodes: list[Node] = []
    while protos:  # each is let go of once it has been read: constants may be large
        node = _node(protos.pop(0), opset)
        if all(entry in constants for entry in node.inputs if entry):
            constants |= zip(node.outputs, _folded(node, constants), strict=False)
        else:
            nodes.append(node)
    outputs = tuple(value.name for value in model.graph.output)
    numeric = _numeric(nodes, constants, name)
    used = {entry for node in nodes for entry in node.inputs} | set(outputs)
    kept = {key: value for key, value in constants.items() if key in used}
    return Graph(inputs, outputs, tuple(nodes), kept, numeric)


def tensor_of(tensor: TensorProto) -> Tensor:
    """A constant as torch computes with it, half precision as float32. Raises CannotConvert for text and odd types."""
    import numpy as np
    from onnx import numpy_helper

    if tensor.data_type not in DTYPES:
        what = f"cannot convert the constant {tensor.name!r} to torch"
        raise CannotConvert(what, f"torch does not compute with element type {tensor.data_type}")
    array = np.array(numpy_helper.to_array(tensor))  # a copy that may be written to
    if str(array.dtype) == "bfloat16":
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(DTYPES[tensor.data_type])


def _inlined(model: ModelProto) -> ModelProto:
    """Functions become their bodies: the model's own, and operators that ONNX defines by others."""
    from onnx import inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    types = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
    missing = [("", type) for type in sorted(types - TABLE.keys())]
    if missing and model.ByteSize() < 2_000_000_000:
        model = inliner.inline_selected_functions(model, missing, inline_schema_functions=True)
    return model


def _covered(nodes: Sequence[NodeProto], name: str) -> None:
    found: dict[str, list[str]] = {}
    for node in nodes:
        foreign = node.domain not in ("", "ai.onnx")
        if foreign or node.op_type not in TABLE:
            type = f"{node.domain}.{node.op_type}" if foreign else node.op_type
            found.setdefault(type, []).append(node.name or (node.output[0] if node.output else ""))
    _refuse(found, name, "there is no way for")


def _refuse(found: Mapping[str, Sequence[str]], name: str, why: str) -> None:
    """`found`: operator → the nodes."""
    if found:
        parts = [f"{type} ({len(where)}, first {where[0]!r})" for type, where in sorted(found.items())]
        next = "bench or quantize the file as it is, or export the model without them"
        raise CannotConvert(f"cannot convert {name} to torch", f"{why} {', '.join(parts)}", next)


def _node(proto: NodeProto, opset: int) -> Node:
    outputs = tuple(proto.output)
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    name = proto.name or next(filter(None, outputs), "")
    return Node(proto.op_type, name, tuple(proto.input), outputs, attributes, opset)


def _attribute(proto: AttributeProto) -> Any:
    """Numbers, text, lists of them, tensors."""
    from onnx import helper

    value = helper.get_attribute_value(proto)
    if proto.type == proto.TENSOR:
        return tensor_of(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | int | float):
        return value
    return [item.decode() if isinstance(item, bytes) else item for item in value]


def _folded(node: Node, constants: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The outputs of a node whose inputs are all constant."""
    operator = TABLE[node.type]
    wanted = operator.control | operator.soft
    arguments = [
        None if not entry else constants[entry].tolist() if index in wanted else constants[entry]
        for index, entry in enumerate(node.inputs)
    ]
    try:
        with torch.inference_mode(False), torch.no_grad():
            result = operator.function(node, *arguments)
    except EdgekitError:
        raise
    except Exception as error:  # torch's own complaints are of many kinds
        raise node.refuse(" ".join(str(error).split())[:200]) from error
    results = result if isinstance(result, tuple) else (result,)
    return tuple(r.contiguous() if isinstance(r, Tensor) else torch.tensor(r) for r in results)


def _numeric(nodes: Sequence[Node], constants: Mapping[str, Tensor], name: str) -> frozenset[str]:
    """Which values are plain numbers. Raises CannotConvert where one that must be is computed from the data."""
    short = {key for key, value in constants.items() if value.ndim <= 1 and value.numel() <= SHORT}
    numeric: set[str] = set()
    found: dict[str, list[str]] = {}
    for node in nodes:
        inputs = [entry for entry in node.inputs if entry]
        if node.type in ("Shape", "Size") or (node.type in NUMBERS and all(i in short | numeric for i in inputs)):
            numeric |= set(node.outputs)
            continue
        control = [entry for index, entry in enumerate(node.inputs) if entry and index in TABLE[node.type].control]
        if any(entry not in constants and entry not in numeric for entry in control):
            found.setdefault(node.type, []).append(node.name)
    _refuse(found, name, "shapes, axes or sizes are computed from the data in")
    return frozenset(numeric)
