"""What a runtime really executes of a model after its own optimizations, operator by operator, and how long each takes.

A file here is a format: its `profile` asks the format's runtime. For diagnosis only: to profile costs time of its own,
so these figures explain a latency and are never reported as one.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from edgekit.quantization.pairs import Feed

#: inferences before those that count, and how long, how often at least and at most those are repeated
WARM_UPS = 3
SECONDS, MIN_RUNS, MAX_RUNS = 0.5, 10, 500


@dataclass(frozen=True)
class Kernel:
    """One executed operator. `type` is the model's word for it (Conv, whatever the runtime has fused into it).

    `precision`: int8, float32, …, or "conversion" where it only moves values between two. `us`: mean microseconds per
    inference.
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


def profile(format: str, path: Path, feeds: Iterable[Feed]) -> Profile:
    """The model in its runtime, with one thread, over `feeds` again and again for about SECONDS."""
    module = importlib.import_module(f"{__name__}.{format}")
    found: Profile = module.profile(path, list(feeds))
    return found


def repeat(run: Callable[[Feed], Any], feeds: Sequence[Feed]) -> int:
    """Run until the time is over; how often."""
    stop, runs = time.monotonic() + SECONDS, 0
    for feed in cycle(feeds):
        run(feed)
        runs += 1
        if (time.monotonic() >= stop and runs >= MIN_RUNS) or runs >= MAX_RUNS:
            break
    return runs


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
