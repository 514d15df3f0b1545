"""`edgekit optimize`: a search under a budget, with real measurements.

    space.py    the search space, and the steps that a point stands for
    storage.py  the database
    claims.py   which points other workers are trying
    study.py    the next point (Optuna), and the finished trials
    trial.py    one trial: the cheap checks first, then the measurement
    front.py    the Pareto front, and which trial to recommend
    finish.py   confirm the front, measure it in one session, copy the best, write the results

Trials are chosen on one half of the validation samples and confirmed on the other; test data is for the report.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import uuid
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekit.core import signals
from edgekit.core.artifact import Artifact
from edgekit.core.errors import BudgetMissed, EdgekitError, Interrupted
from edgekit.core.json import read, record
from edgekit.core.progress import duration
from edgekit.core.relative_paths import inside
from edgekit.core.samples import SampleSet
from edgekit.core.target import PRESETS
from edgekit.measure.context import RunContext, log
from edgekit.report.rows import change
from edgekit.runs import written
from edgekit.workflows.optimize import finish
from edgekit.workflows.optimize.finish import PAGE, PICTURE, RESULT, Result
from edgekit.workflows.optimize.front import OVER, front, nearest
from edgekit.workflows.optimize.space import Space, key
from edgekit.workflows.optimize.storage import Storage
from edgekit.workflows.optimize.study import Study, Trial, count
from edgekit.workflows.optimize.trial import Budget, TrialRunner, line

#: the default storage, in the run folder
STORAGE = "optimize.db"
#: an identity of the run folder among the workers that share a storage; a finished trial that could not be stored yet
WORKER, UNSTORED = "optimize.worker", "optimize.unstored.json"

TRIALS = 30


@dataclass(frozen=True)
class Search:
    """What one search needs. `context.val` is the selection half of validation, `confirmation` the other half.

    `shared`: other workers use the storage, too.
    """

    context: RunContext
    space: Space
    budget: Budget
    confirmation: SampleSet
    test: SampleSet
    storage: Storage
    shared: bool = False
    seed: int = 0
    trials: int = TRIALS
    title: str = "edgekit optimize"

    def run(self, reference: Artifact) -> Result:
        """Run `trials` trials, then finish. Ctrl-C ends the search and keeps its results so far.

        `failure` gives the result's failure. Raises DeviceError, and the error that stops the first trials.
        """
        quick = replace(self.context.plan, **self._preset())
        runner = TrialRunner(replace(self.context, plan=quick, say=_log_only), self.space, self.budget, reference)
        name = self._study_name(reference)
        with contextlib.closing(Study(self.storage, name, self.space, self.seed, *self._worker())) as study:
            return self._run(study, runner, name)

    def _run(self, study: Study, runner: TrialRunner, name: str) -> Result:
        say = self.context.say
        self._store_unstored(study, name)
        trials = study.trials()
        if trials:
            say(f"  resumed   with {len(trials)} finished trials")
        result = Result(trials, front(trials))
        starts = {key(point) for point in self.space.starts()}
        try:
            while (point := study.next(self.trials, say)) is not None:
                trials = study.trials()
                runner.finished = trials
                trial = self._stored(study, name, runner.attempt(point, thorough=key(point) in starts))
                trials = study.trials()
                result.trials, result.front = trials, front(trials)
                say(f"{line(trial, self.space)}  [{count(trials)} of {self.trials}{_left(trials, self.trials)}]")
            result.trials = trials = study.trials()
            result.front = front(trials)
            say("  confirming the front and measuring it in one session …")
            runner.context = replace(self.context, say=_log_only)
            finish.finish(result, runner, self.confirmation, self.test, say)
        except KeyboardInterrupt:
            result.interrupted = True
        if result.artifact is None:
            result.nearest = nearest(trials)
        finish.write(result, runner, self.title)
        return result

    def _stored(self, study: Study, name: str, trial: Trial) -> Trial:
        """The trial, stored; if the storage is lost, it is kept in the run folder."""
        try:
            return study.add(trial)
        except (EdgekitError, KeyboardInterrupt):
            with contextlib.suppress(EdgekitError, OSError):
                text = json.dumps({"study": name, "trial": asdict(trial)})
                written.write(self.context.store.path, UNSTORED, text)
            raise

    def _store_unstored(self, study: Study, name: str) -> None:
        """Store the finished trial that an earlier run of this search could not."""
        path = inside(self.context.store.path, UNSTORED)
        if not path.is_file():
            return
        kept, next = read(path, "delete it: its trial is then repeated"), "delete it: its trial is then repeated"
        trial = record(Trial, kept.get("trial"), path, next, key="trial") if kept.get("study") == name else None
        if trial is not None:
            study.add(trial)
            path.unlink()

    def failure(self, result: Result) -> Interrupted | BudgetMissed | None:
        """Why nothing is recommended; None if something is."""
        if result.interrupted:
            what = f"interrupted after {count(result.trials)} of {self.trials} trials"
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
        drop = f"{change(best.drop_pp, 'pp')}, " if best.drop_pp is not None else ""
        figures = f"{best.artifact}: {drop}p50 {best.p50_ms:.3g} ms, {best.size_bytes:,} bytes; {over}"
        next = "allow more with --max-drop, --max-latency or --max-size, or try more with --trials"
        return BudgetMissed("no trial is within the budget", f"the nearest is {figures}", next)

    def _preset(self) -> dict[str, Any]:
        """Trials are measured by the quick plan; a plan that is quicker still stays."""
        quick = PRESETS["quick"]
        return {name: min(value, getattr(self.context.plan, name)) for name, value in quick.items()}

    def _worker(self) -> tuple[str, str]:
        """Empty for a single worker; with a shared storage its run folder, and what no other worker has."""
        if not self.shared:
            return "", ""
        path = self.context.store.path.resolve()
        file = path / WORKER  # machines may have equal names, and folders may be copied
        if not file.is_file():
            written.write(path, WORKER, uuid.uuid4().hex + "\n")
        identity = f"{socket.gethostname()}:{path}:{file.read_text(encoding='utf-8', errors='replace')}"
        return str(path), hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()

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


def _left(trials: list[Trial], planned: int) -> str:
    """ ", about 4 min left", if the trials to come take as long as those so far; "" after the last."""
    left = planned - count(trials)
    if left <= 0 or not count(trials):
        return ""
    return f", about {duration(left * sum(trial.seconds for trial in trials) / count(trials))} left"


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
