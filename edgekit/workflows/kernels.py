"""How long operators take in int8 and in float, per runtime and instruction set: `kernels.json`.

`make bench-kernels` times a convolution, an operator and another convolution, with the operator in int8 and in float.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).with_name("kernels.json")

#: an operator is faster in float if with it in float the chain took at most this share of the time, beyond doubt
WORTH = 0.97


def known(runtime: str, isa_class: str) -> bool:
    """Were operators timed on that instruction set?"""
    return bool(_measured(runtime, isa_class))


def slow_in_int8(runtime: str, isa_class: str, *, guess: bool = False) -> Iterator[frozenset[str]]:
    """Types of operators that are faster in float between int8 convolutions, as measured on that instruction set.

    Several in one set compute one activation function: HardSigmoid and Mul. Of an instruction set that was not measured
    nothing is known; a `guess`, for candidates that will be timed, is what is known of the others.
    """
    others = _kernels().get(runtime, {}).get("instruction_sets", {}) if guess else {}
    classes = [isa_class] if known(runtime, isa_class) else list(others)
    for name in classes:
        for types, entry in _entries(runtime, name):
            if entry["float_over_int8"] <= WORTH and entry["float_over_int8_high"] < 1:
                yield types


def float_over_int8(kind: str, placed: Collection[str], runtime: str, isa_class: str) -> float | None:
    """The time with an operator of this type in float over that in int8, if it is one that `slow_in_int8` names.

    `placed`: all types in float, among which have to be the others that compute one function with it.
    """
    measured = _measured(runtime, isa_class)
    fitting = [measured[g] for g in slow_in_int8(runtime, isa_class) if kind in g and g <= {kind, *placed}]
    return min(fitting, default=None)


def _measured(runtime: str, isa_class: str) -> dict[frozenset[str], float]:
    return {types: float(entry["float_over_int8"]) for types, entry in _entries(runtime, isa_class)}


def _entries(runtime: str, isa_class: str) -> Iterator[tuple[frozenset[str], Mapping[str, float]]]:
    for types, entry in _kernels().get(runtime, {}).get("instruction_sets", {}).get(isa_class, {}).items():
        yield frozenset(types.split("+")), entry


@cache
def _kernels() -> Mapping[str, Any]:
    kernels: Mapping[str, Any] = json.loads(KERNELS.read_text())
    return kernels
