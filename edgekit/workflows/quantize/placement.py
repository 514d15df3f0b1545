"""Placement: which operators of an int8 model compute in float, because that is faster on the target.

A runtime may have no int8 kernel for an operator, so that its graph is cut around it, or one that is slower than the
float kernel with a conversion before and after it. What `workflows/kernels` knows of that for the operators of this
model is a candidate. If int8 is still hardly faster than float, so are the first operators of the model, whose tensors
are large and whose products are small: there conversions cost most and int8 brings least. The candidates are timed on
the target, and the fastest is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact, Operator
from edgekit.core.config import convert
from edgekit.core.errors import EdgekitError
from edgekit.core.measurement import Latency, Ratio
from edgekit.workflows.inspect.output_tail import NO_OPERATORS
from edgekit.workflows.kernels import WORTH, slow_in_int8
from edgekit.workflows.quantize import attempt_times

if TYPE_CHECKING:
    from edgekit.workflows.quantize.method_search import MethodSearch
    from edgekit.workflows.quantize.tail_placement import TailPlacement

#: the share of the processes that have to agree on which of two is faster
AGREEING = 0.8
#: with int8 at most this share of float's time, no more candidates are tried
FAST_ENOUGH = 0.9
#: with one process of each at most this share of float's time, no candidates are tried
CLEARLY_FAST = 0.7
#: shares of a model that are tried in float from its start, if an inference takes at least so many milliseconds
STARTS, LEAST_MS = (1 / 8, 1 / 4, 1 / 2), 0.5
#: operators without work of their own
IDLE = NO_OPERATORS | frozenset("Reshape RESHAPE Squeeze Unsqueeze Flatten Identity Shape".split())


@dataclass(frozen=True)
class Candidate:
    """An int8 model with operators of these types, and the `first` ones of the model, in float.

    `ratio`: its p50 over the float model's, if timed. `artifact`: None in what an earlier search found.
    """

    types: tuple[str, ...] = ()
    first: int = 0
    ratio: Ratio | None = None
    artifact: Artifact | None = None
    latency: Latency | None = None

    def operators(self, model: Sequence[Operator]) -> tuple[str, ...]:
        """The names of those in float, of the operators of a model in order."""
        return tuple(o.name for index, o in enumerate(model) if o.type in self.types or index < self.first)

    def to_json(self) -> dict[str, Any]:
        """For the record of the search."""
        return {"types": list(self.types), "first": self.first, "ratio": self.ratio and dataclasses.asdict(self.ratio)}

    @classmethod
    def of_json(cls, entry: Mapping[str, Any]) -> Candidate:
        return cls(tuple(entry["types"]), entry["first"], convert(entry["ratio"], Ratio | None))


@dataclass(frozen=True)
class Placement:
    """`operators`: those in float; `tried`: every candidate that was timed, the one without any in float first.

    `of`: the id of the float model. `tail`: what comes after the last layers, which is in float in every candidate.
    """

    chosen: Candidate = Candidate()
    operators: tuple[str, ...] = ()
    tried: tuple[Candidate, ...] = ()
    of: str = ""
    tail: TailPlacement | None = None

    def to_json(self) -> dict[str, Any]:
        """For the record of the search."""
        return {
            "of": self.of,
            "in_float": len(self.operators) + (self.tail.operators if self.tail and self.tail.in_float else 0),
            "chosen": self.chosen.to_json(),
            "tried": [candidate.to_json() for candidate in self.tried],
            "tail": self.tail and self.tail.to_json(),
        }


def place(search: MethodSearch, method: str) -> Placement:
    """The placement for one model and target, from int8 models whose ranges are chosen by `method`.

    On a target that is not timed, and with --fast, what `workflows/kernels` knows decides. Raises what keeps the plain
    int8 model from being made or run.
    """
    model = operators(search.start)
    if (stored := _stored(search, model)) is not None:
        return stored
    present = {operator.type for operator in model}
    timed = search.timed and search.effort != "fast"
    known = _slow(search, present, guess=False)
    if not timed:
        return Placement(known, known.operators(model))
    slow = _slow(search, present, guess=True)
    plain = Candidate(artifact=search.int8(search.start, method, method=method))
    if not slow.types:
        glance = _timed(search, [plain], processes=1)
        if glance and glance[0].ratio and glance[0].ratio.value <= CLEARLY_FAST:
            return Placement(glance[0], tried=tuple(glance), of=search.start.id)
    tried = _timed(search, [plain, *_made(search, method, [slow] if slow.types else [], model)])
    if not tried and search.timed:  # perhaps the candidate cannot be loaded
        tried = _timed(search, [plain])
    if not tried:
        return Placement(known, known.operators(model))
    best = _fastest(tried)
    assert best.ratio and best.latency
    if best.ratio.value > FAST_ENOUGH and (best.latency.p50 >= LEAST_MS or search.effort == "thorough"):
        starts = [Candidate(best.types, round(share * len(model))) for share in STARTS]
        again = _timed(search, [best, *_made(search, method, starts, model)])
        tried += again[1:]
        best = _fastest(again or [best])
    return Placement(best, best.operators(model), tuple(tried), search.start.id)


def _slow(search: MethodSearch, present: Set[str], *, guess: bool) -> Candidate:
    """With the types in float, of those `present`, that are known to be slower in int8, or with `guess` may be."""
    groups = slow_in_int8(search.record.runtime, search.target.isa_class, guess=guess)
    return Candidate(tuple(sorted({kind for group in groups if group <= present for kind in group})))


def described(placement: Placement) -> str:
    """What was placed and what it brought: "19 HARD_SWISH in float: 0.64 times float's p50, all in int8 2.24 times"."""
    chosen, all_int8 = placement.chosen, placement.tried[0] if placement.tried else None
    which = [*chosen.types, *([f"the first {chosen.first}"] if chosen.first else [])]
    text = f"{len(placement.operators)} operators in float ({', '.join(which)})"
    if chosen.ratio and all_int8 and all_int8.ratio:
        text += f": {chosen.ratio.value:.2f} times float's p50, all in int8 {all_int8.ratio.value:.2f} times"
    return text


def operators(model: Artifact) -> list[Operator]:
    """The operators of a model in order; those without a name cannot be placed."""
    format = registry.load("formats", model.kind.format)
    return [o for o in format.describe(model.path / format.file).operators if o.name and o.type not in IDLE]


def _stored(search: MethodSearch, model: Sequence[Operator]) -> Placement | None:
    """What an earlier search on this model found by measuring."""
    record = search.stored.get("placement") or {}
    if record.get("of") != search.start.id or not record.get("tried"):
        return None
    search.record.made.update(search.stored.get("made", ()))
    chosen = Candidate.of_json(record["chosen"])
    tried = tuple(map(Candidate.of_json, record["tried"]))
    return Placement(chosen, chosen.operators(model), tried, record["of"])


def _made(
    search: MethodSearch, method: str, choices: Sequence[Candidate], model: Sequence[Operator]
) -> Iterator[Candidate]:
    """The candidates with their int8 models; one that cannot be made is left out."""
    for choice in choices:
        label = "-".join([method, *choice.types, *([str(choice.first)] if choice.first else [])])
        try:
            made = search.int8(search.start, label, method=method, weights_only=choice.operators(model))
        except EdgekitError as error:
            if error.code not in (1, 2, 3):
                raise
            continue
        yield dataclasses.replace(choice, artifact=made)


def _timed(search: MethodSearch, candidates: Sequence[Candidate], processes: int = 0) -> list[Candidate]:
    """The candidates with their latencies, measured interleaved with the float model's; empty if that fails."""
    models = [search.reference, *(c.artifact for c in candidates if c.artifact)]
    latencies = attempt_times.latencies(search, models, processes)
    if latencies is None:
        return []
    return [
        dataclasses.replace(c, latency=latency, ratio=statistics.latency_ratio(latency, latencies[0], paired=True))
        for c, latency in zip(candidates, latencies[1:], strict=True)
    ]


def _faster(one: Candidate, other: Candidate) -> bool:
    """By CPU time, which other programs hardly change, in nearly all of the processes that ran next to each other."""
    assert one.latency and other.latency
    pairs = list(zip(one.latency.per_process_cpu, other.latency.per_process_cpu, strict=True))
    if not pairs:
        ratio = statistics.latency_ratio(one.latency, other.latency, paired=True)
        return ratio.differs and ratio.value <= WORTH
    ratios = sorted(mine / max(theirs, 1e-9) for mine, theirs in pairs)
    return ratios[len(ratios) // 2] <= WORTH and sum(ratio < 1 for ratio in ratios) >= AGREEING * len(ratios)


def _fastest(candidates: Sequence[Candidate]) -> Candidate:
    """The first, unless another is faster beyond doubt."""
    best = candidates[0]
    for candidate in candidates[1:]:
        if _faster(candidate, best):
            best = candidate
    return best
