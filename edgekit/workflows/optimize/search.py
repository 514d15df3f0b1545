"""`edgekit optimize`: a search under a budget, with real measurements.

    space.py    what may be tried, and the steps that a point stands for
    study.py    which point next (Optuna), and the finished trials
    trial.py    one point: the cheap answers first, then the measurement
    front.py    which trials no other beats, and which to ship
    finish.py   confirmed, measured side by side, copied, written down

Trials are chosen on one half of validation and confirmed on the other; test data is for the report.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekit.core.artifact import Artifact
from edgekit.core.errors import BudgetMissed, Interrupted
from edgekit.core.samples import SampleSet
from edgekit.core.target import PRESETS
from edgekit.measure.context import RunContext, log
from edgekit.workflows.optimize import finish
from edgekit.workflows.optimize.finish import PAGE, PICTURE, RECIPE, RESULT, Result
from edgekit.workflows.optimize.front import OVER, front, nearest
from edgekit.workflows.optimize.space import Space
from edgekit.workflows.optimize.study import Study, Trial
from edgekit.workflows.optimize.trial import Budget, TrialRunner, line

#: the storage in the run folder
STORAGE = "optimize.db"

FILES = (STORAGE, RESULT, PICTURE, PAGE, RECIPE)

TRIALS = 30


@dataclass(frozen=True)
class Search:
    """What one search needs: `flow` of the selection half, the halves, the test samples, and where trials are kept."""

    context: RunContext
    space: Space
    budget: Budget
    second: SampleSet
    test: SampleSet
    seed: int = 0
    trials: int = TRIALS
    storage: str = ""
    title: str = "edgekit optimize"

    def run(self, reference: Artifact) -> Result:
        """Try points until there are `trials` of them, then finish. Ctrl-C ends it: what was found so far is kept.

        The result's failures are in `failure`. Raises DeviceError, and whatever stops the first trials of all.
        """
        tell = self.context.say
        quick = replace(self.context.plan, **self._preset())
        trier = TrialRunner(replace(self.context, plan=quick, say=_unsaid), self.space, self.budget, reference)
        study = Study(self.storage or self._own(), self._name(reference), self.space, self.seed, self._worker())
        trials = study.trials()
        if trials:
            tell(f"  kept      {len(trials)} trials that are finished already")
        result = Result(trials, front(trials))
        try:
            while _counted(trials) < self.trials:
                point = study.suggest(trials)
                if point is None:
                    tell("  all       points of the space were tried")
                    break
                trier.finished = trials
                thorough = len(trials) < len(self.space.starts())
                tell_about = study.add(trier.attempt(point, thorough))
                trials = study.trials()
                result.trials, result.front = trials, front(trials)
                tell(f"{line(tell_about, self.space)}  [{_counted(trials)} of {self.trials}]")
            tell("  confirming and measuring the front side by side …")
            trier.context = replace(self.context, say=_unsaid)
            finish.finish(result, trier, self.second, self.test)
        except KeyboardInterrupt:
            result.interrupted = True
        if result.artifact is None:
            result.nearest = nearest(trials)
        finish.write(result, trier, self.title)
        return result

    def failure(self, result: Result) -> Interrupted | BudgetMissed | None:
        """Why there is no recommendation, None where there is one."""
        if result.interrupted:
            what = f"interrupted after {_counted(result.trials)} of {self.trials} trials"
            next = "run the same command again: it goes on from here"
            return Interrupted(what, f"the front so far has {len(result.front)}, in {RESULT}", next)
        if result.artifact is not None:
            return None
        best = result.nearest
        if best is None:
            reasons = [t.reason or "; ".join(t.invalid) for t in result.trials]
            next = "measure on an idle machine, or allow more with --max-drop, --max-latency, --max-size"
            return BudgetMissed("no trial came to a valid end within the budget", reasons[0] if reasons else "", next)
        over = ", ".join(f"{OVER[name]} ({_share(name, value)})" for name, value in best.violations.items())
        drop = f"drop {best.drop_pp:+.2f} pp, " if best.drop_pp is not None else ""
        found = f"{best.artifact}: {drop}p50 {best.p50_ms:.3g} ms, {best.size_bytes:,} bytes; {over}"
        next = "allow more with --max-drop, --max-latency or --max-size, or try more with --trials"
        return BudgetMissed("nothing within the budget was found", f"the nearest possible is {found}", next)

    def _preset(self) -> dict[str, Any]:
        """Trials are measured by the quick plan, unless the plan is quicker still."""
        quick = PRESETS["quick"]
        return {name: min(value, getattr(self.context.plan, name)) for name, value in quick.items()}

    def _own(self) -> str:
        self.context.store.path.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{(self.context.store.path / STORAGE).resolve()}"

    def _worker(self) -> str:
        """ "" for the only one; with a storage of its own the run folder tells workers apart."""
        return str(self.context.store.path.resolve()) if self.storage else ""

    def _name(self, reference: Artifact) -> str:
        """What makes two searches the same: all that decides which points are tried and how they are judged."""
        assert self.context.val is not None
        what = [
            [asdict(d) for d in self.space.dimensions],
            reference.id,
            self.space.start.id if self.space.start else "",
            dict(self.space.fields),
            dict(self.space.training),
            self.space.target.name,
            asdict(self.budget),
            asdict(replace(self.context.plan, **self._preset())),
            self.context.val.sha256,
            self.seed,
        ]
        return "edgekit-" + hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def _counted(trials: list[Trial]) -> int:
    """What could not be made is no trial."""
    return sum(trial.state != "failed" for trial in trials)


def _share(name: str, value: float) -> str:
    return f"{value:.2f} over" if name == "max_drop_pp" else f"{100 * value:.0f} % over"


def _unsaid(line: str) -> None:
    """A trial has one line of its own; its steps are in the log."""
    log.info(line.strip())


def report(result: Result) -> list[str]:
    """What was found, in lines."""
    if result.artifact is None:
        return [f"on the front so far: trial {t.number}, {t.artifact}" for t in result.front]
    found = [f"recommended: {result.artifact.path}"]
    found += [f"rebuild it: edgekit run {result.recipe}"] if result.recipe else [f"{result.no_recipe}"]
    return [*found, f"pictures: {result.artifact.path.parent / PICTURE}, {PAGE}"]
