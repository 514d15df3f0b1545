"""Profiles: the operators that a runtime executes after its own optimizations, and the time that each takes.

A format names the module that knows how (`Format.kernels`): its `kernels` and `reasons` make sense of what the format's
runtime measured (`profile` of its class), and `NO_TIMES` says why there may be no times. For diagnosis only: to profile
costs time of its own, so these figures explain a latency and are never reported as one.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.measure import execute, targets
from edgekit.steps.shared.calibrated import model_file


@dataclass(frozen=True)
class Kernel:
    """One executed operator. `type` is the model's name for it (Conv, also if the runtime fused others into it).

    `precision`: int8, float32, …, or "conversion" if it only converts between two. `us`: mean microseconds per
    inference; on an emulated board thousands of instructions.
    """

    name: str
    type: str
    precision: str
    us: float


@dataclass(frozen=True)
class Profile:
    """`kernels` in execution order, empty if the runtime does not report them; `why` is then the reason.

    `reasons`: why an int8 model is not faster, a sentence each.
    """

    runtime: str
    kernels: tuple[Kernel, ...]
    runs: int
    reasons: tuple[str, ...]
    why: str = ""


def profile(artifact: Artifact, target: Target, data: SampleSet) -> Profile:
    """Profile the artifact in its runtime on the target, with one thread, over `data` repeatedly for half a second.

    Raises InputError, Missing, DeviceError.
    """
    if targets.device(target).provenance == "estimated":
        raise InputError(f"{target.name} computes nothing", next="choose another --target")
    runtime = execute.runtime_for(artifact, target)
    named = registry.load("formats", artifact.kind.format).kernels
    if not named:
        what = f"{artifact.kind.format} models have no times per operator"
        raise InputError(what, "no runtime tells theirs", "take another of edgekit's formats")
    module = importlib.import_module(named)
    with execute.profile(artifact, runtime, target, data, Plan()) as result:
        measured = result.get("profile") or {"runs": 0, "rows": ()}
        why = "" if measured["rows"] else module.NO_TIMES
        if not measured["rows"] and not why:
            raise InputError(f"{runtime} tells no times per operator", next="take another of edgekit's formats")
        kernels = tuple(module.kernels(measured["rows"]))
        reasons = tuple(module.reasons(model_file(artifact), kernels, result))
    return Profile(f"{runtime} {result['facts']['runtime_version']}", kernels, measured["runs"], reasons, why)


def few(names: Sequence[str], count: int = 4) -> str:
    """The first `count` names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def in_float(kernels: Iterable[Kernel], heavy: Iterable[str]) -> list[str]:
    """The sentence about heavy operators of a model that compute in float, if any."""
    floats = [
        kernel for kernel in kernels if kernel.type in set(heavy) and kernel.precision.startswith(("float", "bf"))
    ]
    if not floats:
        return []
    named = few([f"{kernel.type} {kernel.name}".strip() for kernel in floats])
    return [f"{len(floats)} of the heavy operators compute in {floats[0].precision}: {named}"]
