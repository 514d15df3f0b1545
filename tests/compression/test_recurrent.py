"""Recurrent layers keep their states; what they read and what reads them is pruned."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

from torch import Tensor, nn  # noqa: E402
from torch.nn.utils import rnn  # noqa: E402

from edgekit.compression import channels  # noqa: E402
from edgekit.compression.channels import Cut  # noqa: E402
from edgekit.core.errors import CannotConvert  # noqa: E402
from edgekit.networks import widths  # noqa: E402
from edgekit.networks.weights import tensors_of  # noqa: E402

SERIES = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    """Layers, a recurrent layer, and layers that read its outputs at the end or its last states."""

    def __init__(self, kind: str, reads: str = "outputs", images: bool = False, **options: Any) -> None:
        super().__init__()
        convolutions = nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 24, 3, padding=1)
        self.before = nn.Sequential(*(convolutions if images else (nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 24))))
        self.recurrent = getattr(nn, kind)(24, 40, batch_first=True, **options)
        width = options.get("proj_size", 40) * (2 if options.get("bidirectional") and reads == "outputs" else 1)
        self.after = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 5))
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        outputs, states = self.recurrent(x.mean(2).transpose(1, 2) if x.ndim == 4 else x)
        states = states[0] if isinstance(states, tuple) else states
        answer: Tensor = self.after(outputs[:, -1] if self.reads == "outputs" else states[-1])
        return answer


class Steps(nn.Module):
    """A cell in a loop."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.before, self.cell = nn.Linear(12, 32), getattr(nn, kind)(32, 40)
        self.after = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in range(x.shape[1]):
            state = self.cell(self.before(x[:, step]).relu(), state)
        answer: Tensor = self.after(state[0] if isinstance(state, tuple) else state)
        return answer


class Started(nn.Module):
    """The first state comes from a layer, which keeps its channels; the sequences are packed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.start, self.recurrent = nn.Linear(12, 32), nn.Linear(32, 40), nn.GRU(32, 40)
        self.after = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        packed = rnn.pack_padded_sequence(y, torch.tensor([7, 5]), batch_first=True)
        outputs, _ = rnn.pad_packed_sequence(self.recurrent(packed, self.start(y[:, 0])[None])[0], batch_first=True)
        answer: Tensor = self.after(outputs.mean(1))
        return answer


OPTIONS: dict[str, dict[str, Any]] = {
    "one": {},
    "bidirectional": {"bidirectional": True},
    "two layers": {"num_layers": 2},
    "both": {"num_layers": 2, "bidirectional": True},
    "states": {"num_layers": 2, "bidirectional": True, "reads": "states"},
    "images": {"images": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_layers_around_it_are_pruned(kind: str, options: dict[str, Any]) -> None:
    """And the network is rebuilt from its widths."""
    torch.manual_seed(0)
    network, x = Net(kind, **options).eval(), IMAGES if options.get("images") else SERIES
    result = channels.cut(network, (x,), Cut(0.3))
    assert result.whole == ("recurrent",)
    pruned: Any = result.network
    assert pruned.before[0].weight.shape[0] == pruned.after[0].weight.shape[0] == 24
    assert pruned.recurrent.input_size == pruned.before[2].weight.shape[0] == 16
    assert pruned.recurrent.hidden_size == 40
    again = Net(kind, **options).eval()
    widths.apply(again, widths.changed_widths(network, pruned), tensors_of(pruned))
    again.load_state_dict(pruned.state_dict())
    assert torch.equal(again(x), pruned(x))


def test_projections() -> None:
    torch.manual_seed(0)
    result = channels.cut(Net("LSTM", proj_size=16).eval(), (SERIES,), Cut(0.3))
    assert result.network.recurrent.input_size == 16 and result.network.after[0].out_features == 24


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_in_a_loop(kind: str) -> None:
    torch.manual_seed(0)
    result = channels.cut(Steps(kind).eval(), (SERIES,), Cut(0.3))
    assert result.network.cell.hidden_size == 40 and result.network.after[0].out_features == 24


def test_a_layer_that_starts_it_stays_whole() -> None:
    torch.manual_seed(0)
    result = channels.cut(Started().eval(), (SERIES,), Cut(0.3))
    assert {"recurrent", "start"} <= set(result.whole)
    assert result.network.start.out_features == 40 and result.network.after[0].out_features == 24


def test_the_right_weights_go() -> None:
    torch.manual_seed(0)
    network: Any = Net("LSTM", bidirectional=True).eval()
    with torch.no_grad():
        network.before[2].weight[8:] = 0
        network.before[2].bias[8:] = 0
    pruned: Any = channels.cut(network, (SERIES,), Cut(0.7)).network
    assert pruned.recurrent.input_size == 8
    for name in ("weight_ih_l0", "weight_ih_l0_reverse"):
        assert torch.equal(getattr(pruned.recurrent, name), getattr(network.recurrent, name)[:, :8])


def test_alone_it_is_refused_in_one_line() -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(12, 48, batch_first=True, bidirectional=True), nn.Linear(96, 6)

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.head(self.lstm(x)[0][:, -1])
            return answer

    with pytest.raises(CannotConvert, match=r"nothing to prune.*recurrence.* fix the channels of .*lstm"):
        channels.cut(Alone().eval(), (SERIES,), Cut(0.3))
