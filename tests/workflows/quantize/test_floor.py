"""Models that int8 breaks: each ends in an error with the best attempt kept, or in a file that answers as float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.core import statistics
from edgekit.core.errors import EdgekitError
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set
from edgekit.workflows.quantize import quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
for needed in ("openvino", "nncf", "litert_torch"):
    pytest.importorskip(needed)
helper, numpy_helper = onnx.helper, onnx.numpy_helper
pytestmark = pytest.mark.usefixtures("brief_search")

WIDTH, CLASSES = 32, 10
RNG = np.random.default_rng(7)
Arrays = Mapping[str, NDArray[Any]]


def weights(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, shape[0] ** -0.5, shape).astype(np.float32)


def normal(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, WIDTH)).astype(np.float32)


def model(*nodes: tuple[str, list[str], str], outputs: int = CLASSES, **constants: Any) -> Any:
    """Its input is `x`; the last operator writes `y`."""
    made = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes]
    ends = [helper.make_tensor_value_info(n, 1, ["n", w]) for n, w in (("x", WIDTH), ("y", outputs))]
    graph = helper.make_graph(
        made, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_layers(first: NDArray[Any], second: NDArray[Any], *between: tuple[str, list[str], str], **more: Any) -> Any:
    """x → a (MatMul) → `between`, which reads a and writes b → y (MatMul)."""
    nodes = [("MatMul", ["x", "w"], "a"), *(between or [("Relu", ["a"], "b")]), ("MatMul", ["b", "v"], "y")]
    return model(*nodes, w=first, v=second, outputs=second.shape[1], **more)


def dead() -> Any:
    w = weights(WIDTH, 64)
    w[:, ::2] = 0
    return two_layers(w, weights(64, CLASSES))


def unequal() -> Any:
    """A channel a million times larger than the others, which the next layer weighs by a millionth."""
    w, v = weights(WIDTH, 64), weights(64, CLASSES)
    w[:, 0] *= 1e6
    v[0] *= 1e-6
    return two_layers(w, v)


def cancels() -> Any:
    nodes = [("MatMul", ["x", "w"], "a"), ("Add", ["a", "far"], "f"), ("Sub", ["f", "far"], "b")]
    return model(
        *nodes, ("MatMul", ["b", "v"], "y"), w=weights(WIDTH, 64), v=weights(64, CLASSES), far=np.full(64, 1e4, "f4")
    )


def near_uniform() -> Any:
    nodes = [("MatMul", ["x", "w"], "a"), ("Mul", ["a", "small"], "b"), ("Softmax", ["b"], "y")]
    return model(*nodes, w=weights(WIDTH, 1000), small=np.float32(0.01), outputs=1000)


def constant_offset() -> Any:
    nodes = [("MatMul", ["x", "w"], "a"), ("Mul", ["a", "small"], "b"), ("Add", ["b", "far"], "y")]
    return model(*nodes, w=weights(WIDTH, CLASSES), small=np.float32(1e-4), far=np.float32(500))


def explodes() -> Any:
    return two_layers(3 * weights(WIDTH, 64), weights(64, CLASSES), ("Exp", ["a"], "b"))


def divides() -> Any:
    nodes = [("Mul", ["a", "a"], "s"), ("Add", ["s", "tiny"], "t"), ("Div", ["one", "t"], "b")]
    return two_layers(weights(WIDTH, 64), weights(64, CLASSES), *nodes, tiny=np.float32(1e-6), one=np.float32(1))


def saturated() -> Any:
    nodes = [("MatMul", ["x", "w"], "a"), ("Add", ["a", "far"], "b"), ("Sigmoid", ["b"], "y")]
    return model(*nodes, w=weights(WIDTH, CLASSES), far=np.float32(9))


def outlier() -> Any:
    w = weights(WIDTH, 64)
    w[0, :] *= 3000
    return two_layers(w, weights(64, CLASSES))


def logarithm() -> Any:
    nodes = [("Abs", ["a"], "s"), ("Add", ["s", "tiny"], "t"), ("Log", ["t"], "b")]
    return two_layers(weights(WIDTH, 64), weights(64, CLASSES), *nodes, tiny=np.float32(1e-5))


def tiny() -> Any:
    return model(("MatMul", ["x", "w"], "y"), w=weights(WIDTH, 2), outputs=2)


def plain() -> Any:
    return two_layers(weights(WIDTH, 64), weights(64, CLASSES))


def scaled(factor: float) -> Callable[[int], NDArray[np.float32]]:
    return lambda count: factor * normal(count)


def spiked(count: int) -> NDArray[np.float32]:
    """One value in a thousand is ten thousand times larger."""
    x = normal(count)
    x[np.random.default_rng(1).random(x.shape) < 1e-3] *= 1e4
    return x


#: name → (model, calibration samples, samples of use)
BROKEN: Mapping[str, tuple[Callable[[], Any], Callable[[int], Any], Callable[[int], Any]]] = {
    "constant_offset": (constant_offset, normal, normal),
    "near_uniform_softmax": (near_uniform, normal, normal),
    "dead_channels": (dead, normal, normal),
    "unequal_channels": (unequal, normal, normal),
    "calibrated_too_small": (plain, scaled(0.01), normal),
    "calibrated_too_large": (plain, scaled(5000), normal),
    "calibrated_on_zeros": (plain, scaled(0), normal),
    "cancels": (cancels, normal, normal),
    "explodes": (explodes, normal, normal),
    "divides": (divides, normal, normal),
    "saturated_sigmoid": (saturated, normal, normal),
    "outlier_weights": (outlier, normal, normal),
    "outlier_samples": (plain, spiked, spiked),
    "logarithm": (logarithm, normal, normal),
    "larger_than_float": (tiny, normal, normal),
}
QUICK = ("calibrated_too_small/onnx", "near_uniform_softmax/onnx", "larger_than_float/onnx")
CASES = [
    pytest.param(name, format, marks=() if f"{name}/{format}" in QUICK else pytest.mark.slow, id=f"{name}-{format}")
    for name in BROKEN
    for format in ("onnx", "tflite", "openvino")
]


@pytest.mark.parametrize(("name", "format"), CASES)
def test_it_is_right_or_refused(name: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, calibrating, used = BROKEN[name]
    onnx.save(make(), str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "calibration.npz", x=calibrating(64))
    np.savez(tmp_path / "val.npz", x=used(120))
    try:
        outcome = quantize(
            str(tmp_path / "m.onnx"),
            to=[format],
            calibration=str(tmp_path / "calibration.npz"),
            val=str(tmp_path / "val.npz"),
            methods=("min-max", "mse", "equalize"),
            out=tmp_path / "run",
        )
    except EdgekitError as error:
        assert error.code == 1 and str(error), error
        return
    made = [artifact for artifact in outcome.artifacts if artifact.kind.precision]
    if outcome.failures:
        assert outcome.failures[0].code == 1, outcome.failures
        exported = all(finding.failed != "parity" for finding in outcome.findings)
        assert len(made) == exported, "the best attempt is kept, unless the float export failed its check already"
        return
    (artifact,) = made
    fresh = sample_set("fresh", {"x": used(300)}, None)
    host = targets.load("host")
    answers = execute(artifact, host, fresh, Plan(), latency=False).outputs
    expected = execute(Store(tmp_path / "run").get("onnx"), host, fresh, Plan(), latency=False).outputs
    # what 120 samples found to be just above the floor may be just below it over 300 others
    monkeypatch.setattr(statistics, "MIN_AGREEMENT", 0.85)
    monkeypatch.setattr(statistics, "MIN_SQNR_DB", 9.0)
    assert statistics.below_floor(statistics.parity("onnx", expected, answers), labelled=False) == ""
