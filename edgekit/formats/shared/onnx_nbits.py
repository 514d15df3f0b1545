"""ONNX Runtime's operators for language models: weights of few bits in blocks, and norms and attention of its own.

ONNX's checker and shape inference do not know them (`familiar`); their packed constants hide how many weights there
are (`packed_counts`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.formats.shared.onnx_wire import graphs
from edgekit.formats.shared.weight_encoding import Encoding

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

MICROSOFT = "com.microsoft"
#: operator → what has the same shapes: a standard operator, and which of its inputs are read
_LIKE: Mapping[str, tuple[str, int]] = {
    **dict.fromkeys(("SimplifiedLayerNormalization", "RotaryEmbedding", "QuickGelu", "BiasGelu", "FastGelu"), ("", 0)),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), ("", 0)),
}
_INT8_TYPES, _INT4_TYPES = {2: False, 3: True}, {21: False, 22: True}


def integer(node: NodeProto, name: str, default: int = 0) -> int:
    """An integer attribute."""
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def is_nbits(node: NodeProto) -> bool:
    return node.domain == MICROSOFT and node.op_type in ("MatMulNBits", "GatherBlockQuantized")


def encoding(node: NodeProto, constants: Mapping[str, TensorProto]) -> Encoding | None:
    """How the weights of MatMulNBits, GatherBlockQuantized, or a DequantizeLinear of a constant are stored."""
    inputs = [*node.input, "", "", ""]
    if is_nbits(node):
        bits, block = integer(node, "bits", 4), integer(node, "block_size", 128)
        stored = constants.get(inputs[0])
        signed = stored is not None and stored.data_type in (3, 22)
        zero = constants.get(inputs[3])
        symmetric = not inputs[3] or signed or _all_equal(zero)
        table = node.op_type == "GatherBlockQuantized"
        columns = stored.dims[-1] * _per_element(node, stored) if table and stored is not None else integer(node, "K")
        block = 0 if block >= columns > 0 else block
        return Encoding(bits, block, symmetric, table)
    stored = constants.get(inputs[0])
    if node.op_type != "DequantizeLinear" or stored is None or len(stored.dims) < 2:
        return None
    types = {**_INT8_TYPES, **_INT4_TYPES}
    if stored.data_type not in types:
        return None
    symmetric = types[stored.data_type] or _all_equal(constants.get(inputs[2]))
    return Encoding(4 if stored.data_type in _INT4_TYPES else 8, integer(node, "block_size"), symmetric)


def _all_equal(zeros: TensorProto | None) -> bool:
    """Is there one zero point in the middle of the range?"""
    raw = zeros.raw_data if zeros is not None else b""
    return bool(raw) and raw in (b"\x88" * len(raw), b"\x80" * len(raw))


def packed_counts(nodes: Sequence[NodeProto], constants: Mapping[str, TensorProto]) -> dict[str, int]:
    """Constant → the number of weights that it stands for: 0 for scales and zero points of weights."""
    counts: dict[str, int] = {}
    for node in nodes:
        if node.op_type == "MatMulNBits" and is_nbits(node):
            counts |= dict.fromkeys(list(node.input)[2:5], 0)
            counts[node.input[1]] = integer(node, "K") * integer(node, "N")
        elif node.op_type == "GatherBlockQuantized" and is_nbits(node):
            counts |= dict.fromkeys(list(node.input)[2:4], 0)
            if (table := constants.get(node.input[0])) is not None:
                counts[node.input[0]] = math.prod(table.dims) * _per_element(node, table)
        elif node.op_type == "DequantizeLinear" and integer(node, "block_size") and node.input[0] in constants:
            counts |= dict.fromkeys(list(node.input)[1:3], 0)
    for _, encoding_constants in dequantized(nodes, constants).values():
        counts |= dict.fromkeys(encoding_constants, 0)
    counts.pop("", None)
    return counts


def dequantized(
    nodes: Sequence[NodeProto], constants: Mapping[str, TensorProto]
) -> dict[str, tuple[Encoding, tuple[str, ...]]]:
    """Output of a Mul → the encoding of the weights that it makes of constants, and its scales and zero points.

    The form is Mul(Reshape?(Sub?(Cast(int8 codes), zero points)), scales).
    """
    made = {name: node for node in nodes for name in node.output}
    found: dict[str, tuple[Encoding, tuple[str, ...]]] = {}

    def source(name: str) -> str:
        while name in made and made[name].op_type in ("Reshape", "Cast"):
            name = made[name].input[0]
        return name

    for node in (node for node in nodes if node.op_type == "Mul"):
        values, scales = node.input[0], source(node.input[1])
        before = made.get(values)
        zeros = source(before.input[1]) if before is not None and before.op_type == "Sub" else ""
        codes = constants.get(source(before.input[0] if before is not None and zeros else values))
        if codes is None or codes.data_type not in _INT8_TYPES or len(codes.dims) != 2 or scales not in constants:
            continue
        blocks = constants[scales].dims[1] if len(constants[scales].dims) == 2 else 1
        block = codes.dims[1] // blocks if 1 < blocks < codes.dims[1] else 0
        symmetric = not zeros or (zeros in constants and math.prod(constants[zeros].dims) == 1)
        found[node.output[0]] = Encoding(8, block, symmetric), (scales, zeros)
    return found


def _per_element(node: NodeProto, table: TensorProto) -> int:
    """Weights in one element of the table of a GatherBlockQuantized."""
    return 2 if table.data_type == 2 and integer(node, "bits", 4) == 4 else 1


def strangers(model: ModelProto) -> list[NodeProto]:
    """Nodes of ONNX's own domain that ONNX does not define: ONNX Runtime registers some there."""
    import onnx

    own = {function.name for function in model.functions}
    nodes = [node for graph in graphs(model.graph) for node in graph.node if node.domain in ("", "ai.onnx")]
    return [node for node in nodes if node.op_type not in own and not onnx.defs.has(node.op_type)]


def known_to_runtime(model: ModelProto) -> bool:
    """Does ONNX Runtime know every operator of a graph (without its weights)? True if it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return True
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a kind of its own for each reason
        return "not a registered function/op" not in str(error) and "No Op registered" not in str(error)
    return True


def rename_strangers(model: ModelProto) -> None:
    """Move them to ONNX Runtime's domain, in place: the checker passes over what is not ONNX's own."""
    from onnx import helper

    for node in strangers(model):
        node.domain = MICROSOFT
    if all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def familiar(model: ModelProto, types: Mapping[str, int]) -> None:
    """Replace such operators, in place, by standard ones whose outputs have the same shapes, for shape inference.

    `types`: constant → element type.
    """
    from onnx import helper

    for graph in graphs(model.graph):
        products = {n.input[1]: [integer(n, "N"), integer(n, "K")] for n in graph.node if n.op_type == "MatMulNBits"}
        shared = {
            n.output[0]: products[n.input[0]] for n in graph.node if n.op_type == "Reshape" and n.input[0] in products
        }
        for node in list(graph.node):
            if node.domain not in (MICROSOFT, "", "ai.onnx") or not node.output:
                continue
            if node.op_type in _LIKE and (node.domain or node.op_type == "SimplifiedLayerNormalization"):
                _replace(node, "Identity", [node.input[_LIKE[node.op_type][1]]], [node.output[0]], graph)
            elif node.op_type == "MatMulNBits":
                shape = [integer(node, "K"), integer(node, "N")]
                weight = helper.make_tensor_value_info(f"{node.output[0]}/weight", types.get(node.input[2], 1), shape)
                graph.input.append(weight)
                _replace(node, "MatMul", [node.input[0], weight.name], [node.output[0]], graph)
            elif node.op_type == "GatherBlockQuantized" and node.domain:
                _table(graph, node, types, shared.get(node.input[0]))
            elif node.op_type == "GroupQueryAttention" and node.input[1]:  # the packed form has another size
                _replace(node, "Identity", [node.input[0]], [node.output[0]], graph)


def _table(graph: GraphProto, node: NodeProto, types: Mapping[str, int], shared: list[int] | None) -> None:
    """`shared`: the shape of a table whose codes a product reads, too."""
    from onnx import helper

    table = next((t for t in graph.initializer if t.name == node.input[0]), None)
    value = next((v for v in graph.input if v.name == node.input[0]), None)
    dims = list(table.dims) if table is not None else []
    element = table.data_type if table is not None else 0
    if value is not None:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        element = value.type.tensor_type.elem_type
    if not dims and not shared:
        return
    if dims:
        dims[-1] *= 2 if element == 2 and integer(node, "bits", 4) == 4 else 1
    name = f"{node.output[0]}/table"
    graph.input.append(helper.make_tensor_value_info(name, types.get(node.input[2], 1), dims or shared))
    axis = integer(node, "gather_axis")
    _replace(node, "Gather", [name, node.input[1]], [node.output[0]], graph)
    node.attribute.append(helper.make_attribute("axis", axis))


def _replace(node: NodeProto, type: str, inputs: list[str], outputs: list[str], graph: GraphProto) -> None:
    node.op_type, node.domain = type, ""
    del node.input[:], node.output[:], node.attribute[:]
    node.input.extend(inputs)
    node.output.extend(outputs)


def macs(node: NodeProto, shape: Callable[[str], tuple[int | None, ...] | None]) -> int | None:
    """Multiply-accumulates of one sample (open sizes count as 1), by the shapes of tensors; None if unknown."""
    source = shape(node.input[0]) if node.input else None
    if node.op_type == "GatherBlockQuantized":
        return 0
    if source is None or len(source) < 2:
        return None
    rows = math.prod(size or 1 for size in source[1:-1])
    if node.op_type == "MatMulNBits":
        return rows * integer(node, "K") * integer(node, "N")
    if node.op_type == "GroupQueryAttention" and node.input[1]:
        past = shape(node.input[3]) if len(node.input) > 3 and node.input[3] else None
        steps = rows + ((past[2] or 0) if past and len(past) > 2 else 0)
        return 2 * rows * steps * (source[-1] or 1)
    return None


def encodings(nodes: Sequence[NodeProto], constants: Mapping[str, TensorProto], small: int) -> Iterator[Encoding]:
    """Of every operator with `small` weights or more: products, convolutions, and tables in few bits."""
    decoded = {node.output[0]: e for node in nodes if (e := encoding(node, constants)) and not is_nbits(node)}
    decoded |= {name: e for name, (e, _) in dequantized(nodes, constants).items()}
    through = {n.output[0]: n.input[0] for n in nodes if n.op_type in ("Transpose", "Reshape", "Cast", "Identity")}
    for node in nodes:
        if is_nbits(node):
            yield encoding(node, constants) or Encoding()
        elif node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose", "Gather"):
            table = node.op_type == "Gather"
            name = node.input[0 if table else 1]
            while name in through and name not in decoded:
                name = through[name]
            stored = decoded.get(name)
            if stored is not None:
                yield Encoding(stored.bits, stored.block, stored.symmetric, table)
            elif (c := constants.get(name)) is not None and len(c.dims) >= 2 and math.prod(c.dims) >= small:
                yield Encoding(table=table)
