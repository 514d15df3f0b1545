"""ONNX files without their weights: the graph is as onnx reads it, and each tensor says where its data lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.formats.shared import onnx_wire
from edgekit.formats.shared.onnx_wire import KEEP_BYTES

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def saved(path: Path, **constants: np.ndarray) -> Path:
    """y = x @ w, with more tensors that are not used."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.arange(600.0), "inner")),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    ends = [[value(name, onnx.TensorProto.FLOAT, ["n", 8])] for name in "xy"]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", *ends, tensors)), path)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.integers(0, 600), st.integers(0, 600))
def test_data_lies_where_it_is_said_to(tmp_path: Path, first: int, second: int) -> None:
    arrays = {"w": np.arange(first, dtype=np.float32), "v": np.arange(second, dtype=np.int64)}
    path = saved(tmp_path / "m.onnx", **arrays)
    model = onnx_wire.parse(path)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Constant", "Relu"]
    raw = path.read_bytes()
    for tensor in model.graph.initializer:
        place, wanted = onnx_wire.external_data(tensor), arrays[tensor.name]
        assert bool(place) == (wanted.nbytes > KEEP_BYTES)
        if place:
            start, length = int(place["offset"]), int(place["length"])
            assert place["location"] == "" and raw[start : start + length] == wanted.tobytes()
            assert not tensor.raw_data
        else:
            assert numpy_helper.to_array(tensor).tolist() == wanted.tolist()


def test_every_tensor_is_found(tmp_path: Path) -> None:
    model = onnx_wire.parse(saved(tmp_path / "m.onnx", w=np.zeros((8, 8), np.float32)))
    assert {tensor.name for tensor in onnx_wire.tensors(model)} == {"w", "inner"}


def test_branches_are_graphs_too() -> None:
    value = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Abs", ["a"], ["b"])], "branch", [], [value])
    node = helper.make_node("If", ["c"], ["b"], then_branch=branch, else_branch=branch)
    whole = helper.make_graph([node], "whole", [], [value])
    assert [graph.name for graph in onnx_wire.graphs(whole)] == ["whole", "branch", "branch"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = saved(tmp_path / "m.onnx", w=np.arange(400, dtype=np.float32))
    raw = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, 120), max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        onnx_wire.parse(path)
    except InputError as error:
        assert "is not an ONNX model" in error.what


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(InputError) as caught:
        onnx_wire.parse(tmp_path / "m.onnx")
    assert "empty" in caught.value.why
