"""A torch artifact as a graph of ATen operators that can be edited and written back as a `.pt2`.

torch.export gives the same kind of graph for every source of a network (a class, an archive, Keras, an ONNX file).
Dropout is removed and BatchNorm is folded on loading, so the edited weights are those that every backend quantizes.
"""

from __future__ import annotations

import copy
import io
import json
import logging
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from edgekit import networks
from edgekit.compression.weighted_layers import Layer, arguments, attribute, find, set_argument
from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert
from edgekit.core.mute import muted
from edgekit.networks import pt2, weights
from edgekit.networks import write as write_reference
from edgekit.networks.outputs import named_outputs
from edgekit.networks.tracing import Example, converting, example, trace

aten = torch.ops.aten
#: minimum SQNR between a program and its reloaded copy, which has the same operators and weights
EXACT_DB = 100.0
#: a network with larger weights is not kept in memory for the next step
KEPT_BYTES = 1 << 28
#: operators without effect at inference
DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")


@dataclass
class Program:
    """The graph and its tracing example. `module` takes tensors by position, and returns a tensor or a tuple."""

    module: GraphModule
    example: Example
    folded: int = 0

    def layers(self) -> list[Layer]:
        """Every layer with a constant weight that only it reads, in execution order."""
        return find(self.module)

    def answers(self, feed: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return listed(self.module(*feed))


#: the network that was loaded last: several steps of a search start from it, and tracing takes longer than they do
_last: dict[Hashable, Program] = {}


def load(artifact: Artifact, log: logging.Logger) -> Program:
    """The artifact's network, the caller's own, without dropout and with BatchNorm folded.

    Raises CannotConvert if it cannot be traced.
    """
    key = artifact.path.resolve(), artifact.id, *sorted(artifact.files.items())
    program = _last.get(key)
    if program is None:
        _last.clear()
        program = _loaded(artifact, log)
        if sum(tensor.nbytes for tensor in program.module.parameters()) > KEPT_BYTES:
            return program
        _last[key] = program
    return replace(program, module=copy.deepcopy(program.module))


def _loaded(artifact: Artifact, log: logging.Logger) -> Program:
    network = networks.load(artifact.path)
    traced_example = example(artifact)
    with muted(log), converting(artifact.name, "a graph of operators", network, traced_example.inputs):
        module = prepared(trace(network, traced_example, log))
    folded = fold(module)
    return Program(_tidied(module), traced_example, folded)


def prepared(exported: ExportedProgram) -> GraphModule:
    """The exported program as a plain module, nothing in place, weights as they are multiplied, no dropout."""
    if any(_mutates(node) for node in exported.graph.nodes):
        exported = exported.run_decompositions({})  # the same operators, none of them in place
    module = flat(exported)
    _fold_constants(module)
    _drop_dropout(module)
    return _tidied(module)


def fold(module: GraphModule) -> int:
    """Fold every BatchNorm into the layer before it, where it is that layer's only reader; how many there were."""
    folded = sum(_fold(module, layer) for layer in find(module))
    module.recompile()
    return folded


def write(program: Program, parent: Artifact, out: Path, log: logging.Logger) -> None:
    """Write the program to `out` as a torch artifact with the inputs and outputs of `parent`.

    Raises CannotConvert if, loaded again, it computes different outputs.
    """
    module = program.module
    with muted(log), converting(parent.name, "a program", module, program.example.inputs):
        exported = trace(module, program.example, log)
        archive = io.BytesIO()  # torch's own writer ends the process if the disk is full
        torch.export.save(exported, archive)
    (out / pt2.FILE).write_bytes(archive.getvalue())
    example_file, known = parent.path / networks.EXAMPLE, networks.reference(parent.path)
    if example_file.is_file():
        (out / networks.EXAMPLE).write_bytes(example_file.read_bytes())
    axes = {name: {str(axis): size for axis, size in sizes.items()} for name, sizes in program.example.axes.items()}
    entries = {
        "inputs": [spec.to_json() for spec in parent.inputs],
        "outputs": [spec.to_json() for spec in parent.outputs],
        "axes": axes,
        "example": known.get("example") or {name: list(t.shape) for name, t in program.example.tensors.items()},
        "call": [],
        "tensors": weights.tensors_of(module),
    }
    write_reference(out, "pt2", json.loads(json.dumps(entries)))
    with torch.no_grad():
        reloaded = listed(networks.load(out)(*program.example.inputs))
    if (agreement := sqnr(program.answers(program.example.inputs), reloaded)) < EXACT_DB:
        why = f"after writing and loading it, the SQNR is only {agreement:.0f} dB"
        raise CannotConvert(f"cannot write the graph of {parent.name}", why, "leave this step out")


def tensors(feeds: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Tensor, ...]]:
    """The feeds of `CalibratedStep.feeds` as positional tensors."""
    for feed in feeds:
        yield tuple(torch.from_numpy(np.asarray(array)) for array in feed.values())


def listed(outputs: Any) -> list[Tensor]:
    """A network's outputs, however nested, as a flat list of tensors."""
    return list(named_outputs(outputs).values())


def sqnr(reference: Sequence[Tensor], values: Sequence[Tensor]) -> float:
    """SQNR in dB of the worst output, at most MAX_DB (`core.statistics`). Integers count as numbers."""
    worst = statistics.MAX_DB
    for expected, actual in zip(reference, values, strict=True):
        signal, error = float(expected.double().square().sum()), float((expected.double() - actual).square().sum())
        worst = min(worst, statistics.decibels(signal, error))
    return worst


class BatchedInterpreter:
    """Runs several samples through a graph together, node by node; a value is dropped after its last reader.

    Code that runs at a node sees every sample as computed by all nodes before it, including changed weights.
    `change(node, value)` replaces each value.
    """

    def __init__(self, module: GraphModule, feeds: Sequence[Sequence[Tensor]], change: Any = None) -> None:
        self._module, self._change = module, change
        self._values: dict[Node, list[Any]] = {}
        self._count = len(feeds)
        self._waiting = iter(module.graph.nodes)
        self._next: Node | None = next(self._waiting)
        self._inputs = iter(zip(*feeds, strict=True))
        last: dict[Node, Node] = {}
        for node in module.graph.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        self._dead: dict[Node, list[Node]] = {}
        for used, node in last.items():
            self._dead.setdefault(node, []).append(used)

    def __getitem__(self, node: Node) -> list[Any]:
        """One value per sample."""
        return self._values[node]

    def __len__(self) -> int:
        """The number of nodes whose values are alive."""
        return len(self._values)

    def until(self, node: Node) -> None:
        """Compute everything before `node`."""
        while self._next is not None and self._next is not node:
            self.step()

    @torch.no_grad()
    def step(self) -> None:
        """Compute the next node."""
        assert self._next is not None
        self._compute(self._next)
        self._next = next(self._waiting, None)

    def _compute(self, node: Node) -> None:
        if node.op == "placeholder":
            values = list(next(self._inputs))
        elif node.op == "get_attr":
            values = [attribute(self._module, str(node.target))] * self._count
        elif node.op == "call_function":
            values = [self._called(node, index) for index in range(self._count)]
        else:
            return
        if self._change is not None:
            values = [self._change(node, value) for value in values]
        if node.users:
            self._values[node] = values
        for dead in self._dead.get(node, []):
            del self._values[dead]

    def _called(self, node: Node, index: int) -> Any:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda used: self._values[used][index])
        assert callable(node.target)
        return node.target(*args, **kwargs)


def _mutates(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def flat(exported: ExportedProgram) -> GraphModule:
    """A module with positional tensors as inputs and a tensor or a flat tuple as output."""
    module: Any = exported.module(check_guards=False)
    graph = module.graph
    graph.set_codegen(CodeGen())
    output = graph.output_node()
    leaves = [leaf for leaf in _leaves(output.args) if leaf is not None]
    output.args = (leaves[0] if len(leaves) == 1 else tuple(leaves),)
    return _tidied(module)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _tidied(module: GraphModule) -> GraphModule:
    """The module without unused nodes and attributes."""
    graph = module.graph
    graph.eliminate_dead_code()
    graph.lint()
    used = {str(node.target): attribute(module, str(node.target)) for node in graph.nodes if node.op == "get_attr"}
    tidied = GraphModule(used, graph)
    for parameter in tidied.parameters():
        parameter.requires_grad_(False)
    return tidied.eval()


def _fold_constants(module: GraphModule) -> None:
    """Replace weights that are transposed or reshaped before use by the result: `aten.t` before `aten.addmm`."""
    shaping = {aten.t.default, aten.transpose.int, aten.permute.default, aten.view.default, aten.reshape.default}
    for node in list(module.graph.nodes):
        if node.target not in shaping or node.all_input_nodes != [node.args[0]] or node.args[0].op != "get_attr":
            continue
        value = attribute(module, str(node.args[0].target)).detach()
        if not value.is_floating_point():
            continue
        value = node.target(value, *node.args[1:], **node.kwargs)
        node.replace_all_uses_with(constant(module, node, value))
        module.graph.erase_node(node)


def constant(module: GraphModule, before: Node, value: Tensor) -> Node:
    """A new constant of the graph, inserted before `before`."""
    name = next(f"folded_{index}" for index in count() if not hasattr(module, f"folded_{index}"))
    module.register_parameter(name, torch.nn.Parameter(value.contiguous().clone(), requires_grad=False))
    with module.graph.inserting_before(before):
        return module.graph.get_attr(name)


def _drop_dropout(module: GraphModule) -> None:
    for node in list(module.graph.nodes):
        operator = getattr(node.target, "_schema", None)
        if operator is None or operator.name.removeprefix("aten::") not in DROPOUTS or arguments(node).get("train"):
            continue
        first = node.args[0]
        if operator.name == "aten::native_dropout":
            for user in [user for user in node.users if user.args[1] == 0]:
                user.replace_all_uses_with(first)
        else:
            node.replace_all_uses_with(first)
            module.graph.erase_node(node)


def _fold(module: GraphModule, layer: Layer) -> bool:
    """Fold the BatchNorm that is the only reader of the layer into it, computed in float64."""
    if len(layer.node.users) != 1 or (layer.kind == "product" and layer.bias is None):
        return False
    norm = next(iter(layer.node.users))
    if norm.target not in (aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default):
        return False
    options = arguments(norm)
    parameters = [options[name] for name in ("weight", "bias", "running_mean", "running_var")]
    constants = all(one is None or one.op == "get_attr" for one in parameters)
    ranks = layer.kind in ("conv", "transposed") or layer.node.meta["val"].ndim == 2
    if options.get("training") or options["input"] is not layer.node or not constants or not ranks:
        return False
    if None in parameters[2:]:
        return False
    gain, shift, mean, variance = (
        None if one is None else attribute(module, str(one.target)).detach().double() for one in parameters
    )
    assert mean is not None and variance is not None
    scale = torch.rsqrt(variance + options["eps"]) * (1 if gain is None else gain)
    bias = torch.zeros_like(mean) if layer.bias is None else layer.values(layer.bias).double()
    bias = (bias - mean) * scale + (0 if shift is None else shift)
    layer.scale_outputs(scale)
    if layer.bias is None:
        set_argument(layer.node, "bias", constant(module, layer.node, bias.to(layer.values(layer.weight).dtype)))
    else:
        layer.values(layer.bias).data.copy_(bias)
    results = [norm]
    if norm.target is not aten.batch_norm.default:
        results = [user for user in norm.users if user.args[1] == 0]
    for result in results:
        result.replace_all_uses_with(layer.node)
        if result is not norm:
            module.graph.erase_node(result)
    if not norm.users:
        module.graph.erase_node(norm)
    return True
