"""The latencies of a search's attempts on the target, measured or kept from an earlier search."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.config import convert
from edgekit.core.errors import DeviceError, EdgekitError, InputError, Unusable
from edgekit.core.measurement import Latency
from edgekit.core.target import PRESETS, Plan, Target
from edgekit.measure import targets
from edgekit.measure.execute import execute_all, runtimes_for
from edgekit.measure.time_limit import disturbance_note
from edgekit.sets import take
from edgekit.workflows.quantize import remaining
from edgekit.workflows.quantize.attempts import WITHOUT_SAMPLES, Attempt

if TYPE_CHECKING:
    from edgekit.workflows.quantize.method_search import MethodSearch

#: samples that each attempt is timed with, at most
SAMPLES = 32


def machine(target: Target, runtime: str) -> str:
    """What measured times belong to: the target, the facts of its device, the runtime and its version here.

    "" where nothing is timed, or the device cannot be asked.
    """
    if not runtime or not registry.load("devices", target.device).timed:
        return ""
    try:
        facts = targets.device(target).facts()
    except EdgekitError:
        return ""
    try:
        release = version(registry.runtime(runtime).package)
    except PackageNotFoundError:
        release = ""
    text = json.dumps([target.name, facts, runtime, release], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measure(search: MethodSearch) -> None:
    """Measure the finalists of a search and its float model, interleaved, by the quick plan, into its record.

    An untimed search (`--no-latency`) keeps the times of an earlier one on this machine.
    """
    record = search.record
    usable = _finalists(record.attempts)
    if not usable:
        return
    models = [search.reference, *(a.artifact for a in usable if a.artifact)]
    plan = _plan(search)
    session = search.measured.get(tuple(model.id for model in models))
    found = session or _stored(search.stored, models, plan) or (latencies(search, models) if search.timed else None)
    if found is None:
        return
    record.reference_latency, record.not_timed = found[0], ""
    timed = {
        id(attempt): dataclasses.replace(
            attempt, latency=latency, ratio=statistics.latency_ratio(latency, found[0], paired=True)
        )
        for attempt, latency in zip(usable, found[1:], strict=True)
    }
    record.attempts = [timed.get(id(attempt), attempt) for attempt in record.attempts]


def latencies(search: MethodSearch, models: Sequence[Artifact], processes: int = 0) -> list[Latency] | None:
    """The latencies of artifacts on the target, interleaved, by the quick plan or with so many processes; None if it
    reports none."""
    assert search.context.val is not None
    plan = _plan(search)
    plan = dataclasses.replace(plan, processes=processes or plan.processes)
    float_runtime = next(iter(runtimes_for(search.reference, search.target)), search.record.runtime)
    pairs = [(model, float_runtime if model is search.reference else search.record.runtime) for model in models]
    data = take(search.context.val, SAMPLES)
    try:
        with search.timing(remaining.MEASURE):
            runs = execute_all(pairs, search.target, data, plan, outputs=False, progress=search.context.progress)
    except Unusable as error:  # one of the attempts, whose check says so
        search.record.not_timed = str(error)
        search.context.say(f"            no latency from {search.target.name}: {error}")
        return None
    except (DeviceError, InputError) as error:  # an estimated target, or a device that is not connected
        search.context.say(f"            no latency from {search.target.name}: {error}")
        search.untimed(f"{search.target.name}: {error}")
        return None
    if why := disturbance_note(search.target.name, runs[0]):
        search.context.note(why)
    found = [statistics.latency(r.processes, plan.threads, r.facts["batch"], r.clock) for r in runs]
    if not processes:
        search.measured[tuple(model.id for model in models)] = found
    return found


def _plan(search: MethodSearch) -> Plan:
    return dataclasses.replace(search.context.plan, **PRESETS["quick"])


def _finalists(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The best static attempt and each of the others: all static attempts compute with the same kernels."""
    best: dict[str, Attempt] = {}
    for attempt in (a for a in attempts if a.usable):
        kind = attempt.method if attempt.method in WITHOUT_SAMPLES else "static"
        if kind not in best or attempt.rank_key > best[kind].rank_key:
            best[kind] = attempt
    return list(best.values())


def _stored(record: Mapping[str, Any], models: list[Artifact], plan: Plan) -> list[Latency] | None:
    """The latencies of these artifacts, if the stored record shows that all were measured in one session."""
    entries = {entry["id"]: entry.get("latency_ms") for entry in record.get("attempts", []) if entry.get("id")}
    values = [record.get("against_latency_ms"), *(entries.get(model.id) for model in models[1:])]
    found = [value and convert(value, Latency, newer=True) for value in values]
    if any(latency is None or latency.threads != plan.threads for latency in found):
        return None
    return [latency for latency in found if latency]
