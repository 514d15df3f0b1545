"""Reading ONNX: sizes by part, traits, MACs and what is refused, on graphs small enough to count by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.formats.onnx import Onnx

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def save(path: Path, nodes: list[Any], constants: dict[str, np.ndarray], inputs: Any, outputs: Any) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """conv 3x3, 2 → 4 channels over 8 x 8 with padding; then a dense layer of 256 → 10."""
    constants = {
        "w": np.ones((4, 2, 3, 3), np.float32),
        "b": np.ones(4, np.float32),
        "dense": np.ones((10, 256), np.float32),
        "bias": np.ones(10, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "dense", "bias"], ["y"], "fc", transB=1),
    ]
    inputs, outputs = [("x", FLOAT, ["batch", 2, 8, 8])], [("y", FLOAT, ["batch", 10])]
    return save(tmp_path / "small.onnx", nodes, constants, inputs, outputs)


def test_counted_by_hand(small: Path) -> None:
    facts = Onnx.describe(small)
    assert [str(s) for s in facts.inputs] == ["x: float32[?, 2, 8, 8]"]
    assert [str(s) for s in facts.outputs] == ["y: float32[?, 10]"]
    assert facts.sizes.weights == 4 * (4 * 2 * 9 + 2560), "biases do not count"
    assert facts.sizes.total == small.stat().st_size
    assert facts.parameters == 72 + 4 + 2560 + 10
    assert [(o.type, o.parameters, o.macs) for o in facts.operators] == [
        ("Conv", 76, 8 * 8 * 4 * 2 * 9),
        ("Relu", 0, 0),
        ("Flatten", 0, 0),
        ("Gemm", 2570, 2560),
    ]
    assert facts.traits == frozenset()
    assert facts.details["opset"] == {"ai.onnx": 20}


def test_metadata_is_counted(small: Path) -> None:
    before = Onnx.describe(small).sizes
    model = onnx.load(str(small))
    entry = model.metadata_props.add()
    entry.key, entry.value = "note", "x" * 1000
    onnx.save(model, str(small))
    after = Onnx.describe(small).sizes
    assert after.metadata - before.metadata >= 1000
    assert after.weights == before.weights


def test_half_precision_is_seen(tmp_path: Path) -> None:
    half = onnx.TensorProto.FLOAT16
    path = save(
        tmp_path / "half.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.ones((3, 5), np.float16)},
        [("x", half, [None, 3])],
        [("y", half, [None, 5])],
    )
    facts = Onnx.describe(path)
    assert facts.traits == frozenset({"fp16"})
    assert facts.sizes.weights == 30
    assert facts.operators[0].macs == 15


def test_int8_is_seen(bars_made: Path) -> None:
    facts = Onnx.describe(bars_made / "onnx-int8" / "model.onnx")
    assert facts.traits == frozenset({"int8"})
    float_facts = Onnx.describe(bars_made / "onnx" / "model.onnx")
    assert float_facts.sizes.weights == pytest.approx(4 * facts.sizes.weights, rel=0.1)


def test_an_export_keeps_no_paths(bars_made: Path) -> None:
    """What the exporter notes of the source is no business of a device."""
    raw = (bars_made / "onnx" / "model.onnx").read_bytes()
    for word in (b"/home", b"/root", b"site-packages", b"stack_trace", b".py"):
        assert word not in raw


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.graph.ClearField("node"), "no graph"),
        (lambda m: m.ClearField("opset_import"), "no graph"),
        (lambda m: m.graph.node[1].input.__setitem__(0, "nothing"), "not a valid ONNX model"),
        (lambda m: m.graph.node[0].__setattr__("op_type", "Nonsense"), "not a valid ONNX model"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 99), "not a valid ONNX model"),
    ],
)
def test_graphs_that_are_not_sound(small: Path, change: Any, said: str) -> None:
    model = onnx.load(str(small))
    change(model)
    small.write_bytes(model.SerializeToString())
    with pytest.raises(InputError) as error:
        Onnx.describe(small)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
