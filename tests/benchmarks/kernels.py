"""`make bench-kernels`: which operators are faster in float between int8 convolutions, in each runtime on this CPU.

A convolution, the operator and another convolution are made as float, as int8, and as int8 with the operator in float,
and timed in one session. The ratios go into `edgekit/workflows/kernels.json`, under the instruction set of
this machine, next to those of others; `edgekit quantize` reads them to choose candidates.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute_all
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set
from edgekit.steps.import_network import ImportNetwork
from edgekit.workflows.kernels import KERNELS
from edgekit.workflows.quantize.placement import operators
from edgekit.workflows.routes import route

SIZE, WIDTH = 28, 64
PLAN = Plan(processes=7, seconds=0.1, warmup_seconds=0.05)
FORMATS = ("onnx", "tflite", "openvino")


class Squeeze(nn.Module):
    """Squeeze-and-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(WIDTH, 16, 1), nn.Conv2d(16, WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = functional.relu(self.one(x.mean((2, 3), keepdim=True)))
        return x * functional.hardsigmoid(self.two(scale))


OPERATORS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1),
    "elu": functional.elu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "add": lambda x: x + x.flip(3),
    "multiply": lambda x: x * x.flip(3),
    "softmax": lambda x: torch.softmax(x, 1),
    "mean": lambda x: x + x.mean((2, 3), keepdim=True),
    "max_pool": lambda x: functional.max_pool2d(x, 3, 1, 1),
    "average_pool": lambda x: functional.avg_pool2d(x, 3, 1, 1),
    "upsample": lambda x: functional.interpolate(x, scale_factor=2.0),
    "concatenate": lambda x: torch.cat([x[:, : WIDTH // 2], x[:, WIDTH // 2 :]], 1),
    "normalize": lambda x: functional.layer_norm(x, x.shape[1:]),
}


class Chain(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(OPERATORS[self.name](self.first(x)))
        return y


def chain(name: str) -> Callable[[], tuple[nn.Module, torch.Tensor]]:
    def make() -> tuple[nn.Module, torch.Tensor]:
        torch.manual_seed(0)
        return Chain(name).eval(), torch.randn(1, WIDTH, SIZE, SIZE)

    return make


globals().update({f"make_{name}": chain(name) for name in OPERATORS})


def main() -> None:
    host = targets.load("host")
    kernels: dict[str, Any] = json.loads(KERNELS.read_text())
    for format in FORMATS:
        runtime = next(name for name in host.runtimes if registry.runtime(name).takes(format))
        package = registry.runtime(runtime).package
        entry = kernels.setdefault(runtime, {"instruction_sets": {}})
        entry["version"] = version(package)
        measured: dict[str, Any] = {}
        plain = set()
        for name in OPERATORS:
            try:
                types, ratios = of_operator(name, format, runtime, plain)
            except EdgekitError as error:
                print(f"{runtime:12} {name:14} not possible: {error}", file=sys.stderr)
                continue
            if name == "none":
                plain = set(types)
                continue
            print(f"{runtime:12} {name:14} {'+'.join(types):32} {ratios}", flush=True)
            if types:
                measured["+".join(sorted(types))] = ratios
        entry["instruction_sets"][host.isa_class] = dict(sorted(measured.items()))
        KERNELS.write_text(json.dumps(kernels, indent=1) + "\n")


def of_operator(name: str, format: str, runtime: str, plain: set[str]) -> tuple[list[str], dict[str, float]]:
    """The types of operators that the chain has and a chain without the operator has not, and the ratios of times."""
    host = targets.load("host")
    log = logging.getLogger("edgekit.benchmark")
    data = sample_set("noise", {"x": np.random.default_rng(0).normal(size=(32, WIDTH, SIZE, SIZE)).astype("f4")}, None)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        context = Context(None, {}, quiet, log)
        model: Artifact = store.make("torch", ImportNetwork(f"{__file__}:make_{name}"), {}, context)
        for step in route("torch", format):
            model = store.make(format, registry.load("steps", step)(), {"parent": model}, context)
        own = operators(model)
        types = list(dict.fromkeys(operator.type for operator in own if operator.type not in plain))
        if name == "none":
            return types, {}
        context = Context(None, {"calibration": data}, quiet, log)
        ranges = store.make(
            "ranges", registry.load("steps", "calibrate")(calibration="noise"), {"parent": model}, context
        )
        int8 = registry.load("steps", f"{format}_int8")
        chosen = tuple(operator.name for operator in own if operator.type in types)
        models = [model]
        for label, in_float in (("int8", ()), ("mixed", chosen)):
            step = int8(ranges="ranges", weights_only=in_float).resolve(host)
            models.append(store.make(label, step, {"parent": model, "ranges": ranges}, context))
        runs = execute_all([(m, runtime) for m in models], host, data, PLAN, outputs=False)
        times = [statistics.latency(run.processes, 1, 1, "cpu") for run in runs]
    over = statistics.latency_ratio(times[2], times[1], paired=True)
    ratios = {
        "float_over_int8": round(over.value, 3),
        "float_over_int8_low": round(over.ci99[0], 3),
        "float_over_int8_high": round(over.ci99[1], 3),
        "int8_over_float_model": round(times[1].p50 / times[0].p50, 3),
    }
    return types, ratios


if __name__ == "__main__":
    main()
