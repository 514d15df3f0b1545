"""The output tail of a model (`workflows/inspect/output_tail`) in float, where that costs no time or accuracy needs it.

There are hardly any products in it, so float costs next to nothing. Where the target is timed, that is measured, and a
tail that makes the model slower stays in int8, if the model keeps its accuracy so.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.config import convert
from edgekit.core.measurement import Ratio
from edgekit.workflows.quantize import attempt_times

if TYPE_CHECKING:
    from edgekit.workflows.quantize.method_search import MethodSearch

#: a tail in float that takes more than this, times the int8 model's p50, stays in int8 where accuracy allows it
WORTH_ITS_TIME = 1.05


@dataclass(frozen=True)
class TailPlacement:
    """`operators`: how many there are. `joins`: the tensors where they join others.

    `ratio`: the model's p50 with the tail in float over that of int8 throughout; None where it was not measured.
    `needed`: in int8 it would lose the budget, or more than that.
    """

    operators: int
    joins: tuple[str, ...]
    ratio: Ratio | None = None
    needed: bool = False

    @property
    def slower(self) -> bool:
        return self.ratio is not None and self.ratio.differs and self.ratio.value > WORTH_ITS_TIME

    @property
    def in_float(self) -> bool:
        return self.needed or not self.slower

    def to_json(self) -> dict[str, Any]:
        """For the record of the search."""
        return dataclasses.asdict(self) | {"in_float": self.in_float}

    def described(self) -> str:
        """ "26 operators after the last layers in float, where y joins tensors: 1.00 times the p50 of int8 …"."""
        time = f": {self.ratio.value:.2f} times the p50 of int8 throughout" if self.ratio else ""
        stay = "in float" if self.in_float else "stay in int8"
        why = "; in int8 they lose the accuracy" if self.needed else ""
        return (
            f"{self.operators} operators after the last layers {stay}, where {self.joins[-1]} joins tensors{time}{why}"
        )


def place(search: MethodSearch, method: str) -> TailPlacement | None:
    """The placement of the tail of the model that is quantized; None if it has none.

    Timed with the tail in float and without, with ranges chosen by `method`, unless an earlier search did, --fast was
    given, or the target is not timed. Raises what keeps the int8 models from being made.
    """
    tail = search.output_tail(search.start)
    if tail is None:
        return None
    placed = TailPlacement(len(tail.operators), tail.joins)
    stored = search.stored.get("placement") or {}
    if stored.get("of") == search.start.id and (tail_stored := stored.get("tail")) and tail_stored["ratio"]:
        placed = dataclasses.replace(placed, ratio=convert(tail_stored["ratio"], Ratio))
        return placed if not placed.slower else _judged(search, placed, *_made(search, method))
    if not search.timed or search.effort == "fast":
        return placed
    models = _made(search, method)
    latencies = attempt_times.latencies(search, [search.reference, *models])
    if latencies is None:
        return placed
    placed = dataclasses.replace(placed, ratio=statistics.latency_ratio(latencies[1], latencies[2], paired=True))
    return _judged(search, placed, *models) if placed.slower else placed


def _made(search: MethodSearch, method: str) -> tuple[Artifact, Artifact]:
    """The int8 model with the tail in float, and that with the tail in int8."""
    in_float = search.int8(search.start, method, method=method)
    search.tail_in_float = False
    try:
        return in_float, search.int8(search.start, f"{method}-no-tail", method=method)
    finally:
        search.tail_in_float = True


def _judged(search: MethodSearch, placed: TailPlacement, in_float: Artifact, in_int8: Artifact) -> TailPlacement:
    """By this search's samples and budget, which may not be those of an earlier one."""
    return dataclasses.replace(placed, needed=_needed(search, in_float, in_int8))


def _needed(search: MethodSearch, in_float: Artifact, in_int8: Artifact) -> bool:
    """Does int8 after the last layers cost the model its check, or more points than the budget?"""
    kept, lost = (search.context.check(search.verifier, a, "accuracy", search.reference) for a in (in_float, in_int8))
    if lost.failed and not kept.failed:
        return True
    drops = [f.metric.drop_pp for f in (kept, lost) if f.metric and f.metric.drop_pp is not None]
    return len(drops) == 2 and drops[1] - drops[0] > search.context.gates.max_drop_pp
