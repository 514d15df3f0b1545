"""Cross-layer equalization: channels that reach far and channels that do not are brought to one scale.

Nagel et al. 2019, https://arxiv.org/abs/1906.04721. One range serves a whole tensor, so a channel of small values next
to one of large values loses its bits. ReLU and the like commute with a positive factor per channel, so each channel can
be divided by its own s where it is made, and the weights that read it multiplied by s: the function stays the same.
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

#: f(s x) = s f(x) for every s > 0 per channel, whatever the channels' axis
ELEMENTWISE = frozenset("relu leaky_relu dropout clone contiguous detach alias".split())
#: the same where channels are axis 1
SPATIAL = frozenset(
    "prelu max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d upsample_nearest1d upsample_nearest2d "
    "upsample_bilinear2d reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d".split()
)
#: ways to find s, from the largest activation a, output weight r and input weight w of each channel
CRITERIA = ("activations", "weights", "both")
#: channels that hold less than this share of the largest are left alone: they are dead, or nearly
DEAD = 1e-7
#: rounds for what depends on weights that the next group changes again
ROUNDS = 8


@dataclass(frozen=True)
class Group:
    """Tensors whose channels are scaled together, the layers that make them and those that read them.

    `readers` come with how many columns of theirs belong to one channel: more than one behind a flatten.
    """

    members: tuple[Node, ...]
    makers: tuple[Layer, ...]
    readers: tuple[tuple[Layer, int], ...]
    channels: int

    def scale(self, s: Tensor) -> None:
        """Divide the channels by s `[channels]`, and have the readers multiply it back."""
        for layer in self.makers:
            layer.scale_outputs(1 / s)
            if layer.bias is not None:
                layer.values(layer.bias).data.div_(s)
        for layer, repeat in self.readers:
            layer.scale_inputs(s.repeat_interleave(repeat))


@dataclass(frozen=True)
class Equalized:
    """What was found best: `program` is None where there is no group, or nothing beats leaving it as it is."""

    program: Program
    groups: int
    criterion: str
    before_db: float
    after_db: float
    tried: Mapping[str, float] = field(default_factory=dict)


def equalize(program: Program, feeds: Sequence[Sequence[Tensor]], alpha: float, progress: Progress) -> Equalized:
    """The program, equalized by the criterion that simulated int8 with min-max ranges answers best under, on `feeds`.

    "none" is a candidate too. `alpha`: how much of the activations' differences is evened out, 0 to 1.
    """
    references = [program.answers(feed) for feed in feeds]
    candidates, scores = {"none": program}, {}
    if count := len(groups(program.module)):
        for criterion in CRITERIA:
            candidates[criterion] = scaled(program, feeds, criterion, alpha)
    for name, candidate in progress(candidates.items(), "equalizing", len(candidates)):
        scores[name] = simulated_db(candidate, feeds, references)
    best = max(scores, key=lambda name: scores[name])
    tried = {name: round(score, 2) for name, score in scores.items()}
    return Equalized(candidates[best], count, best, scores["none"], scores[best], tried)


def simulated_db(program: Program, feeds: Sequence[Sequence[Tensor]], references: Sequence[Sequence[Tensor]]) -> float:
    """SQNR of the outputs, all samples together, with weights and activations rounded to nearest, min-max ranges."""
    ranges = observed_ranges(program.module, feeds, "min-max")
    with torch.no_grad(), nearest_weights(program.layers()):
        answers = [simulate(program.module, feed, ranges) for feed in feeds]
    return sqnr(joined(references), joined(answers))


def scaled(program: Program, feeds: Sequence[Sequence[Tensor]], criterion: str, alpha: float) -> Program:
    """A copy of the program with every group scaled by the criterion."""
    module = copy.deepcopy(program.module)
    all_groups = groups(module)
    reach = _reach(module, all_groups, feeds) if criterion != "weights" else []
    for _ in range(ROUNDS if criterion != "activations" else 1):
        for index, group in enumerate(all_groups):
            largest = reach[index] if reach else torch.ones(group.channels)
            s = _factors(group, largest, criterion, alpha)
            group.scale(s)
            if reach:
                reach[index] = largest / s
    return Program(module, program.example, program.folded)


def _factors(group: Group, largest: Tensor, criterion: str, alpha: float) -> Tensor:
    """s `[channels]`: a**alpha, sqrt(r / w), or a**alpha / w**(1 - alpha); 1 for channels without values or readers."""
    written = torch.stack([layer.output_ranges() for layer in group.makers]).amax(0)
    read = torch.stack([layer.input_ranges().reshape(-1, repeat).amax(1) for layer, repeat in group.readers]).amax(0)
    top = {"activations": largest**alpha, "weights": written.sqrt(), "both": largest**alpha}[criterion]
    bottom = {"activations": torch.ones_like(read), "weights": read.sqrt(), "both": read ** (1 - alpha)}[criterion]
    alive = (read > DEAD * read.max()) & (written > DEAD * written.max()) & (largest > DEAD * largest.max())
    if not alive.any():
        return torch.ones(group.channels)
    s = torch.where(alive, top / torch.where(alive, bottom, 1), 1)
    return torch.where(alive, s / s[alive].max(), 1)


def _reach(module: GraphModule, scaled_groups: Sequence[Group], feeds: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The largest magnitude of each channel, among those tensors of each group that int8 rounds, over all feeds."""
    rounded = set(quantized_nodes(module))
    axes = {
        node: (index, _axis(node))
        for index, group in enumerate(scaled_groups)
        for node in group.members
        if node in rounded
    }
    reach = [torch.zeros(group.channels) for group in scaled_groups]

    class Watching(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in axes:
                index, axis = axes[n]
                most = value.abs().transpose(0, axis).flatten(1).amax(1)
                reach[index] = torch.maximum(reach[index], most.reshape(len(reach[index]), -1).amax(1))
            return value

    with torch.no_grad():
        for feed in feeds:
            Watching(module).run(*feed)
    return reach


def _axis(node: Node) -> int:
    return int(node.meta["channels"][0])


def groups(module: GraphModule) -> list[Group]:
    """Every set of tensors that can be scaled, joined by what commutes with it; makers and readers all being layers.

    Each tensor's node gets `meta["channels"]`: the axis of its channels, and how many entries of it each channel has.
    """
    layers = {layer.node: layer for layer in find(module)}
    sets = _Sets()
    for node in module.graph.nodes:
        node.meta.pop("channels", None)
        if node in layers:
            node.meta["channels"] = (layers[node].axis, 1)
            sets.add(node)
        elif sources := _carried(node):
            for source in sources:
                sets.join(node, source)
    candidates = (_group(members, sets, layers) for members in sets.all())
    return [group for group in candidates if group]


def _group(members: list[Node], sets: _Sets, layers: Mapping[Node, Layer]) -> Group | None:
    """The members with their makers and readers; None where someone reads them who does not scale."""
    readers: list[tuple[Layer, int]] = []
    inside = set(members)
    for node in members:
        axis, repeat = node.meta["channels"]
        for user in node.users:
            if operator(user) == "sym_size":
                continue  # the shape stays as it is
            if user in layers and layers[user].input is node and layers[user].weight is not node:
                layer = layers[user]
                if axis != (1 if layer.kind in ("conv", "transposed") else node.meta["val"].ndim - 1):
                    return None
                readers.append((layer, repeat))
            elif user not in inside or _is_gate(node, user, inside):
                return None
    makers = tuple(layers[node] for node in members if node in layers)
    channels = {len(layer.output_ranges()) for layer in makers}
    if not readers or len(channels) != 1:
        return None
    return Group(tuple(members), makers, tuple(readers), channels.pop())


def _carried(node: Node) -> list[Node]:
    """The inputs whose channels the node passes on, each scaled as before, and notes where they lie; [] for others."""
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
        channels = (axis, repeat) if _keeps(node, name, axis) else None
    if channels is None or len(sources) != 1:
        return []
    node.meta["channels"] = channels
    return [source]


def _keeps(node: Node, name: str, axis: int) -> bool:
    """Does the operator commute with a factor per channel, and leave the channels where they are?"""
    if name in ELEMENTWISE:
        return True
    if name in SPATIAL:
        return axis == 1
    args = arguments(node) if hasattr(node.target, "_schema") else {}
    if name == "constant_pad_nd":
        rank = node.meta["val"].ndim
        padded = {rank - 1 - index // 2 for index, size in enumerate(args["pad"]) if size}
        return args["value"] == 0 and axis not in padded
    if name == "pad":
        same = args["mode"] != "constant" or not args["value"]
        return same and axis < node.meta["val"].ndim - len(args["pad"]) // 2
    if name == "clamp_min":
        return bool(args["min"] == 0)
    if name == "clamp":
        return args["min"] == 0 and args["max"] is None
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
    args = arguments(node)
    if not args.get("dim"):
        return None
    reduced = sorted(dim % rank for dim in args["dim"])
    if axis in reduced:
        return None
    return (axis if args["keepdim"] else axis - sum(dim < axis for dim in reduced)), repeat


def _product(node: Node, sources: Sequence[Node]) -> list[Node]:
    """x * gate carries the channels of x, the factor that is as large as the product; the gate is not scaled."""
    whole = [one for one in sources if _shape(one) == _shape(node)]
    if not whole:
        return []
    node.meta["channels"] = whole[0].meta["channels"]
    return [whole[0]]


def _shape(node: Node) -> tuple[str, ...]:
    return tuple(map(str, node.meta["val"].shape))


def _is_gate(node: Node, user: Node, inside: set[Node]) -> bool:
    """Would scaling `node` scale the product twice, or along with another factor of the same set?"""
    if operator(user) != "mul":
        return False
    scaled_factors = [one for one in user.args if isinstance(one, Node) and one in inside]
    return len(scaled_factors) > 1


class _Sets:
    """Disjoint sets of nodes, in the order in which they were added."""

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
        by_root: dict[Node, list[Node]] = {}
        for node in self._up:
            by_root.setdefault(self.root(node), []).append(node)
        return list(by_root.values())
