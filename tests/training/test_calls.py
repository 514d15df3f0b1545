from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from edgekit.tasks.shared.base import Classification, Regression  # noqa: E402
from edgekit.training.calls import specs, to_float32  # noqa: E402


@dataclass(frozen=True)
class Answer:
    logits: Tensor
    again: Tensor
    more: dict[str, Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Answer:
        y = self.layer(x)
        return Answer(y, y, {"double": 2 * y})


def test_outputs_keep_their_type_in_float32() -> None:
    answer = to_float32(Net().bfloat16()(torch.rand(2, 4).bfloat16()))
    assert isinstance(answer, Answer)
    assert {answer.logits.dtype, answer.more["double"].dtype} == {torch.float32}


def test_specs_of_nested_outputs() -> None:
    sides = specs(Net().eval(), {"x": np.zeros((3, 4), np.float32)})
    assert [spec["name"] for spec in sides["outputs"]] == ["logits", "more_double"]
    assert (sides["kept"], sides["call"]) == ([0, 2], [])
    assert sides["notes"] == ["outputs.again is left out: it is the same tensor as outputs.logits"]


@pytest.mark.parametrize(("task", "labels"), [(Classification, torch.tensor([0, 1])), (Regression, torch.rand(2, 2))])
def test_a_tasks_loss_reads_the_first_output(task: Any, labels: Tensor) -> None:
    answer = Net()(torch.rand(2, 4))
    assert torch.equal(task.loss(None, answer, labels), task.loss(None, answer.logits, labels))
