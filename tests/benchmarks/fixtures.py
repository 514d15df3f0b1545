"""What the benchmarks share: untrained networks of a chosen size as artifacts, and their samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.networks import named
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set

SHAPE = (3, 160, 160)
SAMPLES = 16


@dataclass(frozen=True)
class Untrained(Step):
    """nothing → torch: a network with its initial weights. Speed does not depend on what it learnt."""

    produces: ClassVar[Kind] = Kind("torch")
    model: str = "cnn"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import torch

        torch.manual_seed(0)
        arguments: dict[str, Any] = {"shape": list(SHAPE), "classes": 10, "mean": [128.0] * 3, "std": [64.0] * 3}
        network = named.build(self.model, arguments).eval()
        specs = {
            "inputs": [{"name": "input", "dtype": "float32", "shape": [None, *SHAPE]}],
            "outputs": [{"name": "output", "dtype": "float32", "shape": [None, 10]}],
        }
        named.save(network, self.model, arguments, specs, out)
        return StepResult()


def samples(count: int = SAMPLES) -> SampleSet:
    """Random images of the benchmark's shape, uint8."""
    images = np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return sample_set("random", {"input": images}, None)


@contextmanager
def artifacts(*steps: str, model: str = "cnn") -> Iterator[dict[str, Artifact]]:
    """An untrained network put through steps ("to_onnx", "onnx_int8"), each under its step's name, and "torch"."""
    with TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        store = Store(Path(folder))
        with store.lock():
            context = Context(None, {"calibration": samples()}, quiet, logging.getLogger("edgekit"))
            made = {"torch": store.make("torch", Untrained(model), {}, context)}
            for name in steps:
                step: Step = registry.load("steps", name)()
                parent = next(a for a in reversed(made.values()) if a.kind in step.accepts)
                made[name] = store.make(name, step, {"parent": parent}, context)
            yield made
