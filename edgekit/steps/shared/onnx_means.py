"""Means over all positions as GlobalAveragePool, which ONNX Runtime computes in int8, and in its own layouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgekit.steps.shared.onnx_rules import Rule, apply, drop_unread

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def pool(model: ModelProto) -> None:
    """Rewrite them in place; what the model computes stays, but for the order of the additions."""
    apply([GlobalMeans(model.graph)], model.graph)
    drop_unread(model.graph)


class GlobalMeans(Rule):
    """ReduceMean over all axes but (N, C) of a tensor of rank 3 to 5; without kept axes a Flatten follows.

    With a kept axis that of rank 3 is left: ONNX Runtime fuses norms over the last axis, which have such means.
    """

    def __init__(self, graph: GraphProto) -> None:
        from onnx import numpy_helper

        super().__init__(graph)
        values = (*graph.input, *graph.value_info)
        self._ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.HasField("tensor_type")}
        self._constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == 7}

    def matches(self, node: NodeProto) -> Iterator[int]:
        if node.op_type == "ReduceMean" and node.domain in ("", "ai.onnx"):
            yield 0

    def check(self, node: NodeProto, index: int) -> str:
        rank = self._ranks.get(node.input[0], 0)
        if rank not in (3, 4, 5):
            return f"its rank is {rank or 'unknown'}"
        axes = self._constants.get(node.input[1]) if len(node.input) > 1 else None
        if axes is None or sorted(int(axis) % rank for axis in np.ravel(axes)) != list(range(2, rank)):
            return "it is not over all positions"
        if rank == 3 and _keeps(node):
            return "it may belong to a norm over the last axis"
        return ""

    def rewrite(self, node: NodeProto, index: int) -> None:
        from onnx import helper

        kept = _keeps(node)
        del node.attribute[:]
        del node.input[1:]
        node.op_type = "GlobalAveragePool"
        if not kept:
            output = node.output[0]
            node.output[0] = f"{output}_pooled"
            flat = helper.make_node("Flatten", [f"{output}_pooled"], [output], name=f"{node.name}_flat")
            self.graph.node.insert(list(self.graph.node).index(node) + 1, flat)


def _keeps(node: NodeProto) -> bool:
    return bool(next((a.i for a in node.attribute if a.name == "keepdims"), 1))
