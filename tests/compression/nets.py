"""Networks for the tests of the weight side, and these as artifacts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.compression import program
from edgekit.compression.program import Program
from edgekit.core import user_code
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.models.shared.normalize import Normalize
from edgekit.networks import named
from edgekit.networks.tracing import Example
from edgekit.runs.store import Store
from edgekit.sets import reading

LOG = logging.getLogger("edgekit.tests")


def norm(layer: nn.Module, width: int, *more: nn.Module) -> nn.Sequential:
    kind = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[layer.weight.ndim]  # type: ignore[index, union-attr]
    return nn.Sequential(layer, kind(width), *more)


class Mixed(nn.Module):
    """Every kind of convolution for images, and two linear layers: (N, 3, 12, 12) → (N, 5). Six BatchNorms fold."""

    shape = (3, 12, 12)

    def __init__(self) -> None:
        super().__init__()
        self.first = norm(nn.Conv2d(3, 8, 3, padding=1, bias=False), 8, nn.ReLU(inplace=True))
        self.depthwise = norm(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), 8, nn.ReLU6())
        self.grouped = norm(nn.Conv2d(8, 12, (3, 1), padding="same", dilation=2, groups=4), 12, nn.Hardswish())
        self.up = norm(nn.ConvTranspose2d(12, 6, 2, stride=2), 6, nn.ReLU())
        self.point = norm(nn.Conv2d(6, 10, 1), 10, nn.LeakyReLU(0.1))
        self.drop = nn.Dropout2d(0.3)
        self.linear = nn.Linear(10, 16, bias=False)
        self.last_norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point(self.up(self.grouped(self.depthwise(self.first(x)))))
        x = self.drop(x).mean((2, 3))
        x = nn.functional.dropout(self.last_norm(self.linear(x)).relu(), 0.5, self.training)
        answer: Tensor = self.head(x)
        return answer


class Sequence1d(nn.Module):
    """Convolutions along time, products with constants, two outputs: (N, 4, 24) → {"steps": (N, 22, 6), "sum": …}."""

    shape = (4, 24)

    def __init__(self) -> None:
        super().__init__()
        self.conv = norm(nn.Conv1d(4, 8, 5, padding=2, stride=2), 8, nn.ReLU())
        self.up = nn.ConvTranspose1d(8, 8, 2, stride=2)
        self.weight = nn.Parameter(torch.randn(8, 8) / 3)
        self.turned = nn.Parameter(torch.randn(6, 8) / 3)
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.up(self.conv(x)).transpose(1, 2)
        x = torch.tanh(x @ self.weight)
        return {"steps": nn.functional.linear(x, self.turned, self.bias), "sum": x.sum((1, 2))}


class Branched(nn.Module):
    """A convolution whose output is read beside its BatchNorm, and one whose weight is used twice."""

    shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.twice, self.after = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.norm(x).relu() + x
        return self.after(self.twice(self.twice(x).relu())).mean((2, 3))


class Block(nn.Module):
    """An inverted residual of MobileNetV3 (https://arxiv.org/abs/1905.02244), with ReLU and squeeze-and-excitation."""

    def __init__(self, before: int, wide: int, after: int, stride: int) -> None:
        super().__init__()
        self.expand = norm(nn.Conv2d(before, wide, 1, bias=False), wide, nn.ReLU())
        depthwise = nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False)
        self.depthwise = norm(depthwise, wide, nn.ReLU())
        self.squeeze, self.excite = nn.Conv2d(wide, wide // 4, 1), nn.Conv2d(wide // 4, wide, 1)
        self.project = norm(nn.Conv2d(wide, after, 1, bias=False), after)
        self.residual = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        gate = nn.functional.hardsigmoid(self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()))
        y = self.project(y * gate)
        return x + y if self.residual else y


class Mobile(nn.Module):
    """A MobileNetV3-like classifier of about 100,000 parameters at the default widths: (N, C, H, W) → (N, classes)."""

    shape = (1, 28, 28)

    def __init__(
        self,
        shape: Sequence[int] = shape,
        classes: int = 10,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        widths: Sequence[int] = (16, 24, 24, 40, 40, 64),
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.stem = norm(nn.Conv2d(shape[0], widths[0], 3, 2, 1, bias=False), widths[0], nn.Hardswish())
        pairs = pairwise(widths)
        self.blocks = nn.Sequential(*(Block(a, 3 * a, b, 2 if i in (0, 2) else 1) for i, (a, b) in enumerate(pairs)))
        self.last = norm(nn.Conv2d(widths[-1], 2 * widths[-1], 1, bias=False), 2 * widths[-1], nn.Hardswish())
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(2 * widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.blocks(self.stem(self.normalize(x))))
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


def uneven(network: Mobile, spread: float, seed: int = 0) -> None:
    """Scale the channels between the blocks by exp(N(0, spread)) and undo it where they are read: the same function.

    Damage by hand, of the kind that training leaves in some networks: what min-max int8 loses shows on it at will.
    """
    generator = torch.Generator().manual_seed(seed)
    readers = [*(block.expand[0] for block in network.blocks[1:]), network.last[0]]
    factor = torch.ones(1)
    for block, reader in zip(network.blocks, readers, strict=True):
        if not block.residual:  # else it is added to what has the factor of the block before
            factor = torch.exp(torch.randn(block.project[1].num_features, generator=generator) * spread)
        with torch.no_grad():
            block.project[1].weight.mul_(factor)
            block.project[1].bias.mul_(factor)
            reader.weight.div_(factor[None, :, None, None])


def seeded(model: str) -> nn.Module:
    """A network with random weights, and norms as training leaves them: so that its answers depend on its inputs."""
    torch.manual_seed(0)
    network: nn.Module = globals()[model]()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
    if norms:
        with torch.no_grad():
            network.train()(samples(model, 64, seed=11))
    return network.eval()


@dataclass(frozen=True)
class Save(Step):
    """A network of this file, by the name of its class, made with seed 0."""

    produces: ClassVar[Kind] = Kind("torch")

    model: str = ""

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        network, x = seeded(self.model), samples(self.model, 2)
        with torch.no_grad():
            found = network(x)
        outputs = found if isinstance(found, dict) else {"output": found}
        specs: dict[str, Any] = {
            "inputs": [{"name": "x", "dtype": "float32", "shape": [None, *x.shape[1:]]}],
            "outputs": [{"name": n, "dtype": "float32", "shape": [None, *t.shape[1:]]} for n, t in outputs.items()],
            **({"call": []} if isinstance(found, dict) else {}),
        }
        named.save(network, reference(self.model), {}, specs, out)
        return StepResult()


@dataclass(frozen=True)
class Fold(Step):
    """The network as a program, BatchNorm folded, and nothing else."""

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        program.write(program.load(inputs["parent"], LOG), inputs["parent"], out, LOG)
        return StepResult()


def reference(model: str) -> str:
    """How a recipe names a network of this file."""
    name = f"{Path(__file__).resolve()}:{model}"
    user_code.typed(name)
    return name


def samples(model: str, count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *globals()[model].shape, generator=torch.Generator().manual_seed(seed))


def sample_set(model: str, count: int, seed: int = 0) -> SampleSet:
    return reading.sample_set("made", {"x": np.asarray(samples(model, count, seed))}, None)


def traced(network: nn.Module, x: Tensor) -> Program:
    """A program with an open batch, BatchNorm folded, without an artifact."""
    dims = ({0: torch.export.Dim("batch", min=1)},)
    module = program.prepared(torch.export.export(network.eval(), (x,), dynamic_shapes=dims))
    return Program(module, Example({"x": x}, {"x": {0: "batch"}}), program.fold(module))


def artifact(model: str, folder: Path) -> Artifact:
    """The network, stored in a run in `folder`."""
    store = Store(folder / "run")
    with store.lock():
        return store.make("torch", Save(model), {}, context(model, 1))


def context(model: str, count: int) -> Context:
    """`count` samples to calibrate with."""
    return Context(None, {"calibration": sample_set(model, count)}, quiet, LOG)
