"""Placement: which operators of an int8 model compute in float, because that is faster on the target.

A runtime may have no int8 kernel for an operator, so that its graph is cut around it, or one that is slower than the
float kernel with a conversion before and after it. `kernels.json` holds, per runtime and instruction set, how long a
convolution, the operator and another convolution take with the operator in int8 and in float, as measured by
`make bench-kernels`. What it says of the operators of this model is a candidate; if int8 is still not faster than
float, so is each other type of operator. The candidates are timed on the target, and the fastest is taken.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError
from edgekit.core.json import from_json
from edgekit.core.measurement import Latency, Ratio

if TYPE_CHECKING:
    from edgekit.workflows.quantize.method_search import MethodSearch

KERNELS = Path(__file__).with_name("kernels.json")

#: an operator is a candidate if with it in float the chain took at most this share of the time
WORTH = 0.97
#: with int8 at most this share of float's time, no more candidates are tried
FAST_ENOUGH = 0.9
#: types of operators that are tried one by one, of a model whose inference takes at least so many milliseconds
MOST_TYPES, LEAST_MS = 6, 0.5
#: operators without work of their own
IDLE = frozenset("Constant Parameter Result Reshape RESHAPE Squeeze Unsqueeze Flatten Identity Shape".split())


@dataclass(frozen=True)
class Candidate:
    """An int8 model with operators of these types in float; `ratio`: its p50 over the float model's, if timed.

    `artifact`: None in a placement that an earlier search found.
    """

    types: tuple[str, ...]
    ratio: Ratio | None = None
    artifact: Artifact | None = None
    latency: Latency | None = None

    def to_json(self) -> dict[str, Any]:
        """For the record of the search."""
        return {"types": list(self.types), "ratio": self.ratio and dataclasses.asdict(self.ratio)}


@dataclass(frozen=True)
class Placement:
    """`operators`: those in float; `tried`: every candidate that was timed, the one without any in float first.

    `of`: the id of the float model.
    """

    operators: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    tried: tuple[Candidate, ...] = ()
    of: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the record of the search."""
        return {"of": self.of, "in_float": list(self.types), "tried": [candidate.to_json() for candidate in self.tried]}


def place(search: MethodSearch, method: str) -> Placement:
    """The placement for one model and target, from int8 models whose ranges are chosen by `method`.

    On a target that is not timed, and with --fast, what `kernels.json` says decides. Raises what keeps the plain int8
    model from being made or run.
    """
    by_type = operators_by_type(search.start)
    if (stored := _stored(search, by_type)) is not None:
        return stored
    known = slow_in_int8(search.record.runtime, search.target.isa_class)
    slow = sorted({kind for group in known if group <= by_type.keys() for kind in group})
    if not search.timed or search.effort == "fast":
        return _of(slow, by_type)
    plain = Candidate((), artifact=search.int8(search.start, method, method=method))
    candidates = _timed(search, [plain, *_made(search, method, [tuple(slow)] if slow else [], by_type)])
    if not candidates:
        return _of(slow, by_type)
    best = _fastest(candidates)
    slow_enough = best.latency is not None and (best.latency.p50 >= LEAST_MS or search.effort == "thorough")
    if slow_enough and best.ratio and best.ratio.value > FAST_ENOUGH:
        others = [kind for kind in by_type if kind not in (*best.types, *IDLE)]
        more = [(*best.types, kind) for kind in others[:MOST_TYPES]]
        again = _timed(search, [best, *_made(search, method, more, by_type)])
        helped = [c.types[-1] for c in again[1:] if c.latency and again[0].latency and _faster(c, again[0])]
        candidates += again[1:]
        if len(helped) > 1:
            union = _timed(search, [_fastest(again), *_made(search, method, [(*best.types, *helped)], by_type)])
            candidates += union[1:]
            again += union[1:]
        best = _fastest(again)
    return dataclasses.replace(_of(best.types, by_type), tried=tuple(candidates), of=search.start.id)


def described(placement: Placement) -> str:
    """What was placed and what it brought: "19 HARD_SWISH in float: 0.64 times float's p50, all in int8 2.24 times"."""
    if not placement.types:
        return "all operators that have int8 kernels are int8"
    chosen = next((c for c in placement.tried if c.types == placement.types), None)
    text = f"{len(placement.operators)} {', '.join(placement.types)} in float"
    if chosen and chosen.ratio and placement.tried[0].ratio:
        text += f": {chosen.ratio.value:.2f} times float's p50, all in int8 {placement.tried[0].ratio.value:.2f} times"
    return text


@cache
def _kernels() -> Mapping[str, Any]:
    kernels: Mapping[str, Any] = json.loads(KERNELS.read_text())
    return kernels


def slow_in_int8(runtime: str, isa_class: str) -> Iterator[frozenset[str]]:
    """Types of operators that are faster in float between int8 convolutions, as measured on that instruction set.

    Several in one set compute one activation function: HardSigmoid and Mul. Of an instruction set that was not measured
    nothing is known.
    """
    for types, entry in _kernels().get(runtime, {}).get("instruction_sets", {}).get(isa_class, {}).items():
        if entry["float_over_int8"] <= WORTH:
            yield frozenset(types.split("+"))


def operators_by_type(model: Artifact) -> dict[str, tuple[str, ...]]:
    """The names of a model's operators by type, the type with most of them first."""
    format = registry.load("formats", model.kind.format)
    found: dict[str, list[str]] = {}
    for operator in format.describe(model.path / format.file).operators:
        if operator.name:
            found.setdefault(operator.type, []).append(operator.name)
    return {kind: tuple(found[kind]) for kind in sorted(found, key=lambda kind: -len(found[kind]))}


def _stored(search: MethodSearch, by_type: Mapping[str, tuple[str, ...]]) -> Placement | None:
    """What an earlier search on this model found by measuring."""
    record = search.stored.get("placement") or {}
    if record.get("of") != search.start.id or not record.get("tried"):
        return None
    search.record.made.update(search.stored.get("made", ()))
    tried = tuple(Candidate(tuple(e["types"]), from_json(Ratio, e["ratio"])) for e in record["tried"])
    return dataclasses.replace(_of(record["in_float"], by_type), tried=tried, of=record["of"])


def _of(types: Sequence[str], by_type: Mapping[str, tuple[str, ...]]) -> Placement:
    return Placement(tuple(name for kind in types for name in by_type[kind]), tuple(types))


def _made(
    search: MethodSearch, method: str, choices: Sequence[tuple[str, ...]], by_type: Mapping[str, tuple[str, ...]]
) -> Iterator[Candidate]:
    """The int8 models with these types in float; one that cannot be made is left out."""
    for types in choices:
        operators = tuple(name for kind in types for name in by_type[kind])
        try:
            label = "-".join([method, *types])
            yield Candidate(types, artifact=search.int8(search.start, label, method=method, weights_only=operators))
        except EdgekitError as error:
            if error.code not in (1, 2, 3):
                raise


def _timed(search: MethodSearch, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with their latencies, measured interleaved with the float model's; empty if that fails."""
    latencies = search.latencies([search.reference, *(c.artifact for c in candidates if c.artifact)])
    if latencies is None:
        return []
    return [
        dataclasses.replace(c, latency=latency, ratio=statistics.latency_ratio(latency, latencies[0], paired=True))
        for c, latency in zip(candidates, latencies[1:], strict=True)
    ]


def _faster(one: Candidate, other: Candidate) -> bool:
    assert one.latency and other.latency
    ratio = statistics.latency_ratio(one.latency, other.latency, paired=True)
    return ratio.differs and ratio.value <= WORTH


def _fastest(candidates: Sequence[Candidate]) -> Candidate:
    """The first, unless another is faster beyond doubt."""
    best = candidates[0]
    for candidate in candidates[1:]:
        if _faster(candidate, best):
            best = candidate
    return best
