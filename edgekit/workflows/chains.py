"""Chains of steps that start from one stored artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress
from edgekit.core.step import Step
from edgekit.core.target import Plan
from edgekit.measure.context import Outcome, RunContext
from edgekit.runs import shapes as given_shapes
from edgekit.runs.graph import Node
from edgekit.runs.recipe import Gates
from edgekit.runs.references import ModelReference
from edgekit.runs.shapes import Shapes
from edgekit.sets.random_inputs import candidates, known_sizes
from edgekit.workflows import float_model
from edgekit.workflows.import_ import ensure_imported
from edgekit.workflows.make import make, make_nodes
from edgekit.workflows.routes import step_named, suffix_of
from edgekit.workflows.setup import Say, choose_metric, open_run, run_context, task_of, validation_set


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
    shapes: Shapes | None = None,
    metric: str = "",
    from_half: bool = False,
) -> Outcome:
    """Make chains of steps from one stored artifact; each of the `fields` is set in the steps that have it.

    `from_half`: a model that came in float16 is converted to float32 before.
    """
    start, context = open_context(ref, gates, target, val, fields, progress, say, shapes, metric)
    start = in_float32(start, context) if from_half else start
    context.plan = plan
    if not all(chains):
        raise InputError(f"{start.name} is {start.kind} already", next="name another format")
    fields = with_sizes(fields, start, context, shapes)
    nodes, _ = plan_nodes(start, chains, fields, context, suffix_of(context.targets[0]))
    return make_nodes(nodes, context, {start.name: start})


def open_context(
    ref: ModelReference,
    gates: Gates,
    target: str,
    val: str,
    fields: dict[str, Any],
    progress: Progress,
    say: Say,
    shapes: Shapes | None = None,
    metric: str = "",
) -> tuple[Artifact, RunContext]:
    """The stored artifact to start from, and a run context that checks conversions on the right samples."""
    ref = ensure_imported(ref, progress, say, shapes)
    start = ref.artifact()
    context = run_context(ref.store, task_of([start]), [target], Plan(), gates, progress, say)
    context.val = validation_set(context, val, start, str(fields.get("calibration", "")), shapes)
    choose_metric(context, context.val, start, metric)
    if context.val is None:
        return start, context
    if not context.val.random:
        float_model.warn(context, start)
    return start, context


def with_sizes(
    fields: dict[str, Any], start: Artifact, context: RunContext, shapes: Shapes | None = None
) -> dict[str, Any]:
    """The fields, with the sizes of the start's open axes where `shapes`, its import or its signature give them."""
    root = context.store.root(start)
    given = given_shapes.known(root, start, shapes or {})
    open_inputs = [spec for spec in start.inputs if spec.open_axes]
    known = {spec.name: known_sizes(spec, candidates(spec, start, root, given)) for spec in open_inputs}
    sizes = tuple(f"{name}={'x'.join(map(str, size))}" for name, size in known.items() if size)
    return {**fields, **({"sizes": sizes} if sizes else {})}


def plan_nodes(
    start: Artifact, chains: Sequence[Sequence[str]], fields: dict[str, Any], context: RunContext, suffix: str
) -> tuple[list[Node], list[str]]:
    """The nodes that chains of steps make from one artifact, and the name of the last artifact of each chain.

    Raises InputError for steps that do not accept what comes before, and for invalid fields.
    """
    nodes: dict[str, Node] = {}
    problems: list[str] = []
    ends = []
    for names in chains:
        before, kind = start.name, start.kind
        for name in names:
            step = step_named(name, fields, context.task)
            if kind.precision and kind not in step.accepts:
                why = f"{name} converts float models, and its float weights are lost"
                next = "convert the float model that it was made from, then quantize that: edgekit quantize MODEL"
                raise InputError(f"{before} is {kind.precision} already", why, next)
            if kind not in step.accepts:
                accepted = ", ".join(sorted(map(str, step.accepts)))
                raise InputError(f"{name} accepts {accepted}", f"{before} is {kind}", "start from another artifact")
            problems += list(step.check(context.task))
            resolved = step.resolve(context.targets[0])
            artifact = f"{start.chain}.{step.produces.stem}" if start.chain else step.produces.stem
            if suffix and resolved != step:
                artifact += suffix
            if artifact == context.store.root(start).name:
                why = f"{start.name} was made from it"
                raise InputError(f"{name} would replace {artifact}", why, f"start from {artifact}")
            nodes[artifact] = Node(artifact, resolved, {"parent": before})
            before, kind = artifact, step.produces
        ends.append(before)
    if problems:
        raise InputError("the options are not valid", "; ".join(dict.fromkeys(problems)), "fix the options")
    return list(nodes.values()), ends


def in_float32(start: Artifact, context: RunContext) -> Artifact:
    """A model that came in float16, in float32; any other as it is."""
    if start.kind != Kind("onnx", frozenset({"fp16"})) or context.store.root(start).name != start.name:
        return start
    step: Step = registry.load("steps", "onnx_fp32")()
    name = f"{start.chain}.{step.produces.stem}" if start.chain else step.produces.stem
    with open_run(context.store):
        made = make([Node(name, step, {"parent": start.name})], context, {start.name: start})
    if name not in made:
        raise context.outcome.failures[-1]
    return made[name]
