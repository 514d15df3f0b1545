"""The ONNX format: tensor specs, sizes by part, operators with parameters, MACs and memory. Weights are never read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from edgekit.core.artifact import ModelFacts, Operator, Sizes, TensorSpec
from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.format import Format
from edgekit.formats.shared.lifetimes import peak_bytes
from edgekit.formats.shared.onnx_wire import graphs, parsed, place, subgraphs, tensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

Shape = tuple[int | None, ...]


class Onnx(Format):
    file: ClassVar[str] = "model.onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    observer: ClassVar[str] = "edgekit.compression.calibration.onnx"
    observed_in: ClassVar[str] = "onnxruntime"
    matched_tensors: ClassVar[str] = "edgekit.workflows.inspect.matched_tensors.onnx"
    kernels: ClassVar[str] = "edgekit.workflows.inspect.profiles.onnx"
    lowers_recurrence: ClassVar[bool] = False

    @staticmethod
    def light(path: Path) -> bytes | None:
        return bytes(light(read(path)).SerializeToString())

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Everything the file says without being run. Raises InputError for what is not a valid ONNX model."""
        model = read(path)
        graph = model.graph
        held = [tensor for inner in graphs(graph) for _, tensor in _constants(inner)]
        heavy = [tensor for tensor in held if len(tensor.dims) >= 2]
        weights = sum(map(_bytes, heavy))
        total = path.stat().st_size + sum(file.stat().st_size for file in external_files(path, model).values())
        metadata = _metadata(model)
        uses = _Uses(graph, _values(model), {})
        nodes = [node for inner in graphs(graph) for node in inner.node]
        return ModelFacts(
            inputs=tuple(_spec(value) for value in uses.inputs),
            outputs=tuple(_spec(value) for value in graph.output),
            sizes=Sizes(total, weights, total - weights - metadata, metadata),
            traits=_traits(nodes, heavy),
            parameters=sum(math.prod(t.dims) for t in held if t.data_type in _FLOATS | _INTEGERS),
            operators=tuple(uses.operators()),
            details={
                "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
                "ir_version": model.ir_version,
                "made_by": " ".join(filter(None, (model.producer_name, model.producer_version))),
                "weight_types": dict(Counter(_type_name(tensor.data_type) for tensor in heavy)),
            },
            axes={v.name: found for v in (*uses.inputs, *graph.output) if (found := _axes(v))},
            peak_bytes=uses.peak,
            quantized=_quantized(nodes, heavy),
            slow=tuple(_slow(uses, nodes, held)),
        )


# --- reading -----------------------------------------------------------------------------------------------------


def read(path: Path) -> ModelProto:
    """The checked model without the data of its weights. Raises Missing or InputError."""
    try:
        import onnx
    except ImportError as error:
        raise Missing.install("reading ONNX", "onnx", "onnx") from error
    model = parsed(path)
    if not model.graph.node or not model.opset_import:
        raise InputError(f"{path} is not an ONNX model", "it holds no graph", "was it cut off, or not exported?")
    try:
        for tensor in tensors(model):
            _check(tensor, path)
        checked = light(model)
        for graph in graphs(checked.graph):
            for value in (*graph.input, *graph.output):
                if value.type.HasField("tensor_type"):  # the checker insists on a shape, runtimes do not
                    value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(checked)
    except (onnx.checker.ValidationError, UnicodeDecodeError, ValueError, TypeError) as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), "it is damaged")
        raise InputError(f"{path} is not a valid ONNX model", why, "export it again") from error
    return model


def external_files(path: Path, model: ModelProto) -> dict[str, Path]:
    """Location → the file beside the model that holds weights of it.

    Raises InputError where one is missing, or lies outside the model's folder.
    """
    names = sorted({place(tensor).get("location", "") for tensor in tensors(model)} - {""})
    return {name: _beside(path, name) for name in names}


def _beside(path: Path, location: str) -> Path:
    relative = PurePosixPath(location)
    file = path.parent / relative
    # the file that is meant, should both be links into a cache
    target, whole = file.resolve(), path.resolve()
    inside = target.is_relative_to(path.parent.resolve()) or target.parent == whole.parent
    if relative.is_absolute() or ".." in relative.parts or "\\" in location or not inside or target == whole:
        why = f"it names {location!r} for its weights, which is not a file in its own folder"
        raise InputError(f"{path} is not a valid ONNX model", why, "save it with its weights beside it")
    if not file.is_file():
        why = f"its weights, {location}, are not beside it"
        raise InputError(f"{path} is not whole", why, f"copy {location} into {path.parent} too")
    return file


def _check(tensor: TensorProto, path: Path) -> None:
    """Is the data that was left in a file all there? Raises InputError, or ValueError for a place that is none."""
    if not (entries := place(tensor)):
        return
    needed, location = _bytes(tensor), entries.get("location", "")
    offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
    if min(offset, needed, *tensor.dims) < 0 or tensor.data_type not in _BITS:
        raise ValueError(f"tensor {tensor.name!r} of type {tensor.data_type} cannot have shape {list(tensor.dims)}")
    if length >= 0 and (length < needed or (not location and length != needed)):
        shape = f"{_type_name(tensor.data_type)}{list(tensor.dims)}"
        raise ValueError(f"tensor {tensor.name!r} is {shape}, which {length:,} bytes do not hold")
    if not location:
        return
    file = _beside(path, location)
    with os_errors("read", file):
        size = file.stat().st_size
    if offset + length > size:
        why = f"{location} has {size:,} bytes where {tensor.name!r} needs {offset + length:,}"
        raise InputError(f"{path} is not whole", why, "was it cut off? copy all its files again")


def light(model: ModelProto) -> ModelProto:
    """The same graph with every tensor whose data was left out as a further input: for those who only look at it."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    found: dict[str, ValueInfoProto] = {}
    for graph in reversed(list(graphs(made.graph))):  # inner ones first: what is kept of the outer is copied
        absent = {name: tensor for name, tensor in _constants(graph) if place(tensor)}
        absent |= {s.values.name: _dense(s.values, s.dims) for s in graph.sparse_initializer if place(s.values)}
        for name, tensor in absent.items():
            found.setdefault(name, onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name not in absent])
        _keep(graph.sparse_initializer, [s for s in graph.sparse_initializer if s.values.name not in absent])
        _keep(graph.node, [n for n in graph.node if n.op_type != "Constant" or n.output[0] not in absent])
    for tensor in tensors(made):
        if place(tensor):  # an attribute: nothing of its data
            tensor.dims[:] = [0]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    declared = {value.name for value in made.graph.input}
    made.graph.input.extend(value for name, value in found.items() if name not in declared)
    return made


def _dense(values: TensorProto, dims: Sequence[int]) -> TensorProto:
    import onnx

    return onnx.TensorProto(name=values.name, data_type=values.data_type, dims=dims)


def _keep(entries: object, kept: list[object]) -> None:
    copies = [type(entry)() for entry in kept]
    for copy, entry in zip(copies, kept, strict=True):
        copy.CopyFrom(entry)  # type: ignore[attr-defined]
    del entries[:]  # type: ignore[attr-defined]
    entries.extend(copies)  # type: ignore[attr-defined]


def _constants(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def _metadata(model: ModelProto) -> int:
    entries = [entry for node in model.graph.node for entry in node.metadata_props]
    return sum(int(entry.ByteSize()) for entry in [*model.metadata_props, *entries]) + len(model.doc_string)


# --- types and shapes --------------------------------------------------------------------------------------------

#: onnx.TensorProto.DataType → bits of one element
_BITS = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16},
    **{17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2},
}
_FLOATS = {1, 10, 11, 16, 17, 18, 19, 20, 23}
_INTEGERS = {2, 3, 21, 22}
_INT8, _HALF, _DOUBLE = 3, 10, 11


def _bytes(tensor: TensorProto) -> int:
    bits: int = math.prod(tensor.dims) * _BITS.get(tensor.data_type, 8)
    return (bits + 7) // 8


def _type_name(data_type: int) -> str:
    import onnx

    try:
        return str(onnx.TensorProto.DataType.Name(data_type)).lower().replace("double", "float64")
    except ValueError:
        return f"type {data_type}"


def _shape(value: ValueInfoProto) -> Shape | None:
    """None where not even the rank is known."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims)


def _axes(value: ValueInfoProto) -> dict[int, str]:
    dims = value.type.tensor_type.shape.dim
    return {axis: d.dim_param for axis, d in enumerate(dims) if d.HasField("dim_param") and d.dim_param}


def _spec(value: ValueInfoProto) -> TensorSpec:
    import onnx

    element = value.type.tensor_type.elem_type
    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, "sequence", ())
    if element == onnx.TensorProto.STRING:
        return TensorSpec(value.name, "string", _shape(value) or ())
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(element))
    except KeyError:
        dtype = _type_name(element)
    return TensorSpec(value.name, dtype, _shape(value) or ())


@dataclass(frozen=True)
class _Value:
    shape: Shape | None
    element: int

    @property
    def bytes(self) -> int | None:
        """Of one sample: open axes count as 1."""
        if self.shape is None or self.element not in _BITS:
            return None
        return (math.prod(1 if size is None else size for size in self.shape) * _BITS[self.element] + 7) // 8


def _values(model: ModelProto) -> dict[str, _Value]:
    """Value name → shape and type, as far as shape inference finds them."""
    import onnx

    reduced = light(model)
    try:
        reduced = onnx.shape_inference.infer_shapes(reduced, data_prop=True)
    except Exception:  # inference is a convenience: it refuses some valid models, and what it finds is then left out
        reduced = light(model)
    values = [v for graph in graphs(reduced.graph) for v in (*graph.value_info, *graph.input, *graph.output)]
    found = {v.name: _Value(_shape(v), v.type.tensor_type.elem_type) for v in values}
    constants = [pair for graph in graphs(model.graph) for pair in _constants(graph)]
    return found | {name: _Value(tuple(tensor.dims), tensor.data_type) for name, tensor in constants}


# --- facts -------------------------------------------------------------------------------------------------------


class _Uses:
    """What the operators of one graph hold, compute and write; `outer` are the constants of the graphs around it."""

    def __init__(self, graph: GraphProto, values: Mapping[str, _Value], outer: Mapping[str, TensorProto]) -> None:
        self.graph, self.values = graph, values
        own = dict(_constants(graph))
        self.constants = {**outer, **own}
        self.inputs = [value for value in graph.input if value.name not in own]
        self.fixed = set(self.constants)
        for node in graph.node:  # what is computed from constants alone is one: a weight that is dequantized
            if node.input and all(name in self.fixed for name in node.input if name) and not list(subgraphs(node)):
                self.fixed |= set(node.output)

    def inner(self, node: NodeProto) -> list[_Uses]:
        return [_Uses(graph, self.values, self.constants) for graph in subgraphs(node)]

    def shape(self, name: str) -> Shape | None:
        return self.values[name].shape if name in self.values else None

    def operators(self) -> Iterator[Operator]:
        """Those of branches and bodies too, after the operator they belong to."""
        for node in self.graph.node:
            held = [self.constants[name] for name in dict.fromkeys(node.input) if name in self.constants]
            written = [
                0 if name in self.fixed else self.values[name].bytes if name in self.values else None
                for name in node.output
                if name
            ]
            yield Operator(
                _type(node),
                node.name,
                sum(math.prod(t.dims) for t in held),
                self.macs(node),
                sum(map(_bytes, held)),
                None if None in written else sum(filter(None, written)),
            )
            for uses in self.inner(node):
                for operator in uses.operators():
                    repeated = node.op_type in ("Loop", "Scan") and operator.macs
                    macs = None if repeated else operator.macs
                    yield Operator(**{**vars(operator), "macs": macs})

    @cached_property
    def peak(self) -> int | None:
        bytes_of: dict[str, int | None] = {}
        nodes = []
        for index, node in enumerate(self.graph.node):
            reads, writes = {*node.input}, {name for name in node.output if name}
            inside = self.inner(node)
            for uses in inside:
                reads |= {name for inner in uses.graph.node for name in inner.input}
            if inside:
                peaks = [uses.peak for uses in inside]
                writes.add(body := f"inside {index}")
                bytes_of[body] = None if None in peaks else max(filter(None, peaks), default=0)
            for name in writes - set(bytes_of):
                bytes_of[name] = 0 if name in self.fixed else self.values[name].bytes if name in self.values else None
            nodes.append((reads, writes))
        inputs = [value.name for value in self.inputs]
        bytes_of |= {name: self.values[name].bytes for name in inputs if name in self.values}
        return peak_bytes(inputs, [value.name for value in self.graph.output], nodes, bytes_of)

    def macs(self, node: NodeProto) -> int | None:
        """Multiply-accumulates of one sample (open axes count as one); None where they are not known."""
        if node.op_type in _UNCOUNTED or node.domain not in _KNOWN_DOMAINS:
            return None
        if node.op_type not in _WEIGHT:
            return 0
        weight = self.shape(node.input[_WEIGHT[node.op_type]])
        output = self.shape(node.output[0])
        if node.op_type in ("LSTM", "GRU", "RNN"):
            return self._recurrent(node)
        if not weight:
            return None
        if node.op_type == "ConvTranspose":
            source = self.shape(node.input[0])
            return _product(source[1:]) * _product(weight[1:]) if source else None
        if not output:
            return None
        cells = _product(output[1:])
        if "Conv" in node.op_type:
            return cells * _product(weight[1:])
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        depth = weight[-1] if transposed else weight[-2] if len(weight) > 1 else weight[0]
        return int(cells * (depth or 1))

    def _recurrent(self, node: NodeProto) -> int | None:
        """Steps times both weight matrices (directions, gates · H, I) and (directions, gates · H, H)."""
        data, weight, recurrence = (self.shape(name) for name in node.input[:3])
        if not data or not weight or not recurrence:
            return None
        steps = data[1 if any(a.name == "layout" and a.i for a in node.attribute) else 0] or 1
        return steps * (_product(weight) + _product(recurrence))


#: operator → which of its inputs holds the weights, or what is multiplied like them
_WEIGHT = {
    **dict.fromkeys("Conv ConvTranspose ConvInteger FusedConv Gemm MatMul MatMulInteger FusedMatMul".split(), 1),
    **dict.fromkeys("FusedGemm LSTM GRU RNN".split(), 1),
    **dict.fromkeys("QLinearConv QLinearMatMul QGemm".split(), 3),
}
#: operators whose multiplications are not counted here: a sum without them would be too low
_UNCOUNTED = {
    *("Einsum", "Attention", "MultiHeadAttention", "GroupQueryAttention", "MatMulNBits", "DeformConv"),
    *("QAttention", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QOrderedMatMul", "DynamicQuantizeLSTM"),
}
_KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def _product(shape: Sequence[int | None]) -> int:
    return math.prod(1 if size is None else size for size in shape)


def _type(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"


def _traits(nodes: Sequence[NodeProto], heavy: Sequence[TensorProto]) -> frozenset[str]:
    quantized = _quantized(nodes, heavy)
    return frozenset({_TRAITS[quantized]}) if quantized in _TRAITS else frozenset()


_TRAITS = {"QDQ": "int8", "QLinear": "int8", "dynamic": "dynamic", "weight-only": "dynamic", "fp16": "fp16"}


def _quantized(nodes: Sequence[NodeProto], heavy: Sequence[TensorProto]) -> str:
    """How: QLinear (integer operators), QDQ (pairs around float ones), dynamic, weight-only, fp16, or ""."""
    types = {node.op_type for node in nodes}
    if any(name.startswith(("QLinear", "QGemm")) for name in types):
        return "QLinear"
    if "QuantizeLinear" in types:
        return "QDQ"
    if any(name.startswith(("MatMulInteger", "ConvInteger", "DynamicQuantize")) for name in types):
        return "dynamic"
    integers = {tensor.name for tensor in heavy if tensor.data_type == _INT8}
    if types & {"DequantizeLinear", "MatMulNBits"} or any(
        n.op_type == "Cast" and n.input[0] in integers for n in nodes
    ):
        return "weight-only"
    return "fp16" if heavy and all(tensor.data_type == _HALF for tensor in heavy) else ""


# --- what may make it slow ---------------------------------------------------------------------------------------

#: operators that ONNX Runtime computes on integers between a DequantizeLinear and a QuantizeLinear
_FUSED = frozenset(
    "Conv ConvTranspose MatMul Gemm Add Mul Sigmoid Softmax LeakyRelu AveragePool GlobalAveragePool MaxPool Concat "
    "Split Where Gather Reshape Transpose Squeeze Unsqueeze Flatten Slice Resize Relu Clip ReduceMean Expand "
    "Tile Pad DepthToSpace SpaceToDepth Identity ArgMax EmbedLayerNormalization".split()
)
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _slow(uses: _Uses, nodes: Sequence[NodeProto], held: Sequence[TensorProto]) -> Iterator[str]:
    live = [node for node in nodes if node.output and node.output[0] not in uses.fixed]
    if transposes := sum(node.op_type == "Transpose" for node in live):
        yield f"{transposes} Transpose: each copies its tensor into another layout"
    doubles = sum(value.element == _DOUBLE for value in uses.values.values())
    if doubles:
        yield f"{doubles} tensors are float64: few kernels are made for it; float32 is at least twice as fast"
    if any(_quantized([node], ()) in ("QDQ", "QLinear") for node in live):
        yield from _islands(live, uses.fixed)


def _islands(nodes: Sequence[NodeProto], fixed: set[str]) -> Iterator[str]:
    """Where an int8 graph goes back to float."""
    made_by = {name: node for node in nodes for name in node.output}
    quantizing = {n.input[0] for n in nodes if n.op_type == "QuantizeLinear"}
    dequantized = {n.output[0] for n in nodes if n.op_type == "DequantizeLinear"}
    floats = [n for n in nodes if n.op_type in _HEAVY and n.input[0] not in dequantized]
    if floats:
        yield f"{_few(floats)} in float inside an int8 graph: not quantized"
    stray = [n for n in nodes if n.op_type not in _FUSED and dequantized & {*n.input} and quantizing & {*n.output}]
    if stray:
        yield f"{_few(stray)} between DequantizeLinear and QuantizeLinear: not fused, so computed in float"
    bare = [n for n in nodes if n.op_type == "QuantizeLinear" and n.input[0] in dequantized and n.input[0] in made_by]
    if bare:
        yield f"{len(bare)} QuantizeLinear right after a DequantizeLinear: a pass over the tensor for nothing but scale"


def _few(nodes: Sequence[NodeProto]) -> str:
    counts = Counter(_type(node) for node in nodes)
    names = ", ".join(f"{count} {name}" for name, count in counts.most_common(4))
    return f"{names} (first: {nodes[0].name})" if nodes[0].name else names
