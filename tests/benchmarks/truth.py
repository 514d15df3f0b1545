"""`make bench-truth`: how often the statistics are right, with the settings that edgekit ships.

a. 50 comparisons of an artifact with itself, and 50 with one made 5 % slower: how many are called a difference?
   (aims: at most 2, at least 45)
b. 100 repeats of a measurement: how often does the 95 % interval of p50 hold the median of a long reference run that
   was interleaved with them? (aim: at least 90)
c. Each runtime's p50 against a bare loop, and OpenVINO's also against its own benchmark_app: see `harness.py`.

Run it on an idle machine; it says at the end how much the machine itself moved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import harness
import numpy as np
from fixtures import artifacts, samples
from slowed import Slowed

from edgekit import registry, score, targets
from edgekit.execute import execute, execute_all
from edgekit.types import Artifact, Plan, SampleSet, Target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="abc", help="which of a, b and c to run")
    parser.add_argument("--processes", type=int, default=Plan().processes, help="timing processes per measurement")
    parser.add_argument("--comparisons", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    registry.add("runtimes", "slowed", Slowed)
    plan, data, host = Plan(processes=options.processes), samples(), targets.load("host")
    with artifacts("to_onnx") as made:
        artifact = made["to_onnx"]
        if "a" in options.parts:
            both = replace(host, runtimes={"onnxruntime": "", "slowed": ""})
            differences(artifact, both, data, plan, options.comparisons)
        if "b" in options.parts:
            coverage(artifact, host, data, plan, options.repeats)
    if "c" in options.parts:
        print("\nc. against a bare loop")
        harness.ratios(host, data, replace(plan, processes=1), options.rounds)


def differences(artifact: Artifact, host: Target, data: SampleSet, plan: Plan, comparisons: int) -> None:
    """(a): A/A and A/slowed in turn, so that both meet the same machine."""
    called = {"onnxruntime": 0, "slowed": 0}
    ratios: dict[str, list[float]] = {name: [] for name in called}
    seconds = []
    for _ in range(comparisons):
        for other in called:
            started = time.monotonic()
            pairs = [(artifact, "onnxruntime"), (artifact, other)]
            a, b = (score.latency(r.processes, 1, 1) for r in execute_all(pairs, host, data, plan, outputs=False))
            ratio = score.latency_ratio(b, a, paired=True)
            called[other] += ratio.differs
            ratios[other].append(ratio.value)
            seconds.append(time.monotonic() - started)
    print(f"a. {comparisons} A/A comparisons: {called['onnxruntime']} called a difference (aim: at most 2 of 50)")
    print(f"   {comparisons} with one side 5 % slower: {called['slowed']} called (aim: at least 45 of 50)")
    for name, found in ratios.items():
        low, high = np.percentile(found, (2.5, 97.5))
        print(f"   ratios against {name}: median {statistics.median(found):.4f}, 95 % within {low:.4f} to {high:.4f}")
    print(f"   {statistics.median(seconds):.1f} s per comparison, at most {max(seconds):.1f} s", flush=True)


def coverage(artifact: Artifact, host: Target, data: SampleSet, plan: Plan, repeats: int) -> None:
    """(b): a reference process of a second after each repeat; their pooled median is the value to be covered."""
    reference, intervals, values = [], [], []
    for _ in range(repeats):
        found = score.latency(execute(artifact, host, data, plan, outputs=False).processes, 1, 1)
        intervals.append(found.ci95)
        values.append(found.p50)
        long = execute(artifact, host, data, replace(plan, processes=1, seconds=1.0), outputs=False)
        reference += long.processes[0].times_ns
    truth = float(np.median(reference)) / 1e6
    hits = sum(low <= truth <= high for low, high in intervals)
    widths = [high - low for low, high in intervals]
    print(f"\nb. {hits} of {repeats} intervals hold the reference's {truth:.3f} ms (aim: at least 90 of 100)")
    spread = (max(values) - min(values)) / truth
    print(
        f"   median width {statistics.median(widths) / truth:.1%} of it; p50 itself moved by {spread:.1%}", flush=True
    )


if __name__ == "__main__":
    main()
