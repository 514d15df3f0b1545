"""onnx[fp16] → onnx: every float16 tensor as float32, so that int8 can be calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.step import Context, Step, StepResult

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto, TypeProto

#: attributes that name an element type
_TYPES = ("to", "dtype")


@dataclass(frozen=True)
class OnnxFp32(Step):
    """Weights, activations, inputs and outputs become float32; the weights keep the values that float16 gave them."""

    accepts: ClassVar = kinds("onnx[fp16]")
    produces: ClassVar[Kind] = Kind("onnx")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx",)

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import onnx

        parent = inputs["parent"]
        model = onnx.load(str(parent.path / "model.onnx"))
        widen(model.graph)
        onnx.save(model, str(out / "model.onnx"))
        return StepResult("float32", parent.identity_map())


def widen(graph: GraphProto) -> None:
    """Make float32 of every float16 tensor of a graph and of the graphs within, in place."""
    from onnx import TensorProto

    for value in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(value.type)
    for tensor in _tensors(graph):
        _widen_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPES and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                widen(inner)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _widen_tensor(tensor: TensorProto) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))


def _widen_type(kind: TypeProto) -> None:
    from onnx import TensorProto

    holder: Any = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind
    holder = holder.optional_type.elem_type if holder.HasField("optional_type") else holder
    if holder.HasField("tensor_type") and holder.tensor_type.elem_type == TensorProto.FLOAT16:
        holder.tensor_type.elem_type = TensorProto.FLOAT
