"""Simulate a torch program in int8: activations and weights are fake-quantized, everything else stays float.

Runtimes differ in what they fuse and what they keep in float; the simulation quantizes where all three runtimes do. It
ranks choices; their accuracy is measured in the runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgekit.compression.calibration.ranges import ranges
from edgekit.compression.weighted_layers import Layer, find
from edgekit.formats.ranges import Statistics
from edgekit.networks.outputs import named_outputs

aten = torch.ops.aten
Range = tuple[float, float]
#: the largest int8 code of a weight: weights are symmetric and exclude -128 in every runtime
LARGEST = 127

#: operators whose outputs are values of their input, and so already quantized
PASSING = frozenset(
    "view reshape _unsafe_view flatten unflatten permute transpose t squeeze unsqueeze expand slice select split "
    "split_with_sizes chunk unbind contiguous clone alias detach max_pool1d max_pool2d max_pool3d dropout "
    "pixel_shuffle pixel_unshuffle channel_shuffle flip roll repeat repeat_interleave gather index_select".split()
)
#: operators that a runtime fuses with the layer or addition before them
FUSED = frozenset("relu relu6 hardtanh clamp clamp_min".split())
FUSING = frozenset("add sub".split())


def quantized_nodes(module: GraphModule) -> list[Node]:
    """The nodes whose values an int8 runtime quantizes, in order."""
    layers = {layer.node for layer in find(module)}
    return [node for node in module.graph.nodes if _is_point(node, layers)]


def operator(node: Node) -> str:
    """ "conv2d" for a node that calls `aten.conv2d.default`; "" for a node that calls no operator."""
    schema = getattr(node.target, "_schema", None) if node.op == "call_function" else None
    return schema.name.removeprefix("aten::") if schema else ""


def observe(module: GraphModule, feeds: Iterable[Sequence[Tensor]]) -> Statistics:
    """Node name → histogram of its values over all feeds, which are processed one by one and not stored.

    Raises InputError if a value is NaN or infinite.
    """
    statistics, names = Statistics(), {node.name for node in quantized_nodes(module)}
    for feed in feeds:
        seen: dict[str, Any] = {}
        with torch.no_grad():
            _Changed(module, names, seen.setdefault).run(*feed)
        statistics.add({name: value.float().numpy() for name, value in seen.items()})
    return statistics


def observed_ranges(module: GraphModule, feeds: Iterable[Sequence[Tensor]], method: str) -> dict[str, Range]:
    """Node name → the range of its values, by a calibration method."""
    return ranges(observe(module, feeds), method)


def fake_quantize(value: Tensor, range: Range) -> Tensor:
    """Fake-quantize to 256 levels over the range, including zero; differentiable within the range."""
    low, high = range
    if high <= low:
        return torch.zeros_like(value)
    scale = (high - low) / 255
    return torch.fake_quantize_per_tensor_affine(value, scale, round(-low / scale), 0, 255)


def scales(matrix: Tensor) -> Tensor:
    """The scale of each output channel, `[groups, out, 1]` for `[groups, out, in]`; 1 if all its weights are 0."""
    largest = matrix.abs().amax(-1, keepdim=True)
    return torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))


def nearest(matrix: Tensor) -> Tensor:
    """The weights, fake-quantized per output channel by rounding to nearest."""
    scale = scales(matrix)
    return (matrix / scale).round().clamp(-LARGEST, LARGEST) * scale


@contextmanager
def nearest_weights(layers: Sequence[Layer]) -> Iterator[None]:
    """Within the context, the weights of these layers are rounded to nearest."""
    originals = [layer.matrix() for layer in layers]
    try:
        for layer, matrix in zip(layers, originals, strict=True):
            layer.assign(nearest(matrix))
        yield
    finally:
        for layer, matrix in zip(layers, originals, strict=True):
            layer.assign(matrix)


def simulate(module: GraphModule, feed: Sequence[Tensor], node_ranges: Mapping[str, Range]) -> list[Tensor]:
    """The outputs with activations fake-quantized in their ranges, and unchanged weights."""
    outputs = _Changed(module, node_ranges.keys(), lambda name, value: fake_quantize(value, node_ranges[name])).run(
        *feed
    )
    return list(named_outputs(outputs).values())


def joined(outputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """One flat tensor per output: its values for all samples, whatever their shapes."""
    return [torch.cat([value.reshape(-1) for value in values]) for values in zip(*outputs, strict=True)]


class _Changed(Interpreter):
    """Runs a graph and replaces the values of the named nodes by `change(name, value)`."""

    def __init__(self, module: GraphModule, names: Any, change: Any) -> None:
        super().__init__(module)
        self._names, self._change = frozenset(names), change

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        return self._change(n.name, value) if n.name in self._names else value


def _is_point(node: Node, layers: set[Node]) -> bool:
    if node.op not in ("placeholder", "call_function") or operator(node) in PASSING:
        return False
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or not node.users:
        return False
    if all(used.op == "get_attr" for used in node.all_input_nodes) and node.op != "placeholder":
        return False  # a constant
    readers = list(node.users)
    fusing = node in layers or operator(node) in FUSING
    return not (fusing and len(readers) == 1 and operator(readers[0]) in FUSED)
