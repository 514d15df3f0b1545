"""The TFLite format: tensor specs, sizes by part, operators with parameters, MACs and memory.

The file is memory-mapped, and its weights are not read. It is parsed with ai-edge-litert's schema classes, which do not
check offsets; therefore it is unpacked once, and all indices and shapes are then checked against the contents.
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from edgekit.core.artifact import ModelFacts, Operator, Sizes, TensorSpec
from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.format import Format
from edgekit.core.signature import Signature
from edgekit.formats.shared import tflite_metadata
from edgekit.formats.shared.lifetimes import peak_bytes
from edgekit.formats.shared.weight_encoding import Encoding, described, trait

IDENTIFIER = b"TFL3"
VERSION = 3
#: weights of fewer values are not what a file's precision is told by
SMALL = 1024

#: a flatbuffer's offsets are of 31 bits
MOST_PACKED = 2_000_000_000

T = TypeVar("T")
Shape = tuple[int | None, ...]


class Tflite(Format):
    file: ClassVar[str] = "model.tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)
    observer: ClassVar[str] = "edgekit.compression.calibration.tflite"
    observed_in: ClassVar[str] = "litert"
    matched_tensors: ClassVar[str] = "edgekit.workflows.inspect.matched_tensors.tflite"
    kernels: ClassVar[str] = "edgekit.workflows.inspect.profiles.tflite"
    mixed_precision: ClassVar[str] = "edgekit.workflows.inspect.mixed_precision.tflite"

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Facts about the file. Raises InputError if it is not a valid TFLite model."""
        model = read(path)
        main = model.subgraphs[0]
        batch = next((spec.shape[0] for spec in main.inputs if spec.shape), None) or 1
        operators = tuple(
            Operator(node.type, node.name, node.parameters, _macs(node, batch), node.weight_bytes, node.written_bytes)
            for graph in model.subgraphs
            for node in graph.nodes
        )
        constants = {t.buffer: t for graph in model.subgraphs for t in graph.tensors if t.constant}
        biases = {t.buffer for graph in model.subgraphs for node in graph.nodes for t in node.biases}
        matrices = [t for t in constants.values() if len(t.shape) >= 2 and t.is_parameter and t.buffer not in biases]
        weights = sum(t.size for t in matrices)
        return ModelFacts(
            inputs=tuple(spec.public for spec in main.inputs),
            outputs=tuple(spec.public for spec in main.outputs),
            sizes=Sizes(model.size, weights, model.size - weights - model.metadata, model.metadata),
            traits=_traits(model),
            parameters=sum(t.count for t in constants.values() if t.is_parameter),
            operators=operators,
            details=_details(model, matrices),
            peak_bytes=main.peak_bytes,
            quantized=_quantized(model),
            slow=tuple(_slow(model)),
        )

    @staticmethod
    def signature(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[Signature, str]:
        model = unpack(path.read_bytes(), str(path))
        entries = {_text(e.name): bytes(_list(model.buffers[e.buffer].data)) for e in _list(model.metadata)}
        return tflite_metadata.read(entries, path, inputs, outputs)

    @staticmethod
    def sign(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        if path.stat().st_size > MOST_PACKED:  # the artifact has the signature all the same
            return
        model = unpack(path.read_bytes(), str(path))
        for name, data in tflite_metadata.entries(inputs, outputs).items():
            _set_metadata(model, name, data)
        path.write_bytes(packed(model))
        tflite_metadata.append_labels(path, outputs)


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph. None in `shape` is a dynamic size; `size` is its number of bytes in the file."""

    index: int
    name: str
    dtype: str
    shape: Shape
    buffer: int
    size: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    block: int = 0
    #: it holds the scales of another one's blocks
    is_scale: bool = False

    @property
    def constant(self) -> bool:
        return self.size > 0

    @property
    def count(self) -> int:
        return math.prod(size or 1 for size in self.shape)

    @property
    def bytes(self) -> int | None:
        """Bytes of one sample if computed; None for types without a fixed size (text, resources)."""
        return (self.count * _BITS[self.dtype] + 7) // 8 if self.dtype in _BITS else None

    @property
    def is_parameter(self) -> bool:
        """Whether it is a trained parameter: floats, or integers with a scale, but not shapes and axes."""
        return (self.dtype in ("float32", "float16", "float64") and not self.is_scale) or self.is_quantized

    @property
    def is_quantized(self) -> bool:
        return bool(self.scales or self.block)

    @property
    def encoding(self) -> Encoding:
        """How it is stored, if it is a weight."""
        bits = _BITS.get(self.dtype, 0) if self.is_quantized else 0
        return Encoding(bits, self.block, not any(self.zero_points))

    @property
    def public(self) -> TensorSpec:
        integer = self.dtype.startswith(("int", "uint")) and len(self.scales) == 1
        quantization = (self.scales[0], next(iter(self.zero_points), 0)) if integer else None
        return TensorSpec(self.name, self.dtype, self.shape, quantization)


@dataclass(frozen=True)
class Node:
    """One operator; an omitted input is None."""

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
    def weight_bytes(self) -> int:
        return sum(t.size for t in {t.buffer: t for t in self.inputs if t and t.constant}.values())

    @property
    def written_bytes(self) -> int | None:
        sizes = [t.bytes for t in self.outputs if not t.constant]
        return None if None in sizes else sum(filter(None, sizes))

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
        """The inputs and the outputs of operators."""
        tensors = {t.index: t for t in self.inputs} | {t.index: t for node in self.nodes for t in node.outputs}
        return tuple(tensors.values())

    @property
    def peak_bytes(self) -> int | None:
        nodes = [([str(t.index) for t in n.inputs if t], [str(t.index) for t in n.outputs]) for n in self.nodes]
        sides = [[str(t.index) for t in tensors] for tensors in (self.inputs, self.outputs)]
        return peak_bytes(sides[0], sides[1], nodes, {str(t.index): t.bytes for t in self.activations})


@dataclass(frozen=True)
class Model:
    """A checked TFLite file. `metadata`: bytes that no runtime needs."""

    size: int
    metadata: int
    description: str
    runtime: str
    subgraphs: tuple[Subgraph, ...]


def read(path: Path) -> Model:
    """The parsed and checked model. Raises Missing, or InputError if it is damaged, or not a TFLite model."""
    with os_errors("read", path), path.open("rb") as file:
        size = path.stat().st_size
        # not closed: the model's constants are views of it
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    model = unpack(raw, str(path))
    try:
        return _Reader(model, raw, tflite_metadata.appended_bytes(path)).model()
    except _Unreadable as error:
        raise InputError(f"{path} is not a valid TFLite model", str(error), error.next) from error
    except UnicodeDecodeError as error:
        why = "it is damaged: a name is not valid text"
        raise InputError(f"{path} is not a valid TFLite model", why, "export it again") from error


def unpack(raw: bytes | mmap.mmap, name: str) -> Any:
    """The schema's object tree (a ModelT); its constants are views of `raw`. Raises Missing or InputError."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise Missing.install("reading TFLite", "ai-edge-litert", "tflite") from error
    if raw[4:8] != IDENTIFIER:
        why = "it is empty" if not raw else f"its identifier {IDENTIFIER.decode()} is missing"
        raise InputError(f"{name} is not a TFLite model", why, "check that it is a .tflite file")
    try:
        if (version := schema.Model.GetRootAs(raw).Version()) == VERSION:
            return _inline_external_buffers(schema.ModelT.InitFromPackedBuf(raw), raw)
    except Exception as error:  # invalid offsets raise many types
        why = "it cannot be parsed: damaged or truncated"
        raise InputError(f"{name} is not a valid TFLite model", why, "export it again") from error
    why = f"edgekit reads version {VERSION}"
    raise InputError(f"{name} has the TFLite schema version {version}", why, "export it again")


def packed(model: Any) -> bytes:
    """The file of a ModelT, every constant at a multiple of 16 bytes.

    The schema requires that, but Python's flatbuffers ignores it; microcontrollers need it.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    class Aligned(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:
            if self.data is not None:
                builder.Prep(16, len(self.data))
            return super().Pack(builder)

    model.buffers = [Aligned(buffer.data, buffer.offset, buffer.size) for buffer in model.buffers]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _set_metadata(model: Any, name: str, data: bytes) -> None:
    """Add an entry to a ModelT's metadata, or replace the one of that name."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    entry = next((entry for entry in _list(model.metadata) if _text(entry.name) == name), None)
    if entry is None:
        entry = schema.MetadataT(name.encode(), len(model.buffers))
        model.buffers = [*model.buffers, schema.BufferT()]
        model.metadata = [*_list(model.metadata), entry]
    model.buffers[entry.buffer].data = np.frombuffer(data, np.uint8)


def _inline_external_buffers(model: Any, raw: bytes | mmap.mmap) -> Any:
    """Move constants that a large model stores after the flatbuffer into their buffers.

    Those beyond the end of the file are left for the reader to report.
    """
    import numpy as np

    for buffer in model.buffers:
        if buffer.offset > 1 and buffer.offset + buffer.size <= len(raw):
            buffer.data = np.frombuffer(raw, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


class _Unreadable(Exception):
    """An error in a file that could be unpacked."""

    def __init__(self, why: str, next: str = "export it again") -> None:
        super().__init__(why)
        self.next = next


class _Reader:
    """Converts the schema's objects to a Model, and checks all indices and sizes."""

    def __init__(self, model: Any, raw: bytes | mmap.mmap, appended: int) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._model, self._size, self._appended = model, len(raw), appended
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
            len(description) + sum(sizes) + self._appended,
            description,
            runtime.rstrip(b"\0").decode("ascii", "replace"),
            tuple(self._subgraph(graph) for graph in graphs),
        )

    def _subgraph(self, graph: Any) -> Subgraph:
        scales = {scale for tensor in _list(graph.tensors) for scale in _block_scales(tensor)}
        tensors = tuple(
            self._tensor(index, tensor, index in scales) for index, tensor in enumerate(_list(graph.tensors))
        )
        nodes = tuple(
            Node(
                self._at(self._codes, node.opcodeIndex, "operator code"),
                tuple(None if i == -1 else self._at(tensors, i, "tensor") for i in _list(node.inputs)),
                tuple(self._at(tensors, i, "tensor") for i in _list(node.outputs)),
            )
            for node in _list(graph.operators)
        )
        inputs, outputs = (
            tuple(self._at(tensors, i, "tensor") for i in _list(side)) for side in (graph.inputs, graph.outputs)
        )
        return Subgraph(tensors, inputs, outputs, nodes)

    def _tensor(self, index: int, tensor: Any, is_scale: bool) -> Tensor:
        name = _text(tensor.name)
        dtype = self._dtypes.get(tensor.type)
        if dtype is None:
            raise _Unreadable(f"tensor {name!r} has the unknown type {tensor.type}")
        declared = [int(size) for size in _list(tensor.shape)]
        signature = [int(size) for size in _list(tensor.shapeSignature)]
        if min(declared, default=0) < 0 or (signature and len(signature) != len(declared)):
            raise _Unreadable(f"tensor {name!r} has an invalid shape, {declared}")
        size = self._at(self._buffers, tensor.buffer, "buffer")
        bits = _BITS.get(dtype, 0)
        if size and bits and tensor.sparsity is None and size != -(-math.prod(declared) * bits // 8):
            raise _Unreadable(f"tensor {name!r} is {dtype}{declared}, which {size} bytes do not hold")
        shape = tuple(None if size < 0 else size for size in signature or declared)
        quantization = tensor.quantization
        scales = tuple(float(scale) for scale in _list(quantization and quantization.scale))
        zeros = tuple(int(zero) for zero in _list(quantization and quantization.zeroPoint))
        details: Any = quantization and quantization.details
        block = int(details.blockSize) if hasattr(details, "blockSize") else 0
        return Tensor(index, name, dtype, shape, tensor.buffer, size, scales, zeros, block, is_scale)

    def _bytes(self, index: int, buffer: Any) -> int:
        """A buffer's length; large models store it after the flatbuffer, at an offset in the same file."""
        if buffer.offset <= 1:
            return len(_list(buffer.data))
        if buffer.offset + buffer.size > self._size:
            raise _Unreadable(f"buffer {index} exceeds the end of the file, which is truncated")
        return int(buffer.size)

    def _type(self, code: Any) -> str:
        # Codes above 127 do not fit the schema's first field, so the larger of the two is valid.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = self._builtins.get(number)
        if name is None:
            raise _Unreadable(f"it uses the unknown builtin operator {number}", "pip install --upgrade ai-edge-litert")
        return f"{name}:{_text(code.customCode)}" if name == "CUSTOM" else name

    @staticmethod
    def _at(items: Sequence[T], index: int, what: str) -> T:
        if not 0 <= index < len(items):
            raise _Unreadable(f"it is damaged: it names {what} {index} of {len(items)}")
        return items[index]


def _block_scales(tensor: Any) -> tuple[int, ...]:
    """The index of the tensor with the scales of its blocks."""
    details: Any = tensor.quantization and tensor.quantization.details
    return (int(details.scales),) if hasattr(details, "blockSize") else ()


def _list(values: Any) -> Any:
    return [] if values is None else values


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


_BITS = {
    **{"float32": 32, "float16": 16, "bfloat16": 16, "float64": 64, "bool": 8, "complex64": 64, "complex128": 128},
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
    "int2": 2,
}
#: operator → index of the bias input
_BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "CONV_3D": 2, "TRANSPOSE_CONV": 3}
#: operators whose MACs are unknown, so that the sum is unknown
_UNCOUNTED = ("CUSTOM", "STABLEHLO_", "LSTM", "BIDIRECTIONAL", "RNN", "SVDF", "WHILE", "IF", "CALL")


def _traits(model: Model) -> frozenset[str]:
    quantized = _quantized(model)
    if quantized.startswith("weight-only"):
        return frozenset({trait(_encodings(model))} - {""})
    return frozenset({{"int16": "int8"}.get(quantized, quantized)} - {""})


def _encodings(model: Model) -> list[Encoding]:
    """How the weights of each operator that has SMALL or more are stored."""
    nodes = [node for graph in model.subgraphs for node in graph.nodes]
    stored = {node.outputs[0].index: node.inputs[0] for node in nodes if node.type == "DEQUANTIZE" and node.outputs}
    encodings = []
    for node in nodes:
        table = node.type in ("EMBEDDING_LOOKUP", "GATHER")
        for tensor in node.inputs:
            weight = stored.get(tensor.index, tensor) if tensor and node.type != "DEQUANTIZE" else None
            if weight and weight.constant and len(weight.shape) >= 2 and weight.count >= SMALL and weight.is_parameter:
                one = weight.encoding
                encodings.append(Encoding(one.bits, one.block, one.symmetric, table))
    return encodings


def _quantized(model: Model) -> str:
    """The kind of quantization: int8 or int16 (activations too), dynamic (int8 weights in float operators), weight-only
    (dequantized by operators of their own, or in 4 bits), fp16, or "".
    """
    nodes = [node for graph in model.subgraphs for node in graph.nodes]
    activation_dtypes = {t.dtype for graph in model.subgraphs for t in graph.activations if t.scales}
    if activation_dtypes & {"int8", "uint8", "int16"}:
        return "int8" if activation_dtypes & {"int8", "uint8"} else "int16"
    weights = [(n, t) for n in nodes for t in n.inputs if t and t.constant and len(t.shape) >= 2 and t not in n.biases]
    direct = [(n, t) for n, t in weights if t.is_quantized and n.type != "DEQUANTIZE"]
    dequantized = any(t.is_quantized and n.type == "DEQUANTIZE" for n, t in weights)
    if any(t.dtype == "int4" for _, t in weights if t.is_quantized) or (
        dequantized and all(node.type in ("EMBEDDING_LOOKUP", "GATHER") for node, _ in direct)
    ):
        return described(_encodings(model)) or "weight-only"
    if direct:
        return "dynamic"
    counts: Counter[str] = Counter()
    for _, tensor in weights:
        counts[tensor.dtype] += tensor.count if tensor.is_parameter else 0
    # Converters leave small constants, such as those of normalisations, in float32.
    return "fp16" if counts["float16"] > counts["float32"] else ""


#: operators of the XNNPACK delegate, LiteRT's fast kernels:
#: https://github.com/google-ai-edge/LiteRT/blob/main/tflite/delegates/xnnpack/README.md
_XNNPACK = frozenset(
    "ABS ADD AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CAST CEIL CONCATENATION CONV_2D COS DEPTH_TO_SPACE "
    "DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EXP EXPAND_DIMS FLOOR FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG "
    "LOGISTIC MAX_POOL_2D MAXIMUM MEAN MINIMUM MUL NEG PAD PADV2 PRELU QUANTIZE RELU RELU_N1_TO_1 RELU_0_TO_1 RELU6 "
    "RESHAPE RESIZE_BILINEAR ROUND RSQRT SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARE SQUARED_DIFFERENCE "
    "SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV".split()
)


#: custom operators, of MediaPipe's models, that it computes
_TRANSPOSED = "CUSTOM:Convolution2DTransposeBias"
_XNNPACK_CUSTOM = frozenset({_TRANSPOSED, "CUSTOM:MaxPoolingWithArgmax2D", "CUSTOM:MaxUnpooling2D"})


def _slow(model: Model) -> Iterator[str]:
    """Performance hints, one line each."""
    nodes = [node for graph in model.subgraphs for node in graph.nodes if any(not t.constant for t in node.outputs)]
    if unsupported := [node for node in nodes if node.type not in _XNNPACK | _XNNPACK_CUSTOM]:
        yield f"{_summary(unsupported)}: not computed by XNNPACK, LiteRT's fast kernels"
    if transposes := sum(node.type == "TRANSPOSE" for node in nodes):
        yield f"{transposes} TRANSPOSE: each copies its tensor into another layout"
    if any(t.dtype == "float64" for node in nodes for t in node.outputs):
        yield "it computes in float64: float32 is at least twice as fast"


def _summary(nodes: Sequence[Node]) -> str:
    counts = Counter(node.type for node in nodes)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(4)) + f" (first: {nodes[0].name})"


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
    """Multiply-accumulates of one sample (dynamic axes count as one); None if unknown."""
    data, weight = node.input(0), node.input(1)
    if node.type == _TRANSPOSED and data and weight:
        return data.count // batch * _product(weight.shape[:3])
    if node.type.startswith(_UNCOUNTED) and node.type not in _XNNPACK_CUSTOM:
        return None
    if node.type.startswith("UNIDIRECTIONAL_SEQUENCE") and data:  # each matrix is used once per step
        steps = data.count // max(1, data.shape[-1] or 1) // batch
        matrices = [t for t in node.inputs if t and t.constant and len(t.shape) == 2]
        return steps * sum(t.count for t in matrices) if matrices else None
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
