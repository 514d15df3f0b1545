"""An int8 ONNX model as ONNX Runtime computes it, from the graph that its optimizer writes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.temporary import temporary_folder
from edgekit.formats.onnx import read, without_data
from edgekit.formats.shared.onnx_wire import graphs
from edgekit.steps.onnx_int8 import FLOAT_ANYWAY
from edgekit.workflows.inspect.mixed_precision import Conversion, Execution, Operator, Precision, Tensor, conversions

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

_QDQ = ("QuantizeLinear", "DequantizeLinear")
#: operators that a quantizer takes as a part of the one before
_LIMITS = ("Relu", "Clip")
#: onnx.TensorProto.DataType: float32, float16, float64, bfloat16
_FLOATS = (1, 10, 11, 16)
#: uint8, int8, uint16, int16, uint4, int4
_INTEGERS = (2, 3, 4, 5, 21, 22)
#: operators that read integers, and whose result is their product before the scale
_ACCUMULATED = ("ConvInteger", "MatMulInteger")


def quantizable() -> Collection[str]:
    """The types that ONNX Runtime's quantizer has int8 for, and its CPU kernels."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return {*QLinearOpsRegistry, *QDQRegistry} - FLOAT_ANYWAY


def execution(path: Path) -> Execution:
    """Raises what ONNX Runtime raises for a model that it cannot load."""
    original, optimized = read(path), _optimized(path)
    inferred = _inferred(original)
    file = _Graph(original, _types(inferred))
    known = {value.name for value in (*optimized.graph.input, *optimized.graph.output)}
    optimized.graph.value_info.extend(v for v in inferred.graph.value_info if v.name not in known)
    done = _Graph(optimized, {**_types(_inferred(optimized)), **file.types})
    found: list[Conversion] = []
    rescaled = weights = 0
    for node in done.nodes:
        if not done.reads(node):
            weights += node.op_type == "DequantizeLinear" and node.output[0] in done.readers
            continue
        reads, writes = done.tensors(done.reads(node)), done.tensors(node.output)
        if node.op_type == "QuantizeLinear" and reads[0].precision == "int8":
            rescaled += 1
        found += conversions(reads, writes, own_pass=node.op_type in _QDQ)
    return Execution(tuple(_operators(file, done)), tuple(found), weights, rescaled)


def _optimized(path: Path) -> ModelProto:
    """The model after ONNX Runtime's fusions.

    Without the changes of layout that follow them: these rename operators and convert nothing.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # weights apart: a file cannot hold more than 2 GB, and they are not read
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    with temporary_folder() as folder:
        file = folder / "model.onnx"
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(file), load_external_data=False)


def _inferred(model: ModelProto) -> ModelProto:
    """With the shapes and types of its tensors; large constants are inputs."""
    import onnx

    reduced = without_data(model)
    try:
        return onnx.shape_inference.infer_shapes(reduced, data_prop=True)
    except Exception:  # it fails for some valid models; sizes are then unknown
        return reduced


def _types(model: ModelProto) -> dict[str, ValueInfoProto]:
    return {v.name: v for g in graphs(model.graph) for v in (*g.value_info, *g.input, *g.output)}


class _Graph:
    """The nodes of a model, those of branches and bodies too, and the precision of its tensors."""

    def __init__(self, model: ModelProto, types: Mapping[str, ValueInfoProto]) -> None:
        inner = list(graphs(model.graph))
        self.types = types
        self.nodes = [node for graph in inner for node in graph.node]
        self.constants = _constants(inner)
        self.ends = {value.name for value in (*model.graph.input, *model.graph.output)}
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.precisions: dict[str, Precision | None] = {}
        for name in {node.input[0] for node in self.nodes if node.op_type == "DequantizeLinear"}:
            self.precisions[name] = "int8"
        for node in self.nodes:
            self.precisions |= {name: self._precision(node, name) for name in node.output if name}

    def reads(self, node: NodeProto) -> list[str]:
        """The activations that it reads."""
        return [name for name in dict.fromkeys(node.input) if name and name not in self.constants]

    def precision_of(self, name: str) -> Precision | None:
        if name in self.precisions:
            return self.precisions[name]
        return "float" if self._element(name) in _FLOATS else None

    def tensors(self, names: Collection[str]) -> list[Tensor]:
        return [Tensor(self.precision_of(n), self._values(n), n in self.ends) for n in names if n]

    def computes_in(self, node: NodeProto) -> Precision | None:
        """int8 if all that it reads of the two is; None for what computes neither."""
        read = {self.precision_of(name) for name in self.reads(node)} - {None}
        if not read:  # a table of embeddings, read by indices
            written = {self.precision_of(name) for name in node.output if name}
            return "float" if "float" in written and self.reads(node) else None
        return "float" if "float" in read else "int8"

    def _precision(self, node: NodeProto, name: str) -> Precision | None:
        """An integer is a rounded float if the operator that writes it reads such a one; an image's byte is none."""
        if node.op_type == "QuantizeLinear" or self.precisions.get(name) == "int8":
            return "int8"
        if node.op_type == "DequantizeLinear":
            return "float"
        element = self._element(name)
        if element in _FLOATS:
            return "float"
        reads_int8 = any(self.precision_of(read) == "int8" for read in self.reads(node))
        if reads_int8 and (element in (0, *_INTEGERS) or node.op_type in _ACCUMULATED):
            return "int8"
        return None

    def _element(self, name: str) -> int:
        return int(self.types[name].type.tensor_type.elem_type) if name in self.types else 0

    def _values(self, name: str) -> int | None:
        """The values of one sample: an open first axis counts as 1; None if another one is open."""
        if name not in self.types or not self.types[name].type.tensor_type.HasField("shape"):
            return None
        dims = self.types[name].type.tensor_type.shape.dim
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
        if sizes[:1] == [None]:
            sizes[0] = 1
        return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _constants(inner: list[GraphProto]) -> set[str]:
    """Names of constants, and of what is computed from them only."""
    constants = {tensor.name for graph in inner for tensor in graph.initializer}
    constants |= {tensor.values.name for graph in inner for tensor in graph.sparse_initializer}
    for node in (node for graph in inner for node in graph.node):
        if all(name in constants for name in node.input if name) and not any(a.HasField("g") for a in node.attribute):
            constants |= set(node.output)
    return constants


def _operators(file: _Graph, done: _Graph) -> Iterator[Operator]:
    """The operators of the file, each in the precision of what ONNX Runtime made of it."""
    named: dict[str, NodeProto | None] = {}
    for node in done.nodes:
        named[node.name] = None if node.name in named or not node.name else node
    for node in file.nodes:
        if node.op_type in _QDQ or file.computes_in(node) is None:
            continue
        made = _made(node, file, done, named)
        precision = done.computes_in(made) if made is not None else file.computes_in(node)
        if precision is not None:
            kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
            yield Operator(kind, node.name, precision, _quantized(node, file))


def _made(
    node: NodeProto, file: _Graph, done: _Graph, named: Mapping[str, NodeProto | None], depth: int = 8
) -> NodeProto | None:
    """The executed node of that name, or that writes its output, in float or rounded; else that of its first reader."""
    found = [named.get(node.name)]
    readers = list(_readers(node, file))
    rounded = [reader.output[0] for reader in readers if reader.op_type == "QuantizeLinear"]
    # the names of the tensors that it makes where it moves a QuantizeLinear or a DequantizeLinear past an operator
    outputs = [f"{name}{end}" for end in ("", "_pre_q", "_q_to_dq") for name in node.output if name]
    found += [done.producers.get(name) for name in (*outputs, *rounded)]
    made = next((made for made in found if made is not None and made.op_type not in _QDQ), None)
    if made is not None or not readers or not depth or readers[0].op_type in _QDQ:
        return made
    return _made(readers[0], file, done, named, depth - 1)


def _quantized(node: NodeProto, file: _Graph) -> bool:
    """Does the file round all floats that it reads, and all that it writes? With it, what limits its values."""
    source = file.producers.get(node.input[0]) if node.op_type in _LIMITS else None
    first = source if source is not None and source.op_type not in _QDQ else node
    reads = [name for name in file.reads(first) if file.precision_of(name) == "float"]
    readers = list(_readers(node, file))
    if len(readers) == 1 and readers[0].op_type in _LIMITS:
        readers = list(_readers(readers[0], file))
    rounded = all(name in file.producers and file.producers[name].op_type == "DequantizeLinear" for name in reads)
    return bool(reads and readers) and rounded and all(reader.op_type == "QuantizeLinear" for reader in readers)


def _readers(node: NodeProto, file: _Graph) -> Iterator[NodeProto]:
    for name in node.output:
        yield from file.readers.get(name, ())
