"""Measuring artifacts on a target: executed, scored, and kept as measurements."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from edgekit.core import registry, statistics
from edgekit.core.arrays import array_errors
from edgekit.core.artifact import Artifact
from edgekit.core.measurement import Measurement, Run
from edgekit.core.relative_paths import inside
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scores, chosen_metric
from edgekit.measure import generation, host_parity, sample_predictions, sustained, targets, verify
from edgekit.measure.context import RunContext, results_lock
from edgekit.measure.execute import execute_all, runtimes_for
from edgekit.measure.time_limit import TimeLimit, announcement, disturbance_note
from edgekit.runs import written
from edgekit.sets import take

#: the plan's fields that a measurement's key has only with another value
_WITHOUT = {"sustained": 0.0, "latency": True, "prompt": 64, "new_tokens": 32}


def measure(
    artifacts: Sequence[Artifact], target: Target, data: SampleSet, context: RunContext, *, reuse: bool
) -> list[Measurement]:
    """Measure every artifact in every runtime of the target that executes it; `reuse` keeps identical valid results."""
    plan, store = context.plan, context.store
    samples = take(data, plan.samples)
    device, metric = targets.device(target), chosen_metric(context.scorer)
    pairs = list(_pairs(artifacts, target, context))
    if plan.latency:
        for artifact in (artifact for artifact in artifacts if artifact.states):
            memory_bytes = int(device.facts().get("memory_bytes") or 0)
            generation.check(artifact, store.root(artifact), plan, memory_bytes)
    keys = {(a.name, r): _key(a, r, target, device.facts(), plan, samples.sha256, metric) for a, r in pairs}
    stored = store.measurements() if reuse else {}
    todo = [(a, r) for a, r in pairs if (m := stored.get(keys[a.name, r])) is None or _worth_again(m, plan)]
    session = uuid.uuid4().hex[:12]
    runs = _runs(todo, target, samples, context, session) if todo else []
    new_runs = {
        (a.name, r): host_parity.compare_with_host(a, run, target, samples, context)
        for (a, r), run in zip(todo, runs, strict=True)
    }
    measurements = []
    with results_lock:
        for artifact, runtime in pairs:
            key = keys[artifact.name, runtime]
            measurement = stored[key] if (artifact.name, runtime) not in new_runs else None
            if measurement is None:
                run = new_runs[artifact.name, runtime]
                scores = _scores(run, samples, context)
                root = _root_scores(artifact, scores, new_runs, samples, context) if scores else None
                measurement = _measurement(artifact, run, samples, context, session, key, scores, root)
                store.add(measurement)
            else:
                measurement = dataclasses.replace(measurement, **_findings(artifact))
            measurements.append(measurement)
        context.outcome.reused += len(pairs) - len(todo)
    if plan.sustained:
        measurements = [
            sustained.add_sustained(m, a, target, samples, context)
            for m, (a, _) in zip(measurements, pairs, strict=True)
        ]
    with results_lock:
        context.outcome.measurements += measurements
    return measurements


def _runs(
    pairs: Sequence[tuple[Artifact, str]], target: Target, data: SampleSet, context: RunContext, session: str
) -> list[Run]:
    """The runs of one session, announced before; what disturbed it is noted in one line."""
    plan, limits = context.plan, []

    def announce(limit: TimeLimit) -> None:
        limits.append(limit)
        names = {artifact.name for artifact, _ in pairs}
        line = announcement(len(names), len(pairs), target.name, plan.threads, limit, plan.sustained)
        context.say(f"  {line}")

    runs = execute_all(pairs, target, data, plan, latency=plan.latency, progress=context.progress, announce=announce)
    if limits:
        record = limits[0].record(session, target.name, plan.threads)
        with results_lock:
            context.outcome.sessions.append(record)
    if why := disturbance_note(target.name, runs[0]):
        context.note(why)
    return runs


def _worth_again(m: Measurement, plan: Plan) -> bool:
    """Is it worth measuring again? Outputs that do not match the host's would not match again."""
    cut = m.latency_ms is not None and m.latency_ms.processes < plan.processes
    return cut or any(reason != m.mismatch_reason for reason in m.invalid)


def _pairs(artifacts: Sequence[Artifact], target: Target, context: RunContext) -> Iterator[tuple[Artifact, str]]:
    """The (artifact, runtime) pairs to measure; a runtime without the plan's precision is reported as skipped."""
    precision = context.plan.precision
    for artifact in artifacts:
        for runtime in runtimes_for(artifact, target):
            if precision in registry.runtime(runtime).precisions:
                yield artifact, runtime
            else:
                context.say(f"  skipped   {artifact.name}: {runtime} does not compute in {precision}")


def _key(
    artifact: Artifact,
    runtime: str,
    target: Target,
    facts: Mapping[str, object],
    plan: Plan,
    set_sha256: str,
    metric: str,
) -> str:
    """What makes two measurements the same: the artifact, the machine, the runtime's version, the plan, the set, and
    the metric, if it was chosen."""
    try:
        runtime_version = version(registry.runtime(runtime).package)
    except PackageNotFoundError:
        runtime_version = ""
    parts = [
        artifact.name,
        artifact.id,
        target.name,
        facts,
        runtime,
        runtime_version,
        {name: value for name, value in dataclasses.asdict(plan).items() if value != _WITHOUT.get(name)},
        set_sha256,
        *([metric] if metric else []),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _scores(run: Run, data: SampleSet, context: RunContext) -> Scores | None:
    """None without labels, and for outputs of another shape than the host's, which cannot be scored."""
    if context.scorer is None or data.labels is None or not run.facts.get("agreement", {}).get("same_shapes", True):
        return None
    return context.scorer(run.outputs, data.labels)


def _root_scores(
    artifact: Artifact, scores: Scores, new_runs: Mapping[tuple[str, str], Run], data: SampleSet, context: RunContext
) -> tuple[str, np.ndarray] | None:
    """The float root's name and its per-sample scores in the same metric over this set: from this session, else from
    its stored file."""
    root = context.store.root(artifact)
    if root.id == artifact.id or context.scorer is None or data.labels is None:
        return None
    for (name, _), run in new_runs.items():
        if name == root.name and not run.facts.get("agreement", {}).get("wrong"):
            return root.name, context.scorer(run.outputs, data.labels).per_sample
    for measurement in context.store.measurements().values():
        metric = measurement.metric
        if measurement.id != root.id or measurement.mismatch_reason or metric is None:
            continue
        if metric.set_sha256 == data.sha256 and metric.name == scores.name and metric.correct_file:
            path = inside(context.store.path, metric.correct_file)
            with array_errors(path, f"measure {root.name} again: edgekit bench {context.store.path}/{root.name}"):
                values = np.load(path, allow_pickle=False)
                if values.shape[:1] != (metric.samples,):
                    raise ValueError(f"it has the shape {values.shape}, for {metric.samples} samples")
                return root.name, values.astype(np.float32, casting="same_kind")
    return None


def _measurement(
    artifact: Artifact,
    run: Run,
    data: SampleSet,
    context: RunContext,
    session: str,
    key: str,
    scores: Scores | None,
    root: tuple[str, np.ndarray] | None,
) -> Measurement:
    metric = None
    if scores is not None:
        if scores.luck is not None and not artifact.parents and (guessing := statistics.chance(scores, np.zeros(0))):
            context.note(f"{artifact.name} is no better than chance on {data.name}: {guessing}", "warning")
        reference = dataclasses.replace(scores, per_sample=root[1]) if root else None
        metric = statistics.metric(scores, data.sha256, reference, root[0] if root else None)
        content = io.BytesIO()
        np.save(content, scores.per_sample.astype(np.float32))
        file = written.write_beside(artifact, f"correct-{key}.npy", content.getvalue())
        metric = dataclasses.replace(metric, correct_file=file)
    if run.outputs and run.facts.get("agreement", {}).get("same_shapes", True):
        sample_predictions.store(artifact, run, data, context.task, context.store.path, key, scores)
    processes = run.processes
    timed = [p for p in processes if p.times_ns]  # an emulated board has no times
    latency = statistics.latency(timed, context.plan.threads, run.facts["batch"], run.clock) if timed else None
    if latency and artifact.states:
        latency = dataclasses.replace(latency, prompt=context.plan.prompt, new_tokens=context.plan.new_tokens)
    return Measurement(
        artifact=artifact.name,
        id=artifact.id,
        parents=tuple(parent.name for parent in artifact.parents),
        format=artifact.kind.format,
        precision=artifact.kind.precision or "fp32",
        scheme=artifact.scheme,
        target=run.target,
        runtime=run.runtime,
        provenance=run.provenance,
        size_bytes=artifact.sizes.total,
        weight_bytes=artifact.sizes.weights,
        graph_bytes=artifact.sizes.graph,
        metadata_bytes=artifact.sizes.metadata,
        metric=metric,
        latency_ms=latency,
        load_ms=float(np.median([p.load_ms for p in timed])) if timed else None,
        peak_rss_bytes=int(np.median([p.peak_rss_bytes for p in processes])) if processes else None,
        floor_rss_bytes=int(np.median([p.floor_rss_bytes for p in processes])) if processes else None,
        facts={
            **run.facts,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **({"samples_skipped": len(data.skipped)} if data.skipped else {}),
        },
        session=session,
        key=key,
        invalid=run.invalid,
        generation=generation.parts(artifact, timed, latency) if latency and artifact.states else None,
        **_findings(artifact),
    )


def _findings(artifact: Artifact) -> dict[str, Any]:
    """The finding of the conversion's check, as stored with the artifact now."""
    finding = verify.read(artifact)
    return {"parity": finding.parity if finding else None, "verdict": finding.verdict if finding else None}
