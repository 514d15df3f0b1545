"""`make bench-truth`: how often the statistics are right, with the settings that edgekit ships.

a. 50 comparisons of an artifact with itself, and 50 with one made 5 % slower: how many are called a difference?
   (aims: at most 2, at least 45)
b. The 100 measurements that those comparisons made of the artifact itself: how often does the 95 % interval of p50 hold
   the median of a long reference run that was interleaved with them? (aim: at least 90)
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
from edgekit.types import Artifact, Latency, Plan, Ratio, SampleSet, Target

#: a reference process takes this long, and this many follow each round
REFERENCE_SECONDS, REFERENCES = 1.0, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="abc", help="a and b are one part; c is the other")
    parser.add_argument("--processes", type=int, default=Plan().processes, help="timing processes per measurement")
    parser.add_argument("--comparisons", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    registry.add("runtimes", "slowed", Slowed)
    plan, data, host = Plan(processes=options.processes), samples(), targets.load("host")
    if set(options.parts) & set("ab"):
        with artifacts("to_onnx") as made:
            comparisons(made["to_onnx"], host, data, plan, options.comparisons)
    if "c" in options.parts:
        print("\nc. against a bare loop")
        harness.ratios(host, data, replace(plan, processes=1, seconds=0.5), options.rounds)


def comparisons(artifact: Artifact, host: Target, data: SampleSet, plan: Plan, rounds: int) -> None:
    """Each round measures the artifact twice and the slowed one once, interleaved; then come reference processes."""
    both = replace(host, runtimes={"onnxruntime": "", "slowed": ""})
    pairs = [(artifact, "onnxruntime"), (artifact, "onnxruntime"), (artifact, "slowed")]
    long = replace(plan, processes=REFERENCES, seconds=REFERENCE_SECONDS)
    same, slower, latencies, reference, seconds = [], [], [], [], []
    for turn in range(rounds):
        order = (2, 1, 0) if turn % 2 else (0, 1, 2)
        started = time.monotonic()
        runs = execute_all([pairs[i] for i in order], both, data, plan, outputs=False)
        seconds.append((time.monotonic() - started) * 2 / 3)
        a, b, c = (score.latency(runs[order.index(i)].processes, 1, 1) for i in range(3))
        same.append(score.latency_ratio(b, a, paired=True))
        slower.append(score.latency_ratio(c, a, paired=True))
        latencies += [a, b]
        for process in execute(artifact, host, data, long, outputs=False).processes:
            reference += process.times_ns
        print(f"   round {turn + 1} of {rounds}: {same[-1].value:.3f}, {slower[-1].value:.3f}", flush=True)
    differences(same, slower, seconds)
    coverage(latencies, float(np.median(reference)) / 1e6)


def differences(same: list[Ratio], slower: list[Ratio], seconds: list[float]) -> None:
    print(f"a. {len(same)} A/A comparisons: {sum(r.differs for r in same)} called a difference (aim: at most 2 of 50)")
    called = sum(ratio.differs for ratio in slower)
    print(f"   {len(slower)} with one side 5 % slower: {called} called (aim: at least 45 of 50)")
    for name, found in {"itself": same, "the slower one": slower}.items():
        values = [ratio.value for ratio in found]
        low, high = np.percentile(values, (2.5, 97.5))
        print(f"   ratios to {name}: median {statistics.median(values):.4f}, 95 % within {low:.4f} to {high:.4f}")
    print(f"   {statistics.median(seconds):.1f} s per comparison, at most {max(seconds):.1f} s")


def coverage(latencies: list[Latency], truth: float) -> None:
    hits = sum(low <= truth <= high for low, high in (found.ci95 for found in latencies))
    widths = [high - low for low, high in (found.ci95 for found in latencies)]
    values = [found.p50 for found in latencies]
    print(f"\nb. {hits} of {len(latencies)} intervals hold the reference's {truth:.3f} ms (aim: at least 90 of 100)")
    spread = (max(values) - min(values)) / truth
    print(
        f"   median width {statistics.median(widths) / truth:.1%} of it; p50 itself moved by {spread:.1%}", flush=True
    )


if __name__ == "__main__":
    main()
