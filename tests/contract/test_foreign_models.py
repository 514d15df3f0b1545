"""Models as they come from elsewhere, in every runtime that takes them: types, scalars, states, axes of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import sets
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.step import Context, Step
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.context import log
from edgekit.measure.execute import execute
from edgekit.runs.store import Store
from edgekit.sets.random_inputs import RANDOM_SAMPLES
from edgekit.sets.reading import sample_set

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_files import save  # noqa: E402

QUICK = Plan(processes=1, seconds=0.01, warmup_seconds=0.01, min_runs=3)
FLOAT = TensorProto.FLOAT
Save = Callable[..., Path]
Import = Callable[[Path], Artifact]


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """A file as an artifact, the way every command takes it in."""

    def call(path: Path) -> Artifact:
        store = Store(tmp_path / "run")
        found = {".onnx": "import_onnx", ".xml": "import_openvino", ".tflite": "import_tflite"}[path.suffix]
        step: Step = registry.load("steps", found).of(str(path))
        with store.lock():
            return store.make(step.produces.stem, step, {}, Context(None, {}, lambda items, *_: iter(items), log))

    return call


def outputs(artifact: Artifact, samples: Mapping[str, np.ndarray], **changes: Any) -> list[np.ndarray]:
    data = sample_set("samples", dict(samples), None)
    run = execute(artifact, targets.load("host"), data, QUICK, **{"latency": False, **changes})
    return list(run.outputs.values())


NUMBERS = [
    *((getattr(TensorProto, name.upper()), name) for name in ("int8", "int16", "int32", "int64", "uint8", "float16")),
    (TensorProto.DOUBLE, "float64"),
    (TensorProto.BOOL, "bool"),
]


@pytest.mark.parametrize(("element", "dtype"), NUMBERS)
def test_every_type_of_number(element: int, dtype: str, tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [("x", element, ["n", 3])], [("y", element, ["n", 3])])
    artifact = imported(path)
    assert artifact.inputs[0].dtype == dtype
    x = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 1]], np.uint8)
    (got,) = outputs(artifact, {"x": x}, latency=True)
    assert got.dtype == dtype
    assert np.array_equal(got, x)


def test_numbers_that_an_integer_input_cannot_hold(tmp_path: Path, imported: Import) -> None:
    ends = [("x", TensorProto.INT8, ["n", 2])], [("y", TensorProto.INT8, ["n", 2])]
    artifact = imported(save(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], *ends))
    for value in (300.0, 0.5, np.nan):
        with pytest.raises(InputError, match="x takes int8; the samples hold"):
            outputs(artifact, {"x": np.array([[1.0, value]])})


def test_text_is_refused_before_anything_runs(tmp_path: Path, imported: Import) -> None:
    ends = [("x", TensorProto.STRING, ["n"])], [("y", TensorProto.STRING, ["n"])]
    artifact = imported(save(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], *ends))
    assert artifact.inputs[0].dtype == "string"
    with pytest.raises(InputError, match="x takes string: only numbers"):
        outputs(artifact, {"x": np.array([1.0, 2.0])})
    with pytest.raises(InputError, match="'x' is of type string"):
        sets.random_inputs(artifact, artifact)


def test_several_inputs_and_outputs_of_which_one_is_a_scalar(tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node("Mul", ["x", "k"], ["y"]), helper.make_node("Neg", ["k"], ["minus"])]
    ins = [("x", FLOAT, ["n", 3]), ("k", FLOAT, [])]
    artifact = imported(save(tmp_path / "m.onnx", nodes, ins, [("y", FLOAT, ["n", 3]), ("minus", FLOAT, [])]))
    x, k = np.arange(15, dtype=np.float32).reshape(5, 3), np.arange(5, dtype=np.float32)
    y, minus = outputs(artifact, {"x": x, "k": k}, latency=True)
    assert np.array_equal(y, x * k[:, None])
    assert np.array_equal(minus, -k)
    assert {name: a.shape for name, a in sets.random_inputs(artifact, artifact).inputs.items()} == {
        "x": (RANDOM_SAMPLES, 3),
        "k": (RANDOM_SAMPLES,),
    }


def test_an_image_without_a_batch_axis(tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)]
    artifact = imported(save(tmp_path / "m.onnx", nodes, [("x", FLOAT, [3, 4])], [("y", FLOAT, [])]))
    x = np.random.default_rng(0).normal(size=(7, 3, 4)).astype(np.float32)
    (got,) = outputs(artifact, {"x": x}, latency=True)
    assert np.allclose(got, x.mean(axis=(1, 2)), atol=1e-6) and got.shape == (7,)
    assert sets.random_inputs(artifact, artifact).inputs["x"].shape == (RANDOM_SAMPLES, 3, 4)
    with pytest.raises(InputError, match="whole inputs as"):
        outputs(artifact, {"x": x[:, 0]})


def recurrent(path: Path, batch: Any) -> Path:
    rng = np.random.default_rng(0)
    constants = {n: rng.normal(size=s).astype(np.float32) for n, s in (("w", (1, 20, 3)), ("r", (1, 20, 5)))}
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["y", "h1", "c1"], hidden_size=5)]
    ins = [("x", FLOAT, ["t", batch, 3]), ("h", FLOAT, [1, batch, 5]), ("c", FLOAT, [1, batch, 5])]
    outs = [("y", FLOAT, None), ("h1", FLOAT, None), ("c1", FLOAT, None)]
    return save(path, nodes, ins, outs, constants)


@pytest.mark.parametrize("batch", [1, "n"])
def test_a_state_whose_first_axis_is_no_batch(batch: Any, tmp_path: Path, imported: Import) -> None:
    """Every sample is a whole sequence; its length is the samples' own."""
    rng = np.random.default_rng(1)
    artifact = imported(recurrent(tmp_path / "m.onnx", batch))
    h, c = rng.normal(size=(2, 4, 1, 1, 5)).astype(np.float32)
    for length in (6, 2):
        x = rng.normal(size=(4, length, 1, 3)).astype(np.float32)
        y, h1, _ = outputs(artifact, {"x": x, "h": h, "c": c}, latency=True)
        assert y.shape == (4, length, 1, 1, 5) and h1.shape == (4, 1, 5)
        alone = outputs(artifact, {"x": x[2:3], "h": h[2:3], "c": c[2:3]})
        assert np.allclose(alone[0][0], y[2], atol=1e-6)


def test_time_on_the_first_axis_is_no_batch(tmp_path: Path, imported: Import) -> None:
    """Run together, the samples would be steps of one sequence; alone, each is the first step of its own."""
    nodes = [helper.make_node("CumSum", ["x", "axis"], ["y"])]
    ends = [("x", FLOAT, ["t", 3])], [("y", FLOAT, ["t", 3])]
    artifact = imported(save(tmp_path / "m.onnx", nodes, *ends, {"axis": np.array(0)}))
    x = np.ones((9, 3), np.float32)
    assert np.array_equal(outputs(artifact, {"x": x})[0], x)


def test_a_shape_of_one_sample_traced_into_the_graph(tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    ends = [("x", FLOAT, ["n", 6])], [("y", FLOAT, None)]
    artifact = imported(save(tmp_path / "m.onnx", nodes, *ends, {"shape": np.array([1, 2, 3])}))
    x = np.arange(30, dtype=np.float32).reshape(5, 6)
    assert np.array_equal(outputs(artifact, {"x": x})[0], x.reshape(5, 2, 3))


def test_a_fixed_batch_of_several_is_filled_up(tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    artifact = imported(save(tmp_path / "m.onnx", nodes, [("x", FLOAT, [4, 3])], [("y", FLOAT, [4, 3])]))
    x = np.arange(27, dtype=np.float32).reshape(9, 3)
    assert np.array_equal(outputs(artifact, {"x": x})[0], x)


def test_shapes_that_differ_between_samples(tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    artifact = imported(save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["n", 3])], [("y", TensorProto.INT64, None)]))
    with pytest.raises(InputError, match="y changes its shape between samples"):
        outputs(artifact, {"x": np.array([[1, 0, 0], [1, 1, 1]], np.float32)})


def test_outputs_that_are_no_tensors(tmp_path: Path, imported: Import) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, 2])],
        [helper.make_tensor_sequence_value_info("y", FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="output y is not a numeric tensor"):
        outputs(imported(tmp_path / "m.onnx"), {"x": np.ones((2, 2), np.float32)})


def test_branches_loops_and_weights_in_constants(tmp_path: Path, imported: Import) -> None:
    """If: x times a Constant, or a weight of the branch's own added."""
    big = numpy_helper.from_array(np.full((3, 300), 2, np.float32), "big")
    yes = helper.make_graph(
        [helper.make_node("Constant", [], ["k"], value=big), helper.make_node("MatMul", ["x", "k"], ["a"])],
        "yes",
        [],
        [helper.make_tensor_value_info("a", FLOAT, None)],
    )
    no = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["b"])],
        "no",
        [],
        [helper.make_tensor_value_info("b", FLOAT, None)],
        [numpy_helper.from_array(np.full((3, 300), -1, np.float32), "w")],
    )
    nodes = [helper.make_node("If", ["which"], ["y"], then_branch=yes, else_branch=no)]
    ins = [("x", FLOAT, [1, 3]), ("which", TensorProto.BOOL, [])]
    artifact = imported(save(tmp_path / "m.onnx", nodes, ins, [("y", FLOAT, None)]))
    facts = registry.load("formats", "onnx").describe(tmp_path / "m.onnx")
    assert facts.parameters == 1800
    assert sorted(o.type for o in facts.operators) == ["Constant", "If", "MatMul", "MatMul"]
    (got,) = outputs(artifact, {"x": np.ones((2, 3), np.float32), "which": np.array([True, False])})
    assert got[:, 0].tolist() == [6, -3] and got.shape == (2, 300)


@pytest.mark.parametrize(
    ("node", "settings", "said"),
    [
        ({"op_type": "Frobnicate", "domain": "acme"}, {}, "acme:Frobnicate"),
        ({"op_type": "Relu"}, {"opset": 99}, "Opset 99"),
    ],
)
def test_what_no_runtime_knows_is_named(node: Any, settings: Any, said: str, tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node(inputs=["x"], outputs=["y"], **node)]
    path = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, [1, 2])], [("y", FLOAT, [1, 2])], **settings)
    try:
        outputs(imported(path), {"x": np.ones((2, 2), np.float32)})
    except EdgekitError as error:
        assert error.code == 2 and said in str(error) and "\n" not in str(error)
    else:
        raise AssertionError("it ran")


def test_an_inference_that_fails_names_its_operator(tmp_path: Path, imported: Import) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], "the_reshape")]
    ends = [("x", FLOAT, ["n", 3])], [("y", FLOAT, None)]
    artifact = imported(save(tmp_path / "m.onnx", nodes, *ends, {"shape": np.array([4, 5])}))
    with pytest.raises(InputError) as error:
        outputs(artifact, {"x": np.ones((2, 3), np.float32)})
    assert "Reshape the_reshape failed" in error.value.why and ".h:" not in error.value.why


# --- OpenVINO and LiteRT --------------------------------------------------------------------------------------------


def test_openvino_takes_scalars_and_truth_values(tmp_path: Path, imported: Import) -> None:
    pytest.importorskip("openvino")
    registry.load("runtimes", "openvino").prepare_imports()
    import openvino
    from openvino import opset13 as ops

    k, x = ops.parameter([], np.float32, name="k"), ops.parameter([-1, 2], np.bool_, name="x")
    for port in (k, x):
        port.output(0).get_tensor().set_names({port.get_friendly_name()})
    model = openvino.Model([ops.result(ops.add(k, k)), ops.result(ops.logical_not(x))], [k, x], "m")
    openvino.save_model(model, tmp_path / "m.xml")
    samples = {"k": np.arange(3, dtype=np.float32), "x": np.array([[True, False]] * 3)}
    double, negated = outputs(imported(tmp_path / "m.xml"), samples, latency=True)
    assert np.array_equal(double, 2 * samples["k"]) and np.array_equal(negated, ~samples["x"])


def test_openvino_refuses_any_number_of_axes(tmp_path: Path, imported: Import) -> None:
    pytest.importorskip("openvino")
    registry.load("runtimes", "openvino").prepare_imports()
    import openvino
    from openvino import opset13 as ops

    x = ops.parameter(openvino.PartialShape.dynamic(), np.float32, name="x")
    openvino.save_model(openvino.Model([ops.result(ops.relu(x))], [x], "m"), tmp_path / "m.xml")
    with pytest.raises(InputError, match="dynamic rank"):
        outputs(imported(tmp_path / "m.xml"), {"x": np.ones((2, 2), np.float32)})
