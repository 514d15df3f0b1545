"""`make bench-truth`: how often the statistics are right, with the settings that edgekit ships.

a. 50 comparisons of an artifact with itself, and 50 with one made 5 % slower: how many are called a difference?
   (aims: at most 2, at least 45)
b. The 100 measurements that those comparisons made of the artifact itself: how often does the 95 % interval of p50 hold
   the median of a long reference run that was interleaved with them: the processes of its twin, in the rounds around
   it? (aim: at least 90) The same with all processes shuffled, so that a machine that drifts does so alike in all of
   them: does the interval keep its promise where the machine keeps still?
g. 50 gates of `p50>+5%` on an artifact against itself, and 50 against one made 10 % slower: how many fail?
   (aims: at most 2, at least 45)
c. Each runtime's p50 against a bare loop, and OpenVINO's also against its own benchmark_app: see `harness.py`.

Run it on an idle machine; it says at the end how much the machine itself moved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from dataclasses import replace

import harness
import numpy as np
from fixtures import artifacts, samples
from slowed import Regressed, Slowed

from edgekit.core import registry
from edgekit.core import statistics as statisticss
from edgekit.core.artifact import Artifact
from edgekit.core.measurement import Latency, Measurement, Process, Ratio
from edgekit.core.samples import SampleSet
from edgekit.core.target import PRESETS, Plan, Target
from edgekit.measure import targets
from edgekit.measure.execute import execute_all
from edgekit.workflows.compare import limits
from edgekit.workflows.compare.limits import Limit

#: so many rounds on either side belong to a measurement's reference
AROUND = 2
#: a row of which only the latency matters
ROW = Measurement(
    "onnx", "", (), "onnx", "fp32", "", "host", "onnxruntime", "measured",
    0, 0, 0, 0, None, None, None, None, None, None, None, {}, "",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="abgc", help="a and b are one part; g and c are others")
    parser.add_argument("--thorough", action="store_true", help="the plan of edgekit's own --thorough")
    parser.add_argument("--comparisons", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=12, help="of part c")
    options = parser.parse_args()
    registry.add("runtimes", "slowed", Slowed)
    registry.add("runtimes", "regressed", Regressed)
    plan = Plan(**PRESETS["thorough"]) if options.thorough else Plan()
    data, host = samples(), targets.load("host")
    if set(options.parts) & set("ab"):
        with artifacts("to_onnx") as made:
            comparisons(made["to_onnx"], host, data, plan, options.comparisons)
    if "g" in options.parts:
        with artifacts("to_onnx") as made:
            gates(made["to_onnx"], host, data, plan, options.comparisons)
    if "c" in options.parts:
        print("\nc. against a bare loop")
        harness.ratios(host, data, replace(plan, processes=1, seconds=0.5), options.rounds)


def comparisons(artifact: Artifact, host: Target, data: SampleSet, plan: Plan, rounds: int) -> None:
    """Each round measures the artifact twice and the slowed one once, interleaved."""
    both = replace(host, runtimes={"onnxruntime": "", "slowed": ""})
    pairs = [(artifact, "onnxruntime"), (artifact, "onnxruntime"), (artifact, "slowed")]
    twins: list[tuple[Latency, Latency]] = []
    processes: list[Process] = []
    slower, seconds = [], []
    for turn in range(rounds):
        order = (2, 1, 0) if turn % 2 else (0, 1, 2)
        started = time.monotonic()
        runs = execute_all([pairs[i] for i in order], both, data, plan, outputs=False)
        seconds.append((time.monotonic() - started) * 2 / 3)
        a, b, c = (statisticss.latency(runs[order.index(i)].processes, 1, 1) for i in range(3))
        twins.append((a, b))
        processes += [process for i in (0, 1) for process in runs[order.index(i)].processes]
        slower.append(statisticss.latency_ratio(c, a, paired=True))
        print(f"   round {turn + 1} of {rounds}: {b.p50 / a.p50:.3f}, {slower[-1].value:.3f}", flush=True)
    differences([statisticss.latency_ratio(b, a, paired=True) for a, b in twins], slower, seconds)
    coverage(twins)
    shuffled(processes, plan.processes)


def gates(artifact: Artifact, host: Target, data: SampleSet, plan: Plan, rounds: int) -> None:
    """Each round is what `compare --against` does, twice: two artifacts interleaved, then the limit's verdict."""
    limit = Limit.parse("p50>+5%")
    both = replace(host, runtimes={"onnxruntime": "", "regressed": ""})
    states: dict[str, Counter[str]] = {"onnxruntime": Counter(), "regressed": Counter()}
    seconds = []
    for turn in range(rounds):
        for runtime, counted in states.items():
            started = time.monotonic()
            runs = execute_all([(artifact, "onnxruntime"), (artifact, runtime)], both, data, plan, outputs=False)
            seconds.append(time.monotonic() - started)
            disturbed = any(run.invalid for run in runs)
            before, now = (statisticss.latency(run.processes, 1, 1) for run in runs)
            rows = tuple(replace(ROW, latency_ms=latency) for latency in (before, now))
            ratio = "disturbed" if disturbed else statisticss.latency_ratio(now, before, paired=True)
            verdict = limits.evaluate(limit, rows, ratio)
            counted[verdict.state if verdict else "not asked"] += 1
        print(
            f"   round {turn + 1} of {rounds}: {dict(states['regressed'])}, {dict(states['onnxruntime'])}", flush=True
        )
    print(f"g. {limit.text} on itself: {dict(states['onnxruntime'])} (aim: at most 2 of 50 failed)")
    print(f"   on one 10 % slower: {dict(states['regressed'])} (aim: at least 45 of 50 failed)")
    print(f"   {statistics.median(seconds):.1f} s per gate, at most {max(seconds):.1f} s", flush=True)


def differences(same: list[Ratio], slower: list[Ratio], seconds: list[float]) -> None:
    print(f"a. {len(same)} A/A comparisons: {sum(r.differs for r in same)} called a difference (aim: at most 2 of 50)")
    called = sum(ratio.differs for ratio in slower)
    print(f"   {len(slower)} with one side 5 % slower: {called} called (aim: at least 45 of 50)")
    for name, found in {"itself": same, "the slower one": slower}.items():
        values = [ratio.value for ratio in found]
        low, high = np.percentile(values, (2.5, 97.5))
        print(f"   ratios to {name}: median {statistics.median(values):.4f}, 95 % within {low:.4f} to {high:.4f}")
    print(f"   {statistics.median(seconds):.1f} s per comparison, at most {max(seconds):.1f} s")


def coverage(twins: list[tuple[Latency, Latency]]) -> None:
    """Each measurement against the processes of its twin in its own round and those around it."""
    hits, widths = 0, []
    for turn in range(len(twins)):
        around = twins[max(0, turn - AROUND) : turn + AROUND + 1]
        for side in (0, 1):
            found = twins[turn][side]
            truth = statistics.median(p50 for pair in around for p50 in pair[1 - side].per_process_p50)
            hits += found.ci95[0] <= truth <= found.ci95[1]
            widths.append((found.ci95[1] - found.ci95[0]) / truth)
    p50s = [found.p50 for pair in twins for found in pair]
    print(f"\nb. {hits} of {len(p50s)} intervals hold the reference's p50 (aim: at least 90 of 100)")
    moved = max(p50s) / min(p50s) - 1
    print(f"   median width {statistics.median(widths):.1%}; over the whole time p50 moved by {moved:.1%}", flush=True)


def shuffled(processes: list[Process], each: int) -> None:
    """All processes resampled into measurements, compared with the median of all."""
    truth = float(np.median([time for process in processes for time in process.times_ns])) / 1e6
    order = np.random.default_rng(0).permutation(len(processes))
    groups = [order[i : i + each] for i in range(0, len(order), each)]
    found = [statisticss.latency([processes[i] for i in group], 1, 1) for group in groups]
    hits = sum(one.ci95[0] <= truth <= one.ci95[1] for one in found)
    print(f"   shuffled: {hits} of {len(found)} intervals hold the p50 of all", flush=True)


if __name__ == "__main__":
    main()
