"""A rule that does not apply says why, and leaves the file as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.steps.shared.onnx_rules import Rule, apply, drop_unread
from edgekit.steps.shared.onnx_slim import BiasScales, ZeroPoints
from edgekit.steps.shared.onnx_weight_only import PositionalEmbeddings, RecurrentBiases, RecurrentWeights, _Constants

onnx = pytest.importorskip("onnx")
helper = onnx.helper

SCALES = np.linspace(0.01, 0.02, 16, dtype=np.float32)


def graph(nodes: list[Any], arrays: dict[str, Any], outputs: tuple[str, ...] = ("y",)) -> Any:
    values = [helper.make_tensor_value_info(name, 1, None) for name in ("x", *outputs)]
    constants = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    return helper.make_graph(nodes, "g", values[:1], values[1:], constants)


def refusals(rule: Rule) -> list[str]:
    """The reasons of a rule that applies nowhere; the graph is the same after it."""
    before = rule.graph.SerializeToString()
    decisions = apply((rule,), rule.graph)
    assert decisions and all(decision.refused for decision in decisions)
    assert rule.graph.SerializeToString() == before
    return [decision.refused for decision in decisions]


def weights(reader: str, zero: Any) -> Any:
    """Weights with a zero point, dequantized for one operator."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node(reader, ["x", "wd"], ["y"]),
    ]
    return graph(nodes, {"w": np.ones((4, 4, 1, 1), np.int8), "s": np.float32(0.1), "z": np.int8(zero)})


def test_zero_points() -> None:
    applied = weights("Conv", 0)
    (decision,) = apply((ZeroPoints(applied),), applied)
    assert (decision.rule, decision.input, decision.refused) == ("ZeroPoints", "z", "")
    assert list(applied.node[0].input) == ["w", "s"]
    assert refusals(ZeroPoints(weights("MatMul", 0))) == ["ONNX Runtime does not fuse MatMul without it"]
    assert refusals(ZeroPoints(weights("Conv", 3))) == ["it is not 0"]
    computed = weights("Conv", 0)
    computed.node[0].input[2] = "x"
    assert refusals(ZeroPoints(computed)) == ["it is not a constant"]


def layer(name: str, weight_scale: str, bias_scale: str) -> list[Any]:
    return [
        helper.make_node("DequantizeLinear", ["w", weight_scale], [f"{name}_w"], axis=0),
        helper.make_node("DequantizeLinear", ["b", bias_scale], [f"{name}_b"], axis=0),
        helper.make_node("Gemm", ["xd", f"{name}_w", f"{name}_b"], [name], transB=1),
    ]


def layers(arrays: dict[str, Any], *nodes: Any, outputs: tuple[str, ...] = ("y",)) -> Any:
    data = helper.make_node("DequantizeLinear", ["x", "xs"], ["xd"])
    constants = {"w": np.ones((16, 4), np.int8), "b": np.ones(16, np.int32), "xs": np.float32(0.5), **arrays}
    return graph([data, *nodes], constants, outputs)


@pytest.mark.parametrize(
    ("scale", "bias", "reason"),
    [
        (SCALES[:8], SCALES[:8] / 2, "a scale of 8 values takes less room than an operator"),
        (SCALES, SCALES / 3, "its scale is not the product of the others to the bit"),
        (SCALES[:1], SCALES / 2, "its scale is not the product of the others to the bit"),
    ],
)
def test_bias_scales(scale: np.ndarray, bias: np.ndarray, reason: str) -> None:
    assert refusals(BiasScales(layers({"ws": scale, "bs": bias}, *layer("y", "ws", "bs")))) == [reason]


def test_a_scale_that_is_a_factor_of_another_one_stays() -> None:
    """Else its product would be computed after it is read, or the other way round."""
    arrays = {"ws": SCALES, "first": SCALES / 2, "second": SCALES / 4}
    nodes = (*layer("y", "ws", "first"), *layer("z", "first", "second"))
    chain = layers(arrays, *nodes, outputs=("y", "z"))
    rule = BiasScales(chain)
    assert [d.refused for d in apply((rule,), chain)] == [
        "",
        "a factor is the scale of another bias, which may be computed too",
    ]
    assert rule.written == ["first"]
    assert chain.node[0].op_type == "Mul" and list(chain.node[0].output) == ["first"]
    assert {t.name for t in chain.initializer} == {"w", "b", "xs", "ws", "second"}


def test_two_layers_that_share_a_bias_have_one_product() -> None:
    shared = layers(
        {"ws": SCALES, "bs": SCALES / 2}, *layer("y", "ws", "bs"), *layer("z", "ws", "bs"), outputs=("y", "z")
    )
    rule = BiasScales(shared)
    assert [decision.refused for decision in apply((rule,), shared)] == ["", ""]
    assert [node.op_type for node in shared.node].count("Mul") == 1


def test_recurrent_operators_that_are_kept() -> None:
    arrays = {"w": np.ones((1, 12, 4), np.float32), "r": np.ones((1, 12, 4), np.float32), "b": np.ones((1, 24), "f4")}
    node = helper.make_node("GRU", ["x", *arrays], ["y"], name="gru")
    recurrent = graph([node], arrays)
    for rule in (RecurrentWeights, RecurrentBiases):
        reasons = refusals(rule(_Constants(recurrent), ("gru",)))
        assert set(reasons) == {"the operator is kept in float"}
    decisions = apply([RecurrentWeights(_Constants(recurrent), ())], recurrent)
    assert [decision.input for decision in decisions] == ["w", "r"]
    assert list(node.input) == ["x", "w", "r", "b"], "the graph holds a copy of the operator"
    assert list(recurrent.node[-1].input) == ["x", "w_float", "r_float", "b"]


def test_tables_that_float16_does_not_hold() -> None:
    table = np.full((64, 64), 1e6, np.float32)
    added = graph([helper.make_node("Add", ["x", "table"], ["y"])], {"table": table})
    (reason,) = refusals(PositionalEmbeddings(_Constants(added), ()))
    assert reason == "float16 does not hold its values (the largest is 1e+06, the largest error inf)"


def test_checks_see_the_graph_as_it_was() -> None:
    """An edit does not change what another one is decided by."""
    seen = []

    class Negative(Rule):
        def matches(self, node: Any) -> tuple[int, ...]:
            return (0,)

        def check(self, node: Any, index: int) -> str:
            seen.append(len(self.graph.node))
            return "the second" if node.output[0] == "z" else ""

        def rewrite(self, node: Any, index: int) -> None:
            self.graph.node.add(op_type="Neg")

    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    relus = graph(nodes, {})
    assert [(d.input, d.refused) for d in apply((Negative(relus),), relus)] == [("x", ""), ("y", "the second")]
    assert seen == [2, 2] and len(relus.node) == 3


def test_what_a_branch_reads_is_read() -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["inside"], ["z"])], "branch", [], [])
    nodes = [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
    nested = graph(nodes, {"inside": np.ones(3), "nowhere": np.ones(3), "other": np.ones(3)})
    drop_unread(nested, {"inside", "nowhere"})
    assert [tensor.name for tensor in nested.initializer] == ["inside", "other"]
    drop_unread(nested)
    assert [tensor.name for tensor in nested.initializer] == ["inside"]
