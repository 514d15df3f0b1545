"""The ONNX format: tensor specs, sizes by part, operators with parameters, MACs and memory, without reading weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from edgekit.core import relative_paths
from edgekit.core.artifact import ModelFacts, Operator, Sizes, TensorSpec
from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.format import Format
from edgekit.core.relative_paths import is_beside
from edgekit.core.signature import Signature
from edgekit.formats.shared import onnx_metadata, onnx_nbits, weight_encoding
from edgekit.formats.shared.lifetimes import peak_bytes
from edgekit.formats.shared.onnx_wire import external_data, graphs, parse, subgraphs, tensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

Shape = tuple[int | None, ...]

#: float weights of fewer values are not what a file's precision is told by
SMALL = 1024
#: nodes of a graph whose functions are inlined, turns of a loop that nothing ends, and bytes of one tensor for one
#: sample, beyond which a file is not a model to run
MOST_NODES, MOST_TURNS, MOST_BYTES = 1_000_000, 1 << 31, 1 << 33
#: the same for what is computed from constants alone: bytes, and times the size of the file
MOST_CONSTANT, CONSTANT_TIMES = 1 << 30, 16


class Onnx(Format):
    file: ClassVar[str] = "model.onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    observer: ClassVar[str] = "edgekit.compression.calibration.onnx"
    observed_in: ClassVar[str] = "onnxruntime"
    matched_tensors: ClassVar[str] = "edgekit.workflows.inspect.matched_tensors.onnx"
    kernels: ClassVar[str] = "edgekit.workflows.inspect.profiles.onnx"
    mixed_precision: ClassVar[str] = "edgekit.workflows.inspect.mixed_precision.onnx"
    lowers_recurrence: ClassVar[bool] = False

    @staticmethod
    def light(path: Path) -> bytes | None:
        return bytes(without_data(read(path)).SerializeToString())

    @staticmethod
    def signature(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[Signature, str]:
        return onnx_metadata.read({entry.key: entry.value for entry in parse(path).metadata_props}, outputs)

    @staticmethod
    def sign(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        onnx_metadata.write(path, inputs, outputs)

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Facts about the file. Raises InputError if it is not a valid ONNX model."""
        model = read(path)
        graph = model.graph
        constants = [tensor for inner in graphs(graph) for _, tensor in _constants(inner)]
        weights = [tensor for tensor in constants if len(tensor.dims) >= 2]
        weight_bytes = sum(map(_bytes, weights))
        total = path.stat().st_size + sum(file.stat().st_size for file in external_files(path, model).values())
        metadata = _metadata(model)
        values = _values(model)
        uses = _Uses(graph, values, {})
        most_constant = max(MOST_CONSTANT, CONSTANT_TIMES * total)
        for name, value in values.items():
            if (value.bytes or 0) > (most_constant if name in uses.fixed else MOST_BYTES):
                why = f"tensor {name!r} would take {(value.bytes or 0) / 1e9:,.0f} GB"
                raise InputError(f"{path} cannot be run", why, "check the sizes it was exported with")
        nodes = [node for inner in graphs(graph) for node in inner.node]
        counts = onnx_nbits.packed_counts(nodes, {tensor.name: tensor for tensor in constants})
        stored = list(onnx_nbits.encodings(nodes, _all_constants(graph), SMALL))
        return ModelFacts(
            inputs=tuple(_spec(value) for value in uses.inputs),
            outputs=tuple(_spec(value) for value in graph.output),
            sizes=Sizes(total, weight_bytes, total - weight_bytes - metadata, metadata),
            traits=_traits(nodes, weights, stored),
            parameters=sum(
                counts.get(t.name, math.prod(t.dims)) for t in constants if t.data_type in _FLOATS | _INTEGERS
            ),
            operators=tuple(uses.operators()),
            details={
                "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
                "ir_version": model.ir_version,
                "made_by": " ".join(filter(None, (model.producer_name, model.producer_version))),
                "weight_types": dict(Counter(_type_name(tensor.data_type) for tensor in weights)),
            },
            axes={v.name: axes for v in (*uses.inputs, *graph.output) if (axes := _axes(v))},
            peak_bytes=uses.peak,
            quantized=_quantized_text(nodes, weights, stored),
            slow=tuple(_slow(uses, nodes)),
        )


# --- reading -----------------------------------------------------------------------------------------------------


def read(path: Path) -> ModelProto:
    """The checked model without the data of its weights. Raises Missing or InputError."""
    try:
        import onnx
    except ImportError as error:
        raise Missing.install("reading ONNX", "onnx", "onnx") from error
    model = parse(path)
    if not model.graph.node or not model.opset_import:
        raise InputError(f"{path} is not an ONNX model", "it holds no graph", "export it again")
    if inlined(model) > MOST_NODES:
        why = f"with its functions inlined it has more than {MOST_NODES:,} nodes"
        raise InputError(f"{path} is too large", why, "export it without functions that call each other")
    for graph in graphs(model.graph):
        if loop := next((node for node in graph.node if _is_endless(node, graph)), None):
            why = f"loop {loop.name or loop.output[0]!r} does not end"
            raise InputError(f"{path} cannot be run", why, "check its trip count and its condition")
    try:
        for tensor in tensors(model):
            _check(tensor, path)
        checked = without_data(model)
        if onnx_nbits.strangers(checked) and onnx_nbits.known_to_runtime(checked):
            onnx_nbits.rename_strangers(checked)
        for graph in graphs(checked.graph):
            for value in (*graph.input, *graph.output):
                if value.type.HasField("tensor_type"):  # the checker requires a shape, runtimes do not
                    value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(checked)
    except (onnx.checker.ValidationError, UnicodeDecodeError, ValueError, TypeError) as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), "it is damaged")
        raise InputError(f"{path} is not a valid ONNX model", why, "export it again") from error
    return model


def external_files(path: Path, model: ModelProto) -> dict[str, Path]:
    """Location → external data file.

    Raises InputError if one is missing, or outside the model's folder.
    """
    names = sorted({external_data(tensor).get("location", "") for tensor in tensors(model)} - {""})
    return {name: _external_file(path, name) for name in names}


def _external_file(path: Path, location: str) -> Path:
    file = path.parent / location
    is_plain = not relative_paths.problem(str(PurePosixPath(location)))
    if not is_plain or not is_beside(path, file) or file.resolve() == path.resolve():
        why = f"it names {location!r} for its weights, which is not a file in its own folder"
        raise InputError(f"{path} is not a valid ONNX model", why, "save it with its weights in the same folder")
    if not file.is_file():
        why = f"its weights file {location} is missing"
        raise InputError(f"{path} is incomplete", why, f"copy {location} into {path.parent}")
    return file


def _check(tensor: TensorProto, path: Path) -> None:
    """Check that a tensor's external data is complete. Raises InputError, or ValueError for invalid entries."""
    if not (entries := external_data(tensor)):
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
    file = _external_file(path, location)
    with os_errors("read", file):
        size = file.stat().st_size
    if offset + length > size:
        why = f"{location} has {size:,} bytes where {tensor.name!r} needs {offset + length:,}"
        raise InputError(f"{path} is incomplete", why, "copy all its files again")


def inlined(model: ModelProto) -> int:
    """The number of nodes once all functions are inlined, MOST_NODES + 1 if that is more, or if they call themselves.

    Functions that call others twice double it at each level, so it is counted before anything expands them.
    """
    functions = {(f.domain, f.name, getattr(f, "overload", "")): f.node for f in model.functions}
    counted: dict[tuple[str, str, str], int] = dict.fromkeys(functions, MOST_NODES + 1)

    def count(nodes: Iterable[NodeProto]) -> int:
        inner = [node for outer in nodes for node in (outer, *(n for g in subgraphs(outer) for n in _all_nodes(g)))]
        return min(MOST_NODES + 1, sum(counted.get((n.domain, n.op_type, n.overload), 1) for n in inner))

    for _ in functions:  # one level of calls at a time
        now = {key: count(nodes) for key, nodes in functions.items()}
        if now == counted:
            break
        counted = now
    return count(model.graph.node)


def _is_endless(node: NodeProto, graph: GraphProto) -> bool:
    """Has a Loop no trip count, or more than MOST_TURNS turns, and a condition that its body passes on, or never false?

    A limit of 2^63 - 1 with a condition that is computed is how exporters write `while`.
    """
    if node.op_type != "Loop" or not (bodies := list(subgraphs(node))) or len(bodies[0].output) == 0:
        return False
    constants = dict(_constants(graph))
    count = constants.get(node.input[0]) if node.input and node.input[0] else None
    if node.input and node.input[0] and (count is None or _first(count) <= MOST_TURNS):
        return False
    made_by = {output: inner for inner in bodies[0].node for output in inner.output}
    condition = bodies[0].output[0].name
    while (maker := made_by.pop(condition, None)) is not None and maker.op_type == "Identity":
        condition = maker.input[0]
    given = bodies[0].input[1].name if len(bodies[0].input) > 1 else ""
    return condition == given or condition in {**constants, **dict(_constants(bodies[0]))}


def _first(tensor: TensorProto) -> int:
    """The value of a scalar of int64."""
    if tensor.raw_data:
        return int.from_bytes(tensor.raw_data[:8], "little", signed=True)
    return int(tensor.int64_data[0]) if tensor.int64_data else 0


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    return (node for inner in graphs(graph) for node in inner.node)


def without_data(model: ModelProto) -> ModelProto:
    """The graph with each tensor without data as an additional input, for analysis only."""
    import onnx

    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    inputs: dict[str, ValueInfoProto] = {}
    for graph in reversed(
        list(graphs(reduced.graph))
    ):  # inner graphs first, because kept parts of the outer ones are copied
        absent = {name: tensor for name, tensor in _constants(graph) if external_data(tensor)}
        absent |= {s.values.name: _dense(s.values, s.dims) for s in graph.sparse_initializer if external_data(s.values)}
        for name, tensor in absent.items():
            inputs.setdefault(name, onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name not in absent])
        _replace(graph.sparse_initializer, [s for s in graph.sparse_initializer if s.values.name not in absent])
        _replace(graph.node, [n for n in graph.node if n.op_type != "Constant" or n.output[0] not in absent])
    for tensor in tensors(reduced):
        if external_data(tensor):  # an attribute becomes an empty tensor
            tensor.dims[:] = [0]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    declared = {value.name for value in reduced.graph.input}
    reduced.graph.input.extend(value for name, value in inputs.items() if name not in declared)
    return reduced


def _dense(values: TensorProto, dims: Sequence[int]) -> TensorProto:
    import onnx

    return onnx.TensorProto(name=values.name, data_type=values.data_type, dims=dims)


def _replace(entries: object, new: list[object]) -> None:
    copies = [type(entry)() for entry in new]
    for copy, entry in zip(copies, new, strict=True):
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
    """None if the rank is unknown."""
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
        """Bytes of one sample: dynamic axes count as 1."""
        if self.shape is None or self.element not in _BITS:
            return None
        return (math.prod(1 if size is None else size for size in self.shape) * _BITS[self.element] + 7) // 8


def _values(model: ModelProto) -> dict[str, _Value]:
    """Value name → inferred shape and type."""
    import onnx

    constants = [pair for graph in graphs(model.graph) for pair in _constants(graph)]
    reduced = without_data(model)
    onnx_nbits.familiar(reduced, {name: tensor.data_type for name, tensor in constants})
    try:
        reduced = onnx.shape_inference.infer_shapes(reduced, data_prop=True)
    except MemoryError:  # it computes what sizes depend on
        raise
    except Exception:  # inference fails for some valid models; their facts are then incomplete
        reduced = without_data(model)
    values = [v for graph in graphs(reduced.graph) for v in (*graph.value_info, *graph.input, *graph.output)]
    inferred = {v.name: _Value(_shape(v), v.type.tensor_type.elem_type) for v in values}
    return inferred | {name: _Value(tuple(tensor.dims), tensor.data_type) for name, tensor in constants}


# --- facts -------------------------------------------------------------------------------------------------------


class _Uses:
    """Constants, MACs and memory of one graph's operators; `outer` are the constants of the enclosing graphs."""

    def __init__(self, graph: GraphProto, values: Mapping[str, _Value], outer: Mapping[str, TensorProto]) -> None:
        self.graph, self.values = graph, values
        own_constants = dict(_constants(graph))
        self.constants = {**outer, **own_constants}
        self.counts = onnx_nbits.packed_counts(graph.node, self.constants)
        self.inputs = [value for value in graph.input if value.name not in own_constants]
        self.fixed = set(self.constants)
        for node in graph.node:  # values computed from constants only, such as dequantized weights, are also fixed
            if node.input and all(name in self.fixed for name in node.input if name) and not list(subgraphs(node)):
                self.fixed |= set(node.output)

    def inner(self, node: NodeProto) -> list[_Uses]:
        return [_Uses(graph, self.values, self.constants) for graph in subgraphs(node)]

    def shape(self, name: str) -> Shape | None:
        return self.values[name].shape if name in self.values else None

    def operators(self) -> Iterator[Operator]:
        """All operators; those of subgraphs follow the operator they belong to."""
        for node in self.graph.node:
            constants = [self.constants[name] for name in dict.fromkeys(node.input) if name in self.constants]
            written_bytes = [
                0 if name in self.fixed else self.values[name].bytes if name in self.values else None
                for name in node.output
                if name
            ]
            yield Operator(
                _type(node),
                node.name,
                sum(self.counts.get(t.name, math.prod(t.dims)) for t in constants),
                self.macs(node),
                sum(map(_bytes, constants)),
                None if None in written_bytes else sum(filter(None, written_bytes)),
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
            inner_uses = self.inner(node)
            for uses in inner_uses:
                reads |= {name for inner in uses.graph.node for name in inner.input}
            if inner_uses:
                peaks = [uses.peak for uses in inner_uses]
                writes.add(body := f"inside {index}")
                bytes_of[body] = None if None in peaks else max(filter(None, peaks), default=0)
            for name in writes - set(bytes_of):
                bytes_of[name] = 0 if name in self.fixed else self.values[name].bytes if name in self.values else None
            nodes.append((reads, writes))
        inputs = [value.name for value in self.inputs]
        bytes_of |= {name: self.values[name].bytes for name in inputs if name in self.values}
        return peak_bytes(inputs, [value.name for value in self.graph.output], nodes, bytes_of)

    def macs(self, node: NodeProto) -> int | None:
        """Multiply-accumulates of one sample (dynamic axes count as one); None if unknown."""
        if node.op_type in ("MatMulNBits", "GatherBlockQuantized", "GroupQueryAttention"):
            return onnx_nbits.macs(node, self.shape)
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
        """Steps times the sizes of the weight matrices (directions, gates · H, I) and (directions, gates · H, H)."""
        data, weight, recurrence = (self.shape(name) for name in node.input[:3])
        if not data or not weight or not recurrence:
            return None
        steps = data[1 if any(a.name == "layout" and a.i for a in node.attribute) else 0] or 1
        return steps * (_product(weight) + _product(recurrence))


#: operator → index of the input with the weights (or the second factor)
_WEIGHT = {
    **dict.fromkeys("Conv ConvTranspose ConvInteger FusedConv Gemm MatMul MatMulInteger FusedMatMul".split(), 1),
    **dict.fromkeys("FusedGemm LSTM GRU RNN".split(), 1),
    **dict.fromkeys("QLinearConv QLinearMatMul QGemm".split(), 3),
}
#: operators whose MACs are unknown, so that the sum is unknown
_UNCOUNTED = {
    *("Einsum", "Attention", "MultiHeadAttention", "DeformConv"),
    *("QAttention", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QOrderedMatMul", "DynamicQuantizeLSTM"),
}
_KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def _product(shape: Sequence[int | None]) -> int:
    return math.prod(1 if size is None else size for size in shape)


def _type(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"


def _all_constants(graph: GraphProto) -> dict[str, TensorProto]:
    return {name: tensor for inner in graphs(graph) for name, tensor in _constants(inner)}


def _traits(
    nodes: Sequence[NodeProto], weights: Sequence[TensorProto], stored: Sequence[weight_encoding.Encoding]
) -> frozenset[str]:
    quantized = _quantized(nodes, weights)
    if quantized in ("weight-only", "") and any(one.bits for one in stored):
        return frozenset({weight_encoding.trait(stored)} - {""})
    return frozenset({_TRAITS[quantized]}) if quantized in _TRAITS else frozenset()


def _quantized_text(
    nodes: Sequence[NodeProto], weights: Sequence[TensorProto], stored: Sequence[weight_encoding.Encoding]
) -> str:
    quantized = _quantized(nodes, weights)
    return (weight_encoding.described(stored) or quantized) if quantized in ("weight-only", "") else quantized


_TRAITS = {"QDQ": "int8", "QLinear": "int8", "dynamic": "dynamic", "weight-only": "dynamic", "fp16": "fp16"}


def _quantized(nodes: Sequence[NodeProto], weights: Sequence[TensorProto]) -> str:
    """The kind of quantization: QLinear (integer operators), QDQ (pairs around float ones), dynamic, weight-only, fp16,
    or "".
    """
    types = {node.op_type for node in nodes}
    if any(name.startswith(("QLinear", "QGemm")) for name in types):
        return "QLinear"
    if "QuantizeLinear" in types:
        return "QDQ"
    if any(name.startswith(("MatMulInteger", "ConvInteger", "DynamicQuantize")) for name in types):
        return "dynamic"
    integers = {tensor.name for tensor in weights if tensor.data_type == _INT8}
    if types & {"DequantizeLinear", "MatMulNBits", "GatherBlockQuantized"} or any(
        n.op_type == "Cast" and n.input[0] in integers for n in nodes
    ):
        return "weight-only"
    return "fp16" if weights and all(tensor.data_type == _HALF for tensor in weights) else ""


# --- performance hints -------------------------------------------------------------------------------------------


def _slow(uses: _Uses, nodes: Sequence[NodeProto]) -> Iterator[str]:
    live = [node for node in nodes if node.output and node.output[0] not in uses.fixed]
    if transposes := sum(node.op_type == "Transpose" for node in live):
        yield f"{transposes} Transpose: each copies its tensor into another layout"
    if packed := sum(node.op_type == "MatMulNBits" and onnx_nbits.integer(node, "bits", 4) == 4 for node in live):
        yield f"{packed} MatMulNBits of int4: fast for a token at a time; for many at once it may be slower than float"
    doubles = sum(value.element == _DOUBLE for value in uses.values.values())
    if doubles:
        yield f"{doubles} tensors are float64: few kernels support it; float32 is at least twice as fast"
