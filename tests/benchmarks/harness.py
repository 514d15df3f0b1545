"""`make bench`: what the harness itself costs, and whether its times are those of a bare loop.

1. The null runtime: microseconds that edgekit adds to each timed inference.
2. edgekit's p50 against the bare loop of `bare.py` over the same file, one process of each in turn: the ratio with its
   95 % interval, on models of at least 1 ms. The aim: within 0.95 to 1.05.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from fixtures import artifacts, samples

from edgekit import registry, targets
from edgekit.execute import execute
from edgekit.score import t_quantile
from edgekit.types import Artifact, Plan, SampleSet, Target

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
    """One row: process by process in turn, the order swapped each round."""
    from edgekit.execute import runtimes_for
    from edgekit.store import model_file

    runtime = runtimes_for(artifact, host)[0]
    ours, bare = [], []
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, data.inputs["input"])
        file.flush()
        command = [sys.executable, str(Path(__file__).with_name("bare.py")), runtime]
        command += [str(model_file(artifact.kind, artifact.path)), file.name, str(plan.seconds)]
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                if which:
                    run = execute(artifact, host, data, plan, outputs=False)
                    ours.append(float(np.median(run.processes[0].times_ns)) / 1e6)
                else:
                    done = subprocess.run(command, capture_output=True, check=True, text=True)
                    bare.append(float(np.median(json.loads(done.stdout))) / 1e6)
    logs = np.log(ours) - np.log(bare)
    half = t_quantile(0.975, rounds - 1) * float(logs.std(ddof=1)) / math.sqrt(rounds)
    mean = float(logs.mean())
    low, high = math.exp(mean - half), math.exp(mean + half)
    inside = "" if low >= 0.95 and high <= 1.05 else "  (not within 0.95-1.05)"
    print(
        f"{name:<16}{runtime:<14}{np.median(ours):>11.3f}{np.median(bare):>9.3f}{math.exp(mean):>8.3f}"
        f"   {low:.3f} to {high:.3f}{inside}",
        flush=True,
    )


if __name__ == "__main__":
    main()
