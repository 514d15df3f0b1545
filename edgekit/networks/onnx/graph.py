"""Reads an ONNX file as nodes and constants, with constant folding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgekit.core.errors import CannotConvert, EdgekitError, InputError
from edgekit.networks.onnx.operators import DTYPES, TABLE, Node
from edgekit.networks.onnx.shape_arithmetic import SHAPE_FUNCTIONS

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

LOG = logging.getLogger("edgekit")
#: the longest constant in shape arithmetic
SHORT = 1024


@dataclass(frozen=True)
class Graph:
    """The remaining nodes in order. `numeric` holds the outputs of nodes that compute with plain numbers."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    numeric: frozenset[str]


def read(path: Path) -> Graph:
    """Raises CannotConvert, naming all unsupported operators, before any computation."""
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # a damaged file raises many types
        raise InputError(f"cannot read {path}", str(error).partition("\n")[0], "export it again") from error
    return graph(model, path.name)


def graph(model: ModelProto, name: str) -> Graph:
    """See `read`."""
    model = _inline_functions(model)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    declared = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value.name for value in model.graph.input if value.name not in declared)
    protos = list(model.graph.node)
    _check_operators(protos, name)
    constants = {tensor.name: tensor_of(tensor) for tensor in model.graph.initializer}
    nodes: list[Node] = []
    while protos:  # each proto is released after reading: constants may be large
        node = _node(protos.pop(0), opset)
        if all(entry in constants for entry in node.inputs if entry):
            constants |= zip(node.outputs, _fold(node, constants), strict=False)
        else:
            nodes.append(node)
    outputs = tuple(value.name for value in model.graph.output)
    numeric = _shape_values(nodes, constants, name)
    used = {entry for node in nodes for entry in node.inputs} | set(outputs)
    used_constants = {key: value for key, value in constants.items() if key in used}
    return Graph(inputs, outputs, tuple(nodes), used_constants, numeric)


def tensor_of(tensor: TensorProto) -> Tensor:
    """A constant as a tensor, half precision as float32. Raises CannotConvert for unsupported types."""
    import numpy as np
    from onnx import numpy_helper

    if tensor.data_type not in DTYPES:
        what = f"cannot convert the constant {tensor.name!r} to torch"
        raise CannotConvert(what, f"torch does not compute with element type {tensor.data_type}")
    array = np.array(numpy_helper.to_array(tensor))  # a writable copy
    if str(array.dtype) == "bfloat16":
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(DTYPES[tensor.data_type])


def _inline_functions(model: ModelProto) -> ModelProto:
    """Inline the model's functions, and unsupported operators that ONNX defines as functions."""
    from onnx import inliner, shape_inference

    if model.functions:
        model = inliner.inline_local_functions(model)
    done: set[str] = set()
    while (missing := _missing(model) - done) and model.ByteSize() < 2_000_000_000:
        done |= missing  # the body of a function may contain others
        try:
            typed = _typed(model)
            model = inliner.inline_selected_functions(
                typed, [("", type) for type in sorted(missing)], inline_schema_functions=True
            )
        except (RuntimeError, shape_inference.InferenceError) as error:  # what is missing is named later
            LOG.debug("functions are not inlined: %s", error)
    return model


def _missing(model: ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")} - TABLE.keys()


def _typed(model: ModelProto) -> ModelProto:
    """The model with the types of its values stated: the body of a function may depend on them."""
    from onnx import helper, shape_inference

    typed = shape_inference.infer_shapes(model)
    stated = {value.name for value in (*typed.graph.input, *typed.graph.value_info)}
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in typed.graph.initializer
        if tensor.name not in stated
    )
    return typed


def _check_operators(nodes: Sequence[NodeProto], name: str) -> None:
    nodes_by_type: dict[str, list[str]] = {}
    for node in nodes:
        foreign = node.domain not in ("", "ai.onnx")
        if foreign or node.op_type not in TABLE:
            type = f"{node.domain}.{node.op_type}" if foreign else node.op_type
            nodes_by_type.setdefault(type, []).append(node.name or (node.output[0] if node.output else ""))
    _raise_unsupported(nodes_by_type, name, "unsupported operators:")


def _raise_unsupported(nodes_by_type: Mapping[str, Sequence[str]], name: str, why: str) -> None:
    """`nodes_by_type`: operator → names of its nodes."""
    if nodes_by_type:
        parts = [f"{type} ({len(where)}, first {where[0]!r})" for type, where in sorted(nodes_by_type.items())]
        next = "bench or quantize the ONNX file itself, or export the model without these operators"
        raise CannotConvert(f"cannot convert {name} to torch", f"{why} {', '.join(parts)}", next)


def _node(proto: NodeProto, opset: int) -> Node:
    outputs = tuple(proto.output)
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    name = proto.name or next(filter(None, outputs), "")
    return Node(proto.op_type, name, tuple(proto.input), outputs, attributes, opset)


def _attribute(proto: AttributeProto) -> Any:
    """An attribute as number, text, list or tensor."""
    from onnx import helper

    value = helper.get_attribute_value(proto)
    if proto.type == proto.TENSOR:
        return tensor_of(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | int | float):
        return value
    return [item.decode() if isinstance(item, bytes) else item for item in value]


def _fold(node: Node, constants: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The outputs of a node with constant inputs."""
    operator = TABLE[node.type]
    arguments = [
        None
        if not entry
        else constants[entry].tolist()
        if operator.is_number(index, constants[entry])
        else constants[entry]
        for index, entry in enumerate(node.inputs)
    ]
    try:
        with torch.inference_mode(False), torch.no_grad():
            result = operator.function(node, *arguments)
    except EdgekitError:
        raise
    except Exception as error:  # torch raises many types
        raise node.conversion_error(" ".join(str(error).split())[:200]) from error
    results = result if isinstance(result, tuple) else (result,)
    return tuple(r.contiguous() if isinstance(r, Tensor) else torch.tensor(r) for r in results)


def _shape_values(nodes: Sequence[Node], constants: Mapping[str, Tensor], name: str) -> frozenset[str]:
    """The values that are plain numbers. Raises CannotConvert if a shape input is computed from the data."""
    short = {key for key, value in constants.items() if value.ndim <= 1 and value.numel() <= SHORT}
    numeric: set[str] = set()
    nodes_by_type: dict[str, list[str]] = {}
    for node in nodes:
        inputs = [entry for entry in node.inputs if entry]
        if node.type in ("Shape", "Size") or (
            node.type in SHAPE_FUNCTIONS and all(i in short | numeric for i in inputs)
        ):
            numeric |= set(node.outputs)
            continue
        shape_inputs = [
            entry for index, entry in enumerate(node.inputs) if entry and index in TABLE[node.type].shape_inputs
        ]
        if any(entry not in constants and entry not in numeric for entry in shape_inputs):
            nodes_by_type.setdefault(node.type, []).append(node.name)
    _raise_unsupported(nodes_by_type, name, "data-dependent shapes, axes or sizes:")
    return frozenset(numeric)
