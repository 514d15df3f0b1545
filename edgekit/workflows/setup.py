"""What every workflow sets up first: the run context, task, samples and plan, and the locked run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import sets, tasks
from edgekit.core import registry, user_code
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.printable import LogFormatter
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.task import Task
from edgekit.measure import targets
from edgekit.measure.context import RunContext, log
from edgekit.measure.execute import runtimes_for
from edgekit.runs import attempts, references, written
from edgekit.runs import shapes as given_shapes
from edgekit.runs.recipe import Gates
from edgekit.runs.shapes import Shapes
from edgekit.runs.store import LOG, Store
from edgekit.sets import options
from edgekit.sets.random_inputs import OpenSize
from edgekit.sets.tables import encoded_like
from edgekit.tasks.shared import by_signature

Say = Callable[[str], None]


def silent(line: str) -> None:
    """A `say` that prints nothing."""


def run_context(
    store: Store, task: Task | None, names: Sequence[str], plan: Plan, gates: Gates, progress: Progress, say: Say
) -> RunContext:
    """The context of a run on these targets; its messages are logged, too. `val` is set later."""
    loaded = [targets.load(name) for name in names]

    def say_and_log(line: str) -> None:
        log.info(line.strip())
        say(line)

    return RunContext(store, task, loaded, plan, gates, None, task.score if task else None, progress, say_and_log)


def is_task(word: str) -> bool:
    """Does the word name a task: a shipped one, data, or a class of the user's own with a `load`?"""
    if word in registry.names("tasks"):
        return True
    if user_code.is_reference(word):
        return hasattr(registry.load("tasks", word), "load")
    return (
        not Path(word).is_dir()
        and not references.is_model_file(word)
        and sets.is_data(options.parse_set_spec(word).path)
    )


def task_of(artifacts: Sequence[Artifact]) -> Task | None:
    names = {artifact.task for artifact in artifacts if artifact.task}
    if len(names) > 1:
        raise InputError(
            "these artifacts belong to different tasks", ", ".join(sorted(names)), "name one run at a time"
        )
    return tasks.load(names.pop()) if names else None


def validation_set(
    context: RunContext, val: str, artifact: Artifact, calibration: str = "", shapes: Shapes | None = None
) -> SampleSet | None:
    """The set `val`, else the task's, else the calibration inputs (without labels: no accuracy), else random inputs.

    None if the size of an input is open and not given; the context then has the reason.
    """
    shapes = shapes or {}
    given_shapes.checked(shapes, artifact.inputs)
    if val:
        return context.set_for(val, artifact)
    if context.task:
        return context.set(f"{context.task.name}:val", encoded_like(artifact.inputs, context.task.name))
    if calibration:
        return replace(context.set(calibration, artifact.inputs), labels=None)
    try:
        inputs = random_inputs(context.store, artifact, shapes)
    except OpenSize as error:
        context.unverified = f"{error.what}: {error.next}, or --val SET"
        context.note(f"no data was given, and {context.unverified}", "warning")
        return None
    context.note(f"no data was given: conversions are checked on {len(inputs)} random inputs", "warning")
    return inputs


def test_set(context: RunContext, artifacts: Sequence[Artifact], shapes: Shapes | None = None) -> SampleSet:
    """The task's test split; without a task, random inputs (latency only). Raises OpenSize."""
    if context.task:
        return context.set(f"{context.task.name}:test", encoded_like(artifacts[0].inputs, context.task.name))
    return random_inputs(context.store, artifacts[0], shapes)


def choose_metric(context: RunContext, data: SampleSet | None, model: Artifact, metric: str = "") -> None:
    """Set the context's scorer for these samples by the model's signature, if they have labels and it has none.

    `metric`: one of `by_signature.CHOICES`. Raises InputError if that does not fit.
    """
    if metric and context.task is not None:
        why = f"{context.task.name} has a metric of its own"
        raise InputError("--metric is for models without a task", why, "leave it out")
    if metric and (data is None or data.labels is None):
        raise InputError(f"--metric {metric} needs labels", next="name samples with labels")
    if data is not None and data.labels is not None and context.scorer is None:
        context.scorer = by_signature.scorer(data, model, metric)
        for note in context.scorer.notes(data.labels) if isinstance(context.scorer, by_signature.OfOutput) else ():
            context.note(f"{data.name}: {note}")


def checked_metric(metric: str) -> None:
    """Raises InputError for a metric that does not exist."""
    if metric and metric not in by_signature.CHOICES:
        raise InputError(f"there is no metric {metric!r}", f"there are {', '.join(by_signature.CHOICES)}")


def random_inputs(store: Store, artifact: Artifact, shapes: Shapes | None = None) -> SampleSet:
    """Random inputs for an artifact without data, of the given sizes, else those known. Raises OpenSize."""
    root = store.root(artifact)
    return sets.random_inputs(artifact, root, given_shapes.known(root, artifact, shapes or {}))


def run_models(store: Store) -> list[Artifact]:
    """The models of a run, except the attempts and trials of a search; calibrated ranges are not models."""
    attempted = attempts.attempt_artifacts(store) | attempts.trial_artifacts(store)
    return [a for a in store.current() if a.name not in attempted and a.kind.is_model]


def check_runnable(artifacts: Sequence[Artifact], target: Target) -> None:
    if not any(runtimes_for(artifact, target) for artifact in artifacts):
        kinds = ", ".join(sorted({str(artifact.kind) for artifact in artifacts}))
        why = f"its runtimes are {', '.join(target.runtimes) or 'none'}"
        raise InputError(f"{target.name} has no runtime for {kinds}", why, "choose another artifact or target")


def plan_with(plan: Plan, overrides: dict[str, Any] | None) -> Plan:
    """The plan with a command's overrides. Raises InputError if it is not valid."""
    changed = replace(plan, **{**(overrides or {}), "threads": threads_of(plan, overrides)[0]})
    problems = list(changed.problems())
    if problems:
        raise InputError("the measurement plan is not valid", "; ".join(problems))
    return changed


def threads_of(plan: Plan, overrides: dict[str, Any] | None) -> tuple[int, ...]:
    """The thread counts to measure with: a number, or a tuple for a sweep."""
    threads = (overrides or {}).get("threads", plan.threads)
    return tuple(threads) if isinstance(threads, tuple | list) else (threads,)


@contextmanager
def open_run(store: Store) -> Iterator[None]:
    """Lock the run folder and log to its `log.txt`."""
    with store.lock():
        handler = logging.FileHandler(written.growing(store.path, LOG), encoding="utf-8")
        handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        level, propagates = log.level, log.propagate
        log.setLevel(logging.DEBUG)
        log.propagate = False
        try:
            yield
        finally:
            log.setLevel(level)
            log.propagate = propagates
            log.removeHandler(handler)
            handler.close()
