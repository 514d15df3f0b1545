"""`make bench`: what the harness itself costs, and whether its times are those of a bare loop.

1. The null runtime: microseconds that edgekit adds to each timed inference.
2. edgekit's p50 against the bare loop of `bare.py` over the same file, one process of each in turn: the ratio with its
   95 % interval, on models of at least 1 ms. The aim: within 0.95 to 1.05.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from fixtures import SHAPE, artifacts, samples
from numpy.typing import NDArray

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.samples import SampleSet
from edgekit.core.statistics import t_quantile
from edgekit.core.target import Plan, Target
from edgekit.formats import model_file
from edgekit.measure import targets
from edgekit.measure.execute import execute, runtimes_for

Times = NDArray[np.float64]
STEPS = ("to_onnx", "onnx_int8", "to_tflite", "tflite_int8", "to_openvino", "openvino_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    plan = Plan(processes=1, seconds=options.seconds)
    host, data = targets.load("host"), samples()
    with artifacts("to_onnx") as made:
        null = replace(host, runtimes={"null": ""})
        cost = np.median(execute(made["to_onnx"], null, data, plan, outputs=False).processes[0].times_ns)
        print(f"null runtime: {cost / 1000:.2f} µs per inference is the harness's own\n")
    ratios(host, data, plan, options.rounds)


def ratios(host: Target, data: SampleSet, plan: Plan, rounds: int) -> None:
    """A row per artifact: its p50 through edgekit over that of a bare loop."""
    print(f"{'artifact':<16}{'against':<14}{'edgekit ms':>11}{'other ms':>9}{'ratio':>8}   95 % interval")
    with artifacts(*(name for name in STEPS if name in registry.names("steps"))) as made:
        for name, artifact in made.items():
            compare(name, artifact, host, data, plan, rounds)


def compare(name: str, artifact: Artifact, host: Target, data: SampleSet, plan: Plan, rounds: int) -> None:
    """A row per rival, all of them process by process in turn, the order turned round each time."""
    runtime = runtimes_for(artifact, host)[0]
    model = str(model_file(artifact.kind, artifact.path))
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, data.inputs["input"])
        file.flush()
        rivals: dict[str, Callable[[], float]] = {
            "edgekit": lambda: median(execute(artifact, host, data, plan, outputs=False).processes[0].times_ns),
            "bare loop": lambda: bare(runtime, model, file.name, plan.seconds),
        }
        if runtime == "openvino":
            rivals["benchmark_app"] = lambda: benchmark_app(model, plan.seconds)
        times: dict[str, list[float]] = {rival: [] for rival in rivals}
        for turn in range(rounds):
            for rival in list(rivals)[:: -1 if turn % 2 else 1]:
                times[rival].append(rivals[rival]())
    for rival in list(rivals)[1:]:
        row(name, rival, np.array(times["edgekit"]), np.array(times[rival]))


def row(name: str, rival: str, ours: Times, theirs: Times) -> None:
    """The mean ratio of paired processes, with its 95 % t interval, in logarithms."""
    logs = np.log(ours) - np.log(theirs)
    half = t_quantile(0.975, len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    low, ratio, high = (math.exp(float(logs.mean()) + step) for step in (-half, 0, half))
    inside = "" if low >= 0.95 and high <= 1.05 else "  (not within 0.95-1.05)"
    print(
        f"{name:<16}{rival:<14}{np.median(ours):>11.3f}{np.median(theirs):>9.3f}{ratio:>8.3f}"
        f"   {low:.3f} to {high:.3f}{inside}",
        flush=True,
    )


def median(times_ns: Sequence[float]) -> float:
    return float(np.median(times_ns)) / 1e6


def bare(runtime: str, model: str, inputs: str, seconds: float) -> float:
    command = [sys.executable, str(Path(__file__).with_name("bare.py")), runtime, model, inputs, str(seconds)]
    return median(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


def benchmark_app(model: str, seconds: float) -> float:
    """OpenVINO's own tool; it takes whole seconds only."""
    tool = str(Path(sys.executable).with_name("benchmark_app"))
    shape = ",".join(map(str, (1, *SHAPE)))
    settings = "-d CPU -hint none -api sync -nireq 1 -nstreams 1 -nthreads 1 -infer_precision f32".split()
    command = [tool, "-m", model, *settings, "-t", str(max(1, round(seconds))), "-data_shape", f"[{shape}]"]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    found = re.search(r"Median:\s+([0-9.]+) (ms|us)", printed)
    assert found, printed[-2000:]
    return float(found.group(1)) / (1 if found.group(2) == "ms" else 1000)


if __name__ == "__main__":
    main()
