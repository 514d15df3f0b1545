"""`prune`: remove channels and attention heads, then fine-tune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.step import Step
from edgekit.core.user_code import typed_by_user
from edgekit.measure.context import Outcome
from edgekit.runs import references
from edgekit.runs.graph import Node
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.workflows.chains import open_context
from edgekit.workflows.make import make_nodes
from edgekit.workflows.setup import Say, silent


@typed_by_user
def prune(
    artifact: str | None = None,
    *,
    name: str = "",
    target: str = "host",
    val: str = "",
    max_drop_pp: float | None = None,
    strict: bool = False,
    teacher: str = "",
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
    **fields: Any,
) -> Outcome:
    """Remove channels and heads of a torch artifact and fine-tune it; `fields` are those of the prune step.

    The result is `NAME.torch`; the default name is that of the goal (prune50, macs40, parameters30, faster150). An
    artifact that misses the budget is kept, and is a failure. Raises InputError, CannotConvert if the goal cannot be
    reached.
    """
    ref = references.resolve(artifact, out)
    gates = Gates(max_drop_pp=Gates().max_drop_pp if max_drop_pp is None else max_drop_pp, strict=strict)
    start, context = open_context(ref, gates, target, val, {}, progress, say)
    if str(start.kind) != "torch":
        raise InputError(f"{start.name} is {start.kind}", "only a torch network can be pruned", "name a torch artifact")
    if context.task is None:
        fields = {"epochs": 0, **fields}
    step: Step = registry.load("steps", "prune")(**fields, teacher=teacher).resolve(context.targets[0])
    if problems := list(step.check(context.task)):
        raise InputError("cannot prune", "; ".join(problems), "see edgekit prune --help")
    stored = {start.name: start}
    parents = {"parent": start.name}
    if teacher:
        teacher_artifact = stored_teacher(context.store, teacher)
        stored[teacher_artifact.name] = teacher_artifact
        parents["teacher"] = teacher_artifact.name
    chain = name or "-".join(filter(None, [start.chain, _pruned_name(fields)]))
    return make_nodes([Node(f"{chain}.torch", step, parents)], context, stored)


def _pruned_name(fields: Mapping[str, Any]) -> str:
    """prune50 for a ratio of 0.5, faster150 for a speedup of 1.5."""
    prefixes = {"ratio": "prune", "macs": "macs", "parameters": "parameters", "speedup": "faster"}
    goal = next(field for field in prefixes if fields.get(field))
    return f"{prefixes[goal]}{round(100 * fields[goal])}"


def stored_teacher(store: Store, word: str) -> Artifact:
    """The teacher, a torch artifact; one of another run is copied into this one, so that it stays available."""
    ref = references.resolve(word)
    if ref.foreign:
        raise InputError(f"{word} is not in a run yet", next=f"edgekit import {word}")
    teacher = ref.artifact()
    if teacher.kind.format != "torch":
        raise InputError(f"{word} is {teacher.kind}", "a teacher is a torch network", "name a torch artifact")
    if ref.store.path.resolve() == store.path.resolve():
        return teacher
    with store.lock():
        return store.copy(replace(teacher, parents=()), "teacher.torch")
