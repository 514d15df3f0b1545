"""Quantization-aware training (QAT): a program is trained with fake-quantized weights and activations.

Jacob et al. 2018, https://arxiv.org/abs/1712.05877, with a straight-through estimator. Training starts from the result
of post-training quantization, with BatchNorm folded and ranges fixed; weights are kept only if they validate better.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from edgekit.compression.program import Program, listed
from edgekit.compression.simulation import LARGEST, Range, fake_quantize, nearest, scales
from edgekit.compression.weighted_layers import Layer
from edgekit.core.errors import Diverged, InputError, os_errors
from edgekit.core.progress import Progress
from edgekit.training.distillation import distance

RANGES = "ranges.npz"
#: the final learning rate of the cosine schedule, as a share of the initial one
LAST_LR = 0.01
#: a batch: inputs by position, and labels or None
Batch = tuple[Sequence[Tensor], Any]


class Student(nn.Module):
    """The program with fake-quantized layers. Its parameters are weights and biases relative to their own scale.

    Adam changes every parameter by about the learning rate; relative to the scale, that is the same share of each
    channel's range, however large its weights are.
    """

    def __init__(self, program: Program, ranges: Mapping[str, Range]) -> None:
        super().__init__()
        self._ranges, self._run = ranges, _FakeQuantizing(program.module, self.value)
        self._layers = program.layers()
        matrices = [layer.matrix() for layer in self._layers]
        self._units = [scales(matrix) * LARGEST for matrix in matrices]
        self.weights = nn.ParameterList(m / unit for m, unit in zip(matrices, self._units, strict=True))
        self._biased = [layer for layer in self._layers if layer.bias is not None]
        biases = [_bias(layer) for layer in self._biased]
        self._spreads = [float(bias.abs().max()) or 1.0 for bias in biases]
        self.biases = nn.ParameterList(b / spread for b, spread in zip(biases, self._spreads, strict=True))
        self._index = {layer.weight: index for index, layer in enumerate(self._layers)}
        self._bias_index = {layer.bias: index for index, layer in enumerate(self._biased)}

    def forward(self, *tensors: Tensor) -> Any:
        return self._run.run(*tensors)

    def value(self, node: Node, value: Any) -> Any:
        """The value that replaces a node's value."""
        if node in self._index:
            index = self._index[node]
            return self._layers[index].as_weight(_straight_through(self.weights[index] * self._units[index]))
        if node in self._bias_index:
            index = self._bias_index[node]
            return self.biases[index] * self._spreads[index]
        return fake_quantize(value, self._ranges[node.name]) if node.name in self._ranges else value

    @torch.no_grad()
    def finish(self) -> None:
        """Write the trained weights, quantized, and biases to the program."""
        for index, layer in enumerate(self._layers):
            layer.assign(nearest(self.weights[index] * self._units[index]))
        for index, layer in enumerate(self._biased):
            _bias(layer).copy_(self.biases[index] * self._spreads[index])


class _FakeQuantizing(Interpreter):
    def __init__(self, module: GraphModule, value: Callable[[Node, Any], Any]) -> None:
        super().__init__(module)
        self._value = value

    def run_node(self, n: Node) -> Any:
        return self._value(n, super().run_node(n))


@dataclass(frozen=True)
class TrainingPlan:
    """How to train. `batches(epoch)` yields `count` batches; `loss(outputs, labels)` may be None."""

    batches: Callable[[int], Iterator[Batch]]
    count: int
    epochs: int
    lr: float
    loss: Callable[[Any, Any], Tensor] | None
    classes: bool


def train(
    program: Program,
    ranges: Mapping[str, Range],
    plan: TrainingPlan,
    validate: Callable[[Callable[..., list[Tensor]]], tuple[float, ...]],
    progress: Progress,
    teacher: nn.Module | None = None,
) -> list[tuple[float, ...]]:
    """Train `program` in place; returns the results of `validate` at the start and per epoch; larger is better.

    The best weights are kept, possibly those of the start. The default teacher is the original float program; another
    teacher takes the same inputs by position. Raises Diverged.
    """
    teacher, student = teacher or _frozen(program), Student(program, ranges)
    optimizer = torch.optim.Adam(student.parameters(), lr=plan.lr)
    steps = max(plan.count * plan.epochs, 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, plan.lr * LAST_LR)
    answers = _answering(student)
    history = [validate(answers)]
    best, best_state = history[0], _state(student)
    for epoch in range(1, plan.epochs + 1):
        title = f"epoch {epoch} of {plan.epochs}"
        for inputs, labels in progress(plan.batches(epoch), title, plan.count):
            with torch.no_grad():
                targets = listed(teacher(*inputs))
            outputs = listed(student(*inputs))
            loss = distance(outputs, targets, plan.classes)
            if plan.loss is not None and labels is not None:
                loss = loss + plan.loss(outputs[0], labels)
            if not math.isfinite(float(loss.detach())):
                next = f"lower the learning rate in a recipe: edgekit run RECIPE --set qat.lr={plan.lr / 10:g}"
                raise Diverged("training diverged", f"the loss became {float(loss)} in epoch {epoch}", next)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        history.append(validate(answers))
        if history[-1] > best:
            best, best_state = history[-1], _state(student)
    student.load_state_dict(best_state)
    student.finish()
    return history


def save_ranges(path: Path, ranges: Mapping[str, Range]) -> None:
    """Tensor name → (low, high), as an `.npz` without pickles."""
    names = np.frombuffer(json.dumps(list(ranges)).encode(), np.uint8)
    ends = np.array(list(ranges.values()), np.float64).reshape(-1, 2)
    with os_errors("write", path), path.open("wb") as file:
        np.savez(file, names=names, ends=ends)


def load_ranges(path: Path) -> dict[str, Range]:
    """Raises InputError if the file is damaged or of another kind."""
    with os_errors("read", path):
        raw = path.open("rb")
    try:
        with raw, np.load(raw, allow_pickle=False) as archive:
            names, ends = json.loads(archive["names"].tobytes()), archive["ends"]
        if ends.shape != (len(names), 2) or not np.isfinite(ends).all() or not (ends[:, 0] <= ends[:, 1]).all():
            raise ValueError
        return {str(name): (float(low), float(high)) for name, (low, high) in zip(names, ends, strict=True)}
    except Exception as error:  # zipfile, zlib, JSON and numpy each have their own kinds
        raise InputError(f"{path} does not contain trained ranges", "it is damaged", "create it again") from error


def _straight_through(matrix: Tensor) -> Tensor:
    """Quantized in the forward pass, the identity in the backward pass (straight-through estimator)."""
    return matrix + (nearest(matrix) - matrix).detach()


def _bias(layer: Layer) -> Tensor:
    assert layer.bias is not None
    return layer.values(layer.bias).detach()


def _frozen(program: Program) -> nn.Module:
    return copy.deepcopy(program.module)


def _state(student: Student) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}


def _answering(student: Student) -> Callable[..., list[Tensor]]:
    def answer(*inputs: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return listed(student(*inputs))

    return answer
