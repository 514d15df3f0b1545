"""The loop: make every artifact of a recipe, check every arrow, measure everything on every target."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import agreement, answers, fleet, registry, score, sustained, targets, verify
from edgekit import recipe as recipes
from edgekit.errors import EdgekitError, Missing
from edgekit.execute import execute_all, runtimes_for
from edgekit.recipe import Gates, Node, Recipe
from edgekit.sets import take
from edgekit.store import Store, tools
from edgekit.types import (
    Artifact,
    Context,
    Measurement,
    Metric,
    Plan,
    Progress,
    Run,
    SampleSet,
    Scorer,
    Target,
    Task,
    TensorSpec,
)
from edgekit.verify import Finding, Verifier

if TYPE_CHECKING:
    from edgekit.optimization import Result
    from edgekit.search import Ladder

log = logging.getLogger("edgekit")

#: held while results are written: targets are measured in threads
recording = threading.Lock()


@dataclass
class Outcome:
    """What a flow made, measured and found wrong; `failures` are arrows that broke, `reused` what was there already.

    `ladders`: the quantization ladders that were climbed, one per format. `search`: what `optimize` found.
    """

    artifacts: list[Artifact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[EdgekitError] = field(default_factory=list)
    reused: int = 0
    ladders: list[Ladder] = field(default_factory=list)
    search: Result | None = None


@dataclass
class Flow:
    """Everything a run needs beside the recipe: where, for which task, on which targets, and whom to tell.

    `val` is the set that arrows are checked on (None: they are not), `scorer` turns outputs and labels into values.
    """

    store: Store
    task: Task | None
    targets: Sequence[Target]
    plan: Plan
    gates: Gates
    val: SampleSet | None
    scorer: Scorer | None
    progress: Progress
    say: Callable[[str], None]
    outcome: Outcome = field(default_factory=Outcome)

    def set(self, text: str, like: tuple[TensorSpec, ...] = ()) -> SampleSet:
        """A SET through the store, with progress; samples that could not be read are said once."""
        new = not self.store.has(text, like)
        found = self.store.set(text, like, self.progress)
        if new and found.skipped:
            more = f" and {len(found.skipped) - 1} more" if len(found.skipped) > 1 else ""
            self.say(f"  skipped   of {found.name}: {found.skipped[0]}{more}")
        for note in found.notes if new else ():
            self.say(f"  note      {found.name}: {note}")
        return found

    @cached_property
    def verifier(self) -> Verifier | None:
        """Checks arrows on the first target that is this machine, else on the host: devices come and go."""
        if self.val is None:
            return None
        where = next((t for t in self.targets if t.device in fleet.HERE), None) or targets.load("host")
        return Verifier(self.store, where, self.val, self.scorer, self.gates, self.plan)


def run(recipe: Recipe, flow: Flow, data: SampleSet) -> Outcome:
    """Make, verify and measure (over `data`) all of a recipe; only what changed is done again.

    Raises RecipeError or Missing before any work; an arrow that breaks stops its chain only, and is in `failures`.
    """
    nodes = recipes.nodes(recipe, flow.targets)
    check_installed(nodes)
    made = make(nodes, flow, {})
    fleet.measure(list(made.values()), flow.targets, data, flow, [flow.plan], reuse=True)
    return flow.outcome


def check_installed(nodes: Sequence[Node]) -> None:
    """Raises Missing, naming everything at once, where a step's packages are not installed."""
    absent: dict[str, list[str]] = {}
    for node in nodes:
        for name, found in tools(node.step).items():
            if not found:
                absent.setdefault(node.step.needs, []).append(name)
    if absent:
        names = ", ".join(sorted({name for packages in absent.values() for name in packages}))
        extras = ",".join(sorted(absent))
        raise Missing.install("this recipe", names, extras)


def make(nodes: Sequence[Node], flow: Flow, stored: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Make each node (parents come first) and check its arrow; what hangs on a broken one is left out.

    `stored` holds artifacts that nodes may name as parents though they are not made here.
    """
    made: dict[str, Artifact] = {}
    broken: set[str] = set()
    for node in nodes:
        if broken & set(node.parents.values()):
            broken.add(node.name)
            continue
        inputs = {role: made.get(name) or stored[name] for role, name in node.parents.items()}
        try:
            artifact = make_one(node, inputs, flow)
            verifier = flow.verifier if artifact.kind.is_model else None
            finding = verifier.check(artifact, node.step.keeps) if verifier else None
        except EdgekitError as error:
            if error.code != 1:
                raise
            flow.outcome.failures.append(error)
            flow.say(f"  failed    {node.name}: {error}")
            broken.add(node.name)
            continue
        flow.outcome.artifacts.append(artifact)
        if finding is not None:
            flow.outcome.findings.append(finding)
            flow.say(f"            {describe(finding)}")
            if error_ := finding.error():
                flow.outcome.failures.append(error_)
                broken.add(node.name)
        if finding is None or finding.failed in ("", "budget"):
            made[node.name] = artifact
    return made


def measure(
    artifacts: Sequence[Artifact], target: Target, data: SampleSet, flow: Flow, *, reuse: bool
) -> list[Measurement]:
    """Every artifact in every runtime of the target that takes it; `reuse` keeps identical valid measurements."""
    plan, store = flow.plan, flow.store
    used = take(data, plan.samples)
    device = targets.device(target)
    pairs = list(_pairs(artifacts, target, flow))
    keys = {(a.name, r): _key(a, r, target, device.facts(), plan, used.sha256) for a, r in pairs}
    kept = store.measurements() if reuse else {}
    todo = [(a, r) for a, r in pairs if (m := kept.get(keys[a.name, r])) is None or _disturbed(m)]
    runs = execute_all(todo, target, used, plan, progress=flow.progress) if todo else []
    fresh = {(a.name, r): agreement.agreed(a, run, target, used, flow) for (a, r), run in zip(todo, runs, strict=True)}
    session = uuid.uuid4().hex[:12]
    found = []
    with recording:
        for artifact, runtime in pairs:
            key = keys[artifact.name, runtime]
            measurement = kept[key] if (artifact.name, runtime) not in fresh else None
            if measurement is None:
                run = fresh[artifact.name, runtime]
                measurement = _measurement(
                    artifact, run, used, flow, session, key, _root_run(artifact, fresh, target, used, flow)
                )
                store.add(measurement)
            else:
                measurement = dataclasses.replace(measurement, **_findings(artifact))
            found.append(measurement)
        flow.outcome.reused += len(pairs) - len(todo)
    if plan.sustained:
        found = [sustained.loaded(m, a, target, used, flow) for m, (a, _) in zip(found, pairs, strict=True)]
    with recording:
        flow.outcome.measurements += found
    return found


def _disturbed(m: Measurement) -> bool:
    """Is it worth another try? A device that computes something else does so again."""
    return any(reason != m.wrong for reason in m.invalid)


def _pairs(artifacts: Sequence[Artifact], target: Target, flow: Flow) -> Iterator[tuple[Artifact, str]]:
    """What can be measured; a runtime that does not compute in the plan's precision is left out, and that is said."""
    precision = flow.plan.precision
    for artifact in artifacts:
        for runtime in runtimes_for(artifact, target):
            if precision in registry.load("runtimes", runtime).precisions:
                yield artifact, runtime
            else:
                flow.say(f"  skipped   {artifact.name}: {runtime} does not compute in {precision}")


def describe(finding: Finding) -> str:
    """One line about an arrow's check."""
    if finding.unverified:
        return f"not verified here: {finding.unverified}"
    if finding.failed and not finding.parity:
        return f"FAILED: {finding.reason}"
    parts = []
    if finding.parity:
        parts.append(f"{finding.parity.sqnr_db:.0f} dB against {finding.parity.against}")
    if finding.metric:
        parts.append(f"val {finding.metric.name} {_value(finding.metric)}")
    if finding.verdict and finding.metric and finding.metric.drop_pp is not None:
        points = "pp" if finding.metric.unit == "fraction" else "%"
        parts.append(f"drop {finding.metric.drop_pp:+.2f} {points}, {finding.verdict.state}")
    return ("FAILED: " if finding.failed else "verified: ") + ", ".join(parts)


def _value(metric: Metric) -> str:
    return f"{metric.value:.2%}" if metric.unit == "fraction" else f"{metric.value:.4g} {metric.unit}".strip()


def make_one(node: Node, inputs: Mapping[str, Artifact], flow: Flow) -> Artifact:
    """A node's artifact, reused where it is there; its arrow is not checked."""
    like = inputs["parent"].inputs if "parent" in inputs else ()
    data = {role: flow.set(text, like) for role, text in node.step.sets(flow.task).items()}
    context = Context(flow.task, data, flow.progress, log)
    kept = flow.store.reusable(node.name, flow.store.id(node.step, inputs, context))
    if kept is not None:
        flow.outcome.reused += 1
        flow.say(f"  reused    {node.name}")
        return kept
    started = time.monotonic()
    flow.say(f"  {recipes.step_name(node.step):<9} {node.name} …")
    artifact = flow.store.make(node.name, node.step, inputs, context)
    size = f"{artifact.sizes.total / 1000:.1f} kB"
    flow.say(f"  made      {artifact.name}: {size}, {time.monotonic() - started:.1f} s")
    return artifact


def _key(
    artifact: Artifact, runtime: str, target: Target, facts: Mapping[str, object], plan: Plan, set_sha256: str
) -> str:
    """What makes two measurements the same: the artifact, the machine, the runtime's version, the plan, the set."""
    try:
        runtime_version = version(registry.load("runtimes", runtime).package)
    except PackageNotFoundError:
        runtime_version = ""
    parts = [
        artifact.name,
        artifact.id,
        target.name,
        facts,
        runtime,
        runtime_version,
        {name: value for name, value in dataclasses.asdict(plan).items() if name != "sustained" or value},
        set_sha256,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _root_run(
    artifact: Artifact, fresh: Mapping[tuple[str, str], Run], target: Target, data: SampleSet, flow: Flow
) -> tuple[str, np.ndarray] | None:
    """The float root's name and its per-sample scores over this set: from this session, else from its own file."""
    root = flow.store.root(artifact)
    if root.id == artifact.id or flow.scorer is None or data.labels is None:
        return None
    for (name, _), run in fresh.items():
        if name == root.name and not run.facts.get("agreement", {}).get("wrong"):
            return root.name, flow.scorer(run.outputs, data.labels).per_sample
    for measurement in flow.store.measurements().values():
        metric = measurement.metric
        if measurement.id != root.id or measurement.wrong or metric is None:
            continue
        if metric.set_sha256 == data.sha256 and metric.correct_file:
            return root.name, np.load(flow.store.path / metric.correct_file)
    return None


def _measurement(
    artifact: Artifact,
    run: Run,
    data: SampleSet,
    flow: Flow,
    session: str,
    key: str,
    root: tuple[str, np.ndarray] | None,
) -> Measurement:
    metric = None
    scored = run.facts.get("agreement", {}).get("same_shapes", True)  # what has another shape is no answer
    if flow.scorer is not None and data.labels is not None and scored:
        scores = flow.scorer(run.outputs, data.labels)
        reference = dataclasses.replace(scores, per_sample=root[1]) if root else None
        metric = score.metric(scores, data.sha256, reference, root[0] if root else None)
        file = artifact.path / f"correct-{key}.npy"
        np.save(file, scores.per_sample.astype(np.float32))
        metric = dataclasses.replace(metric, correct_file=str(file.relative_to(flow.store.path)))
    if run.outputs and scored:
        answers.keep(artifact, run, data, flow.task, flow.store.path, key)
    processes = run.processes
    timed = [p for p in processes if p.times_ns]  # an emulated board's time is none
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
        latency_ms=score.latency(timed, flow.plan.threads, run.facts["batch"]) if timed else None,
        load_ms=float(np.median([p.load_ms for p in timed])) if timed else None,
        peak_rss_bytes=int(np.median([p.peak_rss_bytes for p in processes])) if processes else None,
        floor_rss_bytes=int(np.median([p.floor_rss_bytes for p in processes])) if processes else None,
        facts={**run.facts, **({"samples_skipped": len(data.skipped)} if data.skipped else {})},
        session=session,
        key=key,
        invalid=run.invalid,
        **_findings(artifact),
    )


def _findings(artifact: Artifact) -> dict[str, Any]:
    """What the arrow's own check says, as it stands beside the artifact now."""
    finding = verify.read(artifact)
    return {"parity": finding.parity if finding else None, "verdict": finding.verdict if finding else None}
