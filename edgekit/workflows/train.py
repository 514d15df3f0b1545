"""`train`: a network of a task is trained, in one process or several."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import tasks
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.step import Context, Step
from edgekit.core.target import Plan
from edgekit.measure.context import Outcome, RunContext, log
from edgekit.networks import WEIGHTS
from edgekit.runs.graph import Node
from edgekit.runs.recipe import STARTER, Gates
from edgekit.runs.references import RUNS, load
from edgekit.runs.store import Store
from edgekit.training import processes, session
from edgekit.workflows.make import make_nodes
from edgekit.workflows.prune import stored_teacher
from edgekit.workflows.setup import Say, flow_for, silent


def train(
    task: str = STARTER,
    *,
    model: str = "",
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
    resume: bool | None = None,
    tensorboard: Path | None = None,
    workers: int | None = None,
    teacher: str = "",
    **fields: Any,
) -> Outcome:
    """Train a network of a task; `fields` are those of the train step (epochs, lr, batch, seed, init, accelerator).

    `teacher`: a torch artifact that is learnt from as well; one of another run is copied into this one. What was
    interrupted goes on; `resume` True insists on that, False starts anew. `tensorboard`: a folder for its log.
    `workers`: processes that decode a streamed set. Raises InputError, Missing, or Diverged.
    """
    made = tasks.load(task)
    first = next(iter(made.models), model)
    if not first:
        raise InputError(f"{task} brings no network of its own", next="name one: --model net.py:Net")
    model = model or first
    name = "torch" if model == first else f"{tasks.stem(model)}.torch"
    store = Store(out or RUNS / tasks.stem(task))
    start = _start(fields.get("init", ""))
    if start is not None:
        fields["init"] = start.name
    taught = stored_teacher(store, teacher) if teacher else None
    if taught is not None:
        fields["teacher"] = taught.name
    step: Step = registry.load("steps", "train")(model=model, **fields)
    problems = list(step.check(made))
    if problems:
        raise InputError("cannot train", "; ".join(problems), "see edgekit train --help")
    context = flow_for(store, made, ["host"], Plan(), Gates(), progress, say)
    inputs = {role: artifact for role, artifact in (("init", start), ("teacher", taught)) if artifact is not None}
    if any(artifact.path.absolute() == (store.path / name).absolute() for artifact in inputs.values()):
        raise InputError(f"this would replace {name}, which it starts from", next="put it elsewhere with --out")
    node = Node(name, step, {role: artifact.name for role, artifact in inputs.items()})
    if resume:
        _insist(node, inputs, context)
    now = session.from_environment()
    board, helpers = tensorboard or now.tensorboard, now.workers if workers is None else workers
    with session.using(replace(now, tensorboard=board, resume=resume is not False, workers=helpers)):
        return _train_together(node, inputs, context) if processes.world_size() > 1 else _trained(node, inputs, context)


def _start(init: str) -> Artifact | None:
    """The artifact that `init` names; None where it names weights elsewhere. Raises InputError for another kind."""
    if not init or init.startswith("timm:") or Path(init).is_file():
        return None
    if not Path(init).is_dir():
        raise InputError(f"there are no weights {init!r}", "no such file, nor an artifact", "see edgekit train --help")
    found = load(init)
    if found.kind.format != "torch" or not (found.path / WEIGHTS).is_file():
        raise InputError(f"{init} is {found.kind}", "training starts from a torch artifact", "name that one")
    return found


def _trained(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> Outcome:
    return make_nodes([node], context, {artifact.name: artifact for artifact in inputs.values()})


def _insist(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> None:
    """Raises InputError where no training of just this kind was interrupted, or is finished."""
    data = {role: context.set(text) for role, text in node.step.sets(context.task).items()}
    id = context.store.id(node.step, inputs, Context(context.task, data, context.progress, log))
    if not (context.store.path / f".scratch-{id}").is_dir() and context.store.reusable(node.name, id) is None:
        what = f"there is nothing to resume in {context.store.path}"
        raise InputError(what, "no training with just these options was interrupted there", "leave out --resume")


def _train_together(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> Outcome:
    """In one of several processes: the first writes to the store, the others only learn."""
    with processes.joined(getattr(node.step, "accelerator", "auto")) as group:
        if group.rank == 0:
            try:
                return _trained(node, inputs, context)
            finally:
                group.release()
        if group.wait():
            data = {role: context.set(text) for role, text in node.step.sets(context.task).items()}
            with tempfile.TemporaryDirectory() as place:
                node.step.apply(inputs, Path(place), Context(context.task, data, quiet, log))
    return context.outcome
