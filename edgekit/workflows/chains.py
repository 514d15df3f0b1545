"""Chains of steps that hang on one stored artifact: opened, planned, made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.core import metrics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress
from edgekit.core.target import Plan
from edgekit.measure.context import Outcome, RunContext
from edgekit.runs.graph import Node
from edgekit.runs.recipe import Gates
from edgekit.runs.references import ModelReference
from edgekit.workflows.import_ import stored
from edgekit.workflows.make import make_nodes
from edgekit.workflows.routes import step_named, suffix_of
from edgekit.workflows.setup import Say, flow_for, task_of, validation


def extend(
    ref: ModelReference,
    chains: Sequence[Sequence[str]],
    plan: Plan,
    gates: Gates,
    target: str,
    val: str,
    fields: dict[str, Any],
    progress: Progress,
    say: Say,
) -> Outcome:
    """Hang chains of steps onto one stored artifact; `fields` go to the steps that have them."""
    start, context = open_context(ref, gates, target, val, fields, progress, say)
    context.plan = plan
    if not all(chains):
        raise InputError(f"{start.name} is {start.kind} already", "there is nothing to do", "name another format")
    nodes, _ = plan_nodes(start, chains, fields, context, suffix_of(context.targets[0]))
    return make_nodes(nodes, context, {start.name: start})


def open_context(
    ref: ModelReference, gates: Gates, target: str, val: str, fields: dict[str, Any], progress: Progress, say: Say
) -> tuple[Artifact, RunContext]:
    """The stored artifact to start from, and a flow that checks arrows on the right samples."""
    ref = stored(ref, progress, say)
    start = ref.artifact()
    context = flow_for(ref.store, task_of([start]), [target], Plan(), gates, progress, say)
    context.val = validation(context, val, start, str(fields.get("calibration", "")))
    if context.val.labels is not None and context.scorer is None:
        context.scorer = metrics.scorer(context.val.labels)
    return start, context


def plan_nodes(
    start: Artifact, chains: Sequence[Sequence[str]], fields: dict[str, Any], context: RunContext, suffix: str
) -> tuple[list[Node], list[str]]:
    """What chains of steps will make of one artifact, and the name at the end of each chain.

    Raises InputError for everything that does not fit together.
    """
    nodes: dict[str, Node] = {}
    problems: list[str] = []
    ends = []
    for names in chains:
        before, kind = start.name, start.kind
        for name in names:
            step = step_named(name, fields, context.task)
            if kind.precision and kind not in step.accepts:
                raise InputError(f"{before} is {kind.precision} already", "there is nothing to do", "start from float")
            if kind not in step.accepts:
                taken = ", ".join(sorted(map(str, step.accepts)))
                raise InputError(f"{name} takes {taken}", f"{before} is {kind}", "start from another artifact")
            problems += list(step.check(context.task))
            resolved = step.resolve(context.targets[0])
            made = f"{start.chain}.{step.produces.stem}" if start.chain else step.produces.stem
            if suffix and resolved != step:
                made += suffix
            if made == context.store.root(start).name:
                raise InputError(f"{name} would replace {made}", f"{start.name} was made from it", f"start from {made}")
            nodes[made] = Node(made, resolved, {"parent": before})
            before, kind = made, step.produces
        ends.append(before)
    if problems:
        raise InputError("this cannot be done", "; ".join(dict.fromkeys(problems)), "mend the options")
    return list(nodes.values()), ends
