"""What a runtime really executes of a model after its own optimizations, operator by operator, and how long each takes.

A format names the module that knows how (`Format.kernels`): its `kernels` and `reasons` make sense of what the format's
runtime told (`profile` of its class), and `NO_TIMES` says why there may be no times. For diagnosis only: to profile
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
    """One executed operator. `type` is the model's word for it (Conv, whatever the runtime has fused into it).

    `precision`: int8, float32, …, or "conversion" where it only moves values between two. `us`: mean microseconds per
    inference; on an emulated board thousands of instructions.
    """

    name: str
    type: str
    precision: str
    us: float


@dataclass(frozen=True)
class Profile:
    """`kernels` in the order they run, empty where the runtime does not tell; `why` then says so.

    `reasons`: what keeps an int8 model from being faster, a sentence each.
    """

    runtime: str
    kernels: tuple[Kernel, ...]
    runs: int
    reasons: tuple[str, ...]
    why: str = ""


def profile(artifact: Artifact, target: Target, data: SampleSet) -> Profile:
    """The artifact in its runtime on the target, with one thread, over `data` again and again for half a second.

    Raises InputError, Missing, DeviceError.
    """
    if targets.device(target).provenance == "estimated":
        raise InputError(f"{target.name} computes nothing", next="take a target that does")
    runtime = execute.runtime_for(artifact, target)
    named = registry.load("formats", artifact.kind.format).kernels
    if not named:
        what = f"{artifact.kind.format} models have no times per operator"
        raise InputError(what, "no runtime tells theirs", "take another of edgekit's formats")
    module = importlib.import_module(named)
    with execute.profile(artifact, runtime, target, data, Plan()) as result:
        told = result.get("profile") or {"runs": 0, "rows": ()}
        why = "" if told["rows"] else module.NO_TIMES
        if not told["rows"] and not why:
            raise InputError(f"{runtime} tells no times per operator", next="take another of edgekit's formats")
        kernels = tuple(module.kernels(told["rows"]))
        reasons = tuple(module.reasons(model_file(artifact), kernels, result))
    return Profile(f"{runtime} {result['facts']['runtime_version']}", kernels, told["runs"], reasons, why)


def few(names: Sequence[str], count: int = 4) -> str:
    """Some of them, and how many more."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def in_float(kernels: Iterable[Kernel], heavy: Iterable[str]) -> list[str]:
    """The reason that a model's heavy operators compute in float, where some do."""
    found = [kernel for kernel in kernels if kernel.type in set(heavy) and kernel.precision.startswith(("float", "bf"))]
    if not found:
        return []
    named = few([f"{kernel.type} {kernel.name}".strip() for kernel in found])
    return [f"{len(found)} of the operators with most work compute in {found[0].precision}: {named}"]
