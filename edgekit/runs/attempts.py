"""The artifacts in a run folder that a search made on its way: not results."""

from __future__ import annotations

import json
from typing import Any

from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement
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
        searches: dict[str, Any] = json.loads(inside(store.path, METHODS_FILE).read_text())
        return searches if all({"attempts", "made"} <= set(search) for search in searches.values()) else {}
    except (OSError, ValueError, AttributeError, TypeError, InputError):
        return {}
