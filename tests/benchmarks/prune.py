"""Pruning on Fashion-MNIST: a measured speedup of 1.5, compared with Torch-Pruning's defaults.

    make bench-prune                  into runs/bench-prune; existing artifacts are reused
    python tests/benchmarks/prune.py --zeros     the speedup of unstructured zeros in each runtime

A ResNet and a MobileNet-style network. edgekit prunes with `speedup = 1.5` in all three runtimes. The rival is pruned
to the same MACs with Torch-Pruning's defaults (group magnitude, the same share of every layer, no rounding) and
fine-tuned with the labels only, for as many epochs. Accuracy is over the test images, paired; latencies are
interleaved.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FORMATS = {"onnx": "onnxruntime", "tflite": "litert", "openvino": "openvino"}
TASK, GOAL = "fashion-mnist", 1.5
TRAIN: dict[str, Any] = {"epochs": 4, "lr": 0.005}
TUNE: dict[str, Any] = {"epochs": 4, "lr": 0.003}

from edgekit import networks, tasks  # noqa: E402
from edgekit.core import statistics  # noqa: E402
from edgekit.core.artifact import Artifact  # noqa: E402
from edgekit.core.measurement import Run  # noqa: E402
from edgekit.core.progress import quiet  # noqa: E402
from edgekit.core.registry import load  # noqa: E402
from edgekit.core.step import Context, Step  # noqa: E402
from edgekit.core.target import Plan  # noqa: E402
from edgekit.measure import context as contexts  # noqa: E402
from edgekit.measure import targets  # noqa: E402
from edgekit.measure.context import RunContext  # noqa: E402
from edgekit.measure.execute import execute_all  # noqa: E402
from edgekit.networks import named  # noqa: E402
from edgekit.runs import named_sets  # noqa: E402
from edgekit.runs.graph import Node  # noqa: E402
from edgekit.runs.recipe import Gates  # noqa: E402
from edgekit.runs.store import Store  # noqa: E402
from edgekit.steps.prune import Prune  # noqa: E402
from edgekit.steps.train import Train  # noqa: E402
from edgekit.workflows import make  # noqa: E402
from edgekit.workflows.setup import (  # noqa: E402
    open_run,
    run_context,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet,mobilenet")
    parser.add_argument("--samples", type=int, default=10_000, help="train on the first so many (0: all 55,000)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-prune"))
    parser.add_argument("--warm", action="store_true", help="make everything, measure nothing more")
    parser.add_argument("--zeros", action="store_true")
    words = parser.parse_args()
    out = words.out.absolute()
    os.chdir(HERE)  # the networks are named by their file
    context = run_context(Store(out), tasks.load(TASK), ["host"], Plan(), Gates(), quiet, say)
    with open_run(context.store):
        for name in words.networks.split(","):
            if words.zeros:
                print(zeros(name, words.samples, context))
                continue
            models = made(name, words.samples, context)
            if not words.warm:
                found = measured(name, models, context)
                (out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
                print(table(name, found), flush=True)


def parent_of(name: str, samples: int, context: RunContext) -> Artifact:
    step = Train(model=f"prune_nets.py:{name}", samples=samples, **TRAIN)
    return make.make_one(Node(f"{name}.torch", step, {}), {}, context)


def made(name: str, samples: int, context: RunContext) -> dict[str, dict[str, Artifact]]:
    """Who → format → file."""
    parent = parent_of(name, samples, context)
    ours = Prune(speedup=GOAL, samples=samples, **TUNE).resolve(context.targets[0])
    ours = replace(ours, runtimes=tuple(FORMATS.values()))
    edgekit = pruned(f"{name}-edgekit", ours, parent, context)
    same = Prune(macs=edgekit.details["pruned"]["macs"], round_to=1, distil="", samples=samples, **TUNE)
    rival = pruned(f"{name}-torch-pruning", same, parent, context)
    say(f"  {name}: {edgekit.details['pruned']['speedups']}, MACs {edgekit.details['pruned']['macs']:.3f}")
    return {
        who: {format: exported(model, format, context) for format in FORMATS}
        for who, model in (("parent", parent), ("edgekit", edgekit), ("torch-pruning", rival))
    }


def pruned(chain: str, step: Step, parent: Artifact, context: RunContext) -> Artifact:
    return make.make_one(Node(f"{chain}.torch", step, {"parent": parent.name}), {"parent": parent}, context)


def exported(model: Artifact, format: str, context: RunContext) -> Artifact:
    node = Node(f"{model.chain}.{format}", load("steps", f"to_{format}")(), {"parent": model.name})
    return make.make_one(node, {"parent": model}, context)


def measured(name: str, models: Mapping[str, Mapping[str, Artifact]], context: RunContext) -> dict[str, Any]:
    test, host = named_sets.load(f"{TASK}:test"), targets.load("host")
    found: dict[str, Any] = {"macs": models["edgekit"]["onnx"].name, "runtimes": {}}
    for format, runtime in FORMATS.items():
        say(f"  measuring {name} in {runtime} …")
        pairs = [(models[who][format], runtime) for who in models]
        runs = dict(zip(models, execute_all(pairs, host, test, Plan()), strict=True))
        found["runtimes"][runtime] = {who: row(runs, who, test) for who in models}
    return found


def row(runs: Mapping[str, Run], who: str, test: Any) -> dict[str, Any]:
    task = tasks.load(TASK)
    times = {name: statistics.latency(run.processes, 1, 1) for name, run in runs.items()}
    scores = {name: task.score(run.outputs, test.labels) for name, run in runs.items()}
    reference = None if who == "parent" else scores["parent"]
    metric = statistics.metric(scores[who], test.sha256, reference, "parent" if reference else None)
    found = {"p50": times[who].p50, "invalid": runs[who].invalid, "metric": asdict(metric)}
    if who != "parent":
        found["faster"] = asdict(statistics.latency_ratio(times["parent"], times[who], paired=True))
    if who == "edgekit":
        found["over_rival"] = asdict(statistics.latency_ratio(times["torch-pruning"], times[who], paired=True))
    return found


def table(name: str, found: Mapping[str, Any]) -> str:
    lines = [f"| {name} | runtime | p50, ms | times faster (99 %) | accuracy | drop, pp (95 %) |"]
    lines.append("|---|---|--:|--:|--:|--:|")
    for runtime, rows in found["runtimes"].items():
        for who, entry in rows.items():
            metric = entry["metric"]
            faster = entry.get("faster")
            times = f"{faster['value']:.2f} ({faster['ci99'][0]:.2f} to {faster['ci99'][1]:.2f})" if faster else ""
            drop = ""
            if metric["drop_pp"] is not None:
                low, high = metric["drop_ci95"]
                drop = f"{metric['drop_pp']:+.2f} ({low:+.2f} to {high:+.2f})"
            spoilt = " (disturbed)" if entry["invalid"] else ""
            p50, value = f"{entry['p50']:.3f}{spoilt}", f"{metric['value']:.2%}"
            lines.append(f"| {who} | {runtime} | {p50} | {times} | {value} | {drop} |")
    return "\n".join(lines)


def zeros(name: str, samples: int, context: RunContext) -> str:
    """The parent with nine of ten weights set to zero, timed beside itself in each runtime."""
    import torch

    parent = parent_of(name, samples, context)
    folder = context.store.path / f".{name}-zeros"
    folder.mkdir(exist_ok=True)
    network = copy.deepcopy(networks.load(parent.path))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter[parameter.abs() < parameter.abs().flatten().quantile(0.9)] = 0
    reference = dict(networks.reference(parent.path))
    specs = {key: reference[key] for key in ("inputs", "outputs")}
    named.save(network, reference["model"], reference["arguments"], specs, folder)
    from edgekit.steps.shared.unstored import unstored

    lines = []
    step_context = Context(context.task, {}, quiet, contexts.log)
    for format, runtime in FORMATS.items():
        place = folder / format
        place.mkdir(exist_ok=True)
        sparse = unstored(
            load("steps", f"to_{format}")(), {"parent": replace(parent, path=folder)}, place, step_context
        )
        sparse = replace(sparse, id=f"{parent.id}-zeros")
        pairs = [(exported(parent, format, context), runtime), (sparse, runtime)]
        runs = execute_all(pairs, targets.load("host"), named_sets.load(f"{TASK}:val"), Plan(samples=32), outputs=False)
        dense, zero = (statistics.latency(run.processes, 1, 1) for run in runs)
        ratio = statistics.latency_ratio(dense, zero, paired=True)
        lines.append(f"{name}, {runtime}: {ratio.value:.3f} times faster ({ratio.ci99[0]:.3f} to {ratio.ci99[1]:.3f})")
    return "\n".join(lines)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
