"""The OpenVINO IR: an XML file with the graph, and a `.bin` of the same name beside it with the constants.

Read with Python's own XML parser and without OpenVINO, so that a damaged file is described, not compiled.
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
from edgekit.formats.shared.lifetimes import peak_bytes

VERSIONS = (10, 11)

Shape = tuple[int | None, ...]


class Openvino(Format):
    file: ClassVar[str] = "model.xml"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    observer: ClassVar[str] = "edgekit.compression.calibration.openvino"
    observed_in: ClassVar[str] = "openvino"
    matched_tensors: ClassVar[str] = "edgekit.workflows.inspect.matched_tensors.openvino"
    kernels: ClassVar[str] = "edgekit.workflows.inspect.profiles.openvino"

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Everything the two files say without being run. Raises InputError for what is not a whole IR."""
        model = read(path)
        uses = [_Uses(graph) for graph in model.graphs]
        weights = {constant.place: constant for use in uses for constant in use.weights}
        weight_bytes = sum(constant.size for constant in weights.values())
        parameters = {constant.place: constant.count for use in uses for constant in use.parameters}
        main = model.graphs[0]
        return ModelFacts(
            inputs=tuple(_input(layer) for layer in main.layers.values() if layer.type == "Parameter"),
            outputs=tuple(_output(layer) for layer in main.layers.values() if layer.type == "Result"),
            sizes=Sizes(model.size, weight_bytes, model.size - weight_bytes - model.metadata, model.metadata),
            traits=_traits(model, [constant.element_type for constant in weights.values()]),
            parameters=sum(parameters.values()),
            operators=tuple(operator for use in uses for operator in use.operators()),
            details={
                "ir_version": model.version,
                "made_by": model.made_by,
                "weight_types": dict(Counter(constant.element_type for constant in weights.values())),
            },
            peak_bytes=uses[0].peak(),
            quantized=_quantized(model, [constant.element_type for constant in weights.values()]),
            slow=tuple(_slow(uses, model, {constant.element_type for constant in weights.values()})),
        )


@dataclass(frozen=True)
class Port:
    """One output of a layer. `shape` holds None where the size is dynamic."""

    shape: Shape
    precision: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A tensor in the `.bin`; layers may share one."""

    offset: int
    size: int
    shape: tuple[int, ...]
    element_type: str

    @property
    def place(self) -> tuple[int, int]:
        return self.offset, self.size

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer; `sources` holds the layer and the port that each input comes from, in order."""

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
    """A whole IR: the main graph first, then the bodies of loops and branches."""

    version: int
    graphs: tuple[Graph, ...]
    size: int
    metadata: int
    made_by: str


# --- reading -----------------------------------------------------------------------------------------------------


def read(path: Path) -> Model:
    """The parsed IR, its `.bin` checked to hold every constant. Raises InputError."""
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        root = ET.fromstring(raw, ET.XMLParser(target=_Builder()))  # noqa: S314
    except (ET.ParseError, LookupError, ValueError) as error:
        why = f"it cannot be parsed: {error}"
        raise InputError(f"{path} is not an OpenVINO model", why, "was it cut off? export it again") from error
    if root.tag != "net" or root.find("layers") is None:
        raise InputError(f"{path} is not an OpenVINO model", "it holds no <net> with <layers>", "export it again")
    version = root.get("version", "none")
    if version not in map(str, VERSIONS):
        known = " and ".join(map(str, VERSIONS))
        raise InputError(f"{path} has IR version {version}", f"known are {known}", "export it with a newer OpenVINO")
    try:
        graphs = tuple(_graph(net) for net in _nets(root))
    except (ValueError, KeyError, RecursionError) as error:
        why = f"its graph is damaged: {error}{' is missing' if isinstance(error, KeyError) else ''}"
        raise InputError(f"{path} is not a valid OpenVINO model", why, "export it again") from error
    size = len(raw) + _checked_bin(path, graphs)
    metadata = sum(len(ET.tostring(element).strip()) for element in root.iter("rt_info"))
    made_by = next((e.get("value", "") for e in root.iterfind("rt_info/Runtime_version")), "")
    return Model(int(version), graphs, size, metadata, made_by)


class _Builder(ET.TreeBuilder):
    """Refuses a DOCTYPE as soon as it opens, and with it every entity: an IR has none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a DOCTYPE, which no OpenVINO model does")


def _checked_bin(path: Path, graphs: Sequence[Graph]) -> int:
    """The bytes of the `.bin`, 0 where none is needed. Raises InputError where it is missing or too short."""
    file = path.with_suffix(".bin")
    needed = max((c.offset + c.size for c in _constants(graphs)), default=0)
    if not needed and not file.exists():
        return 0
    if not file.is_file():
        why = f"its weights, {file.name}, are not beside it"
        raise InputError(f"{path} is not whole", why, f"copy {file.name} into {path.parent} too")
    with os_errors("read", file):
        size = file.stat().st_size
    if size < needed:
        why = f"{file.name} has {size:,} bytes where its constants need {needed:,}"
        raise InputError(f"{path} is not whole", why, "was it cut off? copy both files again")
    return size


def _constants(graphs: Sequence[Graph]) -> Iterator[Constant]:
    for graph in graphs:
        yield from (layer.constant for layer in graph.layers.values() if layer.constant)


def _nets(root: ET.Element) -> Iterator[ET.Element]:
    """The main graph, then the body of every loop and branch in it: each holds layers and edges."""
    yield root
    yield from (element for element in root.iter() if element is not root and element.find("layers") is not None)


def _graph(net: ET.Element) -> Graph:
    """Raises ValueError or KeyError where layers and edges do not fit together."""
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
    """Comma-separated names, in which a comma of their own is escaped."""
    return tuple(name.replace("\\,", ",") for name in re.split(r"(?<!\\),", text) if name)


_BITS = {"boolean": 8, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8, "f8e8m0": 8, "f4e2m1": 4, "nf4": 4}


def _bits(element_type: str) -> int:
    """Bits of one element; 0 for strings and what is not known."""
    digits = re.fullmatch(r"[fiu](\d+)", element_type)
    return int(digits[1]) if digits else _BITS.get(element_type, 0)


def _constant(name: str, data: Mapping[str, str]) -> Constant:
    shape = tuple(int(size) for size in data["shape"].split(",") if size.strip())
    constant = Constant(int(data["offset"]), int(data["size"]), shape, data["element_type"])
    needed = (constant.count * _bits(constant.element_type) + 7) // 8
    if min(constant.offset, constant.size, *shape, 0) < 0 or constant.size < needed:
        raise ValueError(f"constant {name!r} of {constant.size} bytes cannot have shape {list(shape)}")
    return constant


# --- facts -------------------------------------------------------------------------------------------------------

_DTYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16", "BOOL": "bool"}


def _dtype(precision: str) -> str:
    """IR's word for a type as numpy's: FP32 → float32, I64 → int64, U8 → uint8."""
    word = precision.upper()
    digits = re.fullmatch(r"([IU])(\d+)", word)
    if digits:
        return f"{'int' if digits[1] == 'I' else 'uint'}{digits[2]}"
    return _DTYPES.get(word, "bool" if word == "BOOLEAN" else precision.lower())


def _input(layer: Layer) -> TensorSpec:
    port = next(iter(layer.ports.values()), Port((), layer.data.get("element_type", ""), ()))
    return TensorSpec(min(port.names, default=layer.name), _dtype(port.precision), port.shape)


def _output(layer: Layer) -> TensorSpec:
    port = layer.sources[0][1] if layer.sources else Port((), "", ())
    names = layer.result_names or port.names
    return TensorSpec(min(names, default=layer.name), _dtype(port.precision), port.shape)


def _traits(model: Model, weights: Sequence[str]) -> frozenset[str]:
    """int8 where activations are; dynamic where only weights are; fp16 where all weights are."""
    quantized = _quantized(model, weights)
    if quantized == "weight-only":
        return frozenset({"dynamic"} if {"i8", "u8"} & set(weights) else ())
    return frozenset({"int8" if quantized == "FakeQuantize" else quantized} - {""})


def _quantized(model: Model, weights: Sequence[str]) -> str:
    """How: FakeQuantize (activations too), weight-only, fp16, or ""."""
    kinds = set(weights)
    if any(layer.type == "FakeQuantize" for graph in model.graphs for layer in graph.layers.values()):
        return "FakeQuantize"
    if kinds & {"i8", "u8", "i4", "u4", "nf4"}:
        return "weight-only"
    return "fp16" if kinds == {"f16"} else ""


def _slow(uses: Sequence[_Uses], model: Model, weights: set[str]) -> Iterator[str]:
    """What may make it slow, a line each."""
    layers = [layer for use in uses for layer in use.computing]
    if transposes := sum(layer.type == "Transpose" for layer in layers):
        yield f"{transposes} Transpose: each copies its tensor into another layout"
    if any(port.precision == "FP64" for layer in layers for port in layer.ports.values()):
        yield "it computes in float64: float32 is at least twice as fast"
    if _quantized(model, sorted(weights)) != "FakeQuantize":
        return
    floats = [layer for layer in layers if layer.type in _MATRICES and layer.sources[0][0].type != "FakeQuantize"]
    direct = [layer for layer in floats if not _quantized_before(layer.sources[0][0])]
    if direct:
        counts = Counter(layer.type for layer in direct)
        names = ", ".join(f"{count} {name}" for name, count in counts.most_common(4))
        yield f"{names} (first: {direct[0].name}) in float inside an int8 graph: not quantized"


#: operators that compute on integers where their data was quantized
_MATRICES = ("Convolution", "GroupConvolution", "MatMul", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
#: operators that pass on integers as they are
_PASSING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Concat", "Split", "VariadicSplit", "ShapeOf")


def _quantized_before(layer: Layer, depth: int = 16) -> bool:
    if layer.type == "FakeQuantize":
        return True
    passes = layer.type in _PASSING and layer.sources and depth > 0
    return bool(passes) and _quantized_before(layer.sources[0][0], depth - 1)


#: which inputs of an operator are its weights
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
_CHAIN = 16  # more layers than any decompression has


class _Uses:
    """Which operator of a graph holds which constants, seen through the layers that only decompress them.

    A stored int8 weight reaches its convolution as Multiply(Subtract(Convert(weight), zero point), scale), an fp16 one
    through a Convert. Scales, zero points and the ranges of FakeQuantize are part of the encoding, no parameters.
    """

    def __init__(self, graph: Graph) -> None:
        self._all = list(graph.layers.values())
        self._layers = [layer for layer in self._all if layer.type not in _NOT_OPERATORS]
        self._carried: dict[str, Constant | None] = {}
        self._held = {layer.id: list(self._constants_of(layer)) for layer in self._layers}

    @property
    def parameters(self) -> Iterator[Constant]:
        yield from (constant for held in self._held.values() for _, constant in held)

    @property
    def weights(self) -> Iterator[Constant]:
        """Of rank 2 or more. An operator that names no weights (an Add of position embeddings) has one where more than
        one axis is long: biases and norms come as [1, C, 1, 1]."""
        for layer in self._layers:
            ports = _WEIGHTS.get(layer.type)
            for index, constant in self._held[layer.id]:
                long = sum(size > 1 for size in constant.shape)
                if len(constant.shape) >= 2 and (index in ports if ports else long > 1):
                    yield constant

    def operators(self) -> Iterator[Operator]:
        for layer in self._layers:
            held = [constant for _, constant in self._held[layer.id]]
            parameters, weights = sum(c.count for c in held), sum(c.size for c in held)
            written = 0 if self._carrier(layer) else _written(layer)
            yield Operator(layer.type, layer.name, parameters, _macs(layer), weights, written)

    @property
    def computing(self) -> list[Layer]:
        """Those that work on what comes in, not on constants alone."""
        return [layer for layer in self._layers if not self._carrier(layer)]

    def peak(self) -> int | None:
        bytes_of: dict[str, int | None] = {}
        nodes, inputs, outputs = [], [], []
        for layer in self._all:
            reads = [str(id(port)) for _, port in layer.sources]
            writes = [str(id(port)) for port in layer.ports.values()]
            fixed = self._carrier(layer) is not None
            bytes_of |= {str(id(port)): 0 if fixed else _port_bytes(port) for port in layer.ports.values()}
            if layer.type == "Parameter":
                inputs += writes
            elif layer.type == "Result":
                outputs += reads
            else:
                nodes.append((reads, writes))
        return peak_bytes(inputs, outputs, nodes, bytes_of)

    def _constants_of(self, layer: Layer) -> Iterator[tuple[int, Constant]]:
        """(input, constant) for every parameter the layer itself uses."""
        if self._carrier(layer):
            return
        for index, (source, _) in enumerate(layer.sources):
            constant = self._carrier(source)
            ranges = layer.type == "FakeQuantize" and index > 0
            if constant and not ranges and _PARAMETER.fullmatch(constant.element_type):
                yield index, constant

    def _carrier(self, layer: Layer, depth: int = _CHAIN) -> Constant | None:
        """The constant whose values a layer passes on, or None where they are computed from an input."""
        if layer.constant or not depth:
            return layer.constant
        if layer.id not in self._carried:
            self._carried[layer.id] = None  # a loop of layers ends here
            self._carried[layer.id] = self._through(layer, depth - 1)
        return self._carried[layer.id]

    def _through(self, layer: Layer, depth: int) -> Constant | None:
        sources = [source for source, _ in layer.sources]
        if layer.type in ("Convert", "FakeQuantize", "Reshape", "Transpose", "Unsqueeze") and sources:
            return self._carrier(sources[0], depth)
        if layer.type in ("Multiply", "Subtract") and sources:
            carried = [self._carrier(source, depth) for source in sources]
            found = [constant for constant in carried if constant]
            return max(found, key=lambda constant: constant.count) if len(found) == len(carried) else None
        return None


def _macs(layer: Layer) -> int | None:
    """Multiply-accumulates of one sample (a dynamic first axis counts as one); None where they are not known."""
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
    """Of one sample: open axes count as 1."""
    digits = re.search(r"\d+$", dtype := _dtype(port.precision))
    bits = 8 if dtype == "bool" else int(digits[0]) if digits else 0
    return (math.prod(1 if size is None else size for size in port.shape) * bits + 7) // 8 if bits else None


def _product(*shapes: Sequence[int | None]) -> int | None:
    sizes: list[Any] = [size for shape in shapes for size in shape]
    return math.prod(sizes) if sizes and None not in sizes else None
