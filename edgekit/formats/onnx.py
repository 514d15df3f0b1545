"""The ONNX format: tensor specs, sizes by part, operators with parameters and MACs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, Missing, os_errors
from edgekit.types import ModelFacts, Operator, Sizes, TensorSpec

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto


class Onnx:
    file = "model.onnx"
    suffixes = (".onnx",)

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Everything the file says without being run. Raises InputError for what is not a valid ONNX model."""
        model = read(path)
        graph = model.graph
        constants = dict(_constants(graph))
        shapes = _shapes(model)
        weights = sum(_bytes(tensor) for tensor in constants.values() if len(tensor.dims) >= 2)
        metadata = (
            sum(node.ByteSize() for node in model.metadata_props)
            + len(model.doc_string)
            + sum(entry.ByteSize() for node in graph.node for entry in node.metadata_props)
        )
        total = path.stat().st_size + sum(
            (path.parent / name).stat().st_size for name in _external_files(constants) if (path.parent / name).is_file()
        )
        types = {node.op_type for node in graph.node}
        return ModelFacts(
            inputs=tuple(_spec(value) for value in graph.input if value.name not in constants),
            outputs=tuple(_spec(value) for value in graph.output),
            sizes=Sizes(total, weights, total - weights - metadata, metadata),
            traits=_traits(types, constants),
            parameters=sum(math.prod(t.dims) for t in constants.values() if t.data_type in _FLOATS | _INTEGERS),
            operators=tuple(_operator(node, constants, shapes) for node in graph.node),
            details={"opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}},
        )


def read(path: Path) -> ModelProto:
    """The parsed and checked model, without external data. Raises Missing or InputError."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise Missing.install("reading ONNX", "onnx", "onnx") from error
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        model = onnx.load_model_from_string(raw)
        if not model.graph.node or not model.opset_import:
            raise InputError(f"{path} is not an ONNX model", "it holds no graph", "was it cut off, or not exported?")
        onnx.checker.check_model(str(path) if path.stat().st_size > 1_000_000_000 else model)
    except (DecodeError, UnicodeDecodeError) as error:
        why = "it cannot be parsed: damaged, cut off, or another kind of file"
        raise InputError(f"{path} is not an ONNX model", why, "export it again") from error
    except onnx.checker.ValidationError as error:
        why = str(error).strip().splitlines()[0]
        raise InputError(f"{path} is not a valid ONNX model", why, "export it again") from error
    return model


_FLOATS = {1, 10, 11, 16}
_INTEGERS = {2, 3}
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


def _constants(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def _bytes(tensor: TensorProto) -> int:
    return int(math.prod(tensor.dims)) * _ITEM_BYTES.get(tensor.data_type, 1)


def _external_files(constants: Mapping[str, TensorProto]) -> set[str]:
    return {entry.value for t in constants.values() for entry in t.external_data if entry.key == "location"}


def _spec(value: ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, "sequence", ())
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    if tensor.elem_type == onnx.TensorProto.STRING:
        return TensorSpec(value.name, "string", shape)
    return TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape)


def _traits(types: set[str], constants: Mapping[str, TensorProto]) -> frozenset[str]:
    if types & {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}:
        return frozenset({"int8"})
    if types & {"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear"}:
        return frozenset({"dynamic"})
    heavy = [tensor.data_type for tensor in constants.values() if len(tensor.dims) >= 2]
    return frozenset({"fp16"}) if heavy and all(kind == 10 for kind in heavy) else frozenset()


def _shapes(model: ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Value name → shape, dynamic axes None, as far as shape inference finds them."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # inference is a convenience: it refuses some valid models, and MACs are then left out
        inferred = model.graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    return {
        v.name: tuple(d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim)
        for v in values
    }


def _operator(
    node: NodeProto, constants: Mapping[str, TensorProto], shapes: Mapping[str, tuple[int | None, ...]]
) -> Operator:
    held = [constants[name] for name in node.input if name in constants]
    return Operator(node.op_type, node.name, sum(math.prod(t.dims) for t in held), _macs(node, constants, shapes))


def _macs(node: NodeProto, constants: Mapping[str, TensorProto], shapes: Mapping[str, Any]) -> int | None:
    """Multiply-accumulates of one sample (dynamic axes count as one); None where the shapes are not known."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    output = shapes.get(node.output[0])
    weight = constants[node.input[1]].dims if node.input[1] in constants else shapes.get(node.input[1])
    if not output or not weight:
        return None
    cells = math.prod(size or 1 for size in output[1:])
    if node.op_type == "Conv":
        return int(cells * math.prod(size or 1 for size in weight[1:]))
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    depth = weight[-1] if transposed else weight[-2] if len(weight) > 1 else weight[0]
    return int(cells * (depth or 1))
