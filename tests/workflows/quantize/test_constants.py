"""Constants keep their precision in int8: biases inside a layer, those that no layer takes in, and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest
from numpy.typing import NDArray

from edgekit.compression.calibration.onnx import ready
from edgekit.workflows.quantize import quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
node = onnx.helper.make_node

#: a bias for 16 channels, every third of which a Relu switches off
DEAD = np.where(np.arange(16) % 3, np.linspace(-0.05, 0.05, 16), -40 - np.arange(16)).astype(np.float32)
SIDES = [1, 1, 1, 1]


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.workflows.quantize.attempt_times.latencies", lambda *_: None)


def weights(*shape: int, inputs: int) -> NDArray[np.float32]:
    return (np.random.default_rng(inputs).normal(size=shape) * inputs**-0.5).astype(np.float32)


def images(path: Path, *nodes: Any, **constants: Any) -> Path:
    """`nodes` from x (3 channels) to d (16 channels); then a Relu, a convolution, the mean, and ten classes."""
    rest = [
        node("Relu", ["d"], ["r"]),
        node("Conv", ["r", "second"], ["q"], pads=SIDES),
        node("Relu", ["q"], ["q1"]),
        node("GlobalAveragePool", ["q1"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "classes"], ["y"]),
    ]
    constants |= {"second": weights(32, 16, 3, 3, inputs=144), "classes": weights(32, 10, inputs=32)}
    return onnx_files.save(path, [*nodes, *rest], [("x", 1, ["N", 3, 12, 12])], [("y", 1, ["N", 10])], constants, 17)


def sum_after_relu(path: Path) -> Path:
    nodes = node("Conv", ["x", "k"], ["c"], pads=SIDES), node("Relu", ["c"], ["a"]), node("Add", ["a", "b"], ["d"])
    return images(path, *nodes, k=weights(16, 3, 3, 3, inputs=27), b=DEAD.reshape(1, 16, 1, 1))


def transposed(path: Path) -> Path:
    nodes = node("ConvTranspose", ["x", "k"], ["c"], pads=SIDES), node("Add", ["b", "c"], ["d"])
    return images(path, *nodes, k=weights(3, 16, 3, 3, inputs=27), b=DEAD.reshape(1, 16, 1, 1))


def sum_in_conv(path: Path) -> Path:
    nodes = node("Conv", ["x", "k"], ["c"], pads=SIDES), node("Add", ["c", "b"], ["d"])
    return images(path, *nodes, k=weights(16, 3, 3, 3, inputs=27), b=DEAD.reshape(16, 1, 1))


def norm_after_relu(path: Path) -> Path:
    norm = node("BatchNormalization", ["a", "g", "b", "m", "v"], ["d"])
    nodes = node("Conv", ["x", "k"], ["c"], pads=SIDES), node("Relu", ["c"], ["a"]), norm
    ones = {name: np.ones(16, np.float32) for name in "gv"}
    return images(path, *nodes, k=weights(16, 3, 3, 3, inputs=27), b=DEAD, m=np.zeros(16, np.float32), **ones)


def rows(path: Path, *nodes: Any, **constants: Any) -> Path:
    """An autoencoder of rows: `nodes` from x (64) to d (16), then back."""
    rest = [node("Relu", ["d"], ["r"]), node("MatMul", ["r", "last"], ["y"])]
    constants |= {"last": weights(16, 64, inputs=16)}
    return onnx_files.save(path, [*nodes, *rest], [("x", 1, ["N", 6, 64])], [("y", 1, ["N", 6, 64])], constants, 17)


def bias_of_steps(path: Path) -> Path:
    """A MatMul over steps does not become a Gemm, so its bias stays an Add."""
    nodes = node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["d"])
    return rows(path, *nodes, w=weights(64, 16, inputs=64), b=DEAD)


def scaled_gemm(path: Path) -> Path:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["a"], alpha=0.5, beta=2.0),
        node("Relu", ["a"], ["r"]),
        node("Gemm", ["r", "v", "c"], ["y"], alpha=2.0, transB=1),
    ]
    constants = {
        "w": weights(64, 48, inputs=64),
        "v": weights(64, 48, inputs=48),
        "b": np.linspace(-2, 2, 48, dtype=np.float32),
        "c": np.linspace(-1, 1, 64, dtype=np.float32),
    }
    return onnx_files.save(path, nodes, [("x", 1, ["N", 64])], [("y", 1, ["N", 64])], constants, 17)


def clipped(path: Path, low: float | None, high: float | None) -> Path:
    limits = {name: np.float32(limit) for name, limit in (("low", low), ("high", high)) if limit is not None}
    clip = node("Clip", ["a", "low" if low is not None else "", "high" if high is not None else ""], ["d"])
    nodes = [node("MatMul", ["x", "w"], ["a"]), clip, node("MatMul", ["d", "v"], ["y"])]
    constants = {"w": weights(64, 48, inputs=64), "v": weights(48, 64, inputs=48), **limits}
    return onnx_files.save(path, nodes, [("x", 1, ["N", 64])], [("y", 1, ["N", 64])], constants, 17)


def above_zero(path: Path) -> Path:
    return clipped(path, 0.3, 0.5)


def least(path: Path) -> Path:
    return clipped(path, 0.1, None)


def below_zero(path: Path) -> Path:
    return clipped(path, None, -0.2)


def around_zero(path: Path) -> Path:
    return clipped(path, -1, 0.5)


def divided(path: Path) -> Path:
    """Sub, Pow and Div with constants and with what is computed, as in a norm that is written out."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("ReduceMean", ["a"], ["mean"], axes=[1]),
        node("Sub", ["a", "mean"], ["centred"]),
        node("Pow", ["centred", "two"], ["square"]),
        node("ReduceMean", ["square"], ["variance"], axes=[1]),
        node("Add", ["variance", "epsilon"], ["positive"]),
        node("Sqrt", ["positive"], ["deviation"]),
        node("Div", ["centred", "deviation"], ["normal"]),
        node("Div", ["normal", "scales"], ["d"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    constants = {
        "w": weights(64, 48, inputs=64),
        "v": weights(48, 64, inputs=48),
        "scales": np.linspace(1, 4, 48, dtype=np.float32),
        "two": np.float32(2),
        "epsilon": np.float32(1e-5),
    }
    return onnx_files.save(path, nodes, [("x", 1, ["N", 64])], [("y", 1, ["N", 64])], constants, 17)


MODELS = (sum_after_relu, transposed, sum_in_conv, norm_after_relu, bias_of_steps, scaled_gemm)
LIMITS = (above_zero, least, below_zero, around_zero, divided)


def nearness(build: Any, folder: Path, *formats: str) -> dict[str, float]:
    """Format → SQNR in dB of its int8 model against float, ranges from the extremes."""
    path = build(folder / "m.onnx")
    (value,) = onnx.load(str(path)).graph.input
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
    np.savez(folder / "x.npz", x=np.random.default_rng(5).normal(size=(48, *shape)).astype(np.float32))
    data = str(folder / "x.npz")
    outcome = quantize(str(path), to=formats, methods=("min-max",), calibration=data, val=data, out=folder / "run")
    best = {search.name.partition("-")[0]: search.best for search in outcome.searches}
    return {name: attempt.finding.parity.sqnr_db for name, attempt in best.items() if attempt}  # type: ignore[union-attr]


@pytest.mark.parametrize("build", [*MODELS, *LIMITS])
def test_int8_onnx_keeps_constants_precise(build: Any, tmp_path: Path) -> None:
    assert nearness(build, tmp_path, "onnx")["onnx"] > 34


@pytest.mark.slow
@pytest.mark.parametrize("build", MODELS)
def test_int8_tflite_and_openvino_keep_constants_precise(build: Any, tmp_path: Path) -> None:
    for needed in ("openvino", "nncf", "litert_torch"):
        pytest.importorskip(needed)
    found = nearness(build, tmp_path, "tflite", "openvino")
    assert set(found) == {"tflite", "openvino"} and min(found.values()) > 34, found


def test_without_the_rule_the_constant_takes_the_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = nearness(sum_after_relu, tmp_path, "onnx")["onnx"]
    monkeypatch.setattr("edgekit.steps.onnx_int8.is_coarse", lambda *_: False)
    (tmp_path / "again").mkdir()
    assert nearness(sum_after_relu, tmp_path / "again", "onnx")["onnx"] < kept - 6


def test_a_constant_that_int8_holds_well_stays_int8(tmp_path: Path) -> None:
    def fine(path: Path) -> Path:
        nodes = node("Conv", ["x", "k"], ["c"], pads=SIDES), node("Relu", ["c"], ["a"]), node("Add", ["a", "b"], ["d"])
        bias = np.linspace(-0.5, 0.5, 16, dtype=np.float32).reshape(1, 16, 1, 1)
        return images(path, *nodes, k=weights(16, 3, 3, 3, inputs=27), b=bias)

    nearness(fine, tmp_path, "onnx")
    graph = onnx.load(str(tmp_path / "run/onnx-int8/model.onnx")).graph
    (added,) = (entry for entry in graph.node if entry.op_type == "Add")
    makers = {name: entry.op_type for entry in graph.node for name in entry.output}
    assert [makers.get(name) for name in added.input] == ["DequantizeLinear"] * 2


def test_the_factors_of_a_gemm_are_in_its_constants(tmp_path: Path) -> None:
    import onnxruntime

    path = scaled_gemm(tmp_path / "m.onnx")
    model, x = ready(path), np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    factors = [entry.f for gemm in model.graph.node for entry in gemm.attribute if entry.name in ("alpha", "beta")]
    assert set(factors) == {1.0}
    before, after = (
        onnxruntime.InferenceSession(m).run(None, {"x": x})[0] for m in (str(path), model.SerializeToString())
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
