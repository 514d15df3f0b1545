"""The ONNX steps: dynamic batch, the scheme a target asks for, samples that fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import but_larger

from edgekit import sets
from edgekit.compression.calibration.onnx import activations, aliases, observe, ready
from edgekit.core import statistics
from edgekit.core.errors import InputError
from edgekit.core.step import Context, StepResult
from edgekit.core.target import Target
from edgekit.formats.onnx import Onnx
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps import onnx_int8
from edgekit.steps.onnx_fp16 import OnnxFp16
from edgekit.steps.onnx_int8 import OnnxInt8
from edgekit.workflows import quantize

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("members")


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


@pytest.fixture
def apply(bars_made: Path, tmp_path: Path) -> Callable[..., tuple[StepResult, Path]]:
    def call(step: Any, calibration: Any = None) -> tuple[StepResult, Path]:
        data = {"calibration": calibration} if calibration else {}
        context = Context(None, data, quiet, logging.getLogger("t"))
        return step.apply({"parent": Store(bars_made).get("onnx")}, tmp_path, context), tmp_path / "model.onnx"

    return call


def answers(path: Path, count: int) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = sets.take(named_sets.load("bars:test"), count).inputs["input"].astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: x})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_batch_is_dynamic(bars_made: Path, count: int) -> None:
    assert answers(bars_made / "onnx" / "model.onnx", count).shape == (count, 4)
    assert answers(bars_made / "onnx-int8" / "model.onnx", count).shape == (count, 4)


def test_half_precision(apply: Callable[..., tuple[StepResult, Path]], bars_made: Path) -> None:
    _, path = apply(OnnxFp16())
    onnx.checker.check_model(str(path))
    full, half = answers(bars_made / "onnx" / "model.onnx", 50), answers(path, 50)
    assert half.dtype == np.float32, "inputs and outputs stay float32"
    assert np.abs(full - half).max() < 0.01 * np.abs(full).max()


@pytest.mark.parametrize(
    ("arch", "isa", "scheme"),
    [
        ("x86_64", ("avx512_vnni",), "u8s8"),
        ("x86_64", ("avx2", "avx_vnni"), "u8s8"),
        ("x86_64", ("avx2",), "u8s8-reduced"),
        ("aarch64", ("asimddp",), "s8s8"),
        ("arm64", (), "s8s8"),
        ("riscv64", (), "u8s8"),
    ],
)
def test_the_scheme_is_the_target_s(arch: str, isa: tuple[str, ...], scheme: str) -> None:
    target = Target("t", "", "ssh", arch=arch, isa=isa)
    assert OnnxInt8().resolve(target).scheme == scheme
    assert OnnxInt8(scheme="s8s8").resolve(target).scheme == "s8s8", "what was asked for was overruled"


@pytest.mark.parametrize("scheme", ["u8s8", "u8s8-reduced", "s8s8"])
def test_the_scheme_is_in_the_file(apply: Callable[..., tuple[StepResult, Path]], scheme: Any) -> None:
    notes, path = apply(OnnxInt8(scheme=scheme, samples=16), named_sets.load("bars:train"))
    assert notes.scheme.startswith(f"{scheme} ")
    assert "16 samples" in notes.scheme
    tensors = {t.name: t for t in onnx.load(str(path)).graph.initializer}
    weights = [onnx.numpy_helper.to_array(t) for t in tensors.values() if len(t.dims) >= 2]
    assert all(w.dtype == np.int8 for w in weights)
    sums = max(_neighbours(w.astype(int)) for w in weights)
    assert sums <= 128 if scheme == "u8s8-reduced" else sums > 128, "255 times the sum of two is to fit 16 bits"
    zeros = {node.input[2] for node in onnx.load(str(path)).graph.node if node.op_type == "QuantizeLinear"}
    activations = {tensors[name].data_type for name in zeros}
    wanted = onnx.TensorProto.INT8 if scheme == "s8s8" else onnx.TensorProto.UINT8
    assert wanted in activations


def _neighbours(weight: np.ndarray) -> int:
    """The largest sum of two weights of one sign that a kernel without VNNI adds in 16 bits.

    They are two by two along the inputs; a product's lie along either axis.
    """
    if weight.ndim == 2:
        return min(_largest_sum(weight), _largest_sum(weight.T))
    return _largest_sum(np.moveaxis(weight, 1, -1).reshape(len(weight), -1))


def _largest_sum(rows: np.ndarray) -> int:
    pairs = rows[:, : rows.shape[1] // 2 * 2].reshape(len(rows), -1, 2)
    return int(np.abs(pairs.sum(-1))[pairs.prod(-1) >= 0].max(initial=0))


def test_per_channel(apply: Callable[..., tuple[StepResult, Path]]) -> None:
    _, path = apply(OnnxInt8(scheme="u8s8", samples=8), named_sets.load("bars:train"))
    graph = onnx.load(str(path)).graph
    read = {node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    scales = [t for t in graph.initializer if t.name in read and list(t.dims) not in ([], [1])]
    assert scales, "one scale per tensor only"


def test_calibration_samples_must_fit(apply: Callable[..., tuple[StepResult, Path]]) -> None:
    data = named_sets.load("bars:train")
    for inputs, said in (
        ({"input": data.inputs["input"][:, :, :7]}, "takes [1, 20, 20] per sample"),
        ({"a": data.inputs["input"], "b": data.inputs["input"]}, "the set holds a, b"),
    ):
        with pytest.raises(InputError) as error:
            apply(OnnxInt8(scheme="u8s8"), reading.sample_set("mine", inputs, None))
        assert said in str(error.value)


def test_calibration_reads_no_more_than_it_says(apply: Callable[..., tuple[StepResult, Path]], tmp_path: Path) -> None:
    """Samples beyond the first N change nothing."""
    data = named_sets.load("bars:train")
    changed = data.inputs["input"].copy()
    changed[8:] = 255
    step = OnnxInt8(scheme="u8s8", samples=8)
    first = apply(step, data)[1].read_bytes()
    assert apply(step, replace(data, inputs={"input": changed}))[1].read_bytes() == first


# --- what stays in float ------------------------------------------------------------------------------------------


def weights(path: Path, dtype: Any) -> int:
    """How many constants of rank 2 and more are of this type."""
    held = onnx.load(str(path)).graph.initializer
    return sum(len(t.dims) >= 2 and onnx.numpy_helper.to_array(t).dtype == dtype for t in held)


def test_named_operators_stay_in_float(apply: Callable[..., tuple[StepResult, Path]], bars_made: Path) -> None:
    data = named_sets.load("bars:train")
    convs = [o.name for o in Onnx.describe(bars_made / "onnx" / "model.onnx").operators if o.type == "Conv"]
    full = answers(bars_made / "onnx" / "model.onnx", 100)
    notes, path = apply(OnnxInt8(scheme="u8s8"), data)
    whole, all_int8 = weights(path, np.int8), statistics.parity("x", {"y": full}, {"y": answers(path, 100)})
    assert weights(path, np.float32) == 0
    notes, path = apply(OnnxInt8(scheme="u8s8", keep_float=tuple(convs[:2])), data)
    assert notes.scheme.endswith("256 samples, 2 operators in float")
    assert (weights(path, np.float32), weights(path, np.int8)) == (2, whole - 2)
    assert statistics.parity("x", {"y": full}, {"y": answers(path, 100)}).sqnr_db > all_int8.sqnr_db
    notes, path = apply(OnnxInt8(scheme="u8s8", keep_float=(convs[0],)), data)
    assert notes.scheme.endswith("256 samples, 1 operator in float")


def test_an_operator_fused_with_the_next_can_be_kept(tmp_path: Path) -> None:
    """The optimized graph has one Conv for Conv and BatchNorm, under the name of what the BatchNorm writes."""
    model = small_model(tmp_path / "model.onnx")
    plain, kept = ready(model), onnx_int8._excluded(onnx.load(str(model)), ready(model), ["conv"])
    assert [node.op_type for node in plain.graph.node] == ["Conv", "Clip", "Flatten", "Gemm"]
    assert kept == [plain.graph.node[0].name]
    assert onnx_int8._excluded(onnx.load(str(model)), plain, ["matmul"]) == [plain.graph.node[3].name]
    assert onnx_int8._excluded(onnx.load(str(model)), plain, []) == []


def test_unknown_operators_are_refused(apply: Callable[..., tuple[StepResult, Path]], bars_made: Path) -> None:
    name = next(o.name for o in Onnx.describe(bars_made / "onnx" / "model.onnx").operators if o.type == "Conv")
    with pytest.raises(InputError, match=r"onnx has no operator .* to keep in float") as caught:
        apply(OnnxInt8(keep_float=(name, name + "x")), named_sets.load("bars:train"))
    assert name in caught.value.next


# --- the pass over the samples ------------------------------------------------------------------------------------


def small_model(path: Path) -> Path:
    """Conv, BatchNorm, Clip, Flatten, MatMul and Add; nodes named after their type."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    held = {
        "w": rng.normal(size=(4, 1, 3, 3)),
        **{name: rng.random(4) + 0.5 for name in ("scale", "shift", "mean", "var")},
        "dense": rng.normal(size=(64, 3)),
        "bias": rng.normal(size=3),
        "zero": np.array(0.0),
        "six": np.array(6.0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], "norm"),
        helper.make_node("Clip", ["n", "zero", "six"], ["r"], "clip"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "dense"], ["m"], "matmul"),
        helper.make_node("Add", ["m", "bias"], ["y"], "add"),
    ]
    ends = [("x", ["n", 1, 6, 6]), ("y", ["n", 3])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
    constants = [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in held.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_what_is_observed_is_what_the_model_computes(tmp_path: Path) -> None:
    path = small_model(tmp_path / "model.onnx")
    model = ready(path)
    names = activations(model)
    assert names == ["x", "n", "r", "f", "y"]
    assert aliases(model, names) == {"n": "r", "f": "r"}
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.normal(0, 3, (1, 1, 6, 6)).astype(np.float32)} for _ in range(20)]
    found = observe(path, feeds, Context(None, {}, quiet, logging.getLogger("t")))
    assert (set(found), found.samples) == (set(names), 20)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = np.concatenate([session.run(None, feed)[0] for feed in feeds])
    assert (found["y"].minimum, found["y"].maximum) == pytest.approx((outputs.min(), outputs.max()), rel=1e-5)
    assert (found["r"].minimum, found["r"].maximum) == (0, 6)
    assert found["n"] == found["f"] == found["r"]
    every = np.concatenate([feed["x"] for feed in feeds])
    assert (found["x"].minimum, found["x"].maximum, found["x"].count) == (every.min(), every.max(), every.size)


def test_the_ranges_are_those_of_onnx_runtime_s_own_calibrator(bars_made: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

    path = bars_made / "onnx" / "model.onnx"
    images = named_sets.load("bars:train").inputs["input"][:24].astype(np.float32)
    name = onnx.load(str(path)).graph.input[0].name
    found = observe(path, [{name: image[None]} for image in images], Context(None, {}, quiet, logging.getLogger("t")))
    onnx.save(ready(path), str(tmp_path / "ready.onnx"))

    class Reader:
        feeds = iter([{name: image[None]} for image in images])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    calibrator = MinMaxCalibrater(tmp_path / "ready.onnx", augmented_model_path=str(tmp_path / "augmented.onnx"))
    calibrator.augment_graph()
    calibrator.create_inference_session()
    calibrator.collect_data(Reader())
    theirs = calibrator.compute_data()
    shared = aliases(ready(path), found)
    compared = [name for name in theirs.keys() if name in found and name not in shared]  # noqa: SIM118
    assert len(compared) >= 8
    for name in compared:
        low, high = (float(np.squeeze(end)) for end in theirs[name].range_value)
        assert (found[name].minimum, found[name].maximum) == pytest.approx((low, high), rel=1e-4, abs=1e-4)


def test_shapes_may_change_from_sample_to_sample(tmp_path: Path) -> None:
    """With the length of the input, and with its values."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["at"]),
        helper.make_node("Cast", ["at"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["f"], ["y"]),
    ]
    ends = [("x", [1, "n"]), ("y", [2, "m"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(1, n)).astype(np.float32)} for n in (5, 5, 5, 9, 9, 3)]
    feeds += [{"x": np.full((1, 3), sign, np.float32)} for sign in (-1, 1, 1)]
    found = observe(path, feeds, Context(None, {}, quiet, logging.getLogger("t")))
    positive = [np.maximum(feed["x"], 0) for feed in feeds]
    assert found["r"].count == sum(value.size for value in positive)
    assert found["y"].count == found["f"].count == sum(2 * np.count_nonzero(value) for value in positive)
    assert found["r"].maximum == max(value.max() for value in positive)
    assert found["f"].maximum == max(value.nonzero()[1].max(initial=0) for value in positive)


def test_a_value_that_is_not_finite_names_its_tensor(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Log", ["x"], ["l"]), helper.make_node("Softmax", ["l"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    feeds = [{"x": np.array([[1, 2, 3]], np.float32)}, {"x": np.array([[1, 0, 3]], np.float32)}]
    with pytest.raises(InputError, match="tensor 'l' holds NaN or infinity on calibration sample 1"):
        observe(path, feeds, Context(None, {}, quiet, logging.getLogger("t")))


def test_a_grouped_transposed_convolution_stays_in_float(tmp_path: Path, brief_search: None) -> None:
    """Its scales per channel, two groups of three, would not fit a bias of six."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"a": (4, 1, 3, 3), "up": (4, 3, 2, 2), "bias": (6,)}
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["h", "up", "bias"], ["y"], "up", group=2, strides=[2, 2]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 8, 8]), ("y", None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    np.savez(tmp_path / "samples.npz", x=rng.normal(size=(40, 1, 8, 8)).astype(np.float32))
    data = str(tmp_path / "samples.npz")
    outcome = quantize.quantize(str(tmp_path / "m.onnx"), calibration=data, methods=("min-max",), out=tmp_path / "run")
    assert not but_larger(outcome.failures)
    assert outcome.searches[0].best and outcome.searches[0].best.finding
    parity = outcome.searches[0].best.finding.parity
    assert parity and parity.sqnr_db > 20
