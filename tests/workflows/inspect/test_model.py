"""What `inspect` says: shapes with the names of their axes, memory by layer, what cannot run it, why it may be slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core import registry
from edgekit.formats.onnx import Onnx
from edgekit.report.tables import lines
from edgekit.workflows.inspect import model as models

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_files import save  # noqa: E402

FLOAT = TensorProto.FLOAT


def layer(found: dict[str, Any], type: str) -> dict[str, Any]:
    return next(entry for entry in found["layers"] if entry["type"] == type)


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("ConvTranspose", ["b", "v"], ["y"], "up", strides=[2, 2]),
    ]
    constants = {"w": np.ones((4, 3, 3, 3), np.float32), "v": np.ones((4, 2, 2, 2), np.float32)}
    ends = [("x", FLOAT, ["batch", 3, 8, 8])], [("y", FLOAT, ["batch", 2, 16, 16])]
    return save(tmp_path / "m.onnx", nodes, *ends, constants)


def test_memory_by_layer_counted_by_hand(convolution: Path) -> None:
    found = models.inspect(str(convolution))
    assert found["inputs"][0]["axes"] == {"0": "batch"} and found["inputs"][0]["shape"][0] is None
    conv, up = layer(found, "Conv"), layer(found, "ConvTranspose")
    assert (conv["weight_bytes"], conv["activation_bytes"], conv["macs"]) == (432, 4 * 4 * 64, 256 * 27)
    assert (up["weight_bytes"], up["activation_bytes"], up["macs"]) == (128, 4 * 2 * 256, 256 * 8)
    assert found["peak_bytes"] == 4 * (4 * 64 + 2 * 256), "b and y at once"
    assert found["macs"] == 256 * 27 + 256 * 8


def test_recurrent_layers_are_counted_step_by_step(tmp_path: Path) -> None:
    constants = {"w": np.ones((1, 20, 3), np.float32), "r": np.ones((1, 20, 5), np.float32)}
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5)]
    path = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, [7, 1, 3])], [("y", FLOAT, [7, 1, 1, 5])], constants)
    assert models.inspect(str(path))["macs"] == 7 * (60 + 100)


def test_large_weights_are_counted_and_not_read(tmp_path: Path) -> None:
    """Also where they stand in a Constant, or in numbers packed one by one."""
    weights = np.ones((300, 40), np.float32)
    packed = helper.make_tensor("v", FLOAT, (40, 30), np.ones(1200).tolist())
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights, "w")),
        helper.make_node("Constant", [], ["v"], value=packed),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["n", 300])], [("y", FLOAT, ["n", 30])])
    found = models.inspect(str(path))
    assert found["parameters"] == 12_000 + 1200
    assert found["macs"] == 12_000 + 1200
    assert found["sizes"]["weights"] == 4 * 13_200
    assert found["runtimes"] == ["onnxruntime"] or not registry.load("runtimes", "onnxruntime")


def test_old_files_whose_weights_are_inputs_too(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", FLOAT, ["n", 300]), ("w", FLOAT, [300, 40])],
         [("y", FLOAT, ["n", 40])], {"w": np.ones((300, 40), np.float32)}, 7)  # fmt: skip
    model = onnx.load(str(path))
    model.ir_version = 3
    path.write_bytes(model.SerializeToString())
    assert [spec.name for spec in Onnx.describe(path).inputs] == ["x"]


# --- what cannot run it -------------------------------------------------------------------------------------------


# --- why it may be slow -------------------------------------------------------------------------------------------


def test_an_int8_graph_that_goes_back_to_float(tmp_path: Path) -> None:
    """Conv is fused between its pairs, Erf is not, and the MatMul behind it was left in float."""

    def pair(name: str, to: str) -> list[Any]:
        stored = helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{to}_q"])
        return [stored, helper.make_node("DequantizeLinear", [f"{to}_q", "s", "z"], [to], f"dq_{to}")]

    nodes = [
        *pair("x", "x1"),
        helper.make_node("DequantizeLinear", ["wq", "s", "wz"], ["w"]),
        helper.make_node("Conv", ["x1", "w"], ["c"], "conv"),
        *pair("c", "c1"),
        helper.make_node("Erf", ["c1"], ["e"], "erf"),
        *pair("e", "e1"),
        helper.make_node("Transpose", ["e1"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("Tan", ["t"], ["u"]),
        helper.make_node("MatMul", ["u", "k"], ["y"], "left"),
    ]
    constants = {
        **{"s": np.float32(0.1), "z": np.uint8(128), "wz": np.int8(0)},
        **{"wq": np.ones((2, 1, 1, 1), np.int8), "k": np.ones((4, 3), np.float32)},
    }
    ends = [("x", FLOAT, [1, 1, 4, 4])], [("y", FLOAT, [1, 2, 4, 3])]
    found = models.inspect(str(save(tmp_path / "m.onnx", nodes, *ends, constants)))
    assert (found["precision"], found["quantized"]) == ("int8", "QDQ")
    floats = [(entry["type"], entry["reason"]) for entry in found["mixed_precision"]["float"]]
    assert floats == [("Erf", "not_fused"), ("Tan", "not_quantizable"), ("MatMul", "left")]
    assert "1 Transpose" in "\n".join(found["slow"])


@pytest.mark.parametrize(
    ("types", "how", "precision"),
    [
        (["DequantizeLinear"], "weight-only", "w8"),
        (["DynamicQuantizeLinear", "MatMulInteger"], "dynamic", "dynamic"),
        ([], "", "fp32"),
    ],
)
def test_how_it_is_quantized(types: list[str], how: str, precision: str, tmp_path: Path) -> None:
    ends = [("x", FLOAT, [1, 3])], [("y", FLOAT, [1, 3])]
    constants = {"w": np.ones((3, 3), np.int8), "s": np.float32(1), "k": np.ones((3, 3), np.float32)}
    nodes = {
        "weight-only": [
            helper.make_node("DequantizeLinear", ["w", "s"], ["d"]),
            helper.make_node("MatMul", ["x", "d"], ["y"]),
        ],
        "dynamic": [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
            helper.make_node("MatMulInteger", ["q", "w", "qz"], ["i"]),
            helper.make_node("Cast", ["i"], ["y"], to=FLOAT),
        ],
        "": [helper.make_node("MatMul", ["x", "k"], ["y"])],
    }[how]
    found = models.inspect(str(save(tmp_path / "m.onnx", nodes, *ends, constants)))
    assert (found["quantized"].partition(":")[0], found["precision"]) == (how, precision)
    assert found["macs"] == 9


def test_float64_is_named(tmp_path: Path) -> None:
    ends = [("x", TensorProto.DOUBLE, [1, 2])], [("y", TensorProto.DOUBLE, [1, 2])]
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], *ends)
    assert "float64" in models.inspect(str(path))["slow"][0]


def test_every_line_fits_a_terminal(convolution: Path, bars_made: Path) -> None:
    for word in map(str, (convolution, bars_made / "onnx-int8", bars_made / "torch")):
        shown = lines(models.shown(models.inspect(word), 9))
        assert all(len(line) <= 80 or word in line for line in shown), max(shown, key=len)
    shown = lines(models.shown(models.inspect(str(convolution)), 1))
    assert "input        x: float32[batch, 3, 8, 8]" in shown
    assert sum("ConvTranspose up" in line for line in shown) == 1 and not any("Relu relu" in line for line in shown)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (24_500_000, "24.5 MB")])
def test_sizes_as_people_say_them(count: int, text: str) -> None:
    assert models._size(count) == text


def test_onnx_light_models_are_described() -> None:
    """The public topologies that the onnx package brings, against published multiplications."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    published = {
        "light_resnet50": 4.09e9,
        "light_vgg19": 19.63e9,
        "light_densenet121": 2.83e9,
        "light_shufflenet": 1.25e8,
    }
    if not folder.is_dir():
        pytest.skip("this onnx comes without its light models")
    for name, macs in published.items():
        found = models.inspect(str(folder / f"{name}.onnx"))
        assert found["macs"] == pytest.approx(macs, rel=0.01)
