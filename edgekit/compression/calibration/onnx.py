"""Activations of an ONNX model in ONNX Runtime: those that its quantizer needs, as outputs of the graph."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compression.calibration import Feed, gather
from edgekit.compression.calibration.infinities import finite, has_infinities, has_large
from edgekit.core.step import Context
from edgekit.core.temporary import temporary_folder
from edgekit.formats.ranges import Statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

#: the first opset whose DequantizeLinear has a scale per channel, and its IR version
MIN_OPSET, IR_VERSION = 13, 7
#: operators whose output holds values of their inputs, or sums and products of them
_CARRYING = frozenset(
    "Add Cast Concat Expand Gather Identity Mul Neg Pad Reshape Slice Split Squeeze Sub Tile Transpose Unsqueeze "
    "Where".split()
)
#: operators whose output contains the values of their first input, in the same or another order
_SAME_VALUES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def observe(
    path: Path,
    feeds: Iterable[Feed],
    ctx: Context,
    *,
    batch: int = 1,
    origin: str = "",
    partial: Path | None = None,
) -> Statistics:
    """Statistics by tensor names of the graph that `ready` returns. Raises InputError: see `gather`."""
    model = ready(path)
    names = activations(model)
    shared = aliases(model, names)
    observed = [name for name in names if name not in shared]
    inputs = {value.name for value in model.graph.input}
    computed = [name for name in observed if name not in inputs]
    masked = masked_tensors(model.graph)
    compute = Session(model, computed)
    del model

    def run(feed: Feed) -> Mapping[str, Any]:
        tensors = {**compute(feed), **{name: feed[name] for name in observed if name in inputs}}
        return {name: finite(value) if name in masked else value for name, value in tensors.items()}

    statistics = gather(run, feeds, batch=batch, origin=origin, partial=partial)
    statistics.alias(shared)
    return statistics


def ready(path: Path) -> ModelProto:
    """The model, prepared for ONNX Runtime's quantizer.

    Its weights are not inputs, its opset has scales per channel, every node has a unique name, and ONNX Runtime's
    basic optimizations are applied: BatchNorms are folded, and nothing depends on the processor.
    """
    import onnx
    from onnx import inliner, version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(str(path))
    if model.functions:
        model = inliner.inline_local_functions(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, IR_VERSION)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), MIN_OPSET)
    model = model if opset >= MIN_OPSET else version_converter.convert_version(model, MIN_OPSET)
    with temporary_folder() as folder:
        source, done = folder / "source.onnx", folder / "done.onnx"
        onnx.save(model, str(source))
        quant_pre_process(str(source), str(done), skip_symbolic_shape=True)
        model = onnx.load(str(done))
    _name(model.graph.node)
    _fold_gemm_factors(model.graph)
    _write_out_biases(model.graph)
    return model


def _fold_gemm_factors(graph: GraphProto) -> None:
    """Multiply the constants of each Gemm by its alpha and beta, which the int8 kernel does not apply to a bias.

    y = alpha x W + beta b; a factor whose constant is computed stays.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == tensor.FLOAT}
    for node in (node for node in graph.node if node.op_type == "Gemm"):
        for index, key in ((1, "alpha"), (2, "beta")):
            entry = next((entry for entry in node.attribute if entry.name == key), None)
            constant = constants.get(node.input[index]) if index < len(node.input) else None
            if entry is None or constant is None or entry.f == 1:
                continue
            values = numpy_helper.to_array(constant) * np.float32(entry.f)
            graph.initializer.append(numpy_helper.from_array(values, name := f"{node.name}/{constant.name}/{key}"))
            node.input[index], entry.f = name, 1.0


def _write_out_biases(graph: GraphProto) -> None:
    """Give each Gemm with a constant bias that is broadcast a bias of one value per output.

    The quantizer gives a bias one scale per output.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[1] not in constants:
            continue
        weight, bias = constants[node.input[1]], constants.get(node.input[2])
        transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
        outputs = weight.dims[0 if transposed else 1]
        if bias is None or list(bias.dims) == [outputs] or math.prod(bias.dims) not in (1, outputs):
            continue
        values = numpy_helper.to_array(bias).reshape(-1)
        name = f"{node.name}/{bias.name}"
        graph.initializer.append(numpy_helper.from_array(np.array(np.broadcast_to(values, outputs)), name))
        node.input[2] = name


def _name(nodes: Iterable[NodeProto]) -> None:
    """Give every node a unique name: nodes that stay float are referred to by name."""
    taken: set[str] = set()
    for index, node in enumerate(nodes):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}.{index}"
        taken.add(node.name)


def activations(model: ModelProto) -> list[str]:
    """The float tensors that depend on the input: the graph's inputs and its nodes' outputs."""
    import onnx

    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    depends = {value.name for value in model.graph.input}
    tensors = [value.name for value in model.graph.input]
    for node in model.graph.node:
        if depends & set(node.input) or not node.input or node.op_type in ("If", "Loop", "Scan"):
            depends |= set(node.output)
            tensors += [name for name in node.output if name]
    return [name for name in dict.fromkeys(tensors) if name in floats]


def masked_tensors(graph: GraphProto) -> set[str]:
    """The tensors that take infinities from a constant, as a mask of attention scores; they stay float.

    Large finite constants are a mask where only a softmax reads what they are added to.
    """
    outputs = {value.name for value in graph.output}
    found = _carried(graph, _constants(graph, has_infinities))
    for name in _constants(graph, has_large):
        large = _carried(graph, {name})
        readers = [node for node in graph.node if large & set(node.input)]
        if not large & outputs and all(node.op_type == "Softmax" or node.op_type in _CARRYING for node in readers):
            found |= large
    return found


def _constants(graph: GraphProto, holds: Callable[[NDArray[Any]], bool]) -> set[str]:
    """The names of such constants."""
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == tensor.FLOAT}
    found = {name for name, tensor in held.items() if holds(numpy_helper.to_array(tensor))}
    for node in graph.node:
        values = [entry.t for entry in node.attribute if entry.name == "value" and entry.t.data_type == entry.t.FLOAT]
        if any(holds(numpy_helper.to_array(tensor)) for tensor in values):
            found |= set(node.output)
    return found


def _carried(graph: GraphProto, constants: set[str]) -> set[str]:
    """These constants, and the tensors that take values from them."""
    carried = set(constants)
    for node in graph.node:
        if node.op_type in _CARRYING and carried & set(node.input):
            carried |= set(node.output)
    return carried


def aliases(model: ModelProto, names: Iterable[str]) -> dict[str, str]:
    """Tensor → the tensor whose statistics also apply to it, so that it need not be observed.

    A tensor that only a Relu or Clip reads has the range of that node's output (the quantizer fuses the two, and so
    does the runtime if nothing between them is an output); a reordered tensor has the same values as before.
    """
    known, outputs = set(names), {value.name for value in model.graph.output}
    readers = Counter(name for node in model.graph.node for name in set(node.input))
    shared: dict[str, str] = {}
    for node in model.graph.node:
        before, after = node.input[0] if node.input else "", node.output[0]
        if before in known and after in known:
            if node.op_type in ("Relu", "Clip") and readers[before] == 1 and before not in outputs:
                shared[before] = after
            elif node.op_type in _SAME_VALUES:
                shared.setdefault(after, before)
    return {name: _end(name, shared) for name in shared}


def _end(name: str, shared: Mapping[str, str]) -> str:
    while name in shared:
        name = shared[name]
    return name


class Session:
    """Runs the model, which it modifies, and returns the named tensors in arrays that the next run overwrites.

    Allocating the arrays in each run would cost a fifth of its time. Without memory patterns the runtime itself needs
    less memory, and the memory does not grow from run to run.
    """

    def __init__(self, model: ModelProto, names: Sequence[str]) -> None:
        import onnx
        import onnxruntime

        outputs = {value.name for value in model.graph.output}
        added = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names if n not in outputs]
        model.graph.output.extend(added)
        options = onnxruntime.SessionOptions()
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        raw = model.SerializeToString()
        self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        self._names = list(names)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        self._binding: Any = None

    def __call__(self, feed: Feed) -> Mapping[str, NDArray[Any]]:
        """The tensors of this feed, valid until the next call."""
        if not self._names:
            return {}
        if self._binding and {name: value.shape for name, value in feed.items()} == self._shapes:
            for name, value in feed.items():
                self._binding.bind_cpu_input(name, value)
            try:
                self._session.run_with_iobinding(self._binding)
                return self._arrays
            except Exception:  # noqa: S110 - a shape depends on the values; the plain run below reports real errors
                pass
        self._bind(feed, self._session.run(self._names, feed))
        return self._arrays

    def _bind(self, feed: Feed, values: Sequence[NDArray[Any]]) -> None:
        self._arrays = dict(zip(self._names, values, strict=True))
        self._shapes = {name: value.shape for name, value in feed.items()}
        self._binding = self._session.io_binding() if all(value.size for value in values) else None
        for name, value in self._arrays.items() if self._binding else ():
            self._binding.bind_output(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
