"""What the contract suites run on: a small network, made without training, and one that no exporter can convert."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.core import registry, user_code
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.networks import named
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set

#: of one sample, and how many values the network answers
SHAPE, CLASSES = (1, 20, 20), 4


class Small(nn.Module):
    """(N, 1, 20, 20) → (N, 4). The weights follow from a seed; height and width do not mean the same."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(1)
            self.conv, self.pool, self.linear = nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Linear(324, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.linear(torch.flatten(self.pool(torch.relu(self.conv(x))), 1))
        return answer


class Bessel(nn.Module):
    """An operator that no runtime has."""

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.special.bessel_j0(x)
        return values


class Unknown(nn.Module):
    """A linear layer, then an operator that no exporter converts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.inner = nn.Linear(4, 4), Bessel()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(self.linear(x))
        return answer


@dataclass(frozen=True)
class Make(Step):
    """A network of this file as a torch artifact."""

    produces: ClassVar[Kind] = Kind("torch")

    network: str = "Small"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        shapes = {"Small": (SHAPE, (CLASSES,)), "Unknown": ((4,), (4,))}[self.network]
        ends = zip(("inputs", "outputs"), ("input", "output"), shapes, strict=True)
        specs = {side: [{"name": name, "dtype": "float32", "shape": [None, *shape]}] for side, name, shape in ends}
        network = {"Small": Small, "Unknown": Unknown}[self.network]().eval()
        user_code.typed(f"{__name__}:{self.network}")
        named.save(network, f"{__name__}:{self.network}", {}, specs, out)
        return StepResult()


class Models:
    """The small network in any format that something exports to; each is made once, in a run of its own."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        with self.store.lock():
            self.torch = self.store.make("torch", Make(), {}, context())

    def in_format(self, format: str) -> Artifact:
        if format not in self.store.names():
            with self.store.lock():
                step: Step = registry.load("steps", f"to_{format}")()
                self.store.make(format, step, {"parent": self.torch}, context())
        return self.store.get(format)


def context() -> Context:
    return Context(None, {}, quiet, logging.getLogger("edgekit"))


def samples(count: int) -> SampleSet:
    """Images of bytes, the same every time."""
    images = np.random.default_rng(3).integers(0, 256, (count, *SHAPE)).astype(np.uint8)
    return sample_set("samples", {"input": images}, None)
