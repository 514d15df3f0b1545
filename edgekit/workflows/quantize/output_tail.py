"""The output tail of a model in float: what comes after its last layers, where that joins several tensors.

A detector ends so: boxes in pixels and scores from 0 to 1 are decoded and leave through one concatenation. In int8 each
of these operators rounds the answer itself, and the concatenation with one scale for ranges that have nothing to do
with each other; in float they cost next to nothing, as there are hardly any products in them. Where the target is
timed, that is measured, and a tail that makes the model slower stays in int8.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.config import convert
from edgekit.core.errors import InputError
from edgekit.core.measurement import Ratio
from edgekit.steps.shared.calibrated import model_file
from edgekit.workflows.inspect import matched_tensors
from edgekit.workflows.quantize import attempt_times, placement

if TYPE_CHECKING:
    from edgekit.workflows.quantize.method_search import MethodSearch

#: an operator of the tail has at most this share of the model's MACs
LIGHT = 1 / 4000
#: a tail in float that takes more than this, times the int8 model's p50, stays in int8
WORTH_ITS_TIME = 1.05


@dataclass(frozen=True)
class Tail:
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
        """One line: "26 operators after the last layers in float, where output0 joins tensors: 1.00 times the p50"."""
        where = " and ".join(self.joins[-2:])
        time = f": {self.ratio.value:.2f} times the p50 of int8 throughout" if self.ratio else ""
        stay = "in float" if self.in_float else "stay in int8"
        return f"{self.operators} operators after the last layers {stay}, where {where} joins tensors{time}"


def output_tail(model: Artifact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the operators that have no layer of weight after them, and the tensors where they join others.

    Both are empty if none of them joins tensors, or the format gives no graph. Plain logits have no tail.
    """
    macs: Counter[str] = Counter()
    for operator in placement.operators(model):
        macs[operator.name] += operator.macs or 0
    limit = LIGHT * macs.total()
    path = model_file(model)
    try:
        nodes = matched_tensors.match(model.kind.format, path, path).nodes if limit else ()
    except InputError:
        return (), ()
    readers = defaultdict(list)
    for node in nodes:
        for tensor in node.reads:
            readers[tensor].append(node.name)
    tail: dict[str, None] = {}
    joins = []
    for node in reversed(nodes):
        after = [name for tensor in node.writes for name in readers[tensor]]
        if node.name in macs and macs[node.name] <= limit and all(name in tail for name in after):
            tail[node.name] = None
            if "CONCAT" in node.type.upper() and len(node.reads) > 1:
                joins.append(node.writes[-1])
    return (tuple(reversed(tail)), tuple(reversed(joins))) if joins else ((), ())


def measured(search: MethodSearch, method: str) -> Tail | None:
    """The tail of the model that is quantized; timed with and without it where the target is timed."""
    operators, joins = search.output_tail(search.start)
    if not operators:
        return None
    tail = Tail(len(operators), joins)
    stored = search.stored.get("placement") or {}
    if stored.get("of") == search.start.id and stored.get("tail"):
        return dataclasses.replace(tail, ratio=convert(stored["tail"]["ratio"], Ratio | None))
    if not search.timed or search.effort == "fast":
        return tail
    models = [search.int8(search.start, method, method=method)]
    search.tail_in_float = False
    models.append(search.int8(search.start, f"{method}-no-tail", method=method))
    search.tail_in_float = True
    found = attempt_times.latencies(search, [search.reference, *models])
    if found is None:
        return tail
    return Tail(len(operators), joins, statistics.latency_ratio(found[1], found[2], paired=True))
