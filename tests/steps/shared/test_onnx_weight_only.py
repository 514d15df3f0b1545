"""Constants that are stored smaller, in graphs made by hand; whole models: test_dynamic.py."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.steps.shared import onnx_weight_only

onnx = pytest.importorskip("onnx")


def test_a_value_that_float16_lacks_stays_as_it_is() -> None:
    values = {"huge": 1e6, "tiny": 1e-12, "plain": 1.0}
    table = {name: np.full((64, 64), value, np.float32) for name, value in values.items()}
    nodes = [onnx.helper.make_node("Add", ["x", name], [f"y_{name}"]) for name in values]
    wanted = [onnx.helper.make_tensor_value_info(f"y_{name}", 1, [64, 64]) for name in values]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [64, 64])],
        wanted,
        [onnx.numpy_helper.from_array(array, name) for name, array in table.items()],
    )
    model = onnx.helper.make_model(graph)
    assert onnx_weight_only.store(model) == 0
    assert {t.name: t.data_type for t in model.graph.initializer} == {"huge": 1, "tiny": 1, "plain_stored": 10}
    onnx.checker.check_model(model)


def test_a_table_that_a_branch_reads_too_stays() -> None:
    table = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "table")
    out = onnx.helper.make_tensor_value_info("z", 1, [64, 64])
    branch = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["table"], ["z"])], "branch", [], [out])
    nodes = [
        onnx.helper.make_node("Add", ["x", "table"], ["y"]),
        onnx.helper.make_node("If", ["yes"], ["negative"], then_branch=branch, else_branch=branch),
    ]
    shapes = {"y": [64, 64], "negative": [64, 64]}
    outputs = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    inputs = [onnx.helper.make_tensor_value_info("x", 1, [64, 64]), onnx.helper.make_tensor_value_info("yes", 9, [])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, [table])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx_weight_only.store(model)
    session = pytest.importorskip("onnxruntime").InferenceSession(model.SerializeToString())
    y, negative = session.run(None, {"x": np.zeros((64, 64), np.float32), "yes": np.array(True)})
    assert (y == 1).all() and (negative == -1).all()
