"""Make every artifact of a plan and verify every conversion; what has not changed is reused."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, Missing
from edgekit.core.measurement import Metric
from edgekit.core.registry import step_name
from edgekit.core.step import Context
from edgekit.measure.context import Outcome, RunContext, log
from edgekit.measure.verify import Finding
from edgekit.runs.graph import Node
from edgekit.runs.store import tools
from edgekit.workflows.setup import working


def check_installed(nodes: Sequence[Node]) -> None:
    """Raises Missing, naming everything at once, where a step's packages are not installed."""
    absent: dict[str, set[str]] = {}
    packages = set()
    for node in nodes:
        for name, found in tools(node.step).items():
            if not found:
                packages.add(name)
                absent.setdefault(registry.distribution("steps", step_name(node.step)), set()).add(node.step.extra)
    if packages:
        names = ", ".join(sorted(packages))
        wanted = sorted(map(_with_extras, absent, absent.values()))
        next = "pip install " + " ".join(f"'{word}'" for word in wanted)
        raise Missing(f"this recipe needs {names}", f"{names} is not installed", next)


def _with_extras(distribution: str, extras: set[str]) -> str:
    named = ",".join(sorted(extras - {""}))
    return f"{distribution}[{named}]" if named else distribution


def make(nodes: Sequence[Node], context: RunContext, stored: Mapping[str, Artifact]) -> dict[str, Artifact]:
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
            artifact = make_one(node, inputs, context)
            verifier = context.verifier if artifact.kind.is_model else None
            finding = verifier.check(artifact, node.step.preserves) if verifier else None
        except EdgekitError as error:
            if error.code != 1:
                raise
            context.outcome.failures.append(error)
            context.say(f"  failed    {node.name}: {error}")
            broken.add(node.name)
            continue
        context.outcome.artifacts.append(artifact)
        if finding is not None:
            context.outcome.findings.append(finding)
            context.say(f"            {describe(finding)}")
            if error_ := finding.error():
                context.outcome.failures.append(error_)
                broken.add(node.name)
        if finding is None or finding.failed in ("", "budget"):
            made[node.name] = artifact
    return made


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


def make_one(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> Artifact:
    """A node's artifact, reused where it is there; its arrow is not checked."""
    like = inputs["parent"].inputs if "parent" in inputs else ()
    data = {role: context.set(text, like) for role, text in node.step.sets(context.task).items()}
    step_context = Context(context.task, data, context.progress, log)
    kept = context.store.reusable(node.name, context.store.id(node.step, inputs, step_context))
    if kept is not None:
        context.outcome.reused += 1
        context.say(f"  reused    {node.name}")
        return kept
    started = time.monotonic()
    context.say(f"  {step_name(node.step):<9} {node.name} …")
    artifact = context.store.make(node.name, node.step, inputs, step_context)
    size = f"{artifact.sizes.total / 1000:.1f} kB"
    context.say(f"  made      {artifact.name}: {size}, {time.monotonic() - started:.1f} s")
    return artifact


def make_nodes(nodes: Sequence[Node], context: RunContext, stored: dict[str, Artifact]) -> Outcome:
    """Make, verify and measure the nodes in the run, which no other process may write to meanwhile.

    Raises Missing before any work where a package is not installed.
    """
    check_installed(nodes)
    with working(context.store):
        if context.val is None and context.task is not None:
            context.val = context.set(f"{context.task.name}:val")
        make(nodes, context, stored)
    return context.outcome
