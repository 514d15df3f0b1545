"""Which targets and runtimes cannot run a model, found without running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.specifiers import SpecifierSet

from edgekit.core import registry
from edgekit.core.artifact import ModelFacts
from edgekit.core.runtime import Runtime
from edgekit.core.target import Target
from edgekit.measure import targets

#: inputs that no sample set can hold
NOT_NUMBERS = ("string", "sequence")


@dataclass(frozen=True)
class Answer:
    """Can `runtime` ("": none accepts the format) on `target` run it? `problems` says why not, a sentence each."""

    target: str
    runtime: str
    problems: tuple[str, ...]


def answers(path: Path, format: str, facts: ModelFacts) -> Iterator[Answer]:
    """One for every runtime of every target that accepts the format, and one for each target without such a runtime.

    Checks that depend on a runtime's version use the one installed here, and so apply to this machine only.
    """
    for name in targets.names():
        target = targets.load(name)
        device = registry.load("devices", target.device)
        if device.provenance == "estimated":  # it runs nothing
            continue
        runtimes = [r for r in target.runtimes if registry.runtime(r).takes(format)]
        if not runtimes:
            yield Answer(name, "", (f"no runtime for {format}",))
        for runtime in runtimes:
            found = [*_memory(target, facts), *_inputs(facts)]
            if device.here:
                found += _installed(registry.runtime(runtime), target.runtimes[runtime], path, format, facts)
            yield Answer(name, runtime, tuple(found))


def _memory(target: Target, facts: ModelFacts) -> Iterator[str]:
    needed = facts.sizes.total + (facts.peak_bytes or 0)
    if target.memory_mb and needed > target.memory_mb << 20:
        yield f"it needs about {needed / 1e6:,.0f} MB of memory, the target has {target.memory_mb * 1.048576:,.0f} MB"


def _inputs(facts: ModelFacts) -> Iterator[str]:
    for spec in facts.inputs:
        if spec.dtype in NOT_NUMBERS:
            yield f"input {spec.name!r} is a {spec.dtype}: samples hold numbers and booleans"


def _installed(runtime: Runtime, wanted: str, path: Path, format: str, facts: ModelFacts) -> list[str]:
    try:
        found = version(runtime.package)
        runtime.prepare_imports()
    except (PackageNotFoundError, ImportError):
        return [f"{runtime.package} is not installed"]
    fits = SpecifierSet(wanted).contains(found, prereleases=True)
    problems = [] if fits else [f"{runtime.package} {found}, not {wanted}"]
    if runtime.problems is None:
        return problems
    light = registry.load("formats", format).light(path)
    types = [operator.type for operator in facts.operators]
    return problems + runtime.problems(path if light is None else light, types, facts.sizes.total)
