"""Widths are plain numbers; what does not fit the network is refused, whatever it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgekit.networks import widths  # noqa: E402
from edgekit.networks.weights import tensors_of  # noqa: E402


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"9": {"out_channels": 4}},
        {"0": {"out_chanels": 4}},
        {"0": {"out_channels": "4"}},
        {"0": {"out_channels": 4.0}},
        {"0": {"out_channels": True}},
        {"0": {"out_channels": 16}},
        {"0": {"out_channels": -1}},
        {"0": {"kernel_size": [1]}},
        {"0": {"kernel_size": [1, "1"]}},
        {"0": {"__class__": 1}},
        {"0": {"forward": 1}},
    ],
)
def test_what_does_not_fit(wrong: Any) -> None:
    with pytest.raises(InputError, match="do not fit"):
        widths.apply(network(), wrong, {})


@pytest.mark.parametrize("shape", [[8, 1, 3], [9, 1, 3, 3], [4, 2, 3, 3]])
def test_tensors_that_do_not_fit(shape: list[int]) -> None:
    with pytest.raises(InputError, match="cannot be reduced to"):
        widths.apply(network(), {}, {"0.weight": ["float32", shape]})


@given(st.integers(1, 8), st.integers(1, 8))
def test_there_and_back(first: int, second: int) -> None:
    """Any narrower network of the build comes back in its shapes, and in its numbers."""
    whole, cut = network(), network()
    numbers = {"0": {"out_channels": first}, "1": {"num_features": first}, "2": {"in_channels": first}}
    shapes: dict[str, Any] = {"0.weight": [first, 1, 3, 3], "0.bias": [first]}
    shapes["2.weight"] = [min(second, 2), first, 3, 3]
    shapes |= {f"1.{name}": [first] for name in ("weight", "bias", "running_mean", "running_var")}
    widths.apply(cut, numbers, {name: ["float32", shape] for name, shape in shapes.items()})
    found = widths.changed_widths(whole, cut)
    assert found == ({} if first == 8 else numbers)
    again = network()
    widths.apply(again, found, tensors_of(cut))
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in cut.state_dict().items()}


def test_shared_weights_stay_shared() -> None:
    tied = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    tied[1].weight = tied[0].weight
    widths.apply(tied, {"0": {"out_features": 4}}, {"0.weight": ["float32", [4, 4]]})
    assert tied[1].weight is tied[0].weight and list(tied[0].weight.shape) == [4, 4]


def test_two_prunings() -> None:
    assert widths.merge({"a": {"x": 8, "y": 2}}, {"a": {"x": 4}, "b": {"z": 1}}) == {
        "a": {"x": 4, "y": 2},
        "b": {"z": 1},
    }
