"""Cross-layer equalization: channels of different ranges are rescaled to similar ranges.

Nagel et al. 2019, https://arxiv.org/abs/1906.04721. A tensor has one range, so small channels are less precise
next to large ones. ReLU and similar functions commute with a positive factor per channel, so each channel can
be divided by its own s where it is computed, and the weights that read it multiplied by s: the function is unchanged.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgekit.compression.program import Program, sqnr
from edgekit.compression.simulation import joined, nearest_weights, observed_ranges, operator, quantized_nodes, simulate
from edgekit.compression.weighted_layers import Layer, arguments, find
from edgekit.core.progress import Progress

#: f(s x) = s f(x) for every s > 0 per channel, for any channel axis
ELEMENTWISE = frozenset("relu leaky_relu dropout clone contiguous detach alias".split())
#: the same if the channel axis is 1
SPATIAL = frozenset(
    "prelu max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d upsample_nearest1d upsample_nearest2d "
    "upsample_bilinear2d reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d".split()
)
#: criteria for s, from the largest activation a, output weight r and input weight w of each channel
CRITERIA = ("activations", "weights", "both")
#: channels below this share of the largest are not scaled: they are dead, or nearly
DEAD = 1e-7
#: iterations of the criteria that depend on weights, which the next group changes again
ROUNDS = 8
#: feeds that the candidates are simulated on
JUDGED = 16


@dataclass(frozen=True)
class Group:
    """Tensors whose channels are scaled together, the layers that compute them and those that read them.

    `readers` are paired with the number of their columns per channel: more than one after a flatten.
    """

    members: tuple[Node, ...]
    producers: tuple[Layer, ...]
    readers: tuple[tuple[Layer, int], ...]
    channels: int

    def scale(self, s: Tensor) -> None:
        """Divide the channels by s `[channels]`, and multiply the readers' weights by s."""
        for layer in self.producers:
            layer.scale_outputs(1 / s)
            if layer.bias is not None:
                layer.values(layer.bias).data.div_(s)
        for layer, repeat in self.readers:
            layer.scale_inputs(s.repeat_interleave(repeat))


@dataclass(frozen=True)
class Equalized:
    """The best candidate. `criterion` is "none" if there is no group, or no criterion is better than the original."""

    program: Program
    groups: int
    criterion: str
    before_db: float
    after_db: float
    tried: Mapping[str, float] = field(default_factory=dict)


def equalize(program: Program, feeds: Sequence[Sequence[Tensor]], alpha: float, progress: Progress) -> Equalized:
    """The program, equalized by the criterion with the highest SQNR in simulated int8 (min-max ranges) on `feeds`,
    the first JUDGED of them.

    "none" is a candidate, too. `alpha`: the share of the activations' differences that is equalized, 0 to 1.
    """
    judged = feeds[:JUDGED]
    references = [program.answers(feed) for feed in judged]
    candidates, scores = {"none": program}, {}
    if count := len(groups(program.module)):
        for criterion in CRITERIA:
            candidates[criterion] = scaled(program, feeds, criterion, alpha)
    for name, candidate in progress(candidates.items(), "equalizing", len(candidates)):
        scores[name] = simulated_db(candidate, judged, references)
    best = max(scores, key=lambda name: scores[name])
    tried = {name: round(score, 2) for name, score in scores.items()}
    return Equalized(candidates[best], count, best, scores["none"], scores[best], tried)


def simulated_db(program: Program, feeds: Sequence[Sequence[Tensor]], references: Sequence[Sequence[Tensor]]) -> float:
    """SQNR of the outputs over all samples, with weights and activations rounded to nearest and min-max ranges."""
    activation_ranges = observed_ranges(program.module, feeds, "min-max")
    with torch.no_grad(), nearest_weights(program.layers()):
        answers = [simulate(program.module, feed, activation_ranges) for feed in feeds]
    return sqnr(joined(references), joined(answers))


def scaled(program: Program, feeds: Sequence[Sequence[Tensor]], criterion: str, alpha: float) -> Program:
    """A copy of the program with every group scaled by the criterion."""
    module = copy.deepcopy(program.module)
    scaling_groups = groups(module)
    maxima = _channel_maxima(module, scaling_groups, feeds) if criterion != "weights" else []
    for _ in range(ROUNDS if criterion != "activations" else 1):
        for index, group in enumerate(scaling_groups):
            largest = maxima[index] if maxima else torch.ones(group.channels)
            s = _factors(group, largest, criterion, alpha)
            group.scale(s)
            if maxima:
                maxima[index] = largest / s
    return Program(module, program.example, program.folded)


def _factors(group: Group, largest: Tensor, criterion: str, alpha: float) -> Tensor:
    """s `[channels]`: a**alpha, sqrt(r / w), or a**alpha / w**(1 - alpha); 1 for channels without values or readers."""
    written = torch.stack([layer.output_ranges() for layer in group.producers]).amax(0)
    read = torch.stack([layer.input_ranges().reshape(-1, repeat).amax(1) for layer, repeat in group.readers]).amax(0)
    top = {"activations": largest**alpha, "weights": written.sqrt(), "both": largest**alpha}[criterion]
    bottom = {"activations": torch.ones_like(read), "weights": read.sqrt(), "both": read ** (1 - alpha)}[criterion]
    alive = (read > DEAD * read.max()) & (written > DEAD * written.max()) & (largest > DEAD * largest.max())
    if not alive.any():
        return torch.ones(group.channels)
    s = torch.where(alive, top / torch.where(alive, bottom, 1), 1)
    return torch.where(alive, s / s[alive].max(), 1)


def _channel_maxima(
    module: GraphModule, scaling_groups: Sequence[Group], feeds: Sequence[Sequence[Tensor]]
) -> list[Tensor]:
    """The largest magnitude of each channel over all feeds, among the quantized tensors of each group."""
    quantized = set(quantized_nodes(module))
    axes = {
        node: (index, _axis(node))
        for index, group in enumerate(scaling_groups)
        for node in group.members
        if node in quantized
    }
    maxima = [torch.zeros(group.channels) for group in scaling_groups]

    class MaximumObserver(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in axes:
                index, axis = axes[n]
                most = value.abs().transpose(0, axis).flatten(1).amax(1)
                maxima[index] = torch.maximum(maxima[index], most.reshape(len(maxima[index]), -1).amax(1))
            return value

    with torch.no_grad():
        for feed in feeds:
            MaximumObserver(module).run(*feed)
    return maxima


def _axis(node: Node) -> int:
    return int(node.meta["channels"][0])


def groups(module: GraphModule) -> list[Group]:
    """Every set of tensors that can be scaled together; all their producers and readers are layers.

    Each tensor's node gets `meta["channels"]`: its channel axis, and the number of entries on it per channel.
    """
    layers = {layer.node: layer for layer in find(module)}
    sets = _Sets()
    for node in module.graph.nodes:
        node.meta.pop("channels", None)
        if node in layers:
            node.meta["channels"] = (layers[node].axis, 1)
            sets.add(node)
        elif sources := _propagate_channels(node):
            for source in sources:
                sets.join(node, source)
    candidates = (_group(members, sets, layers) for members in sets.all())
    return [group for group in candidates if group]


def _group(members: list[Node], sets: _Sets, layers: Mapping[Node, Layer]) -> Group | None:
    """The members with their producers and readers; None if a reader cannot be scaled."""
    readers: list[tuple[Layer, int]] = []
    inside = set(members)
    for node in members:
        axis, repeat = node.meta["channels"]
        for user in node.users:
            if operator(user) == "sym_size":
                continue  # scaling does not change the shape
            if user in layers and layers[user].input is node and layers[user].weight is not node:
                layer = layers[user]
                if axis != (1 if layer.kind in ("conv", "transposed") else node.meta["val"].ndim - 1):
                    return None
                readers.append((layer, repeat))
            elif user not in inside or _is_gate(node, user, inside):
                return None
    producers = tuple(layers[node] for node in members if node in layers)
    channels = {len(layer.output_ranges()) for layer in producers}
    if not readers or len(channels) != 1:
        return None
    return Group(tuple(members), producers, tuple(readers), channels.pop())


def _propagate_channels(node: Node) -> list[Node]:
    """Set `meta["channels"]` if the node preserves the channels of its inputs; returns those inputs, else []."""
    name, sources = operator(node), [one for one in node.all_input_nodes if "channels" in one.meta]
    if not sources or not isinstance(node.meta.get("val"), Tensor):
        return []
    source, (axis, repeat) = sources[0], sources[0].meta["channels"]
    before, after = source.meta["val"], node.meta["val"]
    if name in ("add", "sub"):
        if len(sources) != 2 or len({one.meta["channels"] for one in sources}) != 1:
            return []
        if len({tuple(map(str, one.meta["val"].shape)) for one in sources}) != 1:
            return []
        node.meta["channels"] = axis, repeat
        return sources
    if name == "mul":
        return _product(node, sources)
    if name in ("view", "reshape", "flatten", "squeeze", "_unsafe_view"):
        channels = _reshaped(before, after, axis, repeat)
    elif name == "mean":
        channels = _mean(node, before.ndim, axis, repeat)
    else:
        channels = (axis, repeat) if _preserves_channels(node, name, axis) else None
    if channels is None or len(sources) != 1:
        return []
    node.meta["channels"] = channels
    return [source]


def _preserves_channels(node: Node, name: str, axis: int) -> bool:
    """Does the operator commute with a factor per channel, and keep the channel axis?"""
    if name in ELEMENTWISE:
        return True
    if name in SPATIAL:
        return axis == 1
    options = arguments(node) if hasattr(node.target, "_schema") else {}
    if name == "constant_pad_nd":
        rank = node.meta["val"].ndim
        padded = {rank - 1 - index // 2 for index, size in enumerate(options["pad"]) if size}
        return options["value"] == 0 and axis not in padded
    if name == "pad":
        commutes = options["mode"] != "constant" or not options["value"]
        return commutes and axis < node.meta["val"].ndim - len(options["pad"]) // 2
    if name == "clamp_min":
        return bool(options["min"] == 0)
    if name == "clamp":
        return options["min"] == 0 and options["max"] is None
    return False


def _reshaped(before: Tensor, after: Tensor, axis: int, repeat: int) -> tuple[int, int] | None:
    """(N, C, 1, 1) → (N, C), and (N, C, H, W) → (N, C H W), whose channels have H W entries each."""
    if axis != 1 or after.ndim != 2 or before.ndim < 2:
        return None
    sizes = [*before.shape[1:], after.shape[1]]
    if not all(isinstance(size, int) for size in sizes):
        return None
    inner = math.prod(before.shape[2:])
    return (1, repeat * inner) if after.shape[1] == before.shape[1] * inner else None


def _mean(node: Node, rank: int, axis: int, repeat: int) -> tuple[int, int] | None:
    options = arguments(node)
    if not options.get("dim"):
        return None
    reduced = sorted(dim % rank for dim in options["dim"])
    if axis in reduced:
        return None
    return (axis if options["keepdim"] else axis - sum(dim < axis for dim in reduced)), repeat


def _product(node: Node, sources: Sequence[Node]) -> list[Node]:
    """x * gate has the channels of x, the factor of the product's shape; the gate is not scaled."""
    same_shape = [one for one in sources if _shape(one) == _shape(node)]
    if not same_shape:
        return []
    node.meta["channels"] = same_shape[0].meta["channels"]
    return [same_shape[0]]


def _shape(node: Node) -> tuple[str, ...]:
    return tuple(map(str, node.meta["val"].shape))


def _is_gate(node: Node, user: Node, inside: set[Node]) -> bool:
    """Would scaling the set scale this product twice, because two of its factors are members?"""
    if operator(user) != "mul":
        return False
    scaled_factors = [one for one in user.args if isinstance(one, Node) and one in inside]
    return len(scaled_factors) > 1


class _Sets:
    """Disjoint sets of nodes (union-find), in insertion order."""

    def __init__(self) -> None:
        self._up: dict[Node, Node] = {}

    def add(self, node: Node) -> None:
        self._up.setdefault(node, node)

    def root(self, node: Node) -> Node:
        while self._up[node] is not node:
            node = self._up[node]
        return node

    def join(self, first: Node, second: Node) -> None:
        self.add(first)
        self._up[self.root(first)] = self.root(second)

    def all(self) -> list[list[Node]]:
        sets: dict[Node, list[Node]] = {}
        for node in self._up:
            sets.setdefault(self.root(node), []).append(node)
        return list(sets.values())
