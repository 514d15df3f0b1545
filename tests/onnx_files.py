"""ONNX files for tests, from nodes and the ends of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper


def save(
    path: Path,
    nodes: list[Any],
    ins: list[Any],
    outs: list[Any],
    constants: Any = (),
    opset: int = 20,
    ir: int = 10,
    **how: Any,
) -> Path:
    """`ins`, `outs`: (name, element type, shape) each. `constants`: name → array. `how`: options of `onnx.save`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*entry) for entry in ins],
        [helper.make_tensor_value_info(*entry) for entry in outs],
        [numpy_helper.from_array(array, name) for name, array in dict(constants).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), str(path), **how)
    return path
