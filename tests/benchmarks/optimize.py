"""The search on Fashion-MNIST: against plain artifacts, and against an exhaustive grid.

    make bench-optimize                        all of it, into runs/bench-optimize; resumes if it was interrupted
    python tests/benchmarks/optimize.py warm   only what needs no quiet machine: the trainings, exports and checks
    python tests/benchmarks/optimize.py plain  part (a), `grid` and `search` part (b)

(a) Within 30 trials, is there for each runtime an artifact no worse than its plain float and its plain int8 in accuracy
    (paired, 95 %), p50 (99 % interval) and size, and better in one?
(b) A space of 90 points: the hypervolume that the search reaches at a third of the grid's cost, over that of the whole
    grid. Cost is counted twice: in points measured in full, and in the seconds that making and measuring took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.json import record
from edgekit.core.measurement import Measurement
from edgekit.core.statistics import latency_ratio, paired_drop
from edgekit.core.target import Plan
from edgekit.runs.store import Store
from edgekit.workflows import optimize
from edgekit.workflows.optimize.space import Point, build, key
from edgekit.workflows.optimize.storage import Storage
from edgekit.workflows.optimize.study import Study, Trial
from edgekit.workflows.optimize.trial import Budget

OUT = Path("runs/bench-optimize")
TRIALS = 30
#: what both parts train: small enough for two cores
FIELDS: dict[str, Any] = {"epochs": 3, "samples": 20_000}
PLAIN = {
    "model": ("cnn",),
    "width": ("1", "0.75", "0.5"),
    "lr": ("0.003", "0.006"),
    "weight_decay": ("0.01",),
    "dropout": ("0",),
    "ratio": ("0",),
    "method": ("min-max", "percentile", "mse"),
    "threads": ("1",),
}
GRID = {**PLAIN, "lr": ("0.003",), "precision": ("float", "fp16", "int8"), "threads": ("1", "2")}
SEEDS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=("all", "warm", "plain", "grid", "search"))
    parser.add_argument("--task", default="fashion-mnist", help="another one for a try")
    parser.add_argument("--target", default="host")
    parser.add_argument("--points", type=int, default=0, help="only so many points of the grid (a try)")
    words = parser.parse_args()
    if words.part == "warm":
        warm(words)
    if words.part in ("all", "plain"):
        plain(words)
    if words.part in ("all", "grid"):
        grid(words)
    if words.part in ("all", "search"):
        searched(words)


# --- (a) ---------------------------------------------------------------------------------------------------------


def plain(words: argparse.Namespace) -> None:
    run = OUT / words.task / "plain"
    found = optimize.optimize(
        words.task, target=words.target, choices=PLAIN, trials=TRIALS, out=run, say=tell, **FIELDS
    )
    assert found.search is not None
    store, trials = Store(run), [t for t in found.search.trials if t.valid]
    print("\n(a) an artifact no worse than plain float and plain int8, and better in one")
    for runtime in dict.fromkeys(str(t.point["runtime"]) for t in trials):
        own = [t for t in trials if t.point["runtime"] == runtime]
        rivals = [t for t in own if t.number < len(trials) and is_plain(t.point)]
        winners = [t for t in own if t not in rivals and all(no_worse(t, r, store) for r in rivals)]
        better = [t for t in winners if any(better_in_one(t, r, store) for r in rivals)]
        print(f"  {runtime}: plain {', '.join(shown(t) for t in rivals)}")
        best = [shown(t) for t in sorted(better, key=lambda t: (t.size_bytes, t.p50_ms))[:3]]
        print(f"    {'HOLDS' if better else 'DOES NOT HOLD'}: {'; '.join(best) or 'nothing'}")


def is_plain(point: Point) -> bool:
    return (point["width"], point["lr"]) == (1.0, 0.003) and (
        point["precision"] == "float" or (point["precision"], point["method"]) == ("int8", "min-max")
    )


def pair(a: Trial, b: Trial, store: Store) -> tuple[Measurement, Measurement]:
    stored = store.measurements()
    return stored[a.key], stored[b.key]


def drop(a: Trial, b: Trial, store: Store) -> tuple[float, float]:
    """The paired 95 % interval of how many points `a` is below `b`."""
    one, other = pair(a, b, store)
    files = [store.path / str(m.metric.correct_file) for m in (one, other) if m.metric]
    mine, theirs = (np.load(file) for file in files)
    low, high = paired_drop(theirs, mine)[1]
    return 100 * low, 100 * high


def no_worse(a: Trial, b: Trial, store: Store) -> bool:
    """Not called worse in accuracy or p50 by the paired statistics, and not larger."""
    one, other = pair(a, b, store)
    assert one.latency_ms and other.latency_ms
    ratio = latency_ratio(one.latency_ms, other.latency_ms, paired=False)
    slower = ratio.differs and ratio.value > 1
    return drop(a, b, store)[0] <= 0 and not slower and one.size_bytes <= other.size_bytes


def better_in_one(a: Trial, b: Trial, store: Store) -> bool:
    one, other = pair(a, b, store)
    assert one.latency_ms and other.latency_ms
    ratio = latency_ratio(one.latency_ms, other.latency_ms, paired=False)
    return one.size_bytes < other.size_bytes or (ratio.differs and ratio.value < 1) or drop(a, b, store)[1] < 0


def shown(t: Trial) -> str:
    what = ", ".join(str(t.point[name]) for name in ("width", "lr", "precision", "method") if t.point[name] != "")
    return f"[{what}: {t.quality:.4f}, {t.p50_ms:.4f} ms, {t.size_bytes} B]"


# --- (b) ---------------------------------------------------------------------------------------------------------


def hunt(words: argparse.Namespace, run: Path, trials: int, seed: int = 0) -> Any:
    """A search without budgets over the grid's space."""
    budget = Budget(max_drop_pp=100)
    fields = {"target": words.target, "choices": GRID, "budget": budget, "seed": seed, **FIELDS}
    return optimize.optimize(words.task, trials=trials, out=run, say=tell, **fields)


def grid(words: argparse.Namespace) -> None:
    """Every point measured in full, in an order of its own: a neighbour's burst must not hit one region."""
    file = OUT / words.task / "grid.json"
    done = json.loads(file.read_text()) if file.is_file() else []
    known = {tuple(map(str, entry["key"])) for entry in done}
    with opened(words) as (runner, space):
        points = space.points()
        order = np.random.default_rng(0).permutation(len(points))[: words.points or None]
        print(f"(b) the grid has {len(points)} points; {len(known)} are done")
        for place in order:
            point = points[place]
            if tuple(map(str, key(point))) in known:
                continue
            trial = runner.attempt(point, True)
            tell(f"  {len(done) + 1:>4} of {len(order)}  {trial.state} {trial.seconds} s {point}")
            entry = {"key": list(map(str, key(point))), "trial": json.loads(json.dumps(trial_json(trial)))}
            done.append(entry)
            file.write_text(json.dumps(done, indent=1) + "\n")


def searched(words: argparse.Namespace) -> None:
    """The search replayed over what the grid measured, by many seeds: which points it would have tried."""
    file = OUT / words.task / "grid.json"
    table = {tuple(entry["key"]): record(Trial, entry["trial"], file) for entry in json.loads(file.read_text())}
    whole = [t for t in table.values() if t.valid]
    total = sum(t.seconds for t in table.values())
    reference = volume(whole, whole)
    with opened(words) as (_, space):
        shares, costs = [], []
        for seed in range(SEEDS):
            study = Study(Storage("sqlite:///:memory:"), f"seed {seed}", space, seed)
            trials: list[Trial] = []
            while len(trials) < len(table) // 3:
                point = study.suggest(trials)
                if point is None:
                    break
                measured = table.get(tuple(map(str, key(point))))
                assert measured is not None, f"the grid lacks {point}: let it run to its end"
                trials.append(replace(study.add(measured), point=point))
            shares.append(volume([t for t in trials if t.valid], whole) / reference)
            costs.append(sum(t.seconds for t in trials) / total)
    met = sum(share >= 0.98 for share in shares)
    print(f"\n(b) {len(table)} points; the search tried {len(trials)}, by {SEEDS} seeds")
    print(f"  hypervolume over the grid's: median {statistics.median(shares):.4f}, least {min(shares):.4f}")
    print(f"  at least 0.98: {met} of {SEEDS} seeds; seconds over the grid's: median {statistics.median(costs):.3f}")


def volume(trials: Sequence[Trial], among: Sequence[Trial]) -> float:
    """Hypervolume of (1 - accuracy, log p50, log bytes), each scaled to 0…1 over `among`, against the corner 1.1.

    Exact, by slicing along the last axis: some dozens of points need no better way.
    """
    every = np.array([corner(t) for t in among])
    low, span = every.min(0), np.maximum(np.ptp(every, axis=0), 1e-12)
    points = (np.array([corner(t) for t in trials]) - low) / span
    return sliced(points[np.lexsort(points.T)], 1.1)


def corner(t: Trial) -> tuple[float, float, float]:
    quality, milliseconds, size = t.objectives
    return -quality, float(np.log(milliseconds)), float(np.log(size))


def sliced(points: np.ndarray, limit: float) -> float:
    """The volume that the points dominate below `limit`; one axis less at each step."""
    if points.shape[1] == 1:
        return max(0.0, limit - float(points.min())) if len(points) else 0.0
    heights = [*sorted({float(h) for h in points[:, -1] if h < limit}), limit]
    return sum(
        (above - height) * sliced(points[points[:, -1] <= height][:, :-1], limit)
        for height, above in itertools.pairwise(heights)
    )


# --- both --------------------------------------------------------------------------------------------------------


def trial_json(trial: Trial) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(trial)


def opened(words: argparse.Namespace) -> Any:
    """The run folder locked, with what tries a point of the grid's space."""
    return Opened(words)


class Opened:
    """Builds what `api.optimize` builds, so that the grid's points are tried by the search's own code."""

    def __init__(self, words: argparse.Namespace) -> None:
        self.words, self.run = words, OUT / words.task / "grid"

    def __enter__(self) -> tuple[Any, Any]:
        from edgekit import sets, tasks
        from edgekit.core.progress import quiet
        from edgekit.core.target import PRESETS
        from edgekit.measure import targets
        from edgekit.measure.context import RunContext
        from edgekit.runs.recipe import Gates
        from edgekit.workflows.optimize.trial import TrialRunner

        self.run.mkdir(parents=True, exist_ok=True)
        task, target = tasks.load(self.words.task), targets.load(self.words.target)
        store = Store(self.run)
        self.lock = store.lock()
        self.lock.__enter__()
        training = {**FIELDS, "seed": 0}
        space = build(target, task, None, GRID, {}, training, True)
        plan = replace(Plan(), **PRESETS["quick"])
        context = RunContext(store, task, [target], plan, Gates(max_drop_pp=100), None, task.score, quiet, silent)
        context.val = sets.halves(context.set(f"{task.name}:val"))[0]
        reference = optimize.baseline_network(space, context)
        return TrialRunner(context, space, Budget(max_drop_pp=100), reference), space

    def __exit__(self, *error: Any) -> None:
        self.lock.__exit__(*error)


def warm(words: argparse.Namespace) -> None:
    """Make and check every artifact of both parts, timing nothing: may run beside other work."""
    with opened(words) as (runner, space):
        for point in space.points():
            attempt(lambda p=point: runner.make(p), point)


def attempt(work: Callable[[], Any], point: Point) -> None:
    from edgekit.core.errors import EdgekitError

    started = time.monotonic()
    try:
        work()
        tell(f"  {time.monotonic() - started:6.1f} s  {point}")
    except EdgekitError as error:
        tell(f"  not possible: {point}: {error}")


def silent(line: str) -> None:
    pass


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
