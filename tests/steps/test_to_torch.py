"""Foreign ONNX files, however awkward: to torch, TFLite and OpenVINO, float and int8; verified, or a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import but_larger

from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert, EdgekitError, InputError
from edgekit.measure.context import Outcome
from edgekit.workflows import export as exports
from edgekit.workflows import import_, quantize, routes, verify

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

helper, numpy_helper = onnx.helper, onnx.numpy_helper
pytestmark = pytest.mark.usefixtures("brief_search")
FLOAT, HALF, INT64, BOOL = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT64", "BOOL"))
Value = tuple[str, int, list[Any]]


def save(
    path: Path, nodes: list[Any], inputs: list[Value], outputs: list[Value], constants: dict[str, Any], **settings: Any
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", settings.pop("opset", 20))], ir_version=10)
    onnx.save(model, str(path), **settings)
    return path


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape, scale=0.3).astype(np.float32)


def image(folder: Path, batch: Any = "n", half: bool = False, **settings: Any) -> Path:
    """Two convolutions, the mean of each channel, and a dense layer behind a Reshape that keeps the batch."""
    kind, number = (HALF, np.float16) if half else (FLOAT, np.float32)
    constants = {"w1": normal(8, 3, 3, 3), "b1": normal(8), "w2": normal(16, 8, 3, 3), "b2": normal(16)}
    constants = {name: value.astype(number) for name, value in (constants | {"fc": normal(16, 5)}).items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "fc"], ["y"], "dense"),
    ]
    ends = [("x", kind, [batch, 3, 12, 12])], [("y", kind, [batch, 5])]
    return save(folder / "image.onnx", nodes, *ends, constants, **settings)


def text(folder: Path) -> Path:
    """Tokens and a mask of any length → an embedding, a mean over the tokens that count, two outputs."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embed"),
        helper.make_node("Cast", ["mask"], ["m"], "cast", to=FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["mm"], "unsqueeze"),
        helper.make_node("Mul", ["e", "mm"], ["em"], "mul"),
        helper.make_node("ReduceSum", ["em", "one"], ["s"], "sum", keepdims=0),
        helper.make_node("MatMul", ["s", "w"], ["y"], "dense"),
        helper.make_node("Softmax", ["y"], ["z"], "softmax"),
    ]
    constants = {"table": normal(50, 16), "last": np.array([-1]), "one": np.array([1]), "w": normal(16, 4)}
    inputs: list[Value] = [("ids", INT64, ["n", "length"]), ("mask", BOOL, ["n", "length"])]
    outputs: list[Value] = [("y", FLOAT, ["n", 4]), ("z", FLOAT, ["n", 4])]
    return save(folder / "text.onnx", nodes, inputs, outputs, constants)


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    monkeypatch.chdir(tmp_path)

    def call(path: Path, *formats: str) -> Outcome:
        return exports.export(str(path), to=formats, out=tmp_path / "run")

    return call


def verified(outcome: Outcome) -> dict[str, float]:
    """Artifact → SQNR in dB; fails if a conversion failed its check or was not checked."""
    assert not but_larger(outcome.failures), outcome.failures
    assert all(finding.parity for finding in outcome.findings)
    return {finding.artifact: finding.parity.sqnr_db for finding in outcome.findings if finding.parity}


def verified_artifacts(outcome: Outcome) -> list[Artifact]:
    verified(outcome)
    return outcome.artifacts


FORMATS = ["openvino", "torch", "tflite"]


def installed(formats: list[str]) -> list[str]:
    return [name for name in formats if name in ("torch", *routes.installed_exporters())]


@pytest.mark.parametrize("batch", ["n", 1, pytest.param(4, marks=pytest.mark.slow)])
def test_an_image_network(export: Callable[..., Outcome], tmp_path: Path, batch: Any) -> None:
    """What the file says of its batch holds in every format that can say it."""
    outcome = export(image(tmp_path, batch), *installed(FORMATS if batch == 4 else FORMATS[:2]))
    assert min(verified(outcome).values()) > 100
    wanted = None if batch == "n" else batch
    for artifact in outcome.artifacts:
        assert [spec.name for spec in (*artifact.inputs, *artifact.outputs)] == ["x", "y"]
        if artifact.kind.format != "tflite":
            assert artifact.inputs[0].shape[0] == artifact.outputs[0].shape[0] == wanted


@pytest.mark.slow
def test_open_sizes_are_those_that_were_given(tmp_path: Path) -> None:
    """A format with fixed sizes gets the import's, or the command's, not the first on which the network runs."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flatten"),
    ]
    ends = [("x", FLOAT, ["n", 3, "h", "w"])], [("y", FLOAT, ["n", 4])]
    path = save(tmp_path / "open.onnx", nodes, *ends, {"w": normal(4, 3, 3, 3)})
    run = tmp_path / "run"

    def example(**options: Any) -> list[int]:
        (artifact,) = verified_artifacts(exports.export(str(run), to=["torch"], **options))
        return list(artifact.details["example"]["x"])

    for shape in ((1, 3, 24, 16), (1, 3, 20, 20)):
        import_.import_model(str(path), out=run, shapes={"x": shape})
        assert example() == list(shape)
    assert example(shapes={"": (1, 3, 40, 30)}) == [1, 3, 40, 30]


def test_several_inputs_and_outputs_of_any_length(export: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = export(text(tmp_path), *installed(FORMATS))
    assert min(verified(outcome).values()) > 100
    for artifact in outcome.artifacts:
        assert [spec.name for spec in (*artifact.inputs, *artifact.outputs)] == ["ids", "mask", "y", "z"]
    reference = json.loads((tmp_path / "run" / "torch" / "model.json").read_text())
    assert reference["axes"]["ids"] == {"0": "batch", "1": "length"}


def test_half_precision(export: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = export(image(tmp_path, half=True), *installed(["torch", "openvino"]))
    assert min(verified(outcome).values()) > 60
    assert {a.inputs[0].dtype for a in outcome.artifacts} == {"float16"}


@pytest.mark.slow
def test_weights_in_a_file_of_their_own(export: Callable[..., Outcome], tmp_path: Path) -> None:
    path = image(tmp_path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    outcome = export(path, *installed(FORMATS[:2]))
    assert min(verified(outcome).values()) > 100
    path.unlink()
    (tmp_path / "weights.bin").unlink()
    assert not verify.verify(str(tmp_path / "run")).failures, "a run must hold all it needs"


def test_a_branch_is_named(export: Callable[..., Outcome], tmp_path: Path) -> None:
    path = branching(tmp_path)
    outcome = export(path, "torch")
    assert [type(error) for error in outcome.failures] == [CannotConvert]
    assert "If (1, first 'the_if')" in str(outcome.failures[0])
    if installed(["openvino"]):
        assert min(verified(export(path, "openvino")).values()) > 100


def branching(folder: Path) -> Path:
    """conv, then twice or minus the result, as the sum of it is positive or not."""

    def branch(name: str, factor: float) -> Any:
        constant = helper.make_node("Constant", [], [f"{name}_k"], value=numpy_helper.from_array(np.float32(factor)))
        times = helper.make_node("Mul", ["c", f"{name}_k"], [f"{name}_y"])
        out = helper.make_tensor_value_info(f"{name}_y", FLOAT, [1, 8, 12, 12])
        return helper.make_graph([constant, times], name, [], [out])

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("ReduceSum", ["c"], ["s"], "sum", keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["positive"], "greater"),
        helper.make_node("If", ["positive"], ["y"], "the_if", then_branch=branch("a", 2), else_branch=branch("b", -1)),
    ]
    ends: tuple[list[Value], list[Value]] = [("x", FLOAT, [1, 3, 12, 12])], [("y", FLOAT, [1, 8, 12, 12])]
    return save(folder / "if.onnx", nodes, *ends, {"w": normal(8, 3, 3, 3), "zero": np.float32(0)})


def calibration(folder: Path, **arrays: np.ndarray) -> str:
    np.savez(folder / "cal.npz", **arrays)  # type: ignore[arg-type]
    return str(folder / "cal.npz")


def quantized(path: Path, folder: Path, samples: str, *formats: str) -> dict[str, float]:
    outcome = quantize.quantize(str(path), to=formats, calibration=samples, methods=("min-max",), out=folder / "run")
    return {name: db for name, db in verified(outcome).items() if name.endswith("int8")}


@pytest.mark.parametrize(
    ("batch", "settings"),
    [
        ("n", {}),
        pytest.param(1, {}, marks=pytest.mark.slow),
        pytest.param(4, {}, marks=pytest.mark.slow),
        pytest.param("n", {"opset": 9}, marks=pytest.mark.slow),
        pytest.param(
            "n",
            {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["open", "one", "four", "old", "external"],
)
def test_int8(tmp_path: Path, batch: Any, settings: dict[str, Any]) -> None:
    samples = calibration(tmp_path, x=np.random.default_rng(0).random((10, 3, 12, 12), dtype=np.float32))
    formats = installed(["onnx", "openvino"] if settings or batch == "n" else ["onnx", "tflite", "openvino"])
    found = quantized(image(tmp_path, batch, **settings), tmp_path, samples, *formats)
    assert set(found) == {f"{name}-int8" for name in formats}
    assert min(found.values()) > 25


@pytest.mark.slow
def test_int8_of_tokens_and_truth_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = calibration(tmp_path, ids=rng.integers(0, 50, (20, 11)), mask=rng.integers(0, 2, (20, 11)).astype(bool))
    found = quantized(text(tmp_path), tmp_path, samples, *installed(["onnx", "openvino", "tflite"]))
    assert min(found.values()) > 20
    if "tflite-int8" in found:
        reference = json.loads((tmp_path / "run" / "torch" / "model.json").read_text())
        assert reference["example"]["ids"] == [1, 11], "the samples say how long a sequence is"


@pytest.mark.slow
@pytest.mark.parametrize("padding", [{"auto_pad": "SAME_UPPER"}, {"pads": [1, 1, 1, 1]}], ids=str)
def test_int8_of_a_maximum_over_padding(tmp_path: Path, padding: dict[str, Any]) -> None:
    """Minus infinity, with which a maximum is padded, has no place in int8."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[3, 3], strides=[2, 2], **padding),
        helper.make_node("Conv", ["p", "w2"], ["y"], "conv2", pads=[1, 1, 1, 1]),
    ]
    ends: tuple[list[Value], list[Value]] = [("x", FLOAT, [1, 3, 12, 12])], [("y", FLOAT, [1, 4, 6, 6])]
    path = save(tmp_path / "pool.onnx", nodes, *ends, {"w": normal(8, 3, 3, 3), "w2": normal(4, 8, 3, 3)})
    samples = calibration(tmp_path, x=np.random.default_rng(0).random((10, 3, 12, 12), dtype=np.float32))
    assert min(quantized(path, tmp_path, samples, *installed(["onnx", "tflite", "openvino"])).values()) > 30


def test_int8_beside_a_branch(tmp_path: Path) -> None:
    samples = calibration(tmp_path, x=np.random.default_rng(0).random((10, 3, 12, 12), dtype=np.float32))
    assert min(quantized(branching(tmp_path), tmp_path, samples, "onnx").values()) > 20


def test_int8_of_what_is_quantized_already_or_cannot_be(tmp_path: Path) -> None:
    samples = calibration(tmp_path, x=np.random.default_rng(0).random((10, 3, 12, 12), dtype=np.float32))
    assert quantized(image(tmp_path, half=True), tmp_path / "half", samples, "onnx"), "from float32"
    quantized(image(tmp_path), tmp_path, samples, "onnx")
    with pytest.raises(InputError, match="is int8 already"):
        again = tmp_path / "run" / "onnx-int8" / "model.onnx"
        quantize.quantize(str(again), to=["onnx"], calibration=samples, out=tmp_path / "again")
    relu = save(
        tmp_path / "relu.onnx",
        [helper.make_node("Exp", ["x"], ["y"], "exp")],
        [("x", FLOAT, ["n", 3, 12, 12])],
        [("y", FLOAT, ["n", 3, 12, 12])],
        {},
    )
    failures: list[EdgekitError] = quantize.quantize(
        str(relu), to=["onnx"], calibration=samples, out=tmp_path / "relu"
    ).failures
    assert len(failures) == 1 and "nothing of onnx was quantized" in str(failures[0])


@pytest.mark.usefixtures("members")
def test_the_network_a_file_was_made_from_is_not_replaced(bars_run: Path) -> None:
    """From onnx to TFLite the way leads through torch, where the trained network lies."""
    before = (bars_run / "torch" / "artifact.json").read_bytes()
    with pytest.raises(InputError, match="would replace torch"):
        quantize.quantize(str(bars_run / "onnx"), to=["tflite"])
    assert (bars_run / "torch" / "artifact.json").read_bytes() == before
