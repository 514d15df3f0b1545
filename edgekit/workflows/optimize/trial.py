"""One point tried, the cheap answers first: each may end the trial before the next, dearer one.

bytes       a network that cannot be as small as asked for is not trained
training    one epoch on a part of the samples: a network far behind the plain one's is not trained to the end
accuracy    on the selection half of validation: a loss over budget, beyond doubt, is not timed
size        of the file
one look    a single timing process: what is far slower than a trial that is as accurate and as small is given up
in full     the measurement that counts, on the target
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CheckFailed, InputError, Locked, NoPermission, NoSpace
from edgekit.core.measurement import Measurement, Metric
from edgekit.core.step import Step
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scores
from edgekit.measure import measurements
from edgekit.measure.context import Outcome, RunContext
from edgekit.measure.execute import execute_all
from edgekit.networks import named
from edgekit.runs.graph import Node
from edgekit.sets import take
from edgekit.workflows import make
from edgekit.workflows.optimize.space import Point, Space, describe
from edgekit.workflows.optimize.study import Level, State, Trial

#: the short training: one epoch on this share of the samples, on so many at least
SHARE, FEWEST = 5, 2000
#: points that a network may be behind the plain one's after the short training
BEHIND_PP = 5.0
#: how much slower than a better trial a single look must find it, before it is given up: it is a rough one
SLACK = 1.5
BYTES = {"float": 4, "fp16": 2, "dynamic": 1, "int8": 1}


@dataclass(frozen=True)
class Budget:
    """What an artifact may cost. None: as much as it likes."""

    max_drop_pp: float = 0.5
    max_latency_ms: float | None = None
    max_size_bytes: int | None = None

    def violations(self, drop_pp: float | None, p50_ms: float, size_bytes: int) -> dict[str, float]:
        """Budget → by what share of it (points, for the drop) it is exceeded."""
        found = {}
        if drop_pp is not None and drop_pp > self.max_drop_pp:
            found["max_drop_pp"] = drop_pp - self.max_drop_pp
        if self.max_latency_ms is not None and p50_ms > self.max_latency_ms:
            found["max_latency_ms"] = p50_ms / self.max_latency_ms - 1
        if self.max_size_bytes is not None and size_bytes > self.max_size_bytes:
            found["max_size_bytes"] = size_bytes / self.max_size_bytes - 1
        return found


class _Given(Exception):
    """A trial ends here, for this reason, which holds for all that share its artifact or network."""

    def __init__(self, reason: str, level: Level = "point") -> None:
        super().__init__(reason)
        self.level = level


@dataclass
class TrialRunner:
    """Tries points: `flow` is of the selection half, `reference` what the accuracy is counted from.

    `thorough` trials (the search's starting points) are measured whatever the cheap answers say.
    """

    context: RunContext
    space: Space
    budget: Budget
    reference: Artifact
    finished: Sequence[Trial] = ()
    _short: float | None = field(default=None, repr=False)
    _known: Trial | None = field(default=None, repr=False)

    def attempt(self, point: Point, thorough: bool) -> Trial:
        """The trial of one point. Raises what is no answer: a locked folder, a full disk, a device that failed."""
        started = time.monotonic()
        trial = Trial(-1, point, "failed", run=str(self.context.store.path.resolve()))
        self.context.outcome, self._known = Outcome(), None
        try:
            trial = self._attempt(trial, thorough)
        except _Given as given:
            trial = self._ended(trial, "pruned", str(given), given.level)
        except (CheckFailed, InputError) as error:
            if isinstance(error, Locked | NoSpace | NoPermission):
                raise
            trial = self._ended(trial, "failed", str(error), "artifact")
        return replace(trial, seconds=round(time.monotonic() - started, 2))

    def _ended(self, trial: Trial, state: State, reason: str, level: Level) -> Trial:
        """The trial with what is known of it so far."""
        known = self._known if self._known is not None else trial
        return replace(known, state=state, reason=reason, level=level)

    def _attempt(self, trial: Trial, thorough: bool) -> Trial:
        if not thorough:
            self._small_enough(trial.point)
            self._worth_training(trial.point)
        artifact = self.made(trial.point)
        metric, drop = self._accuracy(artifact)
        self._known = known = replace(
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
                raise _Given(f"loses {metric.drop_pp:.2f} points, {self.budget.max_drop_pp:g} are allowed", "artifact")
            if self.budget.max_size_bytes is not None and artifact.sizes.total > self.budget.max_size_bytes:
                raise _Given(f"{artifact.sizes.total:,} bytes, {self.budget.max_size_bytes:,} are allowed", "artifact")
            self._look(known, artifact)
        return self._measured(known, artifact)

    # --- before anything is made --------------------------------------------------------------------------------

    def _small_enough(self, point: Point) -> None:
        limit = self.budget.max_size_bytes
        if limit is None or "model" not in point or point["ratio"]:
            return
        least = self._parameters(point) * BYTES[str(point["precision"])]
        if least > limit:
            raise _Given(f"its weights alone take {least:,} bytes, {limit:,} are allowed", "artifact")

    def _parameters(self, point: Point) -> int:
        assert self.context.task is not None
        step: Any = self.space.train(point)
        arguments = {**self.context.task.arguments(step.model), **step.shaped(step.model)}
        return sum(p.numel() for p in named.build(step.model, arguments).parameters())

    def _worth_training(self, point: Point) -> None:
        """A short training against that of the plain network; nothing where the whole one is done already, or short."""
        if "model" not in point:
            return
        full: Any = self.space.train(point)
        count = full.samples or len(self.context.set(f"{self.context.task.name}:train"))  # type: ignore[union-attr]
        share = max(FEWEST, count // SHARE)
        if full.epochs < 2 or share * 2 > count or self.space.train(self.space.point()) == full:
            return
        if self._short is None:
            self._short = self._after_one(self.space.point(), share)
        reached = self._after_one(point, share)
        if (behind := 100 * (self._short - reached)) > BEHIND_PP + self.budget.max_drop_pp:
            raise _Given(f"{behind:.1f} points behind the plain network after one short epoch", "network")

    def _after_one(self, point: Point, samples: int) -> float:
        """The validation metric after the short training, signed so that more is better."""
        step = self.space.train(point, epochs=1, samples=samples)
        (name,) = self.space.names(point, [step])
        artifact = make.make_one(Node(f"{name}~short", step, {}), {}, self.context)
        last: Mapping[str, float] = artifact.details["history"][-1]
        found = [value for key, value in last.items() if key.startswith("val_") and key != "val_loss"]
        return found[0] if found and self.higher_is_better else -found[0] if found else -last["val_loss"]

    @property
    def higher_is_better(self) -> bool:
        scores = self._scores(self.reference)
        return scores is None or scores.higher_is_better

    # --- made, and how accurate ---------------------------------------------------------------------------------

    def made(self, point: Point) -> Artifact:
        """The artifact at the end of the point's chain, every arrow checked. Raises the first failure that matters."""
        start = self.space.start
        nodes = self.nodes(point)
        if not nodes:
            assert start is not None
            return start
        make.check_installed(nodes)
        made = make.make(nodes, self.context, {start.name: start} if start else {})
        if nodes[-1].name not in made:
            raise next(iter(self.context.outcome.failures), InputError(f"{nodes[-1].name} could not be made"))
        return made[nodes[-1].name]

    def nodes(self, point: Point) -> list[Node]:
        steps = self.space.steps(point)
        before = self.space.start.name if self.space.start else ""
        found = []
        for name, step in zip(self.space.names(point, steps), steps, strict=True):
            found.append(Node(name, step, {"parent": before} if before else {}))
            before = name
        return found

    def _scores(self, artifact: Artifact) -> Scores | None:
        context, verifier = self.context, self.context.verifier
        assert verifier is not None and context.val is not None
        if context.scorer is None or context.val.labels is None:
            return None
        return context.scorer(verifier.outputs(artifact), context.val.labels)

    def _accuracy(self, artifact: Artifact) -> tuple[Metric | None, str]:
        """Against the reference, paired, with the budget's verdict; nothing without labels."""
        scores, reference = self._scores(artifact), self._scores(self.reference)
        if scores is None or reference is None:
            return None, ""
        assert self.context.val is not None
        metric = statistics.metric(scores, self.context.val.sha256, reference, self.reference.name)
        return metric, statistics.verdict(reference, scores, self.budget.max_drop_pp, "val").state

    def _quality(self, artifact: Artifact, metric: Metric | None) -> float:
        if metric is not None:
            return metric.value if metric.higher_is_better else -metric.value
        verifier = self.context.verifier
        assert verifier is not None
        return statistics.parity(
            self.reference.name, verifier.outputs(self.reference), verifier.outputs(artifact)
        ).sqnr_db

    # --- how fast -----------------------------------------------------------------------------------------------

    def plan(self, point: Point) -> Plan:
        return replace(self.context.plan, threads=int(point["threads"]), batch=int(point["batch"]))

    def target(self, point: Point) -> Target:
        """The target with the point's runtime alone."""
        target, runtime = self.context.targets[0], str(point["runtime"])
        return replace(target, runtimes={runtime: target.runtimes[runtime]})

    def _look(self, trial: Trial, artifact: Artifact) -> None:
        """One timing process. Raises where that is far too slow, or far slower than a trial no worse otherwise."""
        assert self.context.val is not None
        plan = replace(self.plan(trial.point), processes=1)
        pairs = [(artifact, str(trial.point["runtime"]))]
        (run,) = execute_all(pairs, self.target(trial.point), take(self.context.val, 64), plan, outputs=False)
        if not run.processes or run.invalid or not run.processes[0].times_ns:
            return
        p50 = statistics.latency(run.processes, plan.threads, plan.batch).p50
        limit = self.budget.max_latency_ms
        if limit is not None and p50 > SLACK * limit:
            raise _Given(f"takes about {p50:.3g} ms, {limit:g} are allowed")
        ours = trial.quality, p50 / plan.batch, trial.size_bytes
        assert ours[0] is not None and ours[2] is not None
        for other in self.finished:
            if other.feasible:
                quality, milliseconds, size = other.objectives
                if quality >= ours[0] and size <= ours[2] and SLACK * milliseconds < ours[1]:
                    raise _Given(f"about {ours[1] / milliseconds:.1f} times as slow as trial {other.number}, no better")

    def _measured(self, trial: Trial, artifact: Artifact) -> Trial:
        """In full, on the target, over the selection half. Raises InputError where no time came back."""
        assert self.context.val is not None
        target = self.target(trial.point)
        context = dataclasses.replace(self.context, plan=self.plan(trial.point), outcome=Outcome())
        measurement = measurements.measure([artifact], target, self.context.val, context, reuse=True)[0]
        metric, latency = self._there(measurement), measurement.latency_ms
        if latency is None:
            raise InputError(f"{target.name} gave no times for {artifact.name}")
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

    def _there(self, measurement: Measurement) -> Metric | None:
        """The accuracy that the target itself showed, against the reference's."""
        reference, metric = self._scores(self.reference), measurement.metric
        if metric is None or metric.correct_file is None or reference is None:
            return None
        values = np.load(self.context.store.path / metric.correct_file)
        scores = replace(reference, per_sample=values.astype(np.float64))
        return statistics.metric(scores, metric.set_sha256, reference, self.reference.name)


def line(trial: Trial, space: Space) -> str:
    """One trial on one line."""
    what = describe(trial.point, space)
    if trial.state != "finished":
        word = "given up" if trial.state == "pruned" else "not possible"
        return f"  trial {trial.number:<4} {what}: {word}, {trial.reason}"
    parts = [f"drop {trial.drop_pp:+.2f} pp" if trial.drop_pp is not None else f"{trial.quality:.1f} dB"]
    parts += [f"p50 {trial.p50_ms:.3g} ms", f"{(trial.size_bytes or 0) / 1000:.1f} kB"]
    parts += [f"invalid: {'; '.join(trial.invalid)}"] if trial.invalid else []
    over = {"max_drop_pp": "loses too much", "max_latency_ms": "too slow", "max_size_bytes": "too large"}
    parts += [over[name] for name in trial.violations]
    return f"  trial {trial.number:<4} {what}: {', '.join(parts)}"


def chain(space: Space, point: Point, store: Any) -> list[Step]:
    """All steps that make a point's artifact from nothing: those before the start, and the point's own.

    Raises InputError where the start's line of parents cannot be written as a chain.
    """
    steps: list[Step] = []
    artifact = space.start
    while artifact is not None:
        if len(artifact.parents) > 1:
            raise InputError(f"{artifact.name} has several parents", "a chain has one at each step")
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in artifact.fields.items()}
        steps.insert(0, registry.load("steps", artifact.step)(**fields))
        artifact = store.parent(artifact)
    return [*steps, *space.steps(point)]
