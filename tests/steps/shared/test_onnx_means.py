"""Means over all positions become GlobalAveragePool, with the same outputs; other means stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
from edgekit.steps.shared.onnx_means import pool  # noqa: E402

helper = onnx.helper


def mean(axes: list[int], keepdims: int, rank: int = 4) -> Any:
    """x → ReduceMean → Relu → y, with unknown sizes but for the channels."""
    shape = ["n", 3, *(f"s{i}" for i in range(rank - 2))]
    left = [s for i, s in enumerate(shape) if i not in [a % rank for a in axes]]
    kept = [1 if i in [a % rank for a in axes] else s for i, s in enumerate(shape)]
    ends = [
        helper.make_tensor_value_info("x", 1, shape),
        helper.make_tensor_value_info("y", 1, kept if keepdims else left),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], name="mean", keepdims=keepdims),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    constant = onnx.numpy_helper.from_array(np.array(axes, np.int64), "axes")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def outputs(model: Any, x: Any) -> Any:
    return runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[
        0
    ]


@pytest.mark.parametrize(
    ("axes", "keepdims", "rank", "pooled"),
    [
        ([2, 3], 1, 4, True),
        ([-1, -2], 0, 4, True),
        ([2], 0, 3, True),
        ([2, 3, 4], 1, 5, True),
        ([3], 1, 4, False),
        ([1, 2, 3], 0, 4, False),
        ([0, 2, 3], 1, 4, False),
    ],
)
def test_means(axes: list[int], keepdims: int, rank: int, pooled: bool) -> None:
    model = mean(axes, keepdims, rank)
    x = np.random.default_rng(0).normal(size=(2, 3, *[5, 4, 6][: rank - 2])).astype(np.float32)
    before = outputs(model, x)
    pool(model)
    assert ("GlobalAveragePool" in {node.op_type for node in model.graph.node}) is pooled
    assert bool(model.graph.initializer) is not pooled
    onnx.checker.check_model(model, full_check=True)
    after = outputs(model, x)
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
