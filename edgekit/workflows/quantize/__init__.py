"""`quantize`: int8, fp16 or dynamic artifacts within the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.core import errors
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.core.user_code import typed_by_user
from edgekit.measure import targets
from edgekit.measure.context import RunContext
from edgekit.runs import named_sets, references
from edgekit.runs.graph import Node
from edgekit.runs.recipe import Gates
from edgekit.runs.references import ModelReference
from edgekit.runs.shapes import Shapes
from edgekit.workflows import make
from edgekit.workflows.chains import extend, in_float32, open_context, plan_nodes, with_sizes
from edgekit.workflows.quantize import weight_only
from edgekit.workflows.quantize.attempts import FAST, METHODS, WITHOUT_SAMPLES, QuantizeOutcome, SearchRecord
from edgekit.workflows.quantize.method_search import Effort, MethodSearch
from edgekit.workflows.quantize.methods import METHOD_STEPS
from edgekit.workflows.quantize.weight_only import WEIGHT_ONLY
from edgekit.workflows.routes import (
    check_options,
    float_route,
    format_of,
    lowered,
    quantizable,
    route,
    step_named,
    suffix_of,
)
from edgekit.workflows.setup import Say, checked_metric, open_run, silent


@typed_by_user
def quantize(
    artifact: str | None = None,
    *,
    precision: str = "int8",
    to: Sequence[str] = (),
    calibration: str = "",
    val: str = "",
    max_drop_pp: float | None = None,
    max_kl: float | None = None,
    metric: str = "",
    strict: bool = False,
    methods: Sequence[str] = (),
    effort: Effort = "normal",
    latency: bool = True,
    target: str = "host",
    out: Path | None = None,
    shapes: Shapes | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> QuantizeOutcome:
    """Make int8, fp16, dynamic, w8 or w4 artifacts within the budget; if it is missed, the best attempt is kept.

    For int8 a search (`method_search`) tries quantization methods, or those in `methods`; with a budget it ends at the
    first that keeps it. `effort`: "fast" tries one good method, "thorough" all. `latency`: time the attempts where the
    target is timed; without it accuracy and size decide. `max_kl`: the largest KL divergence from the float model, in
    nats. For w4 with a budget, products get 8 bits, the most sensitive first, until it is kept. `shapes`: see `export`.
    `options`: fields of the exporters and the quantizing step. `metric`: see `choose_metric`. The failure of one format
    does not end the others. Raises InputError if calibration samples, or labels for an explicit budget, are missing.
    """
    checked_metric(metric)
    ref = references.resolve(artifact, out)
    source = format_of(ref)
    if ref.foreign and precision == "int8" and not calibration:
        raise InputError(
            f"{ref.foreign} has no calibration samples",
            "int8 needs typical inputs to calibrate the ranges of the activations",
            "pass --calibration SET (an .npz with one array per input, or task:split)",
        )
    formats = to or ([source] if source != "torch" else quantizable(precision))
    routes = {name: float_route(source, name, precision) for name in formats}
    check_options(options or {}, {name: [*steps, f"{name}_{precision}"] for name, steps in routes.items()})
    fields = {**(options or {}), **({"calibration": calibration} if calibration else {})}
    allowed = Gates().max_drop_pp if max_drop_pp is None else max_drop_pp
    gates = Gates(max_drop_pp=allowed, strict=strict, max_kl=max_kl or 0.0)
    labelled = named_sets.has_labels(val) if val else not ref.foreign and bool(ref.artifact().task)
    if max_drop_pp is not None and not labelled:
        raise InputError("--max-drop needs labels", "accuracy is measured on them", "pass --val SET with labels")
    if precision in WEIGHT_ONLY:
        budget = max_drop_pp is not None or max_kl is not None
        by_format = {name: _chains(source, name, precision, route) for name, route in routes.items()}
        return weight_only.quantize(ref, by_format, budget, gates, target, val, fields, progress, say, shapes, metric)
    if precision != "int8":
        chains = [chain for name, route in routes.items() for chain in _chains(source, name, precision, route)]
        return QuantizeOutcome(
            **vars(extend(ref, chains, Plan(), gates, target, val, fields, progress, say, shapes, metric))
        )
    if unknown := [name for name in methods if name not in METHODS]:
        raise InputError(f"there is no method {unknown[0]!r}", next=errors.suggest(unknown[0], METHODS))
    chosen = methods or (FAST if effort == "fast" else METHODS)
    return _search_methods(
        ref,
        routes,
        chosen,
        effort,
        latency,
        max_drop_pp is not None,
        gates,
        target,
        val,
        fields,
        progress,
        say,
        shapes,
        metric,
    )


def _chains(source: str, format: str, precision: str, float_route: list[str]) -> list[list[str]]:
    """The chain that ends in the precision; before it the float model, where another one leads there."""
    step = f"{format}_{precision}"
    if not lowered(format, precision):
        return [[*float_route, step]]
    return [*([float_route] if float_route else []), [*route(source, "torch"), step]]


def _search_methods(
    ref: ModelReference,
    routes: dict[str, list[str]],
    methods: Sequence[str],
    effort: Effort,
    latency: bool,
    budget: bool,
    gates: Gates,
    target: str,
    val: str,
    fields: dict[str, Any],
    progress: Progress,
    say: Say,
    shapes: Shapes | None,
    metric: str,
) -> QuantizeOutcome:
    """Make the float model of each format, then run the method search on each."""
    start, context = open_context(ref, gates, target, val, fields, progress, say, shapes, metric)
    outcome = context.outcome = QuantizeOutcome(**vars(context.outcome))
    start = in_float32(start, context)
    methods = _of_states(start, methods, context) if start.states else methods
    fields = with_sizes(fields, start, context, shapes)
    suffix = suffix_of(context.targets[0])
    for name in routes:
        step = step_named(f"{name}_int8", fields, context.task)
        if problems := list(step.check(context.task)):
            raise InputError(f"cannot quantize to {name}", "; ".join(problems), "fix the options")
        make.check_installed([Node(name, step, {})])
    nodes, ends = plan_nodes(start, list(routes.values()), fields, context, suffix)
    if any(start.kind.precision for name in routes if ends[list(routes).index(name)] == start.name):
        what, why = f"{start.name} is {start.kind.precision} already", "quantization starts from float32"
        raise InputError(what, why, "name a float32 artifact, or export the model in float32 again")
    make.check_installed(nodes)
    with open_run(context.store):
        models = {start.name: start, **make.make(nodes, context, {start.name: start})}
        for format, end in zip(routes, ends, strict=True):
            if end not in models:
                continue  # its export failed, which is in the failures
            resolved = step_named(f"{format}_int8", fields, context.task)
            differs = suffix and resolved.resolve(context.targets[0]) != resolved.resolve(targets.load("host"))
            own = suffix if differs else ""
            search = MethodSearch(
                context, models[end], format, fields, budget, own, METHOD_STEPS, effort, tuple(outcome.searches)
            )
            if not latency:
                search.untimed("--no-latency")
            try:
                _record(search, search.run(tuple(methods)), outcome)
            except EdgekitError as error:  # no method made an artifact: other formats may do better
                if isinstance(error, make.ENDING):
                    raise
                outcome.failures.append(error)
                context.say(f"  failed    {search.record.name}: {error}")
    make.raise_only(outcome)
    return outcome


def _of_states(start: Artifact, methods: Sequence[str], context: RunContext) -> tuple[str, ...]:
    """The methods for a model with states, which has no calibrated ranges. Raises InputError if none is left."""
    kept = tuple(method for method in methods if method in WITHOUT_SAMPLES)
    why = "it has states, whose values no calibration samples hold"
    if not kept:
        what = f"{', '.join(methods)} cannot quantize {start.name}"
        raise InputError(what, why, "edgekit quantize --weights 8, or --dynamic")
    context.note(f"{start.name} is not calibrated: {why}; its activations stay float, or are quantized at run time")
    return kept


def _record(search: MethodSearch, record: SearchRecord, outcome: QuantizeOutcome) -> None:
    outcome.searches.append(record)
    if record.chosen:
        outcome.artifacts.append(record.chosen)
    if record.confirmed:
        outcome.findings.append(record.confirmed)
    if failure := search.error():
        outcome.failures.append(failure)
