"""Any two model files are compared: in other formats, layouts, with other names and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.workflows import verify

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def pooled(path: Path, last: bool = False, name: str = "x", classes: int = 4, out: str = "y") -> Path:
    """The mean of an image over its places, times a matrix; channels first or `last`."""
    shape = [8, 8, 3] if last else [3, 8, 8]
    nodes = [
        helper.make_node("ReduceMean", [name], ["m"], axes=[1, 2] if last else [2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "w"], [out], transB=1),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s]) for n, s in ((name, shape), (out, [classes]))
    ]
    held = [numpy_helper.from_array(WEIGHTS[:classes], "w")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(first: Path, second: Path, **changes: Any) -> Any:
    outcome = verify.verify(str(first), against=str(second), **changes)
    (finding,) = outcome.findings
    return outcome, finding


def test_the_same_function_in_another_layout(tmp_path: Path) -> None:
    first, second = pooled(tmp_path / "a.onnx"), pooled(tmp_path / "b.onnx", last=True, name="image", out="scores")
    outcome, finding = compared(first, second)
    assert not outcome.failures
    assert finding.parity.sqnr_db > 100 and finding.parity.against == str(second)
    assert finding.on == "64 random inputs"
    assert "input x is image, transposed to channels last" in finding.matched
    assert "output y is scores" in finding.matched
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a"], "the other file leaves nothing behind"


def test_on_data_with_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3, 8, 8)).astype(np.float32)
    labels = (x.mean(axis=(2, 3)) @ WEIGHTS.T).argmax(axis=1)
    np.savez(tmp_path / "val.npz", x=x, label=labels)
    first, second = pooled(tmp_path / "a.onnx"), pooled(tmp_path / "b.onnx", last=True)
    _, finding = compared(first, second, val=str(tmp_path / "val.npz"))
    assert finding.on == "60 samples of val.npz" and not finding.random
    assert finding.metric.value == 1 and finding.metric.drop_pp == 0


def test_the_metric_is_of_the_same_output(tmp_path: Path) -> None:
    """The other model has its outputs in another order and with other names: top-1 is of the class scores in both."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3, 8, 8)).astype(np.float32)
    labels = (x.mean(axis=(2, 3)) @ WEIGHTS.T).argmax(axis=1)
    np.savez(tmp_path / "val.npz", x=x, label=labels)
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path, names in zip(files, (("scores", "means"), ("first", "second")), strict=True):
        model = onnx.load(str(pooled(path, out=names[path.name == "b.onnx"])))
        means = names[path.name == "a.onnx"]
        model.graph.node.append(helper.make_node("Identity", ["m"], [means]))
        model.graph.output.append(helper.make_tensor_value_info(means, TensorProto.FLOAT, ["n", 3]))
        if path.name == "b.onnx":
            outputs = list(model.graph.output)[::-1]
            model.graph.ClearField("output")
            model.graph.output.extend(outputs)
        onnx.save(model, str(path))
    _, finding = compared(*files, val=str(tmp_path / "val.npz"))
    assert finding.metric.value == 1 and finding.metric.drop_pp == 0


def test_another_function(tmp_path: Path) -> None:
    first = pooled(tmp_path / "a.onnx")
    WEIGHTS[0, 0] += 1
    try:
        outcome, finding = compared(first, pooled(tmp_path / "b.onnx"))
    finally:
        WEIGHTS[0, 0] -= 1
    assert finding.failed == "parity" and outcome.failures


def test_a_shape_that_differs_is_said_as_a_shape(tmp_path: Path) -> None:
    outcome, finding = compared(pooled(tmp_path / "a.onnx", classes=3), pooled(tmp_path / "b.onnx"))
    assert finding.failed == "parity" and finding.parity is None
    assert "output y is 4 and 3" in finding.reason and "-300" not in str(outcome.failures[0])


def test_inputs_that_cannot_be_matched(tmp_path: Path) -> None:
    first, second = pooled(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 5]) for n in ("z", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["z"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(second))
    with pytest.raises(InputError, match="cannot be matched"):
        compared(first, second)
