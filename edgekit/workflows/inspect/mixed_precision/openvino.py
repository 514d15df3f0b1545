"""An int8 OpenVINO model as the CPU plugin has compiled it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.formats.openvino import Openvino, read
from edgekit.runtimes.openvino import compiled
from edgekit.workflows.inspect.mixed_precision import Conversion, Execution, Operator, Precision, Tensor, conversions
from edgekit.workflows.inspect.profiles.openvino import CONVERSIONS, HEAVY, precision

if TYPE_CHECKING:
    from openvino import Node, Output

_INPUTS, _OUTPUTS = ("Input", "Parameter"), ("Output", "Result")
#: operators of a file that only convert
_CONVERTING = ("FakeQuantize", "Convert")
#: the end of the names that OpenVINO gives to the scale of what it has quantized
_DEQUANTIZING = re.compile(r"/Dequantization(Multiply|Subtract|Convert)$")


def quantizable() -> Collection[str]:
    """Nothing is known: what NNCF leaves in float depends on more than an operator's type."""
    return ()


def execution(path: Path) -> Execution:
    """Raises RuntimeError if OpenVINO cannot compile the model.

    Each node of the compiled graph names the operators of the file that it computes.
    """
    file = {o.name: o.type for o in Openvino.describe(path).operators if o.activation_bytes != 0}
    found: list[Conversion] = []
    computed: dict[str, str] = {}
    rounded: set[str] = set()
    fixed: set[str] = set()
    rescaled = 0
    model = compiled(str(path), 1, "f32")  # type: ignore[no-untyped-call]
    for node in model.get_runtime_model().get_ordered_ops():
        kind = str(_info(node, "layerType"))
        if kind in (*_INPUTS, *_OUTPUTS):
            continue
        sources = [i.get_source_output() for i in node.inputs()]
        sources = [output for output in sources if output.get_node().get_friendly_name() not in fixed]
        if not sources:  # constants, and what is computed from them only
            fixed.add(node.get_friendly_name())
            continue
        reads = [_tensor(output, output.get_node().get_friendly_name() in rounded) for output in sources]
        writes = [_tensor(output, any(tensor.precision for tensor in reads)) for output in node.outputs()]
        if any(tensor.precision == "int8" for tensor in writes):
            rounded.add(node.get_friendly_name())
        originals = [_DEQUANTIZING.sub("", name) for name in str(_info(node, "originalLayersNames")).split(",")]
        names = [name for name in originals if name in file]
        converts = kind in CONVERSIONS or bool(names and all(file[name] in _CONVERTING for name in names))
        found += conversions(reads, writes, own_pass=converts)
        rescaled += bool(kind == "FakeQuantize" and {t.precision for t in (*reads, *writes)} == {"int8"})
        # the name of an elementwise kernel has the type of its first input only
        mixed = kind not in HEAVY and any(tensor.precision == "float" for tensor in reads)
        computes = "float32" if mixed else precision(kind, str(_info(node, "primitiveType")))
        computed |= dict.fromkeys(names, computes)
    return Execution(tuple(_operators(file, computed, _quantized(path, file))), tuple(found), rescaled=rescaled)


def _operators(file: Mapping[str, str], computed: Mapping[str, str], quantized: Collection[str]) -> Iterator[Operator]:
    """Those that are left in the compiled graph, in the precision of the node that computes them."""
    for name, kind in file.items():
        computes = computed.get(name, "")
        if kind not in _CONVERTING and computes.startswith(("int8", "float", "bf")):
            yield Operator(kind, name, "int8" if computes == "int8" else "float", name in quantized)


def _quantized(path: Path, file: Collection[str]) -> set[str]:
    """The operators of which the file rounds all inputs that are no constants, and all outputs."""
    layers = [layer for graph in read(path).graphs for layer in graph.layers.values()]
    reading = {x.name: [source.type for source, _ in x.sources if source.name in file] for x in layers}
    readers: dict[str, set[str]] = {}
    for layer in layers:
        for source, _ in layer.sources:
            readers.setdefault(source.name, set()).add(layer.type)
    return {name for name in file if set(reading.get(name, ())) == readers.get(name) == {"FakeQuantize"}}


def _info(node: Node, key: str) -> object:
    value = node.get_rt_info()
    return value[key].astype(str) if key in value else ""


def _tensor(output: Output, rounded: bool) -> Tensor:
    """`rounded`: integers are floats that were rounded, and not the bytes of an image."""
    name = output.get_element_type().get_type_name()
    held: Precision | None = "float" if name in ("f32", "f16", "bf16", "f64") else None
    if name in ("u8", "i8") and rounded:
        held = "int8"
    sizes = [dim.get_length() if dim.is_static else None for dim in output.get_partial_shape()]
    if sizes[:1] == [None]:  # the batch
        sizes[0] = 1
    values = None if None in sizes else math.prod(size for size in sizes if size is not None)
    return Tensor(held, values, _at_end(output))


def _at_end(output: Output) -> bool:
    """Is it an input or an output of the model, but for its layout?"""
    source = output.get_node()
    if _info(source, "layerType") == "Reorder":
        source = source.input(0).get_source_output().get_node()
    readers = [reader.get_node() for reader in output.get_target_inputs()]
    for node in [node for node in readers if _info(node, "layerType") == "Reorder"]:
        readers += [reader.get_node() for reader in node.output(0).get_target_inputs()]
    return any(_info(node, "layerType") in (*_INPUTS, *_OUTPUTS) for node in (source, *readers))
