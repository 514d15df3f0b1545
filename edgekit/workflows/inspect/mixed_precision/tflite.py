"""An int8 TFLite model as LiteRT computes it: as the file says, in the partitions that XNNPACK's delegate makes."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import edgekit
from edgekit.core import children
from edgekit.formats import tflite as format
from edgekit.workflows.inspect.mixed_precision import Conversion, Execution, Operator, Precision, Tensor, conversions

_QDQ = ("QUANTIZE", "DEQUANTIZE")
#: loads a model, in a process of its own since a damaged one may end it, and prints the number of partitions
_LOAD = (
    "import sys; from edgekit.runtimes.litert import Litert; "
    "print(Litert(sys.argv[1], 1, 'fp32', None).facts()['delegate_partitions'])"
)
SECONDS = 300


def quantizable() -> Collection[str]:
    """The types that ai-edge-quantizer has int8 for; empty if it is not installed."""
    try:
        from ai_edge_quantizer.algorithm_manager import AlgorithmName, get_supported_ops
    except ImportError:
        return ()
    names = {operation.value for operation in get_supported_ops(AlgorithmName.MIN_MAX_UNIFORM_QUANT)}
    return {"TRANSPOSE_CONV" if name == "CONV_2D_TRANSPOSE" else name for name in names}


def execution(path: Path) -> Execution:
    """Raises RuntimeError if LiteRT cannot load the model."""
    model = format.read(path)
    found: list[Conversion] = []
    operators: list[Operator] = []
    rescaled = 0
    for graph in model.subgraphs:
        main = graph is model.subgraphs[0]
        ends = {tensor.index for tensor in (*graph.inputs, *graph.outputs)} if main else set()
        fixed = _fixed(graph)
        for node in graph.nodes:
            inputs = {t.index: t for t in node.inputs if t and t.index not in fixed}
            if not inputs:  # LiteRT converts constants once
                continue
            reads, writes = ([_tensor(t, ends) for t in side] for side in (inputs.values(), node.outputs))
            rescaled += node.type == "QUANTIZE" and reads[0].precision == "int8"
            found += conversions(reads, writes, own_pass=node.type in _QDQ)
            precision = _precision(node, reads, writes)
            if node.type not in _QDQ and precision:
                operators.append(Operator(node.type, node.name, precision))
    return Execution(tuple(operators), tuple(found), rescaled=rescaled, partitions=_partitions(path))


def _fixed(graph: format.Subgraph) -> set[int]:
    """Constants, and what is computed from them only."""
    fixed = {tensor.index for tensor in graph.tensors if tensor.constant}
    for node in graph.nodes:
        if all(tensor.index in fixed for tensor in node.inputs if tensor):
            fixed |= {tensor.index for tensor in node.outputs}
    return fixed


def _tensor(tensor: format.Tensor, ends: Collection[int]) -> Tensor:
    """A tensor of integers is of rounded floats if it has a scale. `count` takes an open axis as 1."""
    precision: Precision | None = None
    if tensor.dtype.startswith("float") or tensor.dtype == "bfloat16":
        precision = "float"
    elif tensor.scales:
        precision = "int8"
    open_axis = None in tensor.shape[1:]
    return Tensor(precision, None if open_axis else tensor.count, tensor.index in ends)


def _precision(node: format.Node, reads: list[Tensor], writes: list[Tensor]) -> Precision | None:
    """int8 if all that it reads of the two is; a table of embeddings, read by indices, by its rows."""
    read = {tensor.precision for tensor in reads} - {None}
    if not read:
        stored = any(t and t.constant and t.scales for t in node.inputs)
        return "float" if not stored and any(t.precision == "float" for t in writes) else None
    return "float" if "float" in read else "int8"


def _partitions(path: Path) -> int | None:
    """How many parts of the graph XNNPACK computes, as the interpreter tells after it has loaded the model."""
    command = [sys.executable, "-c", _LOAD, str(path.resolve())]
    # where this edgekit is: what is in the user's folder is not imported
    home = Path(edgekit.__file__).parents[1]
    done = children.run(command, text=True, timeout=SECONDS, cwd=home)
    if done.returncode:
        _, _, reason = done.stderr.rpartition("Error: ")
        raise RuntimeError(f"LiteRT cannot load it: {reason or f'its process ended with {done.returncode}'}")
    printed = (done.stdout.split() or [""])[-1]
    return int(printed) if printed.isdecimal() else None
