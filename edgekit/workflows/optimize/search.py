"""`edgekit optimize`: a search under a budget, with real measurements.

    space.py    the search space, and the steps that a point stands for
    study.py    the next point (Optuna), and the finished trials
    trial.py    one trial: the cheap checks first, then the measurement
    front.py    the Pareto front, and which trial to recommend
    finish.py   confirm the front, measure it in one session, copy the best, write the results

Trials are chosen on one half of the validation samples and confirmed on the other; test data is for the report.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekit.core import signals
from edgekit.core.artifact import Artifact
from edgekit.core.errors import BudgetMissed, Interrupted
from edgekit.core.progress import duration
from edgekit.core.samples import SampleSet
from edgekit.core.target import PRESETS
from edgekit.measure.context import RunContext, log
from edgekit.runs import written
from edgekit.workflows.optimize import finish
from edgekit.workflows.optimize.finish import PAGE, PICTURE, RESULT, Result
from edgekit.workflows.optimize.front import OVER, front, nearest
from edgekit.workflows.optimize.space import Space
from edgekit.workflows.optimize.study import Study, Trial
from edgekit.workflows.optimize.trial import Budget, TrialRunner, line

#: the default storage, in the run folder
STORAGE = "optimize.db"

TRIALS = 30


@dataclass(frozen=True)
class Search:
    """What one search needs. `context.val` is the selection half of validation, `confirmation` the other half.

    `storage`: URL of the Optuna storage; "" for the one in the run folder.
    """

    context: RunContext
    space: Space
    budget: Budget
    confirmation: SampleSet
    test: SampleSet
    seed: int = 0
    trials: int = TRIALS
    storage: str = ""
    title: str = "edgekit optimize"

    def run(self, reference: Artifact) -> Result:
        """Run `trials` trials, then finish. Ctrl-C ends the search and keeps its results so far.

        `failure` gives the result's failure. Raises DeviceError, and the error that stops the first trials.
        """
        say = self.context.say
        quick = replace(self.context.plan, **self._preset())
        runner = TrialRunner(replace(self.context, plan=quick, say=_log_only), self.space, self.budget, reference)
        study = Study(
            self.storage or self._run_storage(), self._study_name(reference), self.space, self.seed, self._worker()
        )
        trials = study.trials()
        if trials:
            say(f"  resumed   with {len(trials)} finished trials")
        result = Result(trials, front(trials))
        try:
            while _count(trials) < self.trials:
                point = study.suggest(trials)
                if point is None:
                    say("  done      every point of the space was tried")
                    break
                runner.finished = trials
                thorough = len(trials) < len(self.space.starts())
                trial = study.add(runner.attempt(point, thorough))
                trials = study.trials()
                result.trials, result.front = trials, front(trials)
                say(f"{line(trial, self.space)}  [{_count(trials)} of {self.trials}{_left(trials, self.trials)}]")
            say("  confirming the front and measuring it in one session …")
            runner.context = replace(self.context, say=_log_only)
            finish.finish(result, runner, self.confirmation, self.test, say)
        except KeyboardInterrupt:
            result.interrupted = True
        if result.artifact is None:
            result.nearest = nearest(trials)
        finish.write(result, runner, self.title)
        return result

    def failure(self, result: Result) -> Interrupted | BudgetMissed | None:
        """Why nothing is recommended; None if something is."""
        if result.interrupted:
            what = f"interrupted after {_count(result.trials)} of {self.trials} trials"
            next = "run the same command again to resume"
            error = Interrupted(what, f"the front so far, {len(result.front)} trials, is in {RESULT}", next)
            error.code = signals.exit_code()
            return error
        if result.artifact is not None:
            return None
        best = result.nearest
        if best is None:
            reasons = [t.reason or "; ".join(t.invalid) for t in result.trials]
            next = "measure on an idle machine, or allow more with --max-drop, --max-latency, --max-size"
            return BudgetMissed("no trial has a valid measurement", reasons[0] if reasons else "", next)
        over = ", ".join(f"{OVER[name]} ({_share(name, value)})" for name, value in best.violations.items())
        drop = f"drop {best.drop_pp:+.2f} pp, " if best.drop_pp is not None else ""
        figures = f"{best.artifact}: {drop}p50 {best.p50_ms:.3g} ms, {best.size_bytes:,} bytes; {over}"
        next = "allow more with --max-drop, --max-latency or --max-size, or try more with --trials"
        return BudgetMissed("no trial is within the budget", f"the nearest is {figures}", next)

    def _preset(self) -> dict[str, Any]:
        """Trials are measured by the quick plan; a plan that is quicker still stays."""
        quick = PRESETS["quick"]
        return {name: min(value, getattr(self.context.plan, name)) for name, value in quick.items()}

    def _run_storage(self) -> str:
        self.context.store.path.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{written.growing(self.context.store.path, STORAGE).resolve()}"

    def _worker(self) -> str:
        """ "" for a single worker; with a shared storage each worker is identified by its run folder."""
        return str(self.context.store.path.resolve()) if self.storage else ""

    def _study_name(self, reference: Artifact) -> str:
        """A name made from all that decides which points are tried and how they are evaluated."""
        assert self.context.val is not None
        identity = [
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
        return "edgekit-" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _count(trials: list[Trial]) -> int:
    """Failed trials do not count."""
    return sum(trial.state != "failed" for trial in trials)


def _left(trials: list[Trial], planned: int) -> str:
    """ ", about 4 min left", if the trials to come take as long as those so far; "" after the last."""
    left = planned - _count(trials)
    if left <= 0 or not _count(trials):
        return ""
    return f", about {duration(left * sum(trial.seconds for trial in trials) / _count(trials))} left"


def _share(name: str, value: float) -> str:
    return f"{value:.2f} over" if name == "max_drop_pp" else f"{100 * value:.0f} % over"


def _log_only(line: str) -> None:
    """Trials print one line each; their steps are only logged."""
    log.info(line.strip())


def report(result: Result) -> list[str]:
    """The result, in lines of text."""
    if result.artifact is None:
        return [f"on the front so far: trial {t.number}, {t.artifact}" for t in result.front]
    lines = [f"recommended: {result.artifact.path}"]
    lines += [f"rebuild it: edgekit run {result.recipe}"] if result.recipe else [f"{result.no_recipe}"]
    return [*lines, f"pictures: {result.artifact.path.parent / PICTURE}, {PAGE}"]
