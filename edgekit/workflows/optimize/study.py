"""The next point to try, and the storage of finished trials: Optuna's samplers and storages.

A trial enters the storage when it is finished, and only then. The n-th suggestion is a function of the seed, n and the
finished trials, made by a new sampler each time: so a killed search resumes as if it had not been interrupted, and its
unfinished trial is suggested again (the artifacts and measurements it made are in the store).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from edgekit.core.errors import InputError, Missing
from edgekit.core.json import parse, record
from edgekit.workflows.optimize.space import ENUMERABLE, Point, Space, key

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
        return self.state == "finished" and not self.invalid

    @property
    def feasible(self) -> bool:
        return self.valid and not self.violations

    @property
    def objectives(self) -> tuple[float, float, float]:
        """Quality, milliseconds per sample, bytes; of a finished trial."""
        assert self.quality is not None and self.p50_ms is not None and self.size_bytes is not None
        return self.quality, self.p50_ms / int(self.point["batch"]), float(self.size_bytes)


class Study:
    """The finished trials of one search in one storage, and the next suggestion.

    `worker` identifies the process among several that share a storage.
    """

    def __init__(self, storage: str, name: str, space: Space, seed: int, worker: str = "") -> None:
        """Raises Missing if Optuna is not installed, InputError for a storage that cannot be used."""
        self.space, self.seed, self.worker = space, seed, worker
        with _quiet() as optuna:
            try:
                self._study = optuna.create_study(
                    storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
                )
            except Exception as error:  # SQLAlchemy, its drivers, redis and gRPC have many kinds
                why = " ".join(str(error).split())[:300] or type(error).__name__
                next = "for example sqlite:///trials.db, or postgresql://user@host/base"
                raise InputError(f"cannot use the storage {storage}", why, next) from error

    def trials(self) -> list[Trial]:
        """All trials, in the order in which they finished."""
        with _quiet():
            stored = self._study.get_trials(deepcopy=False)
        return [replace(self._read(t), number=t.number) for t in stored]

    def _read(self, trial: FrozenTrial) -> Trial:
        where, next = f"trial {trial.number} in the storage", "name another storage with --storage"
        try:
            data = parse(trial.user_attrs.get("edgekit", ""))
        except (ValueError, TypeError) as error:
            raise InputError(f"{where} is damaged", str(error), next) from error
        return record(Trial, data, where, next)

    def add(self, trial: Trial) -> Trial:
        """Store a trial atomically; returns it with its number."""
        with _quiet():
            self._study.add_trial(self._frozen(trial, logarithms=False))
            last = self._study.get_trials(deepcopy=False)[-1]
        return replace(trial, number=last.number)

    def suggest(self, trials: Sequence[Trial]) -> Point | None:
        """The next point, None if all were tried."""
        tried = {key(trial.point) for trial in trials}
        starts = self.space.starts()
        turn = int(hashlib.sha256(self.worker.encode()).hexdigest(), 16) % len(starts) if self.worker else 0
        for start in (*starts[turn:], *starts[:turn]):
            if key(start) not in tried:
                return start
        excluded = {_shared_part(t.point, t.level) for t in trials if t.level != "point"}

        def is_open(point: Point) -> bool:
            return key(point) not in tried and not {_shared_part(point, level) for level in VARYING} & excluded

        return self._sampled(trials, is_open) or self._random(len(trials), is_open)

    def _sampled(self, trials: Sequence[Trial], is_open: Callable[[Point], bool]) -> Point | None:
        with _quiet() as optuna:
            sampler = optuna.samplers.TPESampler(
                seed=self._seed(len(trials)), multivariate=True, n_startup_trials=FIRST, constant_liar=True
            )
            study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
            study.add_trials([self._frozen(trial, logarithms=True) for trial in trials])
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


@contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna, its log muted. Raises Missing."""

    try:
        import optuna
    except ImportError as error:
        raise Missing.install("edgekit optimize", "optuna", "optimize") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its experimental arguments
        yield optuna
