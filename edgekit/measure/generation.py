"""Models that generate text: the parts of a request's latency, and what its cache takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.measurement import Generation, Latency, Process
from edgekit.core.target import Plan

FEWER = "ask for fewer new tokens (--new-tokens N), or after a shorter prompt"


def check(artifact: Artifact, root: Artifact, plan: Plan, memory_bytes: int) -> None:
    """Raises InputError if a request of the plan has more tokens than the model's context, which its `root` records, or
    a cache larger than the device's memory (0: unknown)."""
    tokens = plan.prompt + plan.new_tokens
    asked = f"a prompt of {plan.prompt:,} tokens and {plan.new_tokens:,} new ones are {tokens:,}"
    context = root.details.get("context")
    if isinstance(context, int) and tokens > context:
        why = f"the context of {artifact.name} has {context:,}"
        raise InputError(asked, why, FEWER)
    needed = cache_bytes(artifact, plan.batch, tokens)
    if memory_bytes and needed + artifact.sizes.total > memory_bytes:
        what = f"{asked}, whose cache takes {needed / 1e6:,.0f} MB"
        why = f"with {artifact.sizes.total / 1e6:,.0f} MB of the model that is more than the device's memory"
        raise InputError(what, f"{why}, {memory_bytes / 1e6:,.0f} MB", FEWER)


def parts(artifact: Artifact, processes: Sequence[Process], request: Latency) -> Generation | None:
    """From the processes that gave the `request`'s latency, by its clock; None if they do not tell when the first token
    was known.

    Of CPU time a part has the share that it has of the request's wall time: other programs interrupt few requests, and
    the median leaves these out.
    """
    timed = [process for process in processes if process.first_token_ns]
    if not timed or request.new_tokens < 2 or (request.clock == "cpu" and not all(process.cpu_ns for process in timed)):
        return None
    pairs = [_split(process, request) for process in timed]

    def latency(index: int) -> Latency:
        each = [replace(p, times_ns=pair[index], cpu_ns=()) for p, pair in zip(timed, pairs, strict=True)]
        of_part = statistics.latency(each, request.threads, request.batch)
        return replace(of_part, clock=request.clock, prompt=request.prompt, new_tokens=request.new_tokens)

    tokens = request.prompt + request.new_tokens - 1  # the last one is never read
    return Generation(latency(0), latency(1), cache_bytes(artifact, request.batch, tokens))


def _split(process: Process, request: Latency) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of each request, until the first token, and the mean of each further one."""
    wholes = process.cpu_ns if request.clock == "cpu" else process.times_ns
    times = zip(wholes, process.first_token_ns, process.times_ns, strict=True)
    pairs = [(whole, round(whole * first / wall)) for whole, first, wall in times]
    firsts = tuple(first for _, first in pairs)
    return firsts, tuple(round((whole - first) / (request.new_tokens - 1)) for whole, first in pairs)


def cache_bytes(artifact: Artifact, batch: int, tokens: int) -> int:
    """What the states take after so many tokens: each open axis, apart from the batch, is that long."""
    sizes = [[batch, *(size or tokens for size in state.input.shape[1:])] for state in artifact.states]
    return sum(
        math.prod(shape) * np.dtype(state.input.dtype).itemsize
        for shape, state in zip(sizes, artifact.states, strict=True)
    )
