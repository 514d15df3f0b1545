"""Cross-layer equalization: which tensors may be scaled together, and that the function stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
from compression import nets  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgekit.compression import equalization, program, simulation  # noqa: E402
from edgekit.compression.equalization import CRITERIA  # noqa: E402
from edgekit.core.progress import quiet  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_code")


class Between(nn.Module):
    """A convolution, whatever is asked for, and a convolution that reads it: (N, 3, 9, 9) → (N, 2, …)."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.first, self.second, self.other = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1), nn.Conv2d(3, 6, 3, bias=False)
        self.slopes, self.between = nn.Parameter(torch.rand(6)), between

    def forward(self, x: Any) -> Any:
        return self.second(self.between(self, self.first(x), x))


COMMUTE = {
    "nothing": lambda net, y, x: y,
    "relu": lambda net, y, x: y.relu(),
    "leaky relu": lambda net, y, x: F.leaky_relu(y, 0.2),
    "prelu": lambda net, y, x: F.prelu(y, net.slopes),
    "clamp from zero": lambda net, y, x: y.clamp(min=0),
    "max pooling": lambda net, y, x: F.max_pool2d(y.relu(), 2),
    "average pooling": lambda net, y, x: F.avg_pool2d(y, 2),
    "adaptive pooling": lambda net, y, x: F.adaptive_avg_pool2d(y, 1),
    "zero padding": lambda net, y, x: F.pad(y, (1, 1, 2, 0)),
    "reflecting padding": lambda net, y, x: F.pad(y, (1, 1, 1, 1), mode="reflect"),
    "mean": lambda net, y, x: y.mean((2, 3), keepdim=True),
    "upsampling": lambda net, y, x: F.interpolate(y, scale_factor=2, mode="nearest"),
    "sum of two": lambda net, y, x: (y + net.other(x)).relu(),
    "difference": lambda net, y, x: y.relu() - net.other(x),
    "a constant factor": lambda net, y, x: y * 3.5,
    "a gate from elsewhere": lambda net, y, x: y * x.mean((1, 2, 3), keepdim=True).sigmoid(),
}
DO_NOT = {
    "relu6": lambda net, y, x: F.relu6(y),
    "hard-swish": lambda net, y, x: F.hardswish(y),
    "sigmoid": lambda net, y, x: y.sigmoid(),
    "tanh": lambda net, y, x: y.tanh(),
    "gelu": lambda net, y, x: F.gelu(y),
    "padding with ones": lambda net, y, x: F.pad(y, (1, 1), value=1.0),
    "a constant added": lambda net, y, x: y + 1.0,
    "something else added": lambda net, y, x: y + x[:, :1, 2:, 2:],
    "its own square": lambda net, y, x: y * y,
    "its own gate": lambda net, y, x: y * y.relu(),
    "softmax": lambda net, y, x: y.softmax(1),
    "channels moved": lambda net, y, x: y.roll(1, 1),
    "channels padded": lambda net, y, x: F.pad(y, (0, 0, 0, 0, 1, 0))[:, 1:],
    "norm over channels": lambda net, y, x: F.layer_norm(y, y.shape[1:]),
}


@pytest.mark.parametrize("name", COMMUTE)
def test_what_commutes_is_scaled(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 9)
    made = nets.traced(Between(COMMUTE[name]), x)
    before = made.answers([x])
    (group,) = equalization.groups(made.module)
    assert group.channels == 6 and len(group.readers) == 1
    weights = [layer.matrix() for layer in made.layers()]
    group.scale(torch.exp(torch.randn(6)))
    changed = [not torch.equal(layer.matrix(), kept) for layer, kept in zip(made.layers(), weights, strict=True)]
    assert all(changed)
    assert program.sqnr(before, made.answers([x])) >= 100


@pytest.mark.parametrize("name", DO_NOT)
def test_what_does_not_commute_is_left_alone(name: str) -> None:
    x = torch.randn(2, 3, 9, 9)
    assert equalization.groups(nets.traced(Between(DO_NOT[name]), x).module) == []


class Flattened(nn.Module):
    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv, self.linear, self.last = nn.Conv2d(3, 5, 3), nn.Linear(45, 7), nn.Linear(7, 2)
        self.dims = dims

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(self.conv(x).relu(), 2)
        x = x.flatten(1) if self.dims == 1 else x.reshape(x.shape[0], -1)
        return self.last(F.leaky_relu(self.linear(x)))


@pytest.mark.parametrize("dims", [1, 2])
def test_a_channel_may_have_many_columns_behind_a_flatten(dims: int) -> None:
    x = torch.randn(2, 3, 8, 8)
    made = nets.traced(Flattened(dims), x)
    before = made.answers([x])
    first, second = equalization.groups(made.module)
    assert [repeat for _, repeat in first.readers] == [9]
    first.scale(torch.exp(torch.randn(5)))
    second.scale(torch.exp(torch.randn(7)))
    assert program.sqnr(before, made.answers([x])) >= 100


class Outside(nn.Module):
    """A tensor that is an output as well may not change."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Any) -> Any:
        y = self.first(x).relu()
        return y, self.second(y)


def test_an_output_is_not_scaled() -> None:
    assert equalization.groups(nets.traced(Outside(), torch.randn(2, 3, 4, 4)).module) == []


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_mobile_network_stays_the_same_function(criterion: str, tmp_path: Path) -> None:
    loaded = program.load(nets.artifact("Mobile", tmp_path), nets.LOG)
    feeds = [(x[None],) for x in nets.samples("Mobile", 8)]
    assert len(equalization.groups(loaded.module)) == 18
    made = equalization.scaled(loaded, feeds, criterion, 0.5)
    x = nets.samples("Mobile", 16, seed=4)
    assert program.sqnr(loaded.answers([x]), made.answers([x])) >= 90
    kept = [layer.matrix() for layer in program.load(nets.artifact("Mobile", tmp_path), nets.LOG).layers()]
    assert all(torch.equal(a.matrix(), b) for a, b in zip(loaded.layers(), kept, strict=True)), "the source was changed"


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 1.0), st.integers(0, 1000))
def test_channels_come_closer(alpha: float, seed: int) -> None:
    """By the activations' criterion, the ratio of largest to smallest falls to its power of 1 - alpha."""
    torch.manual_seed(seed)
    network = Between(COMMUTE["relu"])
    with torch.no_grad():
        network.first.weight.mul_(torch.exp(2 * torch.randn(6))[:, None, None, None])
    feeds = [(torch.randn(1, 3, 9, 9),) for _ in range(4)]
    made = nets.traced(network, torch.randn(2, 3, 9, 9))
    groups = equalization.groups(made.module)
    before = equalization._channel_maxima(made.module, groups, feeds)[0]
    after = equalization.scaled(made, feeds, "activations", alpha)
    reach = equalization._channel_maxima(after.module, equalization.groups(after.module), feeds)[0]
    assert torch.allclose(reach.log() - reach.max().log(), (1 - alpha) * (before / before.max()).log(), atol=1e-3)


def test_a_channel_that_is_dead_is_left_alone() -> None:
    torch.manual_seed(0)
    network, x = Between(COMMUTE["relu"]), torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        network.first.weight[2] = 0
        network.first.bias[2] = -1
        network.second.weight[:, 4] = 0
    made = nets.traced(network, x)
    for criterion in CRITERIA:
        scaled = equalization.scaled(made, [(x,)], criterion, 0.5)
        first, second = (layer.matrix() for layer in scaled.layers())
        assert torch.isfinite(first).all() and torch.isfinite(second).all()
        assert program.sqnr(made.answers([x]), scaled.answers([x])) >= 100


def test_the_criterion_is_chosen_by_measurement(tmp_path: Path) -> None:
    """What int8 loses to uneven channels comes back; and where nothing helps, it says "none"."""
    network = nets.seeded("Mobile")
    nets.uneven(network, 2.0)
    feeds = [(x[None],) for x in nets.samples("Mobile", 8)]
    made = nets.traced(network, torch.randn(2, 1, 28, 28))
    found = equalization.equalize(made, feeds, 0.5, quiet)
    assert found.tried[found.criterion] == max(found.tried.values()) == round(found.after_db, 2)
    assert found.criterion != "none" and found.after_db > found.before_db + 3, found.tried
    test = [(x[None],) for x in nets.samples("Mobile", 32, seed=5)]
    references = [made.answers(feed) for feed in test]
    db = [equalization.simulated_db(one, test, references) for one in (made, found.program)]
    assert db[1] > db[0] + 3, "only on the samples it was chosen on"
    assert simulation.quantized_nodes(found.program.module)
