"""Distillation on Fashion-MNIST: the gain of distillation for a small network, over five paired seeds.

    make bench-distil                     into runs/bench-distil; trained networks are reused

One teacher, trained on all 55,000 images; students that are given 4,000 of them. Per seed two students of one build
that differ in nothing but the teacher: same initial weights, same order of samples, same epochs. Accuracy is over the
10,000 test images, measured by edgekit; the gain's interval is Student's over the seeds' paired differences.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import tasks
from edgekit.core.artifact import Artifact
from edgekit.core.progress import quiet
from edgekit.core.statistics import t_quantile
from edgekit.core.step import Step
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.context import RunContext
from edgekit.measure.execute import execute
from edgekit.runs import named_sets
from edgekit.runs.graph import Node
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.steps.train import Train
from edgekit.workflows import make
from edgekit.workflows.setup import open_run, run_context

OUT, TASK, SEEDS = Path("runs/bench-distil"), "fashion-mnist", range(5)
TEACHER: dict[str, Any] = {"model": "cnn", "epochs": 6}
#: few labels, where a teacher that saw many can say what they do not
STUDENT: dict[str, Any] = {"model": "cnn", "width": 0.25, "epochs": 25, "lr": 0.01, "patience": 25}
WAYS: dict[str, dict[str, Any]] = {
    "logits": {"distil": "logits"},
    "logits, attention": {"distil": "logits,attention"},
    "logits, features": {"distil": "logits,features"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000, help="what students are given (0: all 55,000)")
    parser.add_argument("--ways", default="logits", help=f"of {'; '.join(WAYS)}; with semicolons")
    words = parser.parse_args()
    context = run_context(Store(OUT), tasks.load(TASK), ["host"], Plan(), Gates(), quiet, say)
    found: dict[str, Any] = {"samples": words.samples, "teacher": TEACHER, "student": STUDENT}
    with open_run(context.store):
        teacher = made("teacher.torch", Train(**TEACHER), {}, context)
        found["teacher_accuracy"] = accuracy(teacher)
        plain = [Train(**STUDENT, samples=words.samples, seed=seed) for seed in SEEDS]
        found["plain"] = [accuracy(made(f"plain{step.seed}.torch", step, {}, context)) for step in plain]
        for way in words.ways.split(";"):
            name, fields = way.replace(", ", "-"), WAYS[way.strip()]
            taught = [replace(step, teacher=teacher.name, **fields) for step in plain]
            found[way] = [
                accuracy(made(f"{name}{step.seed}.torch", step, {"teacher": teacher}, context)) for step in taught
            ]
    (OUT / "distil.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found, words.ways.split(";")))


def made(name: str, step: Step, parents: dict[str, Artifact], context: RunContext) -> Artifact:
    return make.make_one(Node(name, step, {role: a.name for role, a in parents.items()}), parents, context)


def accuracy(artifact: Artifact) -> float:
    test = named_sets.load(f"{TASK}:test")
    run = execute(artifact, targets.load("host"), test, Plan(), latency=False)
    assert test.labels is not None
    return float((run.outputs["output"].argmax(1) == test.labels).mean())


def table(found: dict[str, Any], ways: list[str]) -> str:
    lines = ["| | accuracy, mean ± sd | gain over plain, points (95 %) |", "|---|--:|--:|"]
    lines.append(f"| teacher | {100 * found['teacher_accuracy']:.2f} % | |")
    lines.append(f"| student, plain | {spread(found['plain'])} | |")
    for way in ways:
        gains = [100 * (a - b) for a, b in zip(found[way], found["plain"], strict=True)]
        half = t_quantile(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
        mean = statistics.mean(gains)
        lines.append(
            f"| student, {way} | {spread(found[way])} | {mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f}) |"
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f} %"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
