"""Code that moves channels leaves its layers unpruned; code that counts or sums channels does not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
torch_pruning = pytest.importorskip("torch_pruning")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from edgekit.compression import channels  # noqa: E402
from edgekit.compression.channels import Cut  # noqa: E402
from edgekit.compression.removal import Kept, Removal, _evenly  # noqa: E402

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(3))


class Between(nn.Module):
    """Two convolutions, code between the second and its reader, and a classifier behind `depth` more layers."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor], width: int = 32, depth: int = 0) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 1)
        self.second = nn.Conv2d(width, 32, 1)
        self.deep = nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Conv2d(32, 32, 1), nn.Softmax(1))))
        self.head = nn.Linear(32, 10)
        self.scale, self.shift = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(width))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        y = self.between(self, self.first(self.stem(x).relu()))
        logits: Tensor = self.head(self.deep(self.second(y)).mean((2, 3))).softmax(1)
        return logits


MOVES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "roll": lambda net, x: x.roll(1, 1),
    "roll of rows and channels": lambda net, x: torch.roll(x, (1, 3), (2, 1)),
    "flip": lambda net, x: x.flip(1),
    "shuffle": lambda net, x: functional.channel_shuffle(x, 4),
    "module": lambda net, x: nn.ChannelShuffle(2)(x),
    "order": lambda net, x: x[:, torch.arange(31, -1, -1)],
    "gather": lambda net, x: x.index_select(1, torch.arange(31, -1, -1)),
    "sort": lambda net, x: x.sort(1).values + x.roll(5, 1),
    "interleaved": lambda net, x: torch.stack([x[:, :16], x[:, 16:]], 2).flatten(1, 2),
    "cumulated": lambda net, x: x.cumsum(1).flip(1),
    "difference": lambda net, x: x - x.roll(-1, 1),
    "halves": lambda net, x: x * torch.cat([x[:, 16:], x[:, :16]], 1),
    "order of pairs": lambda net, x: torch.cat([x[:, ::2], x[:, 1::2]], 1),
    "other scales": lambda net, x: x * net.scale.flip(0)[:, None, None],
    "by index": lambda net, x: x * torch.arange(x.shape[1])[:, None, None],
    "neighbours": lambda net, x: functional.avg_pool3d(x[:, None], (3, 1, 1), 1, (1, 0, 0))[:, 0],
    "products": lambda net, x: torch.einsum("nchw,cd->ndhw", x, net.scale.outer(net.shift)),
    "to the end and back": lambda net, x: x.movedim(1, -1).roll(2, -1).movedim(-1, 1),
}


@pytest.mark.parametrize(("name", "depth"), [*((name, 0) for name in MOVES), ("roll", 6), ("module", 6)])
def test_code_that_moves_channels(name: str, depth: int) -> None:
    """Also before layers after which the outputs hardly differ."""
    torch.manual_seed(0)
    result = channels.cut(Between(MOVES[name], depth=depth).eval(), (X,), Cut(0.5))
    assert result.network.first.out_channels == 32 and result.network.second.in_channels == 32
    assert result.network.stem.out_channels == 16


def _own_norm(net: nn.Module, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt()


def _response_norm(net: nn.Module, x: Tensor) -> Tensor:
    lengths = x.norm(dim=(2, 3), keepdim=True)
    return x + x * (lengths / (lengths.mean(1, keepdim=True) + 1e-6))


def _last(x: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
    return call(x.movedim(1, -1)).movedim(-1, 1)


COUNTS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "nothing": lambda net, x: x,
    "rows": lambda net, x: x.roll(1, 2).flip(3),
    "scales": lambda net, x: x * net.scale[:, None, None] + net.shift[:, None, None],
    "own norm": _own_norm,
    "variance": lambda net, x: x / x.var(1, keepdim=True, unbiased=False).add(1e-6).sqrt(),
    "deviation": lambda net, x: x / torch.std(x, dim=1, keepdim=True),
    "response norm": _response_norm,
    "own RMS norm": lambda net, x: x * x.square().mean(1, keepdim=True).rsqrt(),
    "layer norm": lambda net, x: _last(x, lambda y: functional.layer_norm(y, y.shape[-1:])),
    "layer norm, scaled": lambda net, x: _last(
        x, lambda y: functional.layer_norm(y, y.shape[-1:], net.scale, net.shift)
    ),
    "layer norm of both": lambda net, x: _last(
        torch.cat([x, x.relu()], 1), lambda y: functional.layer_norm(y, y.shape[-1:])
    ),
    "group norm": lambda net, x: functional.group_norm(x, 1),
    "softmax": lambda net, x: x.softmax(1),
    "softmax of both": lambda net, x: torch.cat([x, x.relu()], 1).softmax(1),
    "largest": lambda net, x: x + x.amax((2, 3), keepdim=True),
    "length": lambda net, x: functional.normalize(x, dim=1),
    "sum": lambda net, x: x * x.sum(1, keepdim=True),
    "similarity": lambda net, x: x * torch.einsum("nchw,nchw->nhw", x, x.relu()).unsqueeze(1),
    "both": lambda net, x: torch.cat([x, x.relu()], 1),
}


@pytest.mark.parametrize("name", COUNTS)
def test_code_that_counts_channels(name: str) -> None:
    torch.manual_seed(0)
    network = Between(COUNTS[name], width=64 if "both" in name else 32)
    result = channels.cut(network.eval(), (X,), Cut(0.5))
    assert result.whole == ("head",)
    assert result.network.first.out_channels == 16 and result.network.stem.out_channels == 16


class Block(nn.Module):
    """A residual block, whose norm starts at zero, and a head."""

    def __init__(self, move: bool) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.head, self.move = nn.Conv2d(32, 10, 1), move
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y = self.norm(self.conv(x)).relu()
        return self.head(x + (y.flip(1) if self.move else y)).mean((2, 3))


@pytest.mark.parametrize("move", [False, True])
def test_channels_that_are_all_zero(move: bool) -> None:
    """An output that is the same for right and wrong indices: which one it is shows all the same."""
    torch.manual_seed(0)
    if not move:
        assert channels.cut(Block(move).eval(), (X,), Cut(0.5)).network.conv.out_channels == 16
        return
    with pytest.raises(channels.CannotConvert, match=r"fix the channels of .*conv"):
        channels.cut(Block(move).eval(), (X,), Cut(0.5))


@pytest.mark.parametrize(("name", "right"), [("nothing", True), ("own norm", True), ("roll", False)])
def test_the_networks_are_left_as_they_were(name: str, right: bool) -> None:
    torch.manual_seed(0)
    original = Between({**COUNTS, **MOVES}[name]).eval()
    pruned = copy.deepcopy(original)
    graph = torch_pruning.DependencyGraph().build_dependency(pruned, (X,), verbose=False)
    group = graph.get_pruning_group(pruned.first, torch_pruning.prune_conv_out_channels, [1, 5])
    removed = Removal(original, (X,))
    removed.add(group, {module: name for name, module in pruned.named_modules()})
    group.prune()
    expected = [network(X) for network in (original, pruned)]
    assert removed.is_right(pruned) == right
    assert all(torch.equal(network(X), y) for network, y in zip((original, pruned), expected, strict=True))


def test_two_groups_of_one_layer() -> None:
    """Indices are of the channels that are left; those removed before are not there again."""
    torch.manual_seed(0)
    original = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    pruned = copy.deepcopy(original)
    removed = Removal(original, (X,))
    for indices in ([0, 3], [0, 1]):
        graph = torch_pruning.DependencyGraph().build_dependency(pruned, (X,), verbose=False)
        group = graph.get_pruning_group(pruned[0], torch_pruning.prune_conv_out_channels, indices)
        removed.add(group, {module: name for name, module in pruned.named_modules()})
        group.prune()
        assert removed.is_right(pruned)
    assert removed.kept["0"].returns == removed.kept["2"].reads == [4, 5, *range(6, 16)]
    removed.kept["2"].reads = [1, 5, *range(6, 16)]
    assert not removed.is_right(pruned)


@pytest.mark.parametrize("layer", [0, 2])
def test_weights_of_other_channels(layer: int) -> None:
    torch.manual_seed(0)
    original = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Softmax(1), nn.Conv2d(16, 4, 1)).eval()
    pruned = copy.deepcopy(original)
    removed = Removal(original, (X,))
    graph = torch_pruning.DependencyGraph().build_dependency(pruned, (X,), verbose=False)
    group = graph.get_pruning_group(pruned[0], torch_pruning.prune_conv_out_channels, [0, 3])
    removed.add(group, {module: name for name, module in pruned.named_modules()})
    group.prune()
    assert removed.is_right(pruned)
    with torch.no_grad():
        pruned[layer].weight.copy_(pruned[layer].weight.flip(1))
    assert not removed.is_right(pruned)


class JoinedNorm(nn.Module):
    """The groups of the norm do not end where the convolutions do."""

    def __init__(self, second: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 1), nn.Conv2d(3, second, 1)
        self.norm, self.head = nn.GroupNorm(4, 24 + second), nn.Conv2d(24 + second, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(torch.cat([self.first(x), self.second(x)], 1)).relu()).mean((2, 3))


def test_channels_stay_in_their_group_of_a_norm() -> None:
    torch.manual_seed(0)
    with pytest.raises(channels.CannotConvert, match="first, head, second"):
        channels.cut(JoinedNorm(8).eval(), (X,), Cut(0.25, round_to=1))
    alone = nn.Sequential(nn.Conv2d(3, 32, 1), nn.GroupNorm(4, 32), nn.ReLU(), nn.Conv2d(32, 4, 1)).eval()
    assert channels.cut(alone, (X,), Cut(0.25, round_to=1)).network[0].out_channels == 24


def test_channels_stay_in_their_head() -> None:
    """Each head of torch's own attention loses as many; where all together are no multiple of `round_to`, none."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    network = nn.Sequential(nn.Linear(8, 32), layer, nn.Linear(32, 8)).eval()
    for round_to, left in ((4, 16), (32, 32)):
        result = channels.cut(network, (torch.randn(2, 5, 8),), Cut(0.5, round_to=round_to)).network
        assert result[1].self_attn.embed_dim == left and result[1].linear1.out_features == 32


@pytest.mark.parametrize(
    ("kept", "even"),
    [
        ([0, 4, 8, 12], True),
        ([0, 1, 4, 5, 8, 9, 12, 13], True),
        ([0, 1, 4, 8, 12, 13, 14, 15], False),
        ([4, 0, 8, 12], False),
        ([0, 4, 8], False),
        (None, True),
    ],
)
def test_as_many_channels_of_each_group(kept: list[int] | None, even: bool) -> None:
    norm = nn.GroupNorm(4, 16)
    assert Removal(norm, (), {"": Kept(kept)}).mixed() == "" or not even
    assert _evenly(norm, kept) is even and _evenly(nn.GroupNorm(1, 16), kept)
