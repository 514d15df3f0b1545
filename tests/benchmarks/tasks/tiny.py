"""MLPerf Tiny's four networks as TFLite files, compared with the reference's files (github.com/mlcommons/tiny, v1.x).

At the reference's input and class count. Sizes do not depend on what was learnt, so the weights are those of the start.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import quiet
from edgekit.core.step import Context, Step, StepResult
from edgekit.networks import named
from edgekit.runs.store import Store
from edgekit.sets import reading

IMAGE = {"mean": [0.0], "std": [1.0]}


@dataclass(frozen=True)
class Reference:
    """`parameters` with the running statistics, MACs of convolutions and dense layers, bytes of its float and int8
    TFLite files; 0 where the repository holds none.
    """

    use: str
    model: str
    arguments: Mapping[str, Any]
    shape: tuple[int, ...]
    outputs: int
    parameters: int
    macs: int
    plain: int
    int8: int


REFERENCES = (
    Reference(
        "image classification",
        "resnet8",
        {"shape": [3, 32, 32], "classes": 10, **IMAGE},
        (3, 32, 32),
        10,
        78_666,
        12_501_632,
        318_144,
        98_496,
    ),
    Reference(
        "visual wake words",
        "mobilenet-v1",
        {"shape": [3, 96, 96], "classes": 2, **IMAGE},
        (3, 96, 96),
        2,
        221_794,
        7_489_664,
        866_284,
        333_288,
    ),
    Reference("anomaly detection", "autoencoder", {"size": 640}, (640,), 640, 269_992, 264_192, 1_067_648, 276_976),
    Reference(
        "keyword spotting",
        "ds-cnn-kws",
        {"frames": 49, "bands": 10, "classes": 12},
        (49, 10),
        12,
        24_908,
        2_656_768,
        0,
        53_936,
    ),
)


@dataclass(frozen=True)
class Fresh(Step):
    """nothing → torch: the network with the weights it starts from."""

    produces: ClassVar[Kind] = Kind("torch")
    number: int = 0

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import torch

        one = REFERENCES[self.number]
        torch.manual_seed(0)
        specs = {
            "inputs": [{"name": "input", "dtype": "float32", "shape": [None, *one.shape]}],
            "outputs": [{"name": "output", "dtype": "float32", "shape": [None, one.outputs]}],
        }
        network = named.build(one.model, dict(one.arguments)).eval()
        named.save(network, one.model, dict(one.arguments), specs, out)
        return StepResult()


def sizes(number: int) -> tuple[int, int]:
    """Bytes of the float and of the int8 TFLite file."""
    noise = np.random.default_rng(0).normal(size=(32, *REFERENCES[number].shape)).astype(np.float32)
    data = {"calibration": reading.sample_set("noise", {"input": noise}, None)}
    context = Context(None, data, quiet, logging.getLogger("edgekit"))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        with store.lock():
            root = store.make("torch", Fresh(number=number), {}, context)
            plain = store.make("tflite", registry.load("steps", "to_tflite")(), {"parent": root}, context)
            int8 = store.make("tflite-int8", registry.load("steps", "tflite_int8")(), {"parent": plain}, context)
        return plain.sizes.total, int8.sizes.total


def table() -> list[str]:
    lines = [
        "| MLPerf Tiny | network | parameters | MACs | float, bytes | reference | int8, bytes | reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(REFERENCES):
        plain, int8 = sizes(number)
        reference = f"{one.plain:,}" if one.plain else "–"
        lines.append(
            f"| {one.use} | `{one.model}` | {one.parameters:,} | {one.macs:,} | {plain:,} | {reference} "
            f"| {int8:,} | {one.int8:,} |"
        )
    return lines
