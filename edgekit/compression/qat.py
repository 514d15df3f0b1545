"""Quantization-aware training: a program learns with its weights and activations rounded as int8 will round them.

Jacob et al. 2018, https://arxiv.org/abs/1712.05877: rounding forwards, straight through backwards. It starts where
post-training quantization ended, with BatchNorm folded and ranges fixed, and only what answers better is kept.
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
#: where the cosine schedule ends, as a share of the learning rate
LAST_LR = 0.01
#: a batch: the inputs by position, and labels or None
Batch = tuple[Sequence[Tensor], Any]


class Student(nn.Module):
    """The program with its int8 layers rounded. What it learns are weights and biases, in units of their own size.

    Adam moves every number by about the learning rate; in these units that is the same share of each channel's grid,
    however large its weights are.
    """

    def __init__(self, program: Program, ranges: Mapping[str, Range]) -> None:
        super().__init__()
        self._ranges, self._run = ranges, _Rounding(program.module, self.value)
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
        """What a node's value becomes."""
        if node in self._index:
            index = self._index[node]
            return self._layers[index].to_weight_layout(_on_grid(self.weights[index] * self._units[index]))
        if node in self._bias_index:
            index = self._bias_index[node]
            return self.biases[index] * self._spreads[index]
        return fake_quantize(value, self._ranges[node.name]) if node.name in self._ranges else value

    @torch.no_grad()
    def finish(self) -> None:
        """Put what was learnt into the program, weights on their grids."""
        for index, layer in enumerate(self._layers):
            layer.assign(nearest(self.weights[index] * self._units[index]))
        for index, layer in enumerate(self._biased):
            _bias(layer).copy_(self.biases[index] * self._spreads[index])


class _Rounding(Interpreter):
    def __init__(self, module: GraphModule, value: Callable[[Node, Any], Any]) -> None:
        super().__init__(module)
        self._value = value

    def run_node(self, n: Node) -> Any:
        return self._value(n, super().run_node(n))


@dataclass(frozen=True)
class Lesson:
    """How to learn. `batches(epoch)` gives an epoch's batches; `loss(outputs, labels)` may be None."""

    batches: Callable[[int], Iterator[Batch]]
    count: int
    epochs: int
    lr: float
    loss: Callable[[Any, Any], Tensor] | None
    classes: bool


def train(
    program: Program,
    ranges: Mapping[str, Range],
    lesson: Lesson,
    judge: Callable[[Callable[..., list[Tensor]]], tuple[float, ...]],
    progress: Progress,
    teacher: nn.Module | None = None,
) -> list[tuple[float, ...]]:
    """Let `program` learn in place, and return what `judge` said of the start and of every epoch; larger is better.

    The best is kept, the start included. The teacher is the float program as it was, unless another is given, which
    takes the same inputs by position. Raises Diverged.
    """
    teacher, student = teacher or _frozen(program), Student(program, ranges)
    optimizer = torch.optim.Adam(student.parameters(), lr=lesson.lr)
    steps = max(lesson.count * lesson.epochs, 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, lesson.lr * LAST_LR)
    answers = _answering(student)
    history = [judge(answers)]
    best, best_state = history[0], _state(student)
    for epoch in range(1, lesson.epochs + 1):
        title = f"epoch {epoch} of {lesson.epochs}"
        for inputs, labels in progress(lesson.batches(epoch), title, lesson.count):
            with torch.no_grad():
                targets = listed(teacher(*inputs))
            outputs = listed(student(*inputs))
            loss = distance(outputs, targets, lesson.classes)
            if lesson.loss is not None and labels is not None:
                loss = loss + lesson.loss(outputs[0], labels)
            if not math.isfinite(float(loss.detach())):
                next = f"lower the learning rate: --set qat.lr={lesson.lr / 10:g}"
                raise Diverged("training diverged", f"the loss became {float(loss)} in epoch {epoch}", next)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        history.append(judge(answers))
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
    """Raises InputError where the file is damaged, or is something else."""
    with os_errors("read", path):
        raw = path.open("rb")
    try:
        with raw, np.load(raw, allow_pickle=False) as archive:
            names, ends = json.loads(archive["names"].tobytes()), archive["ends"]
        if ends.shape != (len(names), 2) or not np.isfinite(ends).all() or not (ends[:, 0] <= ends[:, 1]).all():
            raise ValueError
        return {str(name): (float(low), float(high)) for name, (low, high) in zip(names, ends, strict=True)}
    except Exception as error:  # zipfile, zlib, JSON and numpy each have their own kinds
        raise InputError(f"{path} does not hold trained ranges", "it is damaged", "make it again") from error


def _on_grid(matrix: Tensor) -> Tensor:
    """Rounded forwards, as it is backwards."""
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
