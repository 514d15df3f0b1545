"""Rewrite rules for ONNX graphs: a pattern, a check that gives its reason, and a rewrite.

The scheme is that of onnxscript.rewriter, on protobufs: a round trip through onnx_ir changes the file (it
adds the type of each tensor), and the files here stay the same to the bit.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

LOG = logging.getLogger(__name__)


class Rule(ABC):
    """One edit of one graph, at an input of an operator. What it needs to know of the graph it reads at the start."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph

    @abstractmethod
    def matches(self, node: NodeProto) -> Iterable[int]:
        """The pattern: which of the operator's inputs the rule is about."""

    @abstractmethod
    def check(self, node: NodeProto, index: int) -> str:
        """Why the rule does not apply to an input that has the pattern, in a clause; "" if it applies."""

    @abstractmethod
    def rewrite(self, node: NodeProto, index: int) -> None:
        """Edit the graph."""


@dataclass(frozen=True)
class Decision:
    """Where a rule's pattern was found; `refused` is the reason why it was not applied there."""

    rule: str
    node: NodeProto
    input: str
    refused: str = ""


def apply(rules: Sequence[Rule], graph: GraphProto) -> tuple[Decision, ...]:
    """Rewrite every place where a rule matches and applies, in the order of the operators.

    All places are checked before the first is rewritten, so that a check sees the graph as it was.
    """
    places = [(rule, node, index) for node in graph.node for rule in rules for index in rule.matches(node)]
    decisions = []
    for rule, node, index in places:
        decisions.append(Decision(type(rule).__name__, node, node.input[index], rule.check(node, index)))
    for (rule, node, index), decision in zip(places, decisions, strict=True):
        if decision.refused:
            where = node.name or f"{node.op_type} {node.output[0]}"
            LOG.debug("%s not applied to %s of %s: %s", decision.rule, decision.input, where, decision.refused)
        else:
            rule.rewrite(node, index)
    return tuple(decisions)


def drop_unread(graph: GraphProto, names: Collection[str] | None = None) -> None:
    """Remove constants that nothing reads, all or those among `names`."""
    read = {value.name for value in graph.output} | set(_read(graph))
    drop(graph, {t.name for t in graph.initializer if t.name not in read and (names is None or t.name in names)})


def drop(graph: GraphProto, names: Collection[str]) -> None:
    """Remove the constants of these names. By index: `remove` compares the values."""
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in names:
            del graph.initializer[index]


def _read(graph: GraphProto) -> Iterator[str]:
    """Names of what its operators read, those inside branches and loops included."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read(inner)
                yield from (value.name for value in inner.output)
