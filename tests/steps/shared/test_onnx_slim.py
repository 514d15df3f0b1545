"""What is left out of an int8 ONNX file changes nothing: the same answers from the same kernels, in a smaller file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import sets
from edgekit.core.step import Context
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.steps.onnx_dynamic import OnnxDynamic
from edgekit.steps.onnx_int8 import OnnxInt8
from edgekit.steps.shared import onnx_slim

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("members")


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


def both(step: Any, bars: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The step's file as it is, and as it would be with nothing left out."""
    context = Context(None, {"calibration": named_sets.load("bars:train")}, quiet, logging.getLogger("t"))
    for name in ("lean", "whole"):
        (folder / name).mkdir()
        step.apply({"parent": Store(bars).get("onnx")}, folder / name, context)
        monkeypatch.setattr(onnx_slim, "slim", lambda model: None)
    return folder / "lean" / "model.onnx", folder / "whole" / "model.onnx"


def ran(path: Path, optimized: Path) -> tuple[np.ndarray, Counter[str]]:
    """Its outputs, and the kernels that ONNX Runtime makes of it."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(optimized)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = sets.take(named_sets.load("bars:test"), 20).inputs["input"].astype(np.float32)
    kernels = Counter(node.op_type for node in onnx.load(str(optimized)).graph.node)
    return session.run(None, {session.get_inputs()[0].name: x})[0], kernels


@pytest.mark.parametrize("step", [OnnxInt8(scheme="u8s8"), OnnxInt8(scheme="s8s8"), OnnxDynamic(scheme="u8s8")])
def test_the_same_in_less(step: Any, bars_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lean, whole = both(step, bars_made, tmp_path, monkeypatch)
    onnx.checker.check_model(str(lean), full_check=True)
    (ours, kernels), (theirs, others) = ran(lean, tmp_path / "a.onnx"), ran(whole, tmp_path / "b.onnx")
    assert np.array_equal(ours, theirs)
    assert kernels == others
    saved = whole.stat().st_size - lean.stat().st_size
    assert saved > (1_000 if isinstance(step, OnnxInt8) else 0)


def test_names_that_people_see_stay(bars_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lean, whole = (onnx.load(str(p)) for p in both(OnnxInt8(scheme="u8s8"), bars_made, tmp_path, monkeypatch))
    for side in ("input", "output"):
        assert [v.name for v in getattr(lean.graph, side)] == [v.name for v in getattr(whole.graph, side)]
    graphs = [
        [n for n in model.graph.node if n.op_type not in onnx_slim._CONVERSIONS and n.name] for model in (lean, whole)
    ]
    named = [[(node.name, list(node.output)) for node in nodes] for nodes in graphs]
    assert named[0] == named[1]


def test_scales_of_biases_are_worked_out(bars_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lean, whole = (onnx.load(str(p)).graph for p in both(OnnxInt8(scheme="u8s8"), bars_made, tmp_path, monkeypatch))
    products = [node for node in lean.node if node.op_type == "Mul" and not node.name]
    layers = [node for node in whole.node if node.op_type in ("Conv", "Gemm") and len(node.input) == 3]
    assert 0 < len(products) <= len(layers)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in lean.initializer}
    floats = [constants[name] for node in products for name in node.input]
    assert len(floats) == 2 * len(products) and all(array.dtype == np.float32 for array in floats)


def test_a_scale_that_is_no_product_stays() -> None:
    """One off by a bit in one channel, beside one that is the product."""
    from onnx import TensorProto, helper, numpy_helper

    scales = np.linspace(0.01, 0.02, 16, dtype=np.float32)
    other = (scales * np.float32(0.5)).copy()
    other[3] = np.nextafter(other[3], np.float32(1))
    arrays = {
        "xs": np.float32(0.5),
        "xz": np.uint8(3),
        "w": np.ones((16, 4), np.int8),
        "ws": scales,
        "b": np.ones(16, np.int32),
        "product": scales * np.float32(0.5),
        "other": other,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"], axis=0),
    ]
    for name in ("product", "other"):
        nodes.append(helper.make_node("DequantizeLinear", ["b", name], [f"{name}_bias"], axis=0))
        nodes.append(helper.make_node("Gemm", ["xd", "wd", f"{name}_bias"], [f"y_{name}"], transB=1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    outputs = [helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, [2, 16]) for name in ("product", "other")]
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [x], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    before = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    onnx_slim.slim(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("Mul") == 1
    after = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_branch_keeps_the_names_it_reads() -> None:
    """An If whose branch reads a constant of the graph around it."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones(3, np.float32), "a_long_name_of_a_constant")
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    branch = helper.make_graph([helper.make_node("Identity", [weight.name], ["y"])], "branch", [], [out])
    node = helper.make_node("If", ["condition"], ["z"], then_branch=branch, else_branch=branch)
    inputs = [helper.make_tensor_value_info("condition", TensorProto.BOOL, [])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3])]
    graph = helper.make_graph([node], "main", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx_slim.slim(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"condition": np.array(True)})[0].tolist() == [1, 1, 1]


def test_short_names_are_many_and_distinct() -> None:
    names = onnx_slim._names()
    first = [next(names) for _ in range(3_000)]
    assert len(set(first)) == 3_000
    assert first[0] == "a" and all(name[0].isalpha() for name in first)
