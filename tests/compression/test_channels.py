"""What is cut hangs together, answers in its old shapes, and is built again from plain numbers, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgekit.core.errors import CannotConvert, InputError
from edgekit.networks import named as nameds

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

from torch import Tensor, nn  # noqa: E402

from edgekit.compression import channels  # noqa: E402
from edgekit.compression.channels import Cut  # noqa: E402
from edgekit.networks import widths  # noqa: E402
from edgekit.networks.interface import named_outputs  # noqa: E402
from edgekit.networks.weights import tensors_of  # noqa: E402

IMAGE = {"shape": [1, 28, 28], "classes": 10, "mean": [70.0], "std": [80.0]}
TEXT = {"words": 200, "length": 12, "classes": 3}


class Joined(nn.Module):
    """Concatenation, a grouped and a transposed convolution, and a flattened image before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(3, 32, 1)
        self.grouped, self.up = nn.Conv2d(64, 64, 3, groups=4), nn.ConvTranspose2d(64, 32, 2, 2)
        self.head = nn.Linear(32 * 12 * 12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.a(x).relu(), self.b(x).relu()], 1)
        logits: Tensor = self.head(self.up(self.grouped(y)).relu().flatten(1))
        return logits


class Attending(nn.Module):
    """PyTorch's own attention, which holds its matrices itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(16, 64), nn.MultiheadAttention(64, 4, batch_first=True)
        self.think, self.head = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        logits: Tensor = self.head((x + self.think(x)).mean(1))
        return logits


class Fixed(nn.Module):
    """A reshape that fixes how many channels the first layer has; the second can lose some."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).reshape(len(x), 4, 8).flatten(1)
        y = y[:, torch.arange(32)]
        logits: Tensor = self.head(self.second(y).relu())
        return logits


def shipped(name: str, arguments: dict[str, Any]) -> Callable[[], nn.Module]:
    return lambda: nameds.build(name, arguments)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    **{
        name: (shipped(name, IMAGE), (torch.rand(2, 1, 28, 28) * 255,))
        for name in ("cnn", "ds-cnn", "resnet", "resnet8", "mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "vit")
    },
    "transformer-text": (shipped("transformer-text", TEXT), (torch.randint(1, 200, (2, 12), dtype=torch.int32),)),
    "joined": (Joined, (torch.rand(2, 3, 8, 8),)),
    "attending": (Attending, (torch.rand(2, 7, 16),)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[Tensor, ...], Callable[[], nn.Module]]:
    build, inputs = CASES[request.param]
    torch.manual_seed(0)
    return build().eval(), inputs, build


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_cut_and_built_again(case: Any, scope: Any) -> None:
    network, inputs, build = case
    cut = channels.cut(network, inputs, Cut(0.5, scope=scope)).network
    assert channels.size(cut) < 0.7 * channels.size(network)
    assert channels.macs(cut, inputs) < 0.7 * channels.macs(network, inputs)
    shapes = [{name: t.shape for name, t in named_outputs(n(*inputs)).items()} for n in (network, cut)]
    assert shapes[0] == shapes[1]
    kept = json.loads(json.dumps(widths.changed_widths(network, cut)))
    torch.manual_seed(0)
    again = build()
    widths.apply(again, kept, tensors_of(cut))
    again.load_state_dict(cut.state_dict())
    for a, b in zip(named_outputs(cut(*inputs)).values(), named_outputs(again.eval()(*inputs)).values(), strict=True):
        assert torch.equal(a, b)


def test_the_original_is_left_alone() -> None:
    network = nameds.build("resnet", IMAGE).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    channels.cut(network, CASES["resnet"][1], Cut(0.5))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_channels_are_multiples_of_eight() -> None:
    cut = channels.cut(nameds.build("resnet", IMAGE).eval(), CASES["resnet"][1], Cut(0.3)).network
    counts = {m.out_channels for m in cut.modules() if isinstance(m, nn.Conv2d)}
    assert counts and all(count % 8 == 0 for count in counts)


def test_the_largest_weights_stay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        network[0].weight[8:] *= 0.01
    cut = channels.cut(network, (torch.rand(2, 4),), Cut(0.5)).network
    assert torch.equal(cut[0].weight, network[0].weight[:8])  # type: ignore[index]


def test_taylor_keeps_what_the_loss_needs() -> None:
    """Channels that are large and do nothing go first: magnitude would keep them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    with torch.no_grad():
        network[0].weight[:8] *= 10
        network[2].weight[:, :8] = 0

    def learn(copy: nn.Module) -> None:
        x = torch.rand(64, 4)
        (copy(x) - x.sum(1, keepdim=True)).square().mean().backward()

    cut = channels.cut(network, (torch.rand(2, 4),), Cut(0.5, importance="taylor"), learn).network
    assert torch.equal(cut[0].weight, network[0].weight[8:])  # type: ignore[index]
    assert all(parameter.grad is None for parameter in cut.parameters())


def test_small_scales_go_first() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 2, 3)).eval()
    with torch.no_grad():
        network[1].weight[::2] = 0.01
    cut = channels.cut(network, (torch.rand(2, 1, 8, 8),), Cut(0.5, importance="bn-scale")).network
    assert torch.equal(cut[0].weight, network[0].weight[1::2])  # type: ignore[index]


def test_whole_heads_go() -> None:
    network = nameds.build("vit", IMAGE).eval()
    cut = channels.cut(network, CASES["vit"][1], Cut(0.5)).network
    block = cut.blocks[0]  # type: ignore[index]
    assert (block.heads, block.size) == (2, 16)
    assert block.query_key_value.out_features == 3 * 2 * 16


def test_what_cannot_be_cut_stays_whole() -> None:
    network = Fixed().eval()
    found = channels.cut(network, (torch.rand(2, 8),), Cut(0.5))
    assert "first" in found.whole
    assert found.network.first.out_features == 32 and found.network.second.out_features == 16


@pytest.mark.parametrize("ratio", [0.01, 0.1])
def test_nothing_to_cut(ratio: float) -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(CannotConvert, match=r"nothing to prune.*multiples of 8"):
        channels.cut(network, (torch.rand(2, 4),), Cut(ratio))


def test_scales_of_a_network_without_any() -> None:
    with pytest.raises(InputError, match="no BatchNorm"):
        channels.cut(nn.Linear(16, 16), (torch.rand(2, 16),), Cut(0.5, importance="bn-scale"))


class Split(torch.nn.Module):
    """Half of the channels pass by the block, and all are joined, as in YOLOv8's C2f; before it an ordinary layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3)
        self.enter = torch.nn.Conv2d(32, 32, 3, padding=1)
        self.block = torch.nn.Conv2d(16, 16, 3, padding=1)
        self.leave = torch.nn.Conv2d(48, 10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.enter(self.stem(x).relu()).chunk(2, 1)
        return self.leave(torch.cat([left, right, self.block(right)], 1)).mean((2, 3))


def test_layers_whose_channels_a_split_fixes_stay_whole() -> None:
    result = channels.cut(Split(), (torch.randn(1, 3, 12, 12),), channels.Cut(0.5))
    assert result.whole == ("enter", "leave")
    assert result.network.stem.out_channels == 16
    assert result.network.block.out_channels == 8 and result.network.leave.in_channels == 40


def test_the_channels_that_stay_meet_their_weights() -> None:
    """The outputs are those of the network in which the removed channels are zero."""
    torch.manual_seed(0)
    network, x = Split(), torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        network.block.weight[::2] = 0
        network.block.bias[::2] = 0
        network.stem.weight[1::2] = 0
        network.stem.bias[1::2] = 0
    pruned = channels.cut(network, (x,), channels.Cut(0.5)).network
    torch.testing.assert_close(pruned(x), network(x))


class Shuffled(torch.nn.Module):
    """Half of the channels pass by, and all are shuffled, as in ShuffleNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3)
        self.first, self.second = torch.nn.Conv2d(16, 32, 1), torch.nn.Conv2d(32, 16, 1)
        self.head = torch.nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.stem(x).relu().chunk(2, 1)
        y = torch.cat([left, self.second(self.first(right).relu())], 1)
        n, channels, height, width = y.shape
        y = y.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)
        logits: torch.Tensor = self.head(y.mean((2, 3)))
        return logits


def test_a_channel_shuffle() -> None:
    torch.manual_seed(0)
    network, x = Shuffled(), torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        network.first.weight[::2] = 0
        network.first.bias[::2] = 0
    result = channels.cut(network, (x,), channels.Cut(0.5))
    assert result.network.first.out_channels == 16
    assert {"stem", "second"} <= set(result.whole)
    torch.testing.assert_close(result.network(x), network(x))


class Heads(torch.nn.Module):
    """Attention over an image, whose channels become heads, as in YOLO11: traced whole, its indices grow forever."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = torch.nn.Conv2d(3, 32, 3), torch.nn.Conv2d(32, 64, 1)
        self.place, self.leave = torch.nn.Conv2d(32, 32, 3, padding=1, groups=32), torch.nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        n, _, height, width = y.shape
        q, k, v = self.qkv(y).view(n, 2, 32, height * width).split([8, 8, 16], 2)
        mixed = (v @ (q.transpose(-2, -1) @ k).softmax(-1).transpose(-2, -1)).view(n, 32, height, width)
        return self.leave(mixed + self.place(v.reshape(n, 32, height, width))).mean((2, 3))


def test_attention_over_an_image() -> None:
    result = channels.cut(Heads().eval(), (torch.randn(1, 3, 8, 8),), channels.Cut(0.5))
    assert result.network.stem.out_channels == 16 and "qkv" in result.whole


@pytest.mark.parametrize(("width", "heads", "left"), [(64, 4, 48), (64, 8, 40), (192, 3, 144)])
def test_the_multiple_is_of_all_heads_together(width: int, heads: int, left: int) -> None:
    """Some 30 % of each head, to the nearest multiple of 8 over all heads."""
    layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True)
    network = nn.Sequential(nn.Linear(8, width), layer, nn.Linear(width, 8)).eval()
    cut = channels.cut(network, (torch.randn(2, 5, 8),), Cut(0.3)).network
    assert cut[1].self_attn.embed_dim == left


def test_grouped_convolutions_lose_as_many_channels_of_each_group() -> None:
    grouped = nn.Conv2d(48, 48, 3, groups=6)
    network = nn.Sequential(nn.Conv2d(3, 48, 3), nn.ReLU(), grouped, nn.ReLU(), nn.Conv2d(48, 8, 1)).eval()
    cut = channels.cut(network, (torch.randn(1, 3, 12, 12),), Cut(0.3)).network
    assert cut[2].out_channels == cut[2].in_channels == 24 and cut[2].groups == 6
