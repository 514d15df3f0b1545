"""Make artifacts and verify every conversion; artifacts that have not changed are reused."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert, EdgekitError, Interrupted, Locked, Missing, NoPermission, NoSpace
from edgekit.core.measurement import Metric
from edgekit.core.progress import stage
from edgekit.core.registry import step_name
from edgekit.core.step import Context, Step
from edgekit.measure.context import Outcome, RunContext, log
from edgekit.measure.verify import Finding
from edgekit.report.rows import change
from edgekit.runs.graph import Node
from edgekit.runs.store import LOG, tools
from edgekit.workflows.setup import open_run

#: warnings of one step that are said; all are in the log
MOST_WARNINGS = 5

#: errors that concern every format
ENDING = (Interrupted, Locked, NoPermission, NoSpace)


def check_installed(nodes: Sequence[Node]) -> None:
    """Raises Missing, naming every package of the steps that is not installed."""
    absent: dict[str, set[str]] = {}
    packages = set()
    for node in nodes:
        for name, version in tools(node.step).items():
            if not version:
                packages.add(name)
                absent.setdefault(registry.distribution("steps", step_name(node.step)), set()).add(node.step.extra)
    if packages:
        names = ", ".join(sorted(packages))
        distributions = sorted(map(_with_extras, absent, absent.values()))
        next = "pip install " + " ".join(f"'{word}'" for word in distributions)
        raise Missing(f"this recipe needs {names}", f"{names} is not installed", next)


def _with_extras(distribution: str, extras: set[str]) -> str:
    named = ",".join(sorted(extras - {""}))
    return f"{distribution}[{named}]" if named else distribution


def make(nodes: Sequence[Node], context: RunContext, stored: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Make each node (parents come first) and check its conversion; descendants of a failed one are not made.

    `stored` holds existing artifacts that nodes may name as parents. Errors are in the outcome's failures; raised are
    those of a node without parents, and those that concern everything (a full disk).
    """
    artifacts: dict[str, Artifact] = {}
    failed: set[str] = set()
    for node in nodes:
        if failed & set(node.parents.values()):
            failed.add(node.name)
            continue
        inputs = {role: artifacts.get(name) or stored[name] for role, name in node.parents.items()}
        try:
            artifact = make_one(node, inputs, context)
            finding = _check(artifact, node.step, context)
        except EdgekitError as error:
            if not node.parents or isinstance(error, ENDING):
                raise
            context.outcome.failures.append(error)
            context.say(f"  failed    {node.name}: {error}")
            failed.add(node.name)
            continue
        context.outcome.artifacts.append(artifact)
        for note in artifact.details.get("notes", ()):
            context.note(f"{artifact.name}: {note}")
        if finding is not None:
            context.outcome.findings.append(finding)
            context.say(f"            {describe(finding)}")
            if error_ := finding.error():
                context.outcome.failures.append(error_)
                failed.add(node.name)
        if finding is None or finding.failed in ("", "budget"):
            artifacts[node.name] = artifact
    return artifacts


def raise_only(outcome: Outcome) -> None:
    """Raises the failure that is all there is to say: nothing was made, for one reason, and no check failed."""
    errors = outcome.failures
    if errors and errors[0].code != 1 and not outcome.artifacts and len(set(map(str, errors))) == 1:
        raise errors[0]


def _check(artifact: Artifact, step: Step, context: RunContext) -> Finding | None:
    """The check of an artifact's conversion; None if it is no model, or if nothing is to be checked."""
    if not artifact.kind.is_model:
        return None
    if context.verifier is not None:
        return context.check(context.verifier, artifact, step.preserves)
    if not context.unverified:
        return None
    return Finding(artifact.name, artifact.id, "", artifact.step, step.preserves, unverified=context.unverified)


def describe(finding: Finding) -> str:
    """One line about the check of a conversion, and the samples it was checked on."""
    if finding.unverified:
        return f"not verified: {finding.unverified}"
    if finding.failed and not finding.parity:
        return f"FAILED: {finding.reason}"
    on = f", on {finding.on}" if finding.on else ""
    if not finding.parity and not finding.metric:
        return f"not verified: it was not converted from another model; it runs{on}"
    parts = []
    if finding.parity:
        parts.append(f"{finding.parity.sqnr_db:.0f} dB against {finding.parity.against}")
        if finding.preserves == "accuracy" and finding.parity.kl is not None:
            parts.append(f"KL divergence {finding.parity.kl:.4f}")
            if finding.parity.top1_agreement is not None:
                parts.append(f"top class the same for {finding.parity.top1_agreement:.1%}")
    if finding.stepwise_db is not None:
        parts.append(f"{finding.stepwise_db:.0f} dB step by step")
    if finding.parity and finding.parity.neighbour_agreement is not None:
        parts.append(f"{finding.parity.neighbour_agreement:.1%} same nearest neighbour")
    if finding.metric:
        parts.append(f"val {finding.metric.name} {_value(finding.metric)}")
    if finding.verdict and finding.metric and finding.metric.drop_pp is not None:
        points = "pp" if finding.metric.unit == "fraction" else "%"
        why = f" ({finding.verdict.reason})" if finding.verdict.reason else ""
        parts.append(f"{change(finding.metric.drop_pp, points)}, budget {finding.verdict.state}{why}")
    return f"{_word(finding)}: {', '.join(parts)}{on}"


def _word(finding: Finding) -> str:
    if finding.failed:
        return "FAILED"
    if finding.verdict and finding.verdict.reason:
        return "undecided"
    return "verified" if finding.parity else "evaluated"


def _value(metric: Metric) -> str:
    return f"{metric.value:.2%}" if metric.unit == "fraction" else f"{metric.value:.4g} {metric.unit}".strip()


def make_one(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> Artifact:
    """A node's artifact, reused if it is stored with the same id; its conversion is not checked."""
    like = inputs["parent"].inputs if "parent" in inputs else ()
    data = {role: context.set(text, like) for role, text in node.step.sets(context.task).items()}
    step_context = Context(context.task, data, context.progress, log)
    stored = context.store.reusable(node.name, context.store.id(node.step, inputs, step_context))
    if stored is not None:
        context.outcome.reused += 1
        context.say(f"  reused    {node.name}")
        return stored
    started = time.monotonic()
    context.say(f"  {step_name(node.step):<9} {node.name} …")
    with _warnings(node, context), _unexpected(node), stage(context.progress, f"{step_name(node.step)} {node.name}"):
        artifact = context.store.make(node.name, node.step, inputs, step_context)
    size = f"{artifact.sizes.total / 1000:.1f} kB"
    how = f"; {artifact.scheme}" if artifact.kind.precision in ("w8", "w4") else ""
    context.say(f"  made      {artifact.name}: {size}, {time.monotonic() - started:.1f} s{how}")
    return artifact


@contextmanager
def _warnings(node: Node, context: RunContext) -> Iterator[None]:
    """Say the warnings that a step logs, too; an import's are about its source, which the workflow names."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        for warning in warnings[:MOST_WARNINGS] if node.step.accepts or node.step.sets(context.task) else ():
            context.note(f"{node.name}: {warning}", "warning")
        if len(warnings) > MOST_WARNINGS:
            context.note(f"{node.name}: {len(warnings) - MOST_WARNINGS} more warnings, in {LOG}", "warning")


@contextmanager
def _unexpected(node: Node) -> Iterator[None]:
    """Raises CannotConvert for what a conversion did not expect: the exporter's failure, not that of the others."""
    try:
        yield
    except (EdgekitError, OSError, MemoryError):
        raise
    except Exception as error:
        if not node.step.accepts or os.environ.get("EDGEKIT_TRACEBACK"):
            raise
        log.debug("%s", node.name, exc_info=True)
        why = f"{registry.at_fault(error)} failed with {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        next = "use another format; EDGEKIT_TRACEBACK=1 shows the traceback, to report it"
        raise CannotConvert(f"{step_name(node.step)} cannot make {node.name}", why, next) from error


def make_nodes(nodes: Sequence[Node], context: RunContext, stored: dict[str, Artifact]) -> Outcome:
    """Make and verify the nodes in the run folder, which is locked meanwhile.

    Raises Missing before any work if a package is not installed.
    """
    check_installed(nodes)
    with open_run(context.store):
        if context.val is None and context.task is not None:
            context.val = context.set(f"{context.task.name}:val")
        make(nodes, context, stored)
    raise_only(context.outcome)
    return context.outcome
