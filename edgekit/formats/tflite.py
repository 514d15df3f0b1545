"""The TFLite format: tensor specs, sizes by part, operators with parameters and MACs.

The flatbuffer is read with the schema classes that ai-edge-litert carries. They follow offsets without checking them,
so everything is unpacked once, and what the indices and shapes claim is then held against what is there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from edgekit.errors import InputError, Missing, os_errors
from edgekit.types import ModelFacts, Operator, Sizes, TensorSpec

IDENTIFIER = b"TFL3"
VERSION = 3

T = TypeVar("T")
Shape = tuple[int | None, ...]


class Tflite:
    file = "model.tflite"
    suffixes = (".tflite",)

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Everything the file says without being run. Raises InputError for what is not a valid TFLite model."""
        model = read(path)
        main = model.subgraphs[0]
        batch = next((spec.shape[0] for spec in main.inputs if spec.shape), None) or 1
        operators = tuple(
            Operator(node.type, node.name, node.parameters, _macs(node, batch))
            for graph in model.subgraphs
            for node in graph.nodes
        )
        held = {t.buffer: t for graph in model.subgraphs for t in graph.tensors if t.constant}
        biases = {t.buffer for graph in model.subgraphs for node in graph.nodes for t in node.biases}
        matrices = [t for t in held.values() if len(t.shape) >= 2 and t.is_parameter and t.buffer not in biases]
        weights = sum(t.size for t in matrices)
        return ModelFacts(
            inputs=tuple(spec.public for spec in main.inputs),
            outputs=tuple(spec.public for spec in main.outputs),
            sizes=Sizes(model.size, weights, model.size - weights - model.metadata, model.metadata),
            traits=_traits(model),
            parameters=sum(t.count for t in held.values() if t.is_parameter),
            operators=operators,
            details=_details(model, matrices),
        )


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph. `shape` holds None where the size is dynamic; `size` is its bytes in the file."""

    index: int
    name: str
    dtype: str
    shape: Shape
    buffer: int
    size: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]

    @property
    def constant(self) -> bool:
        return self.size > 0

    @property
    def count(self) -> int:
        return math.prod(size or 1 for size in self.shape)

    @property
    def is_parameter(self) -> bool:
        """A value that was learned: a float, or integers with a scale; shapes and axes are neither."""
        return self.dtype in ("float32", "float16", "float64") or bool(self.scales)

    @property
    def public(self) -> TensorSpec:
        integer = self.dtype.startswith(("int", "uint")) and len(self.scales) == 1
        quantization = (self.scales[0], next(iter(self.zero_points), 0)) if integer else None
        return TensorSpec(self.name, self.dtype, self.shape, quantization)


@dataclass(frozen=True)
class Node:
    """One operator; an input that is left out is None."""

    type: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        return self.outputs[0].name if self.outputs else ""

    @property
    def parameters(self) -> int:
        return sum(t.count for t in self.inputs if t and t.constant and t.is_parameter)

    @property
    def biases(self) -> tuple[Tensor, ...]:
        bias = self.input(_BIAS[self.type]) if self.type in _BIAS else None
        return (bias,) if bias else ()

    def input(self, index: int) -> Tensor | None:
        return self.inputs[index] if index < len(self.inputs) else None


@dataclass(frozen=True)
class Subgraph:
    tensors: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]

    @cached_property
    def activations(self) -> tuple[Tensor, ...]:
        """What is computed: the inputs, and what operators write."""
        found = {t.index: t for t in self.inputs} | {t.index: t for node in self.nodes for t in node.outputs}
        return tuple(found.values())


@dataclass(frozen=True)
class Model:
    """A checked TFLite file. `metadata`: bytes of it that no runtime needs to compute."""

    size: int
    metadata: int
    description: str
    runtime: str
    subgraphs: tuple[Subgraph, ...]


def read(path: Path) -> Model:
    """The parsed and checked model. Raises Missing, or InputError for what is damaged, cut off or something else."""
    with os_errors("read", path):
        raw = path.read_bytes()
    model = unpack(raw, str(path))
    try:
        return _Reader(model, raw).model()
    except _Unreadable as error:
        raise InputError(f"{path} is not a valid TFLite model", str(error), error.next) from error
    except UnicodeDecodeError as error:
        why = "it names something in bytes that are not text: damaged"
        raise InputError(f"{path} is not a valid TFLite model", why, "export it again") from error


def unpack(raw: bytes, where: str) -> Any:
    """The schema's own object tree (a ModelT). Raises Missing or InputError."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise Missing.install("reading TFLite", "ai-edge-litert", "tflite") from error
    if raw[4:8] != IDENTIFIER:
        why = "it is empty" if not raw else f"it does not begin as one: {IDENTIFIER.decode()} is missing"
        raise InputError(f"{where} is not a TFLite model", why, "is it another kind of file?")
    try:
        if (version := schema.Model.GetRootAs(raw).Version()) == VERSION:
            return _inlined(schema.ModelT.InitFromPackedBuf(raw), raw)
    except Exception as error:  # an offset that leads astray raises many kinds here, and all of them mean the same
        why = "it cannot be parsed: damaged, or cut off"
        raise InputError(f"{where} is not a valid TFLite model", why, "export it again") from error
    why = f"version {VERSION} is the one that edgekit reads"
    raise InputError(f"{where} is of TFLite schema version {version}", why, "export it again; or is it damaged?")


def _inlined(model: Any, raw: bytes) -> Any:
    """Large models keep constants behind the flatbuffer, at an offset in the same file: bring them into their buffers.

    Those that would lie behind the end of the file are left as they are, for the reader to refuse.
    """
    import numpy as np

    for buffer in model.buffers:
        if buffer.offset > 1 and buffer.offset + buffer.size <= len(raw):
            buffer.data = np.frombuffer(raw, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


class _Unreadable(Exception):
    """What is wrong with a file that could be unpacked."""

    def __init__(self, why: str, next: str = "export it again") -> None:
        super().__init__(why)
        self.next = next


class _Reader:
    """From the schema's objects to ours, every index and size checked on the way."""

    def __init__(self, model: Any, raw: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._model, self._size = model, len(raw)
        self._builtins = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
        self._dtypes = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
        self._buffers = [self._bytes(index, buffer) for index, buffer in enumerate(_list(model.buffers))]
        self._codes = [self._type(code) for code in _list(model.operatorCodes)]

    def model(self) -> Model:
        graphs = _list(self._model.subgraphs)
        if not graphs or not all(len(_list(part)) for part in (graphs[0].operators, graphs[0].outputs)):
            raise _Unreadable("it holds no graph")
        description = _text(self._model.description)
        entries = {_text(entry.name): entry.buffer for entry in _list(self._model.metadata)}
        sizes = [len(name) + self._at(self._buffers, index, "metadata") for name, index in entries.items()]
        runtime = b""
        if "min_runtime_version" in entries:
            runtime = bytes(_list(self._model.buffers[entries["min_runtime_version"]].data))
        return Model(
            self._size,
            len(description) + sum(sizes),
            description,
            runtime.rstrip(b"\0").decode("ascii", "replace"),
            tuple(self._subgraph(graph) for graph in graphs),
        )

    def _subgraph(self, graph: Any) -> Subgraph:
        tensors = tuple(self._tensor(index, tensor) for index, tensor in enumerate(_list(graph.tensors)))
        nodes = tuple(
            Node(
                self._at(self._codes, node.opcodeIndex, "operator code"),
                tuple(None if i == -1 else self._at(tensors, i, "tensor") for i in _list(node.inputs)),
                tuple(self._at(tensors, i, "tensor") for i in _list(node.outputs)),
            )
            for node in _list(graph.operators)
        )
        inputs, outputs = (
            tuple(self._at(tensors, i, "tensor") for i in _list(ends)) for ends in (graph.inputs, graph.outputs)
        )
        return Subgraph(tensors, inputs, outputs, nodes)

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        name = _text(tensor.name)
        dtype = self._dtypes.get(tensor.type)
        if dtype is None:
            raise _Unreadable(f"tensor {name!r} is of the unknown type {tensor.type}")
        declared = [int(size) for size in _list(tensor.shape)]
        signature = [int(size) for size in _list(tensor.shapeSignature)]
        if min(declared, default=0) < 0 or (signature and len(signature) != len(declared)):
            raise _Unreadable(f"tensor {name!r} has an impossible shape, {declared}")
        size = self._at(self._buffers, tensor.buffer, "buffer")
        bits = _BITS.get(dtype, 0)
        if size and bits and tensor.sparsity is None and size != -(-math.prod(declared) * bits // 8):
            raise _Unreadable(f"tensor {name!r} is {dtype}{declared}, which {size} bytes do not hold")
        shape = tuple(None if size < 0 else size for size in signature or declared)
        found = tensor.quantization
        scales = tuple(float(scale) for scale in _list(found and found.scale))
        zeros = tuple(int(zero) for zero in _list(found and found.zeroPoint))
        return Tensor(index, name, dtype, shape, tensor.buffer, size, scales, zeros)

    def _bytes(self, index: int, buffer: Any) -> int:
        """A buffer's length; large models keep it outside the flatbuffer, at an offset in the same file."""
        if buffer.offset <= 1:
            return len(_list(buffer.data))
        if buffer.offset + buffer.size > self._size:
            raise _Unreadable(f"buffer {index} ends behind the end of the file: it was cut off")
        return int(buffer.size)

    def _type(self, code: Any) -> str:
        # Codes above 127 did not fit the schema's first field, so the larger of the two is meant.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = self._builtins.get(number)
        if name is None:
            raise _Unreadable(f"it uses the unknown builtin operator {number}", "pip install --upgrade ai-edge-litert")
        return f"{name}:{_text(code.customCode)}" if name == "CUSTOM" else name

    @staticmethod
    def _at(items: Sequence[T], index: int, what: str) -> T:
        if not 0 <= index < len(items):
            raise _Unreadable(f"it names {what} {index} of {len(items)}: damaged")
        return items[index]


def _list(values: Any) -> Any:
    return [] if values is None else values


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


_BITS = {
    **{"float32": 32, "float16": 16, "bfloat16": 16, "float64": 64, "bool": 8, "complex64": 64, "complex128": 128},
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
    "int2": 2,
}
#: operator → which of its inputs is the bias
_BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "CONV_3D": 2, "TRANSPOSE_CONV": 3}
#: operators whose multiplications are not counted here: a sum without them would be too low
_UNCOUNTED = ("CUSTOM", "STABLEHLO_", "LSTM", "BIDIRECTIONAL", "UNIDIRECTIONAL", "RNN", "SVDF", "WHILE", "IF", "CALL")


def _traits(model: Model) -> frozenset[str]:
    nodes = [node for graph in model.subgraphs for node in graph.nodes]
    integers = ("int8", "uint8", "int16")
    if any(t.dtype in integers and t.scales for graph in model.subgraphs for t in graph.activations):
        return frozenset({"int8"})
    weights = [(n, t) for n in nodes for t in n.inputs if t and t.constant and len(t.shape) >= 2 and t not in n.biases]
    if any(t.scales and node.type != "DEQUANTIZE" for node, t in weights):
        return frozenset({"dynamic"})
    counts: Counter[str] = Counter()
    for _, tensor in weights:
        counts[tensor.dtype] += tensor.count if tensor.is_parameter else 0
    # Converters leave small constants, a normalisation's for one, in float32.
    return frozenset({"fp16"}) if counts["float16"] > counts["float32"] else frozenset()


def _details(model: Model, weights: Sequence[Tensor]) -> Mapping[str, Any]:
    types = [node.type for graph in model.subgraphs for node in graph.nodes]
    return {
        "version": VERSION,
        "description": model.description,
        "runtime": model.runtime,
        "transposes": types.count("TRANSPOSE"),
        "weight_types": dict(Counter(t.dtype for t in weights)),
        "subgraphs": len(model.subgraphs),
    }


def _macs(node: Node, batch: int) -> int | None:
    """Multiply-accumulates of one sample (dynamic axes count as one); None for what is not counted here."""
    if node.type.startswith(_UNCOUNTED):
        return None
    data, weight = node.input(0), node.input(1)
    if node.type not in _PER_OUTPUT and node.type != "TRANSPOSE_CONV":
        return 0
    if data is None or weight is None or not node.outputs:
        return None
    if node.type == "TRANSPOSE_CONV":  # its inputs: the output's shape, the weights, the data
        source = node.input(2)
        return source.count // batch * _product(weight.shape[:3]) if source else None
    return node.outputs[0].count // batch * _PER_OUTPUT[node.type](data.shape, weight.shape)


def _product(shape: Shape) -> int:
    return math.prod(size or 1 for size in shape)


#: operator → multiplications per element of its output, from the shapes of its first two inputs
_PER_OUTPUT: Mapping[str, Callable[[Shape, Shape], int]] = {
    "CONV_2D": lambda data, weight: _product(weight[1:]),
    "DEPTHWISE_CONV_2D": lambda data, weight: _product(weight[1:3]),
    "CONV_3D": lambda data, weight: _product(weight[:-1]),
    "FULLY_CONNECTED": lambda data, weight: _product(weight[-1:]),
    "BATCH_MATMUL": lambda data, weight: _product(data[-1:]),
}
