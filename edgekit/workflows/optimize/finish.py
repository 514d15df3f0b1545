"""After the search: the front confirmed on other samples, measured side by side, and one of it copied as `best`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.files import write_atomically
from edgekit.core.measurement import Measurement, Metric, Verdict
from edgekit.core.samples import SampleSet
from edgekit.measure import measurements
from edgekit.measure.context import Outcome
from edgekit.measure.verify import Verifier
from edgekit.report import html, picture
from edgekit.runs import recipe as recipes
from edgekit.runs.recipe import Chain, Gates, Recipe
from edgekit.workflows.optimize.front import recommended
from edgekit.workflows.optimize.space import describe
from edgekit.workflows.optimize.study import Trial
from edgekit.workflows.optimize.trial import TrialRunner, chain

BEST = "best"
RECIPE, RESULT, PICTURE, PAGE = "best.toml", "optimize.json", "optimize.svg", "optimize.html"
#: how many of the front are measured side by side at the end: the ends of it, and between
FINALISTS = 6


@dataclass
class OptimizeOutcome(Outcome):
    """What `optimize` made; `search` holds all trials, the front and what is recommended."""

    search: Result | None = None


@dataclass
class Result:
    """How a search ended. `confirmed`: artifact → its drop on the confirming half."""

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


def finish(result: Result, trier: TrialRunner, second: SampleSet, test: SampleSet) -> None:
    """Confirm, measure, recommend, and write what is kept. `test` is for the report, and judges nothing."""
    context = trier.context
    artifacts = {t.number: trier.made(t.point) for t in finalists(result.front)}
    confirmed = [t for t in finalists(result.front) if _confirmed(result, trier, t, artifacts[t.number], second)]
    by_plan: dict[tuple[int, int], list[Trial]] = {}
    for t in confirmed:
        by_plan.setdefault((int(t.point["threads"]), int(t.point["batch"])), []).append(t)
    owners: dict[int, Trial] = {}
    for (threads, batch), group in by_plan.items():
        plan = replace(context.plan, threads=threads, batch=batch)
        runtimes = dict.fromkeys(str(t.point["runtime"]) for t in group)
        target = replace(context.targets[0], runtimes={name: context.targets[0].runtimes[name] for name in runtimes})
        models = {artifacts[t.number].name: artifacts[t.number] for t in group}
        side = dataclasses.replace(context, plan=plan, outcome=Outcome())
        wanted = {(artifacts[t.number].name, t.point["runtime"]): t for t in group}
        for m in measurements.measure(list(models.values()), target, test, side, reuse=True):
            if owner := wanted.get((m.artifact, m.runtime)):
                owners[id(m)] = owner
                result.measured.append(m)
    chosen = recommended(result.measured) or next((m for m in result.measured if not m.mismatch_reason), None)
    if chosen is None:
        return
    result.trial = owners[id(chosen)]
    _keep(result, trier, artifacts[result.trial.number], chosen)


def finalists(front: Sequence[Trial]) -> list[Trial]:
    """At most FINALISTS of the front: the fastest first, evenly to the slowest."""
    if len(front) <= FINALISTS:
        return list(front)
    last = len(front) - 1
    return [front[round(i * last / (FINALISTS - 1))] for i in range(FINALISTS)]


def _confirmed(result: Result, trier: TrialRunner, trial: Trial, artifact: Artifact, second: SampleSet) -> bool:
    """Within the budget on the other half too, as far as its samples can tell?"""
    context = trier.context
    if context.scorer is None or second.labels is None:
        return True
    assert context.verifier is not None
    verifier = Verifier(context.store, context.verifier.target, second, context.scorer, context.gates, context.plan)
    scores, reference = (context.scorer(verifier.outputs(a), second.labels) for a in (artifact, trier.reference))
    metric = statistics.metric(scores, second.sha256, reference, trier.reference.name)
    verdict = statistics.verdict(reference, scores, trier.budget.max_drop_pp, "val")
    result.confirmed[artifact.name] = metric, verdict
    if verdict.state == "missed":
        context.say(f"  dropped   {artifact.name}: {metric.drop_pp:+.2f} pp on the confirming half")
    return verdict.state != "missed"


def _keep(result: Result, trier: TrialRunner, artifact: Artifact, measured: Measurement) -> None:
    """The artifact under its plain name with its measurement, the recipe, the picture and the page."""
    assert result.trial is not None
    store = trier.context.store
    name = f"{BEST}.{artifact.kind.stem}"
    result.artifact = store.copy(artifact, name)
    own = hashlib.sha256(f"{name}/{measured.key}".encode()).hexdigest()[:16]
    kept = replace(measured, artifact=name, key=own)
    store.add(kept)
    result.measured = [kept, *(m for m in result.measured if m is not measured)]
    try:
        recipe = _recipe(result.trial, trier)
    except InputError as error:
        result.no_recipe = str(error)
    else:
        import tomli_w

        result.recipe = store.path / RECIPE
        write_atomically(result.recipe, tomli_w.dumps(recipes.to_table(recipe)))


def _recipe(trial: Trial, trier: TrialRunner) -> Recipe:
    """What makes the trial's artifact from nothing. Raises InputError where no recipe can."""
    space, context = trier.space, trier.context
    if context.task is None:
        raise InputError("no recipe can rebuild it", "a recipe begins with a task, and this model belongs to none")
    plan = replace(context.plan, threads=int(trial.point["threads"]), batch=int(trial.point["batch"]))
    steps = tuple(chain(space, trial.point, context.store))
    gates = Gates(max_drop_pp=trier.budget.max_drop_pp)
    seed = int(space.training.get("seed", 0))
    return Recipe(context.task.name, (Chain(BEST, steps),), seed, (space.target.name,), plan, gates)


def write(result: Result, trier: TrialRunner, title: str) -> None:
    """The result, the picture of everything measured, and the page, as they stand."""
    store = trier.context.store
    stored = store.measurements()
    tried = [stored[t.key] for t in result.trials if t.key in stored]
    drawn = [replace(m, artifact=f"{t.number}: {describe(t.point, trier.space)}") for m, t in _with(result, stored)]
    write_atomically(store.path / RESULT, json.dumps(result.to_json(), indent=1) + "\n")
    write_atomically(store.path / PICTURE, picture(drawn or tried, title))
    write_atomically(store.path / PAGE, html(result.measured or drawn, title))


def _with(result: Result, stored: dict[str, Measurement]) -> list[tuple[Measurement, Trial]]:
    return [(stored[t.key], t) for t in result.trials if t.key in stored]
