"""One trial, the cheap checks first: each may prune the trial before the next, more expensive one.

weights      a network whose weights alone exceed the size budget is not trained
training     one epoch on a part of the samples: a network far behind the baseline is not trained to the end
accuracy     on the selection half of validation: an artifact whose drop is certainly over the budget is not timed
size         of the file
quick        one timing process: an artifact far slower than another that is as accurate and as small is not measured
measurement  in full, on the target
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.core import statistics
from edgekit.core.arrays import array_errors
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CheckFailed, InputError, Locked, NoPermission, NoSpace
from edgekit.core.measurement import Measurement, Metric
from edgekit.core.relative_paths import inside
from edgekit.core.step import Step
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scores
from edgekit.measure import measurements
from edgekit.measure.context import Outcome, RunContext
from edgekit.measure.execute import execute_all
from edgekit.networks import named
from edgekit.report.rows import change
from edgekit.runs.graph import Node
from edgekit.runs.store import Store, step_of
from edgekit.sets import take
from edgekit.workflows import make
from edgekit.workflows.inspect import output_tail
from edgekit.workflows.optimize.space import Point, Space, describe
from edgekit.workflows.optimize.study import Level, State, Trial

#: the short training: one epoch on one in so many samples, but on at least so many
SHORT_SHARE, SHORT_MINIMUM = 5, 2000
#: percentage points that a network may be behind the baseline after the short training
BEHIND_PP = 5.0
#: how many times slower than a better trial the quick measurement, which is a rough one, must be to prune a trial
SLACK = 1.5
BYTES = {"float": 4, "fp16": 2, "dynamic": 1, "int8": 1}


@dataclass(frozen=True)
class Budget:
    """The limits of an artifact. None: no limit."""

    max_drop_pp: float = 0.5
    max_latency_ms: float | None = None
    max_size_bytes: int | None = None

    def violations(self, drop_pp: float | None, p50_ms: float, size_bytes: int) -> dict[str, float]:
        """Budget → the share of it (percentage points for the drop) by which it is exceeded."""
        excess = {}
        if drop_pp is not None and drop_pp > self.max_drop_pp:
            excess["max_drop_pp"] = drop_pp - self.max_drop_pp
        if self.max_latency_ms is not None and p50_ms > self.max_latency_ms:
            excess["max_latency_ms"] = p50_ms / self.max_latency_ms - 1
        if self.max_size_bytes is not None and size_bytes > self.max_size_bytes:
            excess["max_size_bytes"] = size_bytes / self.max_size_bytes - 1
        return excess


class TrialPruned(Exception):
    """The trial stops early for this reason, which applies to every point that shares its `level`."""

    def __init__(self, reason: str, level: Level = "point") -> None:
        super().__init__(reason)
        self.level = level


@dataclass
class TrialRunner:
    """Runs trials. `context.val` is the selection half, `reference` the artifact that drops are counted from.

    `thorough` trials (the search's starting points) skip the checks that prune.
    """

    context: RunContext
    space: Space
    budget: Budget
    reference: Artifact
    finished: Sequence[Trial] = ()
    _baseline_score: float | None = field(default=None, repr=False)
    _partial: Trial | None = field(default=None, repr=False)

    def attempt(self, point: Point, thorough: bool) -> Trial:
        """Run the trial of one point. Raises errors of the machine: a locked folder, a full disk, a failed device."""
        started = time.monotonic()
        trial = Trial(-1, point, "failed", run=str(self.context.store.path.resolve()))
        self.context.outcome, self._partial = Outcome(), None
        try:
            trial = self._attempt(trial, thorough)
        except TrialPruned as pruned:
            trial = self._ended(trial, "pruned", str(pruned), pruned.level)
        except (CheckFailed, InputError) as error:
            if isinstance(error, Locked | NoSpace | NoPermission):
                raise
            trial = self._ended(trial, "failed", str(error), "artifact")
        return replace(trial, seconds=round(time.monotonic() - started, 2))

    def _ended(self, trial: Trial, state: State, reason: str, level: Level) -> Trial:
        """The trial with its figures so far."""
        partial = self._partial if self._partial is not None else trial
        return replace(partial, state=state, reason=reason, level=level)

    def _attempt(self, trial: Trial, thorough: bool) -> Trial:
        if not thorough:
            self._check_weights(trial.point)
            self._check_short_training(trial.point)
        artifact = self.make(trial.point)
        metric, drop = self._accuracy(artifact)
        self._partial = partial = replace(
            trial,
            artifact=artifact.name,
            id=artifact.id,
            size_bytes=artifact.sizes.total,
            quality=self._quality(artifact, metric),
            drop_pp=metric.drop_pp if metric else None,
            drop_ci95=metric.drop_ci95 if metric else None,
        )
        if not thorough:
            if drop == "missed" and metric and metric.drop_pp is not None:
                raise TrialPruned(
                    f"drop {metric.drop_pp:.2f} pp, the budget is {self.budget.max_drop_pp:g}", "artifact"
                )
            if self.budget.max_size_bytes is not None and artifact.sizes.total > self.budget.max_size_bytes:
                raise TrialPruned(
                    f"{artifact.sizes.total:,} bytes, the budget is {self.budget.max_size_bytes:,}", "artifact"
                )
            self.quick_measurement(partial, artifact)
        return self._measured(partial, artifact)

    # --- checks before anything is made -------------------------------------------------------------------------

    def _check_weights(self, point: Point) -> None:
        limit = self.budget.max_size_bytes
        if limit is None or "model" not in point or point["ratio"]:
            return
        least = self._parameters(point) * BYTES[str(point["precision"])]
        if least > limit:
            raise TrialPruned(f"its weights alone take {least:,} bytes, the budget is {limit:,}", "artifact")

    def _parameters(self, point: Point) -> int:
        assert self.context.task is not None
        step: Any = self.space.train(point)
        arguments = {**self.context.task.arguments(step.model), **step.shaped(step.model)}
        return sum(p.numel() for p in named.build(step.model, arguments).parameters())

    def _check_short_training(self, point: Point) -> None:
        """Compare a short training with the baseline's; skipped if the full one is the baseline's, or short itself."""
        if "model" not in point:
            return
        full: Any = self.space.train(point)
        count = full.samples or len(self.context.set(f"{self.context.task.name}:train"))  # type: ignore[union-attr]
        share = max(SHORT_MINIMUM, count // SHORT_SHARE)
        if full.epochs < 2 or share * 2 > count or self.space.train(self.space.point()) == full:
            return
        if self._baseline_score is None:
            self._baseline_score = self._short_score(self.space.point(), share)
        score = self._short_score(point, share)
        if (behind := 100 * (self._baseline_score - score)) > BEHIND_PP + self.budget.max_drop_pp:
            raise TrialPruned(f"{behind:.1f} pp behind the baseline network after one short epoch", "network")

    def _short_score(self, point: Point, samples: int) -> float:
        """The validation metric after the short training, signed so that higher is better."""
        step = self.space.train(point, epochs=1, samples=samples)
        (name,) = self.space.names(point, [step])
        artifact = make.make_one(Node(f"{name}~short", step, {}), {}, self.context)
        last: Mapping[str, float] = artifact.details["history"][-1]
        metrics = [value for key, value in last.items() if key.startswith("val_") and key != "val_loss"]
        return metrics[0] if metrics and self.higher_is_better else -metrics[0] if metrics else -last["val_loss"]

    @property
    def higher_is_better(self) -> bool:
        scores = self._scores(self.reference)
        return scores is None or scores.higher_is_better

    # --- artifacts and their accuracy ---------------------------------------------------------------------------

    def make(self, point: Point) -> Artifact:
        """The artifact at the end of the point's chain, every step verified. Raises the first failure on the way."""
        start = self.space.start
        nodes = self.nodes(point)
        if not nodes:
            assert start is not None
            return start
        make.check_installed(nodes)
        parent, *before = start, *nodes[:-1]
        if before:
            parent = self._made(before, {start.name: start} if start else {})
        last = nodes[-1] if parent is None else _with_float_tail(nodes[-1], parent)
        return self._made([last], {parent.name: parent} if parent else {})

    def _made(self, nodes: list[Node], known: Mapping[str, Artifact]) -> Artifact:
        artifacts = make.make(nodes, self.context, known)
        if nodes[-1].name not in artifacts:
            raise next(iter(self.context.outcome.failures), InputError(f"{nodes[-1].name} could not be made"))
        return artifacts[nodes[-1].name]

    def nodes(self, point: Point) -> list[Node]:
        steps = self.space.steps(point)
        parent = self.space.start.name if self.space.start else ""
        nodes = []
        for name, step in zip(self.space.names(point, steps), steps, strict=True):
            nodes.append(Node(name, step, {"parent": parent} if parent else {}))
            parent = name
        return nodes

    def _scores(self, artifact: Artifact) -> Scores | None:
        context, verifier = self.context, self.context.verifier
        assert verifier is not None and context.val is not None
        if context.scorer is None or context.val.labels is None:
            return None
        return context.scorer(verifier.outputs(artifact), context.val.labels)

    def _accuracy(self, artifact: Artifact) -> tuple[Metric | None, str]:
        """The metric, paired with the reference's, and the state of the verdict; None and "" without labels."""
        scores, reference = self._scores(artifact), self._scores(self.reference)
        if scores is None or reference is None:
            return None, ""
        assert self.context.val is not None
        metric = statistics.metric(scores, self.context.val.sha256, reference, self.reference.name)
        labels = self.context.val.labels
        return metric, statistics.verdict(reference, scores, self.budget.max_drop_pp, "val", labels).state

    def _quality(self, artifact: Artifact, metric: Metric | None) -> float:
        if metric is not None:
            return metric.value if metric.higher_is_better else -metric.value
        verifier = self.context.verifier
        assert verifier is not None
        return statistics.parity(
            self.reference.name, verifier.outputs(self.reference), verifier.outputs(artifact)
        ).sqnr_db

    # --- latency ------------------------------------------------------------------------------------------------

    def plan(self, point: Point) -> Plan:
        return replace(self.context.plan, threads=int(point["threads"]), batch=int(point["batch"]))

    def target(self, point: Point) -> Target:
        """The target, restricted to the point's runtime."""
        target, runtime = self.context.targets[0], str(point["runtime"])
        return replace(target, runtimes={runtime: target.runtimes[runtime]})

    def quick_measurement(self, trial: Trial, artifact: Artifact) -> None:
        """Time one process. Raises TrialPruned if it is far over the budget, or far slower than a trial no worse."""
        assert self.context.val is not None
        plan = replace(self.plan(trial.point), processes=1)
        pairs = [(artifact, str(trial.point["runtime"]))]
        (run,) = execute_all(pairs, self.target(trial.point), take(self.context.val, 64), plan, outputs=False)
        if not run.processes or run.invalid or not run.processes[0].times_ns:
            return
        p50 = statistics.latency(run.processes, plan.threads, plan.batch, run.clock).p50
        limit = self.budget.max_latency_ms
        if limit is not None and p50 > SLACK * limit:
            raise TrialPruned(f"p50 about {p50:.3g} ms, the budget is {limit:g}")
        per_sample = p50 / plan.batch
        assert trial.quality is not None and trial.size_bytes is not None
        for other in self.finished:
            if other.feasible:
                quality, milliseconds, size = other.objectives
                if quality >= trial.quality and size <= trial.size_bytes and SLACK * milliseconds < per_sample:
                    slower = per_sample / milliseconds
                    raise TrialPruned(f"about {slower:.1f} times as slow as trial {other.number}, and no better")

    def _measured(self, trial: Trial, artifact: Artifact) -> Trial:
        """Measure in full, on the target, over the selection half. Raises InputError if it reports no latency."""
        assert self.context.val is not None
        target = self.target(trial.point)
        context = dataclasses.replace(self.context, plan=self.plan(trial.point), outcome=Outcome())
        measurement = measurements.measure([artifact], target, self.context.val, context, reuse=True)[0]
        metric, latency = self._target_metric(measurement), measurement.latency_ms
        if latency is None:
            raise InputError(f"{target.name} reported no latency for {artifact.name}")
        if metric is not None:
            trial = replace(
                trial, quality=self._quality(artifact, metric), drop_pp=metric.drop_pp, drop_ci95=metric.drop_ci95
            )
        return replace(
            trial,
            state="finished",
            p50_ms=latency.p50,
            key=measurement.key,
            invalid=measurement.invalid,
            violations=self.budget.violations(trial.drop_pp, latency.p50, artifact.sizes.total),
        )

    def _target_metric(self, measurement: Measurement) -> Metric | None:
        """The accuracy measured on the target, compared with the reference's."""
        reference, metric = self._scores(self.reference), measurement.metric
        if metric is None or metric.correct_file is None or reference is None:
            return None
        path = inside(self.context.store.path, metric.correct_file)
        with array_errors(path, "measure again"):
            values = np.load(path, allow_pickle=False)
        scores = replace(reference, per_sample=values.astype(np.float64))
        return statistics.metric(scores, metric.set_sha256, reference, self.reference.name)


def line(trial: Trial, space: Space) -> str:
    """One trial on one line."""
    what = describe(trial.point, space)
    if trial.state != "finished":
        state = "stopped early" if trial.state == "pruned" else "failed"
        return f"  trial {trial.number:<4} {what}: {state}, {trial.reason}"
    parts = [change(trial.drop_pp, "pp") if trial.drop_pp is not None else f"{trial.quality:.1f} dB"]
    parts += [f"p50 {trial.p50_ms:.3g} ms", f"{(trial.size_bytes or 0) / 1000:.1f} kB"]
    parts += [f"invalid: {'; '.join(trial.invalid)}"] if trial.invalid else []
    over = {"max_drop_pp": "drop too large", "max_latency_ms": "too slow", "max_size_bytes": "too large"}
    parts += [over[name] for name in trial.violations]
    return f"  trial {trial.number:<4} {what}: {', '.join(parts)}"


def _with_float_tail(node: Node, parent: Artifact) -> Node:
    """An int8 step with what follows its model's last layers in float, as `quantize` does: a detector's boxes and
    scores leave through one tensor."""
    step: Any = node.step
    if getattr(step, "weights_only", None) != () or parent.kind.traits:
        return node
    tail = output_tail.of_model(parent)
    return node if tail is None else replace(node, step=replace(step, weights_only=tail.operators))


def chain(artifact: Artifact, store: Store) -> list[Step]:
    """The steps that made an artifact, in order. Raises InputError if its ancestors do not form a chain."""
    steps: list[Step] = []
    for one in store.ancestry(artifact):
        if len(one.parents) > 1:
            raise InputError(f"{one.name} has several parents", "a chain has one parent at each step")
        steps.insert(0, step_of(one))
    return steps
