"""What the rewrites of TFLite files bring: operators, peak memory of activations and latency, before and after.

    python tests/benchmarks/tflite_rewrites.py [NETWORK …]          a minute per network

The task networks with random weights, in float32 and int8. `folded`: with `fold_padding`. The latency is that of LiteRT
with XNNPACK on one thread: the median of the ratios of runs one after the other, so that other load is in both.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit.compression.calibration.ranges import ranges
from edgekit.compression.calibration.tflite import observe
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.formats.tflite import packed, read, unpack
from edgekit.networks import named
from edgekit.steps.shared.tflite_slim import slim
from edgekit.steps.tflite_int8 import quantize

NETWORKS: Mapping[str, tuple[int, int]] = {
    "ds-cnn": (1, 28),
    "cnn": (1, 28),
    "resnet8": (3, 32),
    "mobilenet-v1": (3, 96),
    "vit": (3, 32),
}
ROUNDS, RUNS = 101, 10


def main() -> None:
    print(f"{'network':<14}{'type':<9}{'file':<9}{'operators':>10}{'peak kB':>9}{'latency':>9}  outputs")
    for name in sys.argv[1:] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            for dtype, path in converted(name, Path(folder)).items():
                compare(name, dtype, path)


def converted(name: str, folder: Path) -> dict[str, Path]:
    """The converter's file, and int8 of it, without rewrites."""
    import litert_torch

    channels, side = NETWORKS[name]
    shape = (channels, side, side)
    torch.manual_seed(0)
    arguments = {"shape": list(shape), "classes": 10, "mean": [127.0] * channels, "std": [70.0] * channels}
    network = named.build(name, arguments).eval()
    paths = {dtype: folder / f"{dtype}.tflite" for dtype in ("float32", "int8")}
    litert_torch.convert(network, (torch.zeros(1, *shape),)).export(str(paths["float32"]))
    given = read(paths["float32"]).subgraphs[0].inputs[0].name
    pixels = np.random.default_rng(1).integers(0, 256, (32, 1, *shape)).astype(np.float32)
    context = Context(None, {}, quiet, logging.getLogger("bench"))
    statistics = observe(paths["float32"], ({given: image} for image in pixels), context)
    raw = quantize(paths["float32"], ranges(statistics, "min-max"), name)
    paths["int8"].write_bytes(packed(unpack(raw, name)))
    return paths


def compare(name: str, dtype: str, path: Path) -> None:
    before, count, peak = interpreter(path), *facts(path)
    print(f"{name:<14}{dtype:<9}{'before':<9}{count:>10}{peak / 1000:>9.1f}{1:>9.2f}")
    for variant in ("after", "folded"):
        model = unpack(path.read_bytes(), name)
        slim(model, fold_padding=variant == "folded")
        rewritten = path.with_name(f"{dtype}-{variant}.tflite")
        rewritten.write_bytes(packed(model))
        after, (count, peak) = interpreter(rewritten), facts(rewritten)
        difference = max(largest_difference(before, after, seed) for seed in range(8))
        same = "equal to the bit" if difference == 0 else f"differ by at most {difference:.0e}"
        print(f"{name:<14}{dtype:<9}{variant:<9}{count:>10}{peak / 1000:>9.1f}{ratio(before, after):>9.2f}  {same}")


def facts(path: Path) -> tuple[int, int]:
    """Operators and bytes of activations at the peak."""
    graph = read(path).subgraphs[0]
    return len(graph.nodes), graph.peak_bytes or 0


def interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(str(path), num_threads=1)
    loaded.allocate_tensors()
    return loaded


def largest_difference(before: Any, after: Any, seed: int) -> float:
    given = before.get_input_details()[0]
    low, high = (-128, 128) if given["dtype"] == np.int8 else (0, 256)
    values = np.random.default_rng(seed).integers(low, high, given["shape"]).astype(given["dtype"])
    outputs = []
    for model in (before, after):
        model.set_tensor(model.get_input_details()[0]["index"], values)
        model.invoke()
        outputs.append(model.get_tensor(model.get_output_details()[0]["index"]).astype(np.float64))
    return float(np.abs(outputs[0] - outputs[1]).max())


def ratio(before: Any, after: Any) -> float:
    """The latency after, for that before as 1."""
    ratios = []
    for number in range(ROUNDS):
        times = {}
        for model in (before, after) if number % 2 else (after, before):
            started = time.perf_counter()
            for _ in range(RUNS):
                model.invoke()
            times[model] = time.perf_counter() - started
        ratios.append(times[after] / times[before])
    return float(np.median(ratios))


if __name__ == "__main__":
    main()
