"""The next point to try, and the storage of finished trials: Optuna's samplers and storages.

A trial enters the storage when it is finished, and only then. The n-th suggestion is a function of the seed, n, the
finished trials and the points that other workers are trying, made by a new sampler each time: so a killed search
resumes as if it had not been interrupted, and its unfinished trial is suggested again (the artifacts and measurements
it made are in the store).

Workers that share a storage claim a point before they try it (claims.py), and read the trials again after that: a point
whose trial was stored before the claim is given back. So no point is tried twice while its worker lives. A worker that
was taken for dead (suspended, say) may finish later than the one that repeats its trial; the first stored one counts.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from edgekit.core.errors import InputError
from edgekit.core.json import parse, record
from edgekit.workflows.optimize.claims import GRACE_S, Claims
from edgekit.workflows.optimize.space import ENUMERABLE, Point, Space, key
from edgekit.workflows.optimize.storage import Storage, quiet
from edgekit.workflows.setup import Say, silent

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

#: suggestions of the sampler that may repeat a tried point, before an untried one is drawn at random
ATTEMPTS = 30
#: trials before the sampler learns from them; the space's starting points come first
FIRST = 8
State = Literal["finished", "pruned", "failed"]
#: what a reason to stop early applies to: the point, its artifact with any threads and batch, its network in any form
Level = Literal["point", "artifact", "network"]


@dataclass(frozen=True)
class Trial:
    """A point that was tried. `pruned` was stopped early, `failed` could not be made, each with the reason.

    `quality` is the metric, signed so that more is better (without labels: SQNR in dB), `p50_ms` that of one batch.
    `drop_*` are percentage points against the reference. `violations`: budget → the share by which it is exceeded.

    Examples:
        >>> best = edgekit.optimize("runs/mnist/onnx", trials=2, max_drop=5)
        >>> best.trials[0].number
        0
    """

    number: int
    point: Point
    state: State
    reason: str = ""
    level: Level = "point"
    artifact: str = ""
    id: str = ""
    run: str = ""
    quality: float | None = None
    drop_pp: float | None = None
    drop_ci95: tuple[float, float] | None = None
    size_bytes: int | None = None
    p50_ms: float | None = None
    key: str = ""
    seconds: float = 0.0
    invalid: tuple[str, ...] = ()
    violations: Mapping[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """It was measured, undisturbed.

        Examples:
            >>> best = edgekit.optimize("runs/mnist/onnx", trials=2, max_drop=5)
            >>> any(trial.valid for trial in best.trials)
            True
        """
        return self.state == "finished" and not self.invalid

    @property
    def feasible(self) -> bool:
        """It is valid, and within the budgets.

        Examples:
            >>> best = edgekit.optimize("runs/mnist/onnx", trials=2, max_drop=5)
            >>> all(trial.feasible for trial in best.front)
            True
        """
        return self.valid and not self.violations

    @property
    def objectives(self) -> tuple[float, float, float]:
        """Quality, milliseconds per sample, bytes; of a finished trial.

        Examples:
            >>> best = edgekit.optimize("runs/mnist/onnx", trials=2, max_drop=5)
            >>> quality, milliseconds, size = best.front[0].objectives
        """
        assert self.quality is not None and self.p50_ms is not None and self.size_bytes is not None
        return self.quality, self.p50_ms / int(self.point["batch"]), float(self.size_bytes)


def count(trials: Sequence[Trial]) -> int:
    """Failed trials do not count."""
    return sum(trial.state != "failed" for trial in trials)


class Study:
    """The finished trials of one search in one storage, and the next suggestion.

    Of several workers that share a storage, each has a `worker`, which varies its suggestions, and a unique `owner`, in
    whose name it claims points; both are "" for a single one.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        space: Space,
        seed: int,
        worker: str = "",
        owner: str = "",
        grace_s: float = GRACE_S,
    ) -> None:
        """Raises InputError for a storage that cannot be used any more."""
        self.storage, self.space, self.seed, self.worker = storage, space, seed, worker
        with quiet() as optuna:
            self._study = storage.run(
                lambda: optuna.create_study(
                    storage=storage.optuna, study_name=name, directions=DIRECTIONS, load_if_exists=True
                )
            )
        self.claims = Claims(storage, name, owner, grace_s) if owner else None

    def trials(self) -> list[Trial]:
        """All trials, in the order in which they finished; of those of one point, the first."""
        stored = self.storage.run(lambda: self._study.get_trials(deepcopy=False))
        first: dict[tuple[Any, ...], Trial] = {}
        for t in stored:
            if "edgekit" in t.user_attrs:  # others are of another program
                trial = replace(self._read(t), number=t.number)
                first.setdefault(key(trial.point), trial)
        return list(first.values())

    def _read(self, trial: FrozenTrial) -> Trial:
        where, next = f"trial {trial.number} in the storage", "name another storage with --storage"
        try:
            data = parse(trial.user_attrs["edgekit"])
        except (ValueError, TypeError) as error:
            raise InputError(f"{where} is damaged", str(error), next) from error
        return record(Trial, data, where, next)

    def add(self, trial: Trial) -> Trial:
        """Store a trial atomically; returns the stored trial of its point, with its number."""
        stored = self.storage.run(lambda: self._added(trial))
        if self.claims:
            self.storage.run(self.claims.release)
        return stored

    def _added(self, trial: Trial) -> Trial:
        def stored() -> Trial | None:
            return next((t for t in self.trials() if key(t.point) == key(trial.point)), None)

        if (before := stored()) is not None:  # repeated after a lost connection, or another worker was first
            return before
        self._study.add_trial(self._frozen(trial, logarithms=False))
        after = stored()
        assert after is not None
        return after

    def next(self, wanted: int, say: Say = silent) -> Point | None:
        """A point for this worker to try; None if `wanted` trials are finished, or all points tried.

        Waits for the last trials of other workers: they may die.
        """
        told = False
        while True:
            others, trials = self._others_and_trials()
            if count(trials) >= wanted:
                return None
            point = self.suggest(trials, others) if count(trials) + len(others) < wanted else None
            if point is not None and self._claim(point, wanted):
                return point
            if point is None and not others:
                say("  done      every point of the space was tried")
                return None
            if point is None and self.claims:
                if not told:
                    say(f"  waiting   for {len(others)} trials of other workers")
                told = True
                time.sleep(min(self.claims.grace_s / 10, 2.0))

    def _others_and_trials(self) -> tuple[list[Point], list[Trial]]:
        """The points that other workers are trying, and the finished trials.

        In this order: a worker stores its trial before it gives up its claim.
        """
        others = self.claims.others() if self.claims else []
        trials = self.trials()
        tried = {key(trial.point) for trial in trials}
        return [point for point in others if key(point) not in tried], trials

    def _claim(self, point: Point, wanted: int) -> bool:
        """Is it this worker's to try? False: another worker tries it or has, or `wanted` are tried."""
        if self.claims is None:
            return True
        if not self.claims.take(point):
            return False
        others, trials = self._others_and_trials()
        too_many = count(trials) + len(others) >= wanted
        if too_many or key(point) in {key(trial.point) for trial in trials}:
            self.storage.run(self.claims.release)
            time.sleep(random.uniform(0, 0.5) if too_many else 0)  # the others release theirs, too
            return False
        return True

    def close(self) -> None:
        """Free the claims, and close the storage."""
        if self.claims:
            self.claims.close()
        self.storage.close()

    def suggest(self, trials: Sequence[Trial], others: Sequence[Point] = ()) -> Point | None:
        """The next point, None if all were tried or are `others`, which other workers are trying."""
        tried = {key(trial.point) for trial in trials} | {key(point) for point in others}
        starts = self.space.starts()
        turn = int(hashlib.sha256(self.worker.encode()).hexdigest(), 16) % len(starts) if self.worker else 0
        for start in (*starts[turn:], *starts[:turn]):
            if key(start) not in tried:
                return start
        excluded = {_shared_part(t.point, t.level) for t in trials if t.level != "point"}

        def is_open(point: Point) -> bool:
            return key(point) not in tried and not {_shared_part(point, level) for level in VARYING} & excluded

        return self._sampled(trials, others, is_open) or self._random(len(trials), is_open)

    def _sampled(
        self, trials: Sequence[Trial], others: Sequence[Point], is_open: Callable[[Point], bool]
    ) -> Point | None:
        with quiet() as optuna:
            sampler = optuna.samplers.TPESampler(
                seed=self._seed(len(trials)), multivariate=True, n_startup_trials=FIRST, constant_liar=True
            )
            study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
            study.add_trials([self._frozen(trial, logarithms=True) for trial in trials])
            study.add_trials([self._running(point) for point in others])
            for _ in range(ATTEMPTS):
                suggestion = study.ask(dict(self._distributions()))
                point = self.space.canonical(self._values(suggestion.params))
                if is_open(point):
                    return point
        return None

    def _random(self, count: int, is_open: Callable[[Point], bool]) -> Point | None:
        """A random point that was not tried."""
        if self.space.size > ENUMERABLE:
            return None
        left = [point for point in self.space.points() if is_open(point)]
        return random.Random(self._seed(count)).choice(left) if left else None

    def _seed(self, count: int) -> int:
        text = f"{self.seed}/{self.worker}/{count}"
        return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)

    def _distributions(self) -> Iterator[tuple[str, Any]]:
        """Dimensions with several choices: numbers as indices into their sorted choices, words as categories."""
        import optuna

        for dimension in self.space.dimensions:
            count = len(dimension.choices)
            if count == 1:
                continue
            if isinstance(dimension.choices[0], str):
                yield dimension.name, optuna.distributions.CategoricalDistribution(dimension.choices)
            else:
                yield dimension.name, optuna.distributions.IntDistribution(0, count - 1)

    def _values(self, params: Mapping[str, Any]) -> Point:
        point = {}
        for dimension in self.space.dimensions:
            value = params.get(dimension.name, dimension.choices[0])
            is_index = dimension.name in params and not isinstance(dimension.choices[0], str)
            point[dimension.name] = sorted(dimension.choices)[value] if is_index else value
        return point

    def _params(self, point: Point) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, _ in self._distributions():
            dimension = self.space.dimension(name)
            value = point[name] if point[name] in dimension.choices else dimension.default
            params[name] = value if isinstance(value, str) else sorted(dimension.choices).index(value)
        return params

    def _frozen(self, trial: Trial, *, logarithms: bool) -> FrozenTrial:
        import optuna

        finished = trial.state == "finished"
        values = list(trial.objectives) if finished else None
        if values and logarithms:
            values[1:] = [math.log(max(value, 1e-9)) for value in values[1:]]
        states = optuna.trial.TrialState
        return optuna.trial.create_trial(
            state=states.COMPLETE if finished else states.PRUNED,
            values=values,
            params=self._params(trial.point),
            distributions=dict(self._distributions()),
            user_attrs={"edgekit": json.dumps(asdict(trial))},
            constraints={name: trial.violations.get(name, 0.0) for name in BUDGETS} if finished else None,
        )

    def _running(self, point: Point) -> FrozenTrial:
        """Another worker's: the sampler keeps away from it."""
        import optuna

        distributions = dict(self._distributions())
        state = optuna.trial.TrialState.RUNNING
        return optuna.trial.create_trial(state=state, params=self._params(point), distributions=distributions)


#: level → the dimensions in which points of one artifact, or of one network, may differ
VARYING: Mapping[Level, tuple[str, ...]] = {
    "artifact": ("threads", "batch"),
    "network": ("precision", "method", "runtime", "threads", "batch"),
}
DIRECTIONS = ("maximize", "minimize", "minimize")
BUDGETS = ("max_drop_pp", "max_latency_ms", "max_size_bytes")


def _shared_part(point: Point, level: Level) -> tuple[Any, ...]:
    """The values that all points of the same artifact, or of the same network, share."""
    return level, *((name, value) for name, value in sorted(point.items()) if name not in VARYING[level])
