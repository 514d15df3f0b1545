"""`train`: train a network of a task, in one process or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekit import tasks
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.history import is_history
from edgekit.core.progress import Progress, quiet
from edgekit.core.step import Context, Step
from edgekit.core.target import Plan
from edgekit.core.task import Task
from edgekit.core.temporary import temporary_folder
from edgekit.core.user_code import typed_by_user
from edgekit.measure.context import Outcome, RunContext, log
from edgekit.networks import WEIGHTS, hugging_face, pretrained
from edgekit.runs import references
from edgekit.runs.graph import Node
from edgekit.runs.recipe import STARTER, Gates
from edgekit.runs.references import RUNS, load
from edgekit.runs.store import Store
from edgekit.tasks.shared.text import TOKENIZER
from edgekit.training import epoch_lines, processes, session
from edgekit.workflows.import_ import ensure_imported
from edgekit.workflows.make import make_nodes
from edgekit.workflows.prune import stored_teacher
from edgekit.workflows.setup import Say, run_context, silent

#: the learning rate with which all of a pretrained encoder is trained; that of a network from scratch would undo it
FINE_TUNING_LR = 2e-4


@typed_by_user
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

    `init` may also be a Hugging Face directory: it is imported, its tokenizer is the task's, and the learning rate is
    FINE_TUNING_LR, unless these are named.
    `teacher`: a torch artifact for distillation; one of another run is copied into this one. An interrupted training
    resumes; `resume` True requires one, False starts again. `tensorboard`: a folder for its logs. `workers`: processes
    that decode a streamed set. Raises InputError, Missing, or Diverged.
    """
    start = _start(fields.get("init", ""), progress, say)
    if start is not None:
        fields["init"] = start.name
    task_object = tasks.load(task)
    first = next(iter(task_object.models), model or task_object.fallback)
    if start is not None and pretrained.is_encoder(start.path) and model in ("", task_object.pretrained):
        task_object = _with_tokenizer(task, task_object, start)
        first = task_object.pretrained
        if "lr" not in fields and not fields.get("lora"):
            fields["lr"] = FINE_TUNING_LR
    if not first:
        raise InputError(f"{task} has no network of its own", next="name one: --model net.py:Net")
    model = model or first
    name = "torch" if model == first else f"{tasks.stem(model)}.torch"
    store = Store(out or RUNS / tasks.stem(task))
    teacher_artifact = stored_teacher(store, teacher) if teacher else None
    if teacher_artifact is not None:
        fields["teacher"] = teacher_artifact.name
    step: Step = registry.load("steps", "train")(model=model, **fields)
    problems = list(step.check(task_object))
    if problems:
        raise InputError("cannot train", "; ".join(problems), "see edgekit train --help")
    context = run_context(store, task_object, ["host"], Plan(), Gates(), progress, say)
    parents = {"init": start, "teacher": teacher_artifact}
    inputs = {role: artifact for role, artifact in parents.items() if artifact is not None}
    if any(artifact.path.absolute() == (store.path / name).absolute() for artifact in inputs.values()):
        raise InputError(f"the result would replace {name}, which it starts from", next="choose another run with --out")
    node = Node(name, step, {role: artifact.name for role, artifact in inputs.items()})
    if resume:
        _require_resumable(node, inputs, context)
    now = session.from_environment()
    log_dir, worker_count = tensorboard or now.tensorboard, now.workers if workers is None else workers
    train_ = _train_together if processes.world_size() > 1 else _train_here
    with session.using(replace(now, tensorboard=log_dir, resume=resume is not False, workers=worker_count, say=say)):
        outcome = train_(node, inputs, context)
    for artifact in outcome.artifacts:
        if is_history(artifact.details.get("history")):
            say(epoch_lines.result(artifact.details["history"]))
    return outcome


def _with_tokenizer(task: str, task_object: Task, start: Artifact) -> Task:
    """The task with the tokenizer of the pretrained encoder, unless it names one.

    Raises InputError for a task without a network for such encoders.
    """
    if not task_object.pretrained:
        what, why = f"{task} cannot start from {start.path}", "it has no network around a pretrained encoder"
        texts = f'for texts: "text-classification?data={task}"; ' if tasks.is_data_task(task) else ""
        raise InputError(what, why, f"{texts}name a network of your own: --model net.py:Net")
    tokenizer, query = start.path / TOKENIZER, task.partition("?")[2]
    if any(part.startswith("tokenizer=") for part in query.split("&")):
        return task_object
    if not tokenizer.is_file():
        what = f"{start.path} came without a tokenizer"
        raise InputError(what, "token ids depend on it", "add its tokenizer.json, import it again, or name tokenizer=")
    return tasks.load(f"{task}{'&' if query else '?'}tokenizer={quote(str(tokenizer))}")


def _start(init: str, progress: Progress, say: Say) -> Artifact | None:
    """The artifact that `init` names, of a Hugging Face directory its import; None for a weights file or timm.

    Raises InputError for another kind.
    """
    if not init or init.startswith("timm:") or Path(init).is_file():
        return None
    if hugging_face.is_directory(Path(init)):
        ref = references.resolve(init)
        return ensure_imported(ref, progress, say).artifact()
    if not Path(init).is_dir():
        why = "there is no such file or artifact"
        raise InputError(f"there are no weights {init!r}", why, "see --init in edgekit train --help")
    artifact = load(init)
    if artifact.kind.format != "torch" or not (artifact.path / WEIGHTS).is_file():
        raise InputError(f"{init} is {artifact.kind}", "training starts from a torch artifact", "name a torch artifact")
    return artifact


def _train_here(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> Outcome:
    return make_nodes([node], context, {artifact.name: artifact for artifact in inputs.values()})


def _require_resumable(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> None:
    """Raises InputError if no training with the same options was interrupted or finished."""
    data = {role: context.set(text) for role, text in node.step.sets(context.task).items()}
    id = context.store.id(node.step, inputs, Context(context.task, data, context.progress, log))
    if not (context.store.path / f".scratch-{id}").is_dir() and context.store.reusable(node.name, id) is None:
        what = f"there is nothing to resume in {context.store.path}"
        raise InputError(what, "no training with the same options was interrupted there", "leave out --resume")


def _train_together(node: Node, inputs: Mapping[str, Artifact], context: RunContext) -> Outcome:
    """Train in one of several processes: the first writes to the store, the others only train."""
    with processes.joined(getattr(node.step, "accelerator", "auto")) as group:
        if group.rank == 0:
            try:
                return _train_here(node, inputs, context)
            finally:
                group.release()
        if group.wait():
            data = {role: context.set(text) for role, text in node.step.sets(context.task).items()}
            with temporary_folder() as folder:
                node.step.apply(inputs, folder, Context(context.task, data, quiet, log))
    return context.outcome
