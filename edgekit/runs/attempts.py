"""The artifacts in a run folder that are attempts of a search, not results."""

from __future__ import annotations

import json
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.runs.store import Store


def tries(store: Store) -> frozenset[str]:
    """The names of the artifacts that a search made, but for the one it recommends."""
    return frozenset(name for name in store.names() if name.startswith((f"{TRY}.", f"{TRY}-")))


def without_trials(store: Store) -> list[Measurement]:
    """The run's measurements, but for those that a search was steered by."""
    found = store.measurements().values()
    return [m for m in found if not (m.artifact in tries(store) and m.metric and m.metric.set_sha256.endswith("/0"))]


#: the chain of what a search makes
TRY = "try"

METHODS_FILE = "ladder.json"


def attempts(store: Store) -> frozenset[str]:
    """The names of the artifacts that are a ladder's tries, or were made for one."""
    return frozenset(name for ladder in read_attempts(store).values() for name in ladder["made"])


def read_attempts(store: Store) -> dict[str, Any]:
    """The record of every method search in this run, by its name; empty where there was none or it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((store.path / METHODS_FILE).read_text())
        return found if all({"attempts", "made"} <= set(ladder) for ladder in found.values()) else {}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
