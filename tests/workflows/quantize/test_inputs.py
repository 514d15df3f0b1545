"""Int8 of models whose inputs are not one array with the batch first: states, masks, a scalar, no batch at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.formats.ranges import Statistics
from edgekit.runs.store import Store
from edgekit.workflows import bench, predict
from edgekit.workflows.quantize import quantize
from edgekit.workflows.verify import verify

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
RNG = np.random.default_rng(3)
SAMPLES, WIDTH = 12, 64
Arrays = Mapping[str, NDArray[Any]]
node = onnx.helper.make_node


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.workflows.quantize.attempt_times.latencies", lambda *_: None)


def weights(*shape: int) -> NDArray[np.float32]:
    return (RNG.normal(size=shape) * shape[-1] ** -0.5).astype(np.float32)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(size=shape).astype(np.float32)


def vad(path: Path, batch: Any = "N") -> Path:
    """A convolution, a sampling rate, and an LSTM whose states are one tensor (2, batch, units), as in Silero VAD."""
    nodes = [
        node("Unsqueeze", ["input", "one"], ["x"]),
        node("Conv", ["x", "kernel", "bias"], ["c"], name="conv", strides=[4]),
        node("Relu", ["c"], ["r"]),
        node("ReduceMean", ["r", "two"], ["m"], keepdims=0),
        node("Cast", ["sr"], ["rate"], to=FLOAT),
        node("Div", ["rate", "khz16"], ["ratio"]),
        node("Mul", ["m", "ratio"], ["s"]),
        node("Unsqueeze", ["s", "zero"], ["steps"]),
        node("Split", ["state"], ["h", "c0"], axis=0, num_outputs=2),
        node("LSTM", ["steps", "w", "r_", "b", "", "h", "c0"], ["", "hn", "cn"], hidden_size=WIDTH),
        node("Squeeze", ["hn", "zero"], ["last"]),
        node("MatMul", ["last", "out"], ["logit"]),
        node("Sigmoid", ["logit"], ["prob"]),
        node("Concat", ["hn", "cn"], ["stateN"], axis=0),
    ]
    constants = {
        "kernel": weights(WIDTH, 1, 8),
        "bias": weights(WIDTH),
        "khz16": np.float32(16000),
        "w": weights(1, 4 * WIDTH, WIDTH),
        "r_": weights(1, 4 * WIDTH, WIDTH),
        "b": weights(1, 8 * WIDTH),
        "out": weights(WIDTH, 1),
        **{name: np.array([axis]) for axis, name in enumerate(("zero", "one", "two"))},
    }
    ins = [("input", FLOAT, [batch, 64]), ("state", FLOAT, [2, batch, WIDTH]), ("sr", INT64, [])]
    outs = [("prob", FLOAT, [batch, 1]), ("stateN", FLOAT, [2, batch, WIDTH])]
    return onnx_files.save(path, nodes, ins, outs, constants)


def masked(path: Path) -> Path:
    """Self-attention with a mask of its scores (batch, 1, time, time)."""
    nodes = [
        node("MatMul", ["x", "k"], ["keys"]),
        node("Transpose", ["keys"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["x", "kt"], ["scores"]),
        node("Add", ["scores", "mask"], ["hidden"]),
        node("Softmax", ["hidden"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["mixed"]),
        node("MatMul", ["mixed", "v"], ["y"]),
    ]
    ins = [("x", FLOAT, ["N", 1, 8, WIDTH]), ("mask", FLOAT, ["N", 1, 8, 8])]
    outs = [("y", FLOAT, ["N", 1, 8, 4])]
    return onnx_files.save(path, nodes, ins, outs, {"k": weights(WIDTH, WIDTH), "v": weights(WIDTH, 4)})


def transducer(path: Path) -> Path:
    """The last token, two states whose batch is the second axis, and a frame."""
    nodes = [
        node("Gather", ["table", "token"], ["e"]),
        node("Add", ["e", "frame"], ["x"]),
        node("MatMul", ["x", "w"], ["a"]),
        node("ReduceSum", ["h", "zero"], ["hs"], keepdims=0),
        node("ReduceSum", ["c", "zero"], ["cs"], keepdims=0),
        node("Add", ["hs", "cs"], ["states"]),
        node("Add", ["a", "states"], ["j"]),
        node("Tanh", ["j"], ["t"]),
        node("MatMul", ["t", "v"], ["y"]),
        node("Add", ["h", "t"], ["h_out"]),
        node("Identity", ["c"], ["c_out"]),
    ]
    ins = [("token", INT64, ["B"]), ("frame", FLOAT, ["B", WIDTH])]
    ins += [(name, FLOAT, [3, "B", WIDTH]) for name in "hc"]
    outs = [("y", FLOAT, ["B", 5])] + [(f"{name}_out", FLOAT, [3, "B", WIDTH]) for name in "hc"]
    constants = {"table": weights(7, WIDTH), "w": weights(WIDTH, WIDTH), "v": weights(WIDTH, 5), "zero": np.array([0])}
    return onnx_files.save(path, nodes, ins, outs, constants)


def no_batch(path: Path) -> Path:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "v"], ["y"])]
    ends = [("x", FLOAT, [10, WIDTH])], [("y", FLOAT, [10, 4])]
    return onnx_files.save(path, nodes, *ends, {"w": weights(WIDTH, 128), "v": weights(128, 4)})


def vad_samples() -> dict[str, NDArray[Any]]:
    """As a user holds them: the batch where the model has it, one sampling rate."""
    return {"input": normal(SAMPLES, 64), "state": normal(2, SAMPLES, WIDTH), "sr": np.array(16000)}


def whole(samples: Arrays) -> dict[str, NDArray[Any]]:
    """The samples of `vad`, each a whole input."""
    state = np.moveaxis(samples["state"], 1, 0)[:, :, None]
    return {"input": samples["input"], "state": state, "sr": np.full(SAMPLES, 16000)}


CASES = {
    "vad": (vad, vad_samples()),
    "vad, whole": (vad, whole(vad_samples())),
    "vad, one state for all": (vad, {**vad_samples(), "state": np.zeros((2, 1, WIDTH), np.float32)}),
    "vad, fixed batch": (lambda path: vad(path, 1), vad_samples()),
    "mask": (masked, {"x": normal(SAMPLES, 1, 8, WIDTH), "mask": np.triu(np.full((SAMPLES, 1, 8, 8), -9.0, "f"), 1)}),
    "one mask for all": (
        masked,
        {"x": normal(SAMPLES, 1, 8, WIDTH), "mask": np.triu(np.full((1, 1, 8, 8), -9.0, "f"), 1)},
    ),
    "transducer": (
        transducer,
        {
            "token": RNG.integers(0, 7, SAMPLES),
            "frame": normal(SAMPLES, WIDTH),
            "h": normal(3, SAMPLES, WIDTH),
            "c": np.zeros((3, 1, WIDTH), np.float32),
        },
    ),
    "no batch": (no_batch, {"x": normal(SAMPLES, 10, WIDTH)}),
}


@pytest.mark.parametrize("case", CASES)
def test_int8_of_any_inputs(case: str, tmp_path: Path) -> None:
    build, samples = CASES[case]
    model, data, run = build(tmp_path / "m.onnx"), tmp_path / "x.npz", tmp_path / "run"
    np.savez(data, **samples)
    outcome = quantize(str(model), methods=("mse",), calibration=str(data), val=str(data), out=run)
    assert not outcome.failures, outcome.failures
    (search,) = outcome.searches
    assert search.confirmed and search.confirmed.parity and search.confirmed.parity.sqnr_db > 20
    assert Statistics.load(Store(run).get("ranges~onnx").path / "ranges.npz").samples == SAMPLES
    (again,) = verify(f"{run}/onnx-int8", val=str(data)).findings
    assert again.parity and again.parity.samples == SAMPLES and again.parity.sqnr_db > 20


def test_natural_and_whole_samples_are_the_same_samples(tmp_path: Path) -> None:
    model, samples, shas = vad(tmp_path / "m.onnx"), vad_samples(), []
    for name, arrays in (("natural", samples), ("whole", whole(samples))):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        data = str(tmp_path / f"{name}.npz")
        outcome = quantize(str(model), methods=("mse",), calibration=data, val=data, out=tmp_path / name)
        shas.append(outcome.searches[0].confirmed)
    assert shas[0].parity == shas[1].parity  # type: ignore[union-attr]


def test_the_outputs_are_the_runtimes_own(tmp_path: Path) -> None:
    import onnxruntime

    model, samples = vad(tmp_path / "m.onnx"), vad_samples()
    np.savez(tmp_path / "x.npz", **samples)
    expected = onnxruntime.InferenceSession(str(model)).run(None, samples)
    entries = predict.predict(str(model), [str(tmp_path / "x.npz")], "host", 5)
    assert len(entries) == SAMPLES
    for index, entry in enumerate(entries):
        np.testing.assert_allclose(entry["outputs"]["prob"], expected[0][index], rtol=1e-4, atol=1e-6)
        state = np.asarray(entry["outputs"]["stateN"])
        np.testing.assert_allclose(state, expected[1][:, index : index + 1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("build", [vad, lambda path: vad(path, 1), masked, transducer, no_batch])
def test_random_inputs_fit(build: Any, tmp_path: Path) -> None:
    plan = {"processes": 1, "seconds": 0.02, "warmup_seconds": 0.01, "min_runs": 3}
    outcome = bench.bench([str(build(tmp_path / "m.onnx"))], out=tmp_path / "run", plan=plan)
    assert not outcome.failures and len(outcome.measurements) == 1


def test_what_is_repeated_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **vad_samples())
    data = str(tmp_path / "x.npz")
    outcome = quantize(str(vad(tmp_path / "m.onnx")), methods=("mse",), calibration=data, val=data, out=tmp_path / "r")
    assert f"x.npz: 'sr' is the same for all {SAMPLES} samples" in outcome.notes


def test_a_number_of_samples_that_fits_no_axis_is_an_error_that_says_the_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{**vad_samples(), "state": normal(2, 5, WIDTH)})
    data = str(tmp_path / "x.npz")
    with pytest.raises(InputError, match="differ in length") as error:
        quantize(str(vad(tmp_path / "m.onnx")), calibration=data, val=data, out=tmp_path / "r")
    assert error.value.next == f"give one state of shape {SAMPLES}x2x1x{WIDTH} (samples first), or a single one for all"
