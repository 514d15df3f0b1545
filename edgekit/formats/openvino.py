"""The OpenVINO IR: an XML file with the graph, and a `.bin` of the same name with the constants.

It is read with Python's XML parser and without OpenVINO, so that a damaged file is reported, not compiled.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

from edgekit.core.artifact import ModelFacts, Operator, Sizes, TensorSpec
from edgekit.core.errors import InputError, os_errors
from edgekit.core.format import Format
from edgekit.core.relative_paths import is_beside
from edgekit.core.signature import Signature
from edgekit.formats.shared import openvino_metadata
from edgekit.formats.shared.lifetimes import peak_bytes
from edgekit.formats.shared.weight_encoding import Encoding, described, trait

VERSIONS = (10, 11)
#: weights of fewer values are not what a file's precision is told by
SMALL = 1024

Shape = tuple[int | None, ...]


class Openvino(Format):
    file: ClassVar[str] = "model.xml"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    observer: ClassVar[str] = "edgekit.compression.calibration.openvino"
    observed_in: ClassVar[str] = "openvino"
    matched_tensors: ClassVar[str] = "edgekit.workflows.inspect.matched_tensors.openvino"
    kernels: ClassVar[str] = "edgekit.workflows.inspect.profiles.openvino"
    mixed_precision: ClassVar[str] = "edgekit.workflows.inspect.mixed_precision.openvino"

    @staticmethod
    def signature(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[Signature, str]:
        return openvino_metadata.read(_root(path, path.read_bytes()), inputs)

    @staticmethod
    def sign(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        openvino_metadata.write(path, inputs, outputs)

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Facts about the two files. Raises InputError if they are not a complete IR."""
        model = read(path)
        uses = [_Uses(graph) for graph in model.graphs]
        weights = {constant.location: constant for use in uses for constant in use.weights}
        weight_bytes = sum(constant.size for constant in weights.values())
        parameters = {constant.location: constant.count for use in uses for constant in use.parameters}
        main = model.graphs[0]
        stored = [e for use in uses for e in use.encodings(SMALL)] or [e for use in uses for e in use.encodings(0)]
        return ModelFacts(
            inputs=tuple(_input(layer) for layer in main.layers.values() if layer.type == "Parameter"),
            outputs=tuple(_output(layer) for layer in main.layers.values() if layer.type == "Result"),
            sizes=Sizes(model.size, weight_bytes, model.size - weight_bytes - model.metadata, model.metadata),
            traits=_traits(model, [constant.element_type for constant in weights.values()], stored),
            parameters=sum(parameters.values()),
            operators=tuple(operator for use in uses for operator in use.operators()),
            details={
                "ir_version": model.version,
                "made_by": model.producer,
                "weight_types": dict(Counter(constant.element_type for constant in weights.values())),
            },
            peak_bytes=uses[0].peak(),
            quantized=_quantized_text(model, [constant.element_type for constant in weights.values()], stored),
            slow=tuple(_slow(uses)),
        )


@dataclass(frozen=True)
class Port:
    """One output of a layer; None in `shape` is a dynamic size."""

    shape: Shape
    precision: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A tensor in the `.bin`; several layers may share it."""

    offset: int
    size: int
    shape: tuple[int, ...]
    element_type: str

    @property
    def location(self) -> tuple[int, int]:
        return self.offset, self.size

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer; `sources` holds the source layer and port of each input, in order."""

    id: str
    type: str
    name: str
    data: Mapping[str, str]
    ports: Mapping[str, Port]
    constant: Constant | None
    result_names: tuple[str, ...]
    sources: list[tuple[Layer, Port]] = field(default_factory=list)

    def shape_of(self, index: int) -> Shape:
        return self.sources[index][1].shape if index < len(self.sources) else ()


@dataclass(frozen=True)
class Graph:
    layers: Mapping[str, Layer]


@dataclass(frozen=True)
class Model:
    """A complete IR: the main graph, then the bodies of loops and branches."""

    version: int
    graphs: tuple[Graph, ...]
    size: int
    metadata: int
    producer: str
    quantizes_activations: bool = False


# --- reading -----------------------------------------------------------------------------------------------------


def read(path: Path) -> Model:
    """The parsed IR; its `.bin` is checked to hold all constants. Raises InputError."""
    with os_errors("read", path):
        raw = path.read_bytes()
    root = _root(path, raw)
    if root.tag != "net" or root.find("layers") is None:
        raise InputError(f"{path} is not an OpenVINO model", "it holds no <net> with <layers>", "export it again")
    version = root.get("version", "none")
    if version not in map(str, VERSIONS):
        known = " and ".join(map(str, VERSIONS))
        raise InputError(
            f"{path} has IR version {version}", f"edgekit supports {known}", "export it with a newer OpenVINO"
        )
    try:
        graphs = tuple(_graph(net) for net in _nets(root))
    except (ValueError, KeyError, RecursionError) as error:
        why = f"its graph is damaged: {error}{' is missing' if isinstance(error, KeyError) else ''}"
        raise InputError(f"{path} is not a valid OpenVINO model", why, "export it again") from error
    size = len(raw) + _checked_bin(path, graphs)
    metadata = sum(len(ET.tostring(element).strip()) for element in root.iter("rt_info"))
    producer = next((e.get("value", "") for e in root.iterfind("rt_info/Runtime_version")), "")
    group = next(
        (e.get("value", "0") for e in root.iterfind("rt_info/runtime_options/DYNAMIC_QUANTIZATION_GROUP_SIZE")), "0"
    )
    return Model(int(version), graphs, size, metadata, producer, group != "0")


def _root(path: Path, raw: bytes) -> ET.Element:
    """Raises InputError if it is not XML, or declares entities."""
    try:
        return ET.fromstring(raw, ET.XMLParser(target=_Builder()))  # noqa: S314
    except (ET.ParseError, LookupError, ValueError) as error:
        why = f"it cannot be parsed: {error}"
        raise InputError(f"{path} is not an OpenVINO model", why, "export it again") from error


class _Builder(ET.TreeBuilder):
    """Rejects a DOCTYPE, and thus all entity declarations, which an IR never has."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a DOCTYPE, which no OpenVINO model does")


def _checked_bin(path: Path, graphs: Sequence[Graph]) -> int:
    """The size of the `.bin`, 0 if none is needed. Raises InputError if it is missing or too short."""
    file = path.with_suffix(".bin")
    required = max((c.offset + c.size for c in _constants(graphs)), default=0)
    if not required and not file.exists():
        return 0
    if not file.is_file():
        why = f"its weights file {file.name} is missing"
        raise InputError(f"{path} is incomplete", why, f"copy {file.name} into {path.parent}")
    if not is_beside(path, file):
        why = f"its weights file {file.name} is a link to another folder"
        raise InputError(f"{path} is not a valid OpenVINO model", why, f"copy {file.name} into {path.parent}")
    with os_errors("read", file):
        size = file.stat().st_size
    if size < required:
        why = f"{file.name} has {size:,} bytes where its constants need {required:,}"
        raise InputError(f"{path} is incomplete", why, "copy both files again")
    return size


def _constants(graphs: Sequence[Graph]) -> Iterator[Constant]:
    for graph in graphs:
        yield from (layer.constant for layer in graph.layers.values() if layer.constant)


def _nets(root: ET.Element) -> Iterator[ET.Element]:
    """The elements with layers and edges: the main graph, then the bodies of loops and branches."""
    yield root
    yield from (element for element in root.iter() if element is not root and element.find("layers") is not None)


def _graph(net: ET.Element) -> Graph:
    """Raises ValueError or KeyError if layers and edges are inconsistent."""
    layers: dict[str, Layer] = {}
    for element in net.iterfind("layers/layer"):
        layer = _layer(element)
        if layer.id in layers:
            raise ValueError(f"two layers have the id {layer.id}")
        layers[layer.id] = layer
    edges = sorted(net.iterfind("edges/edge"), key=lambda edge: int(edge.attrib["to-port"]))
    for edge in edges:
        source, reader = layers[edge.attrib["from-layer"]], layers[edge.attrib["to-layer"]]
        reader.sources.append((source, source.ports[edge.attrib["from-port"]]))
    if not any(layer.type == "Result" and layer.sources for layer in layers.values()):
        raise ValueError("it has no outputs")
    return Graph(layers)


def _layer(element: ET.Element) -> Layer:
    data = element.find("data")
    attributes = dict(data.attrib) if data is not None else {}
    type, name = element.attrib["type"], element.get("name", "")
    ports = {port.attrib["id"]: _port(port) for port in element.iterfind("output/port")}
    constant = _constant(name, attributes) if type == "Const" else None
    return Layer(element.attrib["id"], type, name, attributes, ports, constant, _names(element.get("output_names", "")))


def _port(element: ET.Element) -> Port:
    sizes = (int(dim.text or "") for dim in element.iterfind("dim"))
    shape = tuple(size if size >= 0 else None for size in sizes)
    return Port(shape, element.get("precision", ""), _names(element.get("names", "")))


def _names(text: str) -> tuple[str, ...]:
    """Comma-separated names, with escaped commas in names."""
    return tuple(name.replace("\\,", ",") for name in re.split(r"(?<!\\),", text) if name)


_BITS = {"boolean": 8, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8, "f8e8m0": 8, "f4e2m1": 4, "nf4": 4}


def _bits(element_type: str) -> int:
    """Bits of one element; 0 for strings and unknown types."""
    digits = re.fullmatch(r"[fiu](\d+)", element_type)
    return int(digits[1]) if digits else _BITS.get(element_type, 0)


def _constant(name: str, data: Mapping[str, str]) -> Constant:
    shape = tuple(int(size) for size in data["shape"].split(",") if size.strip())
    constant = Constant(int(data["offset"]), int(data["size"]), shape, data["element_type"])
    required = (constant.count * _bits(constant.element_type) + 7) // 8
    if min(constant.offset, constant.size, *shape, 0) < 0 or constant.size < required:
        raise ValueError(f"constant {name!r} of {constant.size} bytes cannot have shape {list(shape)}")
    return constant


# --- facts -------------------------------------------------------------------------------------------------------

_DTYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16", "BOOL": "bool"}


def _dtype(precision: str) -> str:
    """An IR type as a numpy type: FP32 → float32, I64 → int64, U8 → uint8."""
    name = precision.upper()
    digits = re.fullmatch(r"([IU])(\d+)", name)
    if digits:
        return f"{'int' if digits[1] == 'I' else 'uint'}{digits[2]}"
    return _DTYPES.get(name, "bool" if name == "BOOLEAN" else precision.lower())


def _input(layer: Layer) -> TensorSpec:
    port = next(iter(layer.ports.values()), Port((), layer.data.get("element_type", ""), ()))
    return TensorSpec(min(port.names, default=layer.name), _dtype(port.precision), port.shape)


def _output(layer: Layer) -> TensorSpec:
    port = layer.sources[0][1] if layer.sources else Port((), "", ())
    names = layer.result_names or port.names
    return TensorSpec(min(names, default=layer.name), _dtype(port.precision), port.shape)


def _traits(model: Model, weights: Sequence[str], stored: Sequence[Encoding]) -> frozenset[str]:
    """int8 if activations are quantized, dynamic if they are at run time, w8 or w4 if only weights are, fp16 if all
    weights are float16."""
    quantized = _quantized(model, weights)
    if quantized == "weight-only":
        if model.quantizes_activations:
            return frozenset({"dynamic"} if {"i8", "u8"} & set(weights) else ())
        return frozenset({trait(stored)} - {""})
    return frozenset({"int8" if quantized == "FakeQuantize" else quantized} - {""})


def _quantized(model: Model, weights: Sequence[str]) -> str:
    """The kind of quantization: FakeQuantize (activations too), weight-only, fp16, or ""."""
    kinds = set(weights)
    if any(layer.type == "FakeQuantize" for graph in model.graphs for layer in graph.layers.values()):
        return "FakeQuantize"
    if kinds & {"i8", "u8", "i4", "u4", "nf4"}:
        return "weight-only"
    return "fp16" if kinds == {"f16"} else ""


def _quantized_text(model: Model, weights: Sequence[str], stored: Sequence[Encoding]) -> str:
    quantized = _quantized(model, weights)
    return (described(stored) or quantized) if quantized == "weight-only" else quantized


def _slow(uses: Sequence[_Uses]) -> Iterator[str]:
    """Performance hints, one line each."""
    layers = [layer for use in uses for layer in use.computing]
    if transposes := sum(layer.type == "Transpose" for layer in layers):
        yield f"{transposes} Transpose: each copies its tensor into another layout"
    if any(port.precision == "FP64" for layer in layers for port in layer.ports.values()):
        yield "it computes in float64: float32 is at least twice as fast"


#: operator → indices of the inputs with weights
_WEIGHTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Convolution", "GroupConvolution", "BinaryConvolution"), (1,)),
    **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), (1,)),
    **dict.fromkeys(("Gather", "EmbeddingBagOffsetsSum", "EmbeddingBagPackedSum", "EmbeddingSegmentsSum"), (0,)),
    **dict.fromkeys(("GRUCell", "RNNCell"), (2, 3)),
    **dict.fromkeys(("LSTMCell", "GRUSequence", "RNNSequence"), (3, 4)),
    "LSTMSequence": (4, 5),
    "MatMul": (0, 1),
    "DeformableConvolution": (2,),
}
_NOT_OPERATORS = ("Const", "Parameter", "Result")
_PARAMETER = re.compile(r"b?f\d+(e\d+m\d+)?|[iu][1-8]|nf4")
MAX_DEPTH = 16  # deeper than any decompression subgraph


class _Uses:
    """The constants used by each operator of a graph, found through the layers that decompress them.

    An int8 weight is used as Multiply(Subtract(Convert(weight), zero point), scale), an fp16 one through a Convert.
    Scales, zero points and the ranges of FakeQuantize belong to the encoding, and are not parameters.
    """

    def __init__(self, graph: Graph) -> None:
        self._all = list(graph.layers.values())
        self._layers = [layer for layer in self._all if layer.type not in _NOT_OPERATORS]
        self._constants_behind: dict[str, Constant | None] = {}
        self._constants_by_layer = {layer.id: list(self._constants_of(layer)) for layer in self._layers}

    @property
    def parameters(self) -> Iterator[Constant]:
        yield from (constant for constants in self._constants_by_layer.values() for _, constant in constants)

    @property
    def weights(self) -> Iterator[Constant]:
        """Weights have rank 2 or more. For other operators (an Add of positional embeddings), more than one axis must
        be longer than 1, because biases and norms have the shape [1, C, 1, 1]."""
        for layer in self._layers:
            ports = _WEIGHTS.get(layer.type)
            for index, constant in self._constants_by_layer[layer.id]:
                long_axes = sum(size > 1 for size in constant.shape)
                if len(constant.shape) >= 2 and (index in ports if ports else long_axes > 1):
                    yield constant

    def operators(self) -> Iterator[Operator]:
        for layer in self._layers:
            constants = [constant for _, constant in self._constants_by_layer[layer.id]]
            parameters, weights = sum(c.count for c in constants), sum(c.size for c in constants)
            written = 0 if self._constant_behind(layer) else _written(layer)
            yield Operator(layer.type, layer.name, parameters, _macs(layer), weights, written)

    def encodings(self, small: int) -> Iterator[Encoding]:
        """How the weights of each operator that has so many or more are stored."""
        for layer in self._layers:
            for index, constant in self._constants_by_layer[layer.id]:
                if index in _WEIGHTS.get(layer.type, ()) and len(constant.shape) >= 2 and constant.count >= small:
                    yield self._encoding(layer, layer.sources[index][0], constant)

    def _encoding(self, layer: Layer, source: Layer, constant: Constant) -> Encoding:
        digits = re.fullmatch(r"[iu]([1-8])", constant.element_type)
        table = layer.type in ("Gather", "EmbeddingBagOffsetsSum", "EmbeddingBagPackedSum", "EmbeddingSegmentsSum")
        if not digits:
            return Encoding(4 if constant.element_type == "nf4" else 0, 0, True, table)
        wide, symmetric, blocks = 0, True, False
        while source.type != "Const" and source.sources:
            inputs = [(s, self._constant_behind(s)) for s, _ in source.sources]
            if source.type == "Subtract" and inputs[1][1] is not None:
                symmetric = inputs[1][1].count == 1
            blocks |= source.type == "Reshape"
            source = next((s for s, behind in inputs if behind is constant), inputs[0][0])
            wide += 1
            if wide > MAX_DEPTH:
                break
        grouped = blocks and len(constant.shape) == 3
        return Encoding(int(digits[1]), constant.shape[-1] if grouped else 0, symmetric, table)

    @property
    def computing(self) -> list[Layer]:
        """Layers that depend on the inputs, not on constants only."""
        return [layer for layer in self._layers if not self._constant_behind(layer)]

    def peak(self) -> int | None:
        bytes_of: dict[str, int | None] = {}
        nodes, inputs, outputs = [], [], []
        for layer in self._all:
            reads = [str(id(port)) for _, port in layer.sources]
            writes = [str(id(port)) for port in layer.ports.values()]
            fixed = self._constant_behind(layer) is not None
            bytes_of |= {str(id(port)): 0 if fixed else _port_bytes(port) for port in layer.ports.values()}
            if layer.type == "Parameter":
                inputs += writes
            elif layer.type == "Result":
                outputs += reads
            else:
                nodes.append((reads, writes))
        return peak_bytes(inputs, outputs, nodes, bytes_of)

    def _constants_of(self, layer: Layer) -> Iterator[tuple[int, Constant]]:
        """(input index, constant) of each parameter that the layer uses."""
        if self._constant_behind(layer):
            return
        for index, (source, _) in enumerate(layer.sources):
            constant = self._constant_behind(source)
            ranges = layer.type == "FakeQuantize" and index > 0
            if constant and not ranges and _PARAMETER.fullmatch(constant.element_type):
                yield index, constant

    def _constant_behind(self, layer: Layer, depth: int = MAX_DEPTH) -> Constant | None:
        """The constant that a layer's output is derived from, or None if it depends on an input."""
        if layer.constant or not depth:
            return layer.constant
        if layer.id not in self._constants_behind:
            self._constants_behind[layer.id] = None  # stops at a cycle
            self._constants_behind[layer.id] = self._constant_through(layer, depth - 1)
        return self._constants_behind[layer.id]

    def _constant_through(self, layer: Layer, depth: int) -> Constant | None:
        sources = [source for source, _ in layer.sources]
        if layer.type in ("Convert", "FakeQuantize", "Reshape", "Transpose", "Unsqueeze") and sources:
            return self._constant_behind(sources[0], depth)
        if layer.type in ("Multiply", "Subtract") and sources:
            constants_behind = [self._constant_behind(source, depth) for source in sources]
            constants = [constant for constant in constants_behind if constant]
            return (
                max(constants, key=lambda constant: constant.count) if len(constants) == len(constants_behind) else None
            )
        return None


def _macs(layer: Layer) -> int | None:
    """Multiply-accumulates of one sample (a dynamic first axis counts as one); None if unknown."""
    if layer.type.startswith(("LSTM", "GRU", "RNN")):
        steps = layer.shape_of(0)[1] or 1 if layer.type.endswith("Sequence") and len(layer.shape_of(0)) > 1 else 1
        matrices = [_product(layer.shape_of(index)) for index in _WEIGHTS.get(layer.type, ())]
        return None if None in matrices or not matrices else steps * sum(filter(None, matrices))
    output = next(iter(layer.ports.values())).shape if layer.ports else ()
    if layer.type in ("Convolution", "GroupConvolution"):
        return _product(output[1:], layer.shape_of(1)[1 if layer.type == "Convolution" else 2 :])
    if layer.type in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        return _product(layer.shape_of(0)[1:], layer.shape_of(1)[2 if layer.type.startswith("Group") else 1 :])
    if layer.type == "MatMul":
        right = layer.shape_of(1)
        depth = right[-1:] if layer.data.get("transpose_b") == "true" or len(right) < 2 else right[-2:-1]
        return _product(output[1:], depth)
    return 0


def _written(layer: Layer) -> int | None:
    sizes = [_port_bytes(port) for port in layer.ports.values()]
    return None if None in sizes else sum(filter(None, sizes))


def _port_bytes(port: Port) -> int | None:
    """Bytes of one sample: dynamic axes count as 1."""
    digits = re.search(r"\d+$", dtype := _dtype(port.precision))
    bits = 8 if dtype == "bool" else int(digits[0]) if digits else 0
    return (math.prod(1 if size is None else size for size in port.shape) * bits + 7) // 8 if bits else None


def _product(*shapes: Sequence[int | None]) -> int | None:
    sizes: list[Any] = [size for shape in shapes for size in shape]
    return math.prod(sizes) if sizes and None not in sizes else None
