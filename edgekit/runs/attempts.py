"""The artifacts in a run folder that a search made on its way: not results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.core.errors import InputError
from edgekit.core.json import read, record
from edgekit.core.measurement import Latency, Measurement, Ratio
from edgekit.core.relative_paths import inside
from edgekit.runs.store import Store


def trial_artifacts(store: Store) -> frozenset[str]:
    """The names of the artifacts that `edgekit optimize` made, except the one it recommends."""
    return frozenset(name for name in store.names() if name.startswith((f"{TRY}.", f"{TRY}-")))


def without_trials(store: Store) -> list[Measurement]:
    """The run's measurements, except those over the half of the samples that a search chose by."""
    trials = trial_artifacts(store)
    return [
        m
        for m in store.measurements().values()
        if not (m.artifact in trials and m.metric and m.metric.set_sha256.endswith("/0"))
    ]


#: the chain of the artifacts that `edgekit optimize` makes
TRY = "try"

#: what each method search of `edgekit quantize` attempted, by the name of its result
METHODS_FILE = "methods.json"


def attempt_artifacts(store: Store) -> frozenset[str]:
    """The names of the artifacts that are attempts of a method search, or were made for one."""
    return frozenset(name for search in read_attempts(store).values() for name in search["made"])


def read_attempts(store: Store) -> dict[str, Any]:
    """The record of every method search in this run, by its name; empty where there was none or it cannot be read."""
    try:
        path = inside(store.path, METHODS_FILE)
        searches = read(path)
        for name, search in searches.items():
            record(_Search, search, path, key=name, newer=True)
    except InputError:
        return {}
    return searches


@dataclass(frozen=True)
class _Attempt:
    """What is read of `SearchRecord.attempts` (`workflows/quantize/attempts`)."""

    method: str
    id: str | None
    seconds: float
    latency_ms: Latency | None = None


@dataclass(frozen=True)
class _Candidate:
    types: tuple[str, ...]
    first: int
    ratio: Ratio | None


@dataclass(frozen=True)
class _Placement:
    """What is read of a `Placement` (`workflows/quantize/placement`)."""

    chosen: _Candidate | None = None
    tried: tuple[_Candidate, ...] = ()
    of: str = ""
    in_float: int = 0


@dataclass(frozen=True)
class _Search:
    """What is read of a `SearchRecord` (`workflows/quantize/attempts`)."""

    attempts: tuple[_Attempt, ...]
    made: tuple[str, ...]
    target: str = ""
    against_latency_ms: Latency | None = None
    placement: _Placement | None = None
