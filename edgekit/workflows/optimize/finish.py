"""After the search: confirm the front on other samples, measure it in one session, copy the best of it to `best`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.local_paths import names_only
from edgekit.core.measurement import Measurement, Metric, Verdict
from edgekit.core.samples import SampleSet
from edgekit.measure import measurements
from edgekit.measure.context import Outcome
from edgekit.measure.verify import Verifier
from edgekit.report import html, picture
from edgekit.report.rows import change
from edgekit.runs import recipe as recipes
from edgekit.runs import written
from edgekit.runs.recipe import Chain, Gates, Recipe
from edgekit.workflows.optimize.front import recommended
from edgekit.workflows.optimize.space import describe
from edgekit.workflows.optimize.study import Trial
from edgekit.workflows.optimize.trial import TrialRunner, chain

BEST = "best"
RECIPE, RESULT, PICTURE, PAGE = "best.toml", "optimize.json", "optimize.svg", "optimize.html"
#: how many artifacts of the front are measured in one session at the end: its ends, and some between them
FINALISTS = 6


@dataclass
class OptimizeOutcome(Outcome):
    """The result of `optimize`; `search` holds all trials, the front and the recommended artifact."""

    search: Result | None = None


@dataclass
class Result:
    """How a search ended. `confirmed`: artifact → its drop on the confirmation half."""

    trials: list[Trial]
    front: list[Trial]
    measured: list[Measurement] = field(default_factory=list)
    confirmed: dict[str, tuple[Metric, Verdict]] = field(default_factory=dict)
    trial: Trial | None = None
    artifact: Artifact | None = None
    nearest: Trial | None = None
    recipe: Path | None = None
    no_recipe: str = ""
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values; trials as they are stored."""
        best = self.artifact
        return {
            "trials": [dataclasses.asdict(t) for t in self.trials],
            "front": [t.number for t in self.front],
            "recommended": best
            and {
                "artifact": best.name,
                "id": best.id,
                "path": str(best.path),
                "trial": self.trial and self.trial.number,
            },
            "confirmed": {
                name: {"metric": dataclasses.asdict(metric), "verdict": dataclasses.asdict(verdict)}
                for name, (metric, verdict) in self.confirmed.items()
            },
            "nearest": self.nearest and self.nearest.number,
            "recipe": self.recipe and str(self.recipe),
            "no_recipe": self.no_recipe,
            "interrupted": self.interrupted,
        }


def finish(
    result: Result, runner: TrialRunner, confirmation: SampleSet, test: SampleSet, say: Callable[[str], None]
) -> None:
    """Confirm, measure, recommend, and write the results. `test` is for the report: no choice depends on it."""
    context = runner.context
    artifacts = {t.number: runner.make(t.point) for t in finalists(result.front)}
    confirmed = [t for t in finalists(result.front) if _confirm(result, runner, t, artifacts[t.number], confirmation)]
    by_plan: dict[tuple[int, int], list[Trial]] = {}
    for t in confirmed:
        by_plan.setdefault((int(t.point["threads"]), int(t.point["batch"])), []).append(t)
    owners: dict[int, Trial] = {}
    for (threads, batch), group in by_plan.items():
        plan = replace(context.plan, threads=threads, batch=batch)
        runtimes = dict.fromkeys(str(t.point["runtime"]) for t in group)
        target = replace(context.targets[0], runtimes={name: context.targets[0].runtimes[name] for name in runtimes})
        models = {artifacts[t.number].name: artifacts[t.number] for t in group}
        own_context = dataclasses.replace(context, plan=plan, outcome=Outcome(), say=say)
        trial_of = {(artifacts[t.number].name, t.point["runtime"]): t for t in group}
        for m in measurements.measure(list(models.values()), target, test, own_context, reuse=True):
            if owner := trial_of.get((m.artifact, m.runtime)):
                owners[id(m)] = owner
                result.measured.append(m)
        context.outcome.sessions += own_context.outcome.sessions
    chosen = recommended(result.measured) or next((m for m in result.measured if not m.mismatch_reason), None)
    if chosen is None:
        return
    result.trial = owners[id(chosen)]
    _save_best(result, runner, artifacts[result.trial.number], chosen)


def finalists(front: Sequence[Trial]) -> list[Trial]:
    """At most FINALISTS of the front, evenly spaced, the fastest first."""
    if len(front) <= FINALISTS:
        return list(front)
    last = len(front) - 1
    return [front[round(i * last / (FINALISTS - 1))] for i in range(FINALISTS)]


def _confirm(result: Result, runner: TrialRunner, trial: Trial, artifact: Artifact, confirmation: SampleSet) -> bool:
    """Is it within the budget on the confirmation half, too? An undecided verdict counts as yes."""
    context = runner.context
    if context.scorer is None or confirmation.labels is None:
        return True
    assert context.verifier is not None
    verifier = Verifier(
        context.store, context.verifier.target, confirmation, context.scorer, context.gates, context.plan
    )
    scores, reference = (context.scorer(verifier.outputs(a), confirmation.labels) for a in (artifact, runner.reference))
    metric = statistics.metric(scores, confirmation.sha256, reference, runner.reference.name)
    verdict = statistics.verdict(reference, scores, runner.budget.max_drop_pp, "val", confirmation.labels)
    result.confirmed[artifact.name] = metric, verdict
    if verdict.state == "missed":
        context.say(f"  rejected  {artifact.name}: {change(metric.drop_pp or 0.0, 'pp')} on the confirmation half")
    return verdict.state != "missed"


def _save_best(result: Result, runner: TrialRunner, artifact: Artifact, measured: Measurement) -> None:
    """Copy the artifact to its plain name, with its measurement, and write the recipe."""
    assert result.trial is not None
    store = runner.context.store
    name = f"{BEST}.{artifact.kind.stem}"
    result.artifact = store.copy(artifact, name)
    key = hashlib.sha256(f"{name}/{measured.key}".encode()).hexdigest()[:16]
    renamed = replace(measured, artifact=name, key=key)
    store.add(renamed)
    result.measured = [renamed, *(m for m in result.measured if m is not measured)]
    try:
        recipe = _recipe(result.trial, artifact, runner)
    except InputError as error:
        result.no_recipe = str(error)
    else:
        import tomli_w

        result.recipe = store.path / RECIPE
        written.write(store.path, RECIPE, tomli_w.dumps(recipes.to_table(recipe)))


def _recipe(trial: Trial, artifact: Artifact, runner: TrialRunner) -> Recipe:
    """The recipe that rebuilds the trial's artifact. Raises InputError if no recipe can."""
    space, context = runner.space, runner.context
    if context.task is None:
        raise InputError("no recipe can rebuild it", "a recipe starts from a task, and this model belongs to none")
    plan = replace(context.plan, threads=int(trial.point["threads"]), batch=int(trial.point["batch"]))
    steps = tuple(chain(artifact, context.store))
    gates = Gates(max_drop_pp=runner.budget.max_drop_pp)
    seed = int(space.training.get("seed", 0))
    return Recipe(context.task.name, (Chain(BEST, steps),), seed, (space.target.name,), plan, gates)


def write(result: Result, runner: TrialRunner, title: str) -> None:
    """Write the result, the picture of everything measured, and the page."""
    store = runner.context.store
    stored = store.measurements()
    measured = [stored[t.key] for t in result.trials if t.key in stored]
    labelled = [
        replace(m, artifact=f"{t.number}: {describe(t.point, runner.space)}")
        for m, t in _measured_trials(result, stored)
    ]
    written.write(store.path, RESULT, json.dumps(names_only(result.to_json()), indent=1) + "\n")
    written.write(store.path, PICTURE, picture(labelled or measured, title))
    written.write(store.path, PAGE, html(result.measured or labelled, title))


def _measured_trials(result: Result, stored: dict[str, Measurement]) -> list[tuple[Measurement, Trial]]:
    return [(stored[t.key], t) for t in result.trials if t.key in stored]
