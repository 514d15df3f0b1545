"""The output tail of a model (`workflows/inspect/output_tail`) in float, where that costs no time.

There are hardly any products in it, so float costs next to nothing. Where the target is timed, that is measured, and a
tail that makes the model slower stays in int8.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.core import statistics
from edgekit.core.config import convert
from edgekit.core.measurement import Ratio
from edgekit.workflows.quantize import attempt_times

if TYPE_CHECKING:
    from edgekit.workflows.quantize.method_search import MethodSearch

#: a tail in float that takes more than this, times the int8 model's p50, stays in int8
WORTH_ITS_TIME = 1.05


@dataclass(frozen=True)
class TailPlacement:
    """`operators`: how many there are. `joins`: the tensors where they join others.

    `ratio`: the model's p50 with the tail in float over that of int8 throughout; None where it was not measured.
    """

    operators: int
    joins: tuple[str, ...]
    ratio: Ratio | None = None

    @property
    def in_float(self) -> bool:
        return self.ratio is None or not (self.ratio.differs and self.ratio.value > WORTH_ITS_TIME)

    def to_json(self) -> dict[str, Any]:
        """For the record of the search."""
        return dataclasses.asdict(self) | {"in_float": self.in_float}

    def described(self) -> str:
        """ "26 operators after the last layers in float, where y joins tensors: 1.00 times the p50 of int8 …"."""
        time = f": {self.ratio.value:.2f} times the p50 of int8 throughout" if self.ratio else ""
        stay = "in float" if self.in_float else "stay in int8"
        return f"{self.operators} operators after the last layers {stay}, where {self.joins[-1]} joins tensors{time}"


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
        return dataclasses.replace(placed, ratio=convert(tail_stored["ratio"], Ratio))
    if not search.timed or search.effort == "fast":
        return placed
    models = [search.int8(search.start, method, method=method)]
    search.tail_in_float = False
    models.append(search.int8(search.start, f"{method}-no-tail", method=method))
    search.tail_in_float = True
    latencies = attempt_times.latencies(search, [search.reference, *models])
    if latencies is None:
        return placed
    return dataclasses.replace(placed, ratio=statistics.latency_ratio(latencies[1], latencies[2], paired=True))
