"""The output tail of a model: what comes after its last layers, where that joins several tensors.

A detector ends so: boxes in pixels and scores from 0 to 1 are decoded and leave through one concatenation. In int8 each
of these operators rounds the answer itself, and the concatenation has one scale for ranges that have nothing to do with
each other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Operator
from edgekit.workflows.inspect import matched_tensors

#: an operator of the tail has at most this share of the model's MACs
LIGHT = 1 / 4000
#: ends of a graph that formats list among the operators
NO_OPERATORS = frozenset("Constant Parameter Result".split())


@dataclass(frozen=True)
class OutputTail:
    """`operators`: names of those after the last layers, in order. `joins`: the tensors where they join others."""

    operators: tuple[str, ...]
    joins: tuple[str, ...]


def of_model(model: Artifact) -> OutputTail | None:
    """The tail of a float model, with the operators that a quantizer can leave in float; None for a torch network.

    Reshapes are among them: LiteRT's quantizer would round what passes through them.
    """
    format = registry.load("formats", model.kind.format)
    path = model.path / format.file
    listed = format.describe(path).operators
    tail = output_tail(model.kind.format, path, listed)
    if tail is None:
        return None
    named = {operator.name for operator in listed if operator.type not in NO_OPERATORS}
    return replace(tail, operators=tuple(filter(named.__contains__, tail.operators)))


def output_tail(format: str, path: Path, operators: Sequence[Operator]) -> OutputTail | None:
    """The tail of a float model; `operators` as the format's `describe` gives them, with MACs.

    None if nothing after the last layers joins tensors (plain logits do not), no operator is known to have MACs, or the
    graph cannot be read.
    """
    macs: Counter[str] = Counter()
    for operator in operators:
        macs[operator.name] += operator.macs or 0
    limit = LIGHT * macs.total()
    try:
        nodes = matched_tensors.nodes(format, path) if limit else ()
    except Exception:  # of any class: `describe` reads files, too, that a runtime's reader refuses
        return None
    readers = defaultdict(list)
    for node in nodes:
        for tensor in node.reads:
            readers[tensor].append(node.name)
    tail: dict[str, None] = {}
    joins = []
    for node in reversed(nodes):
        after = [name for tensor in node.writes for name in readers[tensor]]
        if node.name and node.name in macs and macs[node.name] <= limit and all(name in tail for name in after):
            tail[node.name] = None
            if "CONCAT" in node.type.upper() and len(node.reads) > 1:
                joins.append(node.writes[-1])
    return OutputTail(tuple(reversed(tail)), tuple(reversed(joins))) if joins else None
