"""Other types at the edges of an int8 TFLite model: uint8 with the same scale, or float32."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edgekit.core.errors import InputError
from edgekit.steps.shared.tflite_rules import Graph

EdgeType = Literal["int8", "uint8", "float32"]


def set_types(model: Any, inputs: EdgeType, outputs: EdgeType) -> None:
    """Change a ModelT's int8 inputs and outputs to these types. Raises InputError where one is neither."""
    graph = Graph(model, model.subgraphs[0])
    for number, index in enumerate(graph.graph.inputs if inputs != "int8" else ()):
        if graph.dtype(int(index)) == inputs:
            continue
        edge = _edge(graph, int(index), inputs)
        _convert(graph, "QUANTIZE", edge, int(index), first=True)
        graph.graph.inputs[number] = edge
        _renumber(model, int(index), edge, "inputs")
    for number, index in enumerate(graph.graph.outputs if outputs != "int8" else ()):
        if graph.dtype(int(index)) == outputs:
            continue
        edge = _edge(graph, int(index), outputs)
        type = "DEQUANTIZE" if outputs == "float32" else "QUANTIZE"
        _convert(graph, type, int(index), edge, first=False)
        graph.graph.outputs[number] = edge
        _renumber(model, int(index), edge, "outputs")


def _edge(graph: Graph, index: int, type: EdgeType) -> int:
    """A tensor of this type that has the name of an int8 one, which gets another name."""
    from ai_edge_litert import schema_py_generated as schema

    old = graph.graph.tensors[index]
    if graph.dtype(index) != "int8" or not graph.scale(index):
        what = f"{graph.name(index)!r} cannot become {type}"
        raise InputError(what, f"it is {graph.dtype(index)} and not int8", "leave its type out")
    new = schema.TensorT(**vars(old))
    old.name = f"{graph.name(index)}/int8".encode()
    if type == "float32":
        new.type, new.quantization = schema.TensorType.FLOAT32, None
    else:
        scales, zero_points = graph.scale(index)
        new.type = schema.TensorType.UINT8
        new.quantization = schema.QuantizationParametersT(
            scale=np.array(scales, np.float32), zeroPoint=np.array(zero_points, np.int64) + 128
        )
    graph.graph.tensors.append(new)
    return len(graph.graph.tensors) - 1


def _convert(graph: Graph, type: str, source: int, target: int, *, first: bool) -> None:
    from ai_edge_litert import schema_py_generated as schema

    code = getattr(schema.BuiltinOperator, type)
    version = 2 if type == "DEQUANTIZE" else 1
    operator = schema.OperatorT(len(graph.model.operatorCodes))
    graph.model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=version)
    )
    operator.inputs, operator.outputs = np.array([source], np.int32), np.array([target], np.int32)
    graph.graph.operators.insert(0 if first else len(graph.operators), operator)


def _renumber(model: Any, old: int, new: int, side: str) -> None:
    for signature in model.signatureDefs or []:
        for entry in getattr(signature, side) or ():
            if signature.subgraphIndex == 0 and entry.tensorIndex == old:
                entry.tensorIndex = new
