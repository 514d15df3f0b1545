"""Outputs as people write them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.core.errors import InputError
from edgekit.networks.interface import Positional, probe
from edgekit.networks.outputs import left_out, named_outputs

A, B, C = torch.zeros(1, 2), torch.ones(1, 3), torch.ones(1)


@dataclass(frozen=True)
class Answer:
    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    loss: Tensor | None = None


Pair = namedtuple("Pair", "boxes scores")

CASES: dict[str, tuple[Any, list[str]]] = {
    "tensor": (A, ["output"]),
    "tuple of one": ((A,), ["output"]),
    "tuple": ((A, B), ["output0", "output1"]),
    "list with None": ([A, None, B], ["output0", "output2"]),
    "dict": (OrderedDict(out=A, aux=B), ["out", "aux"]),
    "named tuple": (Pair(A, B), ["boxes", "scores"]),
    "dataclass": (Answer(A, (B, C)), ["logits", "hidden_0", "hidden_1"]),
    "nested": ({"logits": A, "features": {"low": B, "high": [C]}}, ["logits", "features_low", "features_high_0"]),
    "tensor and dict": ((A, {"boxes": B, "feats": [C]}), ["output0", "boxes", "feats_0"]),
    "tensor and list": ((A, [B, C]), ["output0", "output1_0", "output1_1"]),
    "the same key twice": (({"scores": A}, {"scores": B}), ["output0_scores", "output1_scores"]),
    "the same name twice": ({"a_b": A, "a": {"b": B}}, ["a_b", "a_b_"]),
}


@pytest.mark.parametrize("outputs, names", CASES.values(), ids=CASES)
def test_names(outputs: Any, names: list[str]) -> None:
    by_name = named_outputs(outputs)
    assert list(by_name) == names
    assert all(isinstance(value, Tensor) for value in by_name.values())


def test_what_is_left_out_is_said() -> None:
    outputs = (A, {"first": A, "other": B, "loss": None})
    kept, notes = left_out(outputs)
    assert list(named_outputs(outputs, kept)) == ["output0", "other"]
    assert notes == [
        "outputs[1]['first'] is left out: it is the same tensor as outputs[0]",
        "outputs[1]['loss'] is left out: it is None",
    ]
    assert left_out((A, B)) == (None, [])


class Thing:
    def __init__(self) -> None:
        self.logits, self.name = A, "thing"


@pytest.mark.parametrize("outputs, what", [((B, Thing()), r"a Thing in outputs\[1\]"), ({"n": 3, "y": B}, "a int in")])
def test_the_error_shows_a_wrapper_that_works(outputs: Any, what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        named_outputs(outputs)
    network = nn.Identity()
    network.forward = lambda x: outputs  # type: ignore[method-assign]
    code = error.value.next.partition("\n\n")[2]
    defined: dict[str, Any] = {"torch": torch}
    exec(code, defined)
    assert next(iter(named_outputs(defined["Wrapped"](network)(A)).values())) is B


def test_nothing_at_all() -> None:
    with pytest.raises(InputError, match="no tensors"):
        named_outputs({"loss": None})


class PerSample(nn.Module):
    """A dict for each image, as torchvision's detectors return them."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize("answer", [lambda x: [{"boxes": row} for row in x], lambda x: list(x)])
def test_a_number_of_outputs_that_depends_on_the_batch(answer: Callable[[Tensor], Any]) -> None:
    with pytest.raises(InputError, match="a batch twice as large") as error:
        probe(Positional(PerSample(answer)), {"x": torch.rand(1, 4)}, {}, "net.py:make")
    assert "return outputs[0]" in error.value.next


def test_what_is_the_same_without_dropout_stays_out() -> None:
    """In a trace, the output of a dropout is another tensor than its input."""
    inner = PerSample(lambda x: (y := x * 2, torch.dropout(y, 0.5, False)))
    network = Positional(inner).eval()
    interface = probe(network, {"x": torch.rand(2, 4)}, {}, "net.py:make")
    assert interface.kept == [0] and [spec.name for spec in interface.outputs] == ["output"]
    exported = torch.export.export(network, (torch.rand(2, 4),)).module()
    assert isinstance(exported(torch.rand(2, 4)), Tensor)
