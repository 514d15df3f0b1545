"""What a pass through an OpenVINO model finds: the values that each tensor has, under names that stay."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.compression import calibration
from edgekit.compression.calibration.openvino import activations, key, read
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context

openvino = pytest.importorskip("openvino")
ops = pytest.importorskip("openvino.opset13")

CONTEXT = Context(None, {}, quiet, logging.getLogger("edgekit.tests.observe"))
RNG = np.random.default_rng(0)
IMAGES = [{"x": RNG.normal(0, 1 + index, (1, 1, 8, 8)).astype(np.float32)} for index in range(6)]


def network() -> Any:
    """Convolution, bias, ReLU, a split whose halves are multiplied, and a matrix product."""
    x = ops.parameter([-1, 1, 8, 8], np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    weights = RNG.normal(size=(4, 1, 3, 3)).astype(np.float32)
    conv = ops.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1], name="conv")
    biased = ops.add(conv, np.ones((1, 4, 1, 1), np.float32), name="bias")
    relu = ops.relu(biased, name="relu")
    halves = ops.split(relu, 1, 2, name="halves")
    product = ops.multiply(halves.output(0), halves.output(1), name="product")
    flat = ops.reshape(product, np.array([0, -1]), True, name="flat")
    logits = ops.matmul(flat, RNG.normal(size=(128, 3)).astype(np.float32), False, False, name="logits")
    return openvino.Model([logits], [x], "net")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    openvino.save_model(network(), tmp_path / "model.xml", compress_to_fp16=False)
    return tmp_path / "model.xml"


def observe(path: Path, feeds: list[dict[str, Any]], batch: int = 1) -> Any:
    return calibration.observe("openvino", path, feeds, CONTEXT, batch=batch)


def test_inputs_and_what_may_be_quantized_is_watched(path: Path) -> None:
    """What a bias is added to, what a ReLU cuts and what is a result is never quantized there."""
    found = observe(path, IMAGES)
    assert set(found) == {"x", "relu", "halves", "halves:1", "product", "flat"}
    assert found.samples == len(IMAGES)


def test_the_values_are_the_model_s(path: Path) -> None:
    found = observe(path, IMAGES)
    model = read(path)
    for name, port in activations(model).items():
        values = np.concatenate([_alone(model, port, feed["x"]).reshape(-1) for feed in IMAGES])
        assert found[name].minimum == pytest.approx(float(values.min()), abs=1e-5), name
        assert found[name].maximum == pytest.approx(float(values.max()), abs=1e-5), name
        assert found[name].count == values.size


def _alone(model: Any, port: Any, image: Any) -> Any:
    """What one tensor holds, computed with nothing else watched."""
    parameters = model.get_parameters()
    part = openvino.Model([ops.result(port)], parameters, "part")
    compiled = openvino.Core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([image])[0])


def test_a_batch_counts_as_its_samples(path: Path) -> None:
    together = {"x": np.concatenate([feed["x"] for feed in IMAGES])}
    found, alone = observe(path, [together], batch=6), observe(path, IMAGES)
    assert found.samples == alone.samples == 6
    for name in alone:
        assert found[name].count == alone[name].count
        assert found[name].maximum == pytest.approx(alone[name].maximum, rel=1e-5)


def test_no_number_names_the_tensor_and_the_sample(path: Path) -> None:
    broken = {"x": np.full((1, 1, 8, 8), np.nan, np.float32)}
    with pytest.raises(InputError, match=r"holds NaN or infinity on calibration sample 2"):
        observe(path, [*IMAGES[:2], broken])


def test_names_that_two_operators_share_are_told_apart_and_stay(tmp_path: Path) -> None:
    x = ops.parameter([1, 4], np.float32, name="x")
    first = ops.multiply(x, np.full((1, 4), 2, np.float32), name="twice")
    second = ops.multiply(first, np.full((1, 4), 3, np.float32), name="thrice")
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Model([ops.add(second, first, name="sum")], [x], "m"), path, compress_to_fp16=False)
    path.write_text(path.read_text().replace('name="thrice"', 'name="twice"'))
    names = [set(activations(read(path))) for _ in range(3)]
    assert names == [{"x", "twice", "twice.1"}] * 3
    found = observe(path, [{"x": np.ones((1, 4), np.float32)}])
    assert (found["twice"].maximum, found["twice.1"].maximum) == (2, 6)


def test_what_does_not_depend_on_an_input_is_left_out(tmp_path: Path) -> None:
    x = ops.parameter([1, 4], np.float32, name="x")
    table = ops.exp(ops.constant(np.ones((1, 4), np.float32)), name="table")
    path = tmp_path / "model.xml"
    model = openvino.Model([ops.multiply(ops.add(x, table, name="sum"), x, name="end")], [x], "m")
    openvino.save_model(model, path, compress_to_fp16=False)
    assert set(activations(read(path))) == {"x", "sum"}


def test_integers_are_fed_and_not_watched(tmp_path: Path) -> None:
    tokens = ops.parameter([1, 3], np.int64, name="tokens")
    table = np.arange(20, dtype=np.float32).reshape(5, 4)
    embedded = ops.gather(ops.constant(table), tokens, np.int64(0), name="embedded")
    path = tmp_path / "model.xml"
    model = openvino.Model([ops.multiply(embedded, embedded, name="end")], [tokens], "m")
    openvino.save_model(model, path, compress_to_fp16=False)
    found = observe(path, [{"tokens": np.array([[0, 4, 2]])}])
    assert set(found) == {"embedded"}
    assert (found["embedded"].minimum, found["embedded"].maximum) == (0, 19)
    with pytest.raises(InputError, match="calibration sample 0"):
        observe(path, [{"tokens": np.zeros((1, 9, 2), np.int64)}])


def test_a_port_beyond_the_first_is_numbered(path: Path) -> None:
    split = next(node for node in read(path).get_ops() if node.get_type_name() == "Split")
    assert [key(port) for port in split.outputs()] == ["halves", "halves:1"]


def test_a_conversion_to_the_same_type_is_not_watched(tmp_path: Path) -> None:
    """A Result added to it has the memory of another tensor: the values were wrong, or the process crashed."""
    x = ops.parameter([-1, 4], np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    doubled = ops.multiply(ops.convert(x, "f32", name="same"), np.float32(2), name="doubled")
    logits = ops.matmul(doubled, RNG.normal(size=(4, 3)).astype(np.float32), False, False, name="logits")
    openvino.save_model(openvino.Model([logits], [x], "net"), tmp_path / "model.xml", compress_to_fp16=False)
    found = observe(tmp_path / "model.xml", [{"x": np.full((1, 4), 3, np.float32)}] * 8)
    assert set(found) == {"x", "doubled"}
    assert (found["doubled"].minimum, found["doubled"].maximum) == (6, 6)


def test_the_infinities_of_a_mask_are_left_out(tmp_path: Path) -> None:
    x = ops.parameter([1, 8], np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    mask = ops.select(ops.greater(x, np.float32(0)), np.float32(0), np.float32(-np.inf), name="mask")
    scores = ops.matmul(x, RNG.normal(size=(8, 8)).astype(np.float32), False, False, name="scores")
    masked = ops.add(scores, mask, name="masked")
    openvino.save_model(openvino.Model([ops.softmax(masked, 1)], [x], "net"), tmp_path / "model.xml", False)
    found = observe(tmp_path / "model.xml", [{"x": RNG.normal(size=(1, 8)).astype(np.float32)}])
    assert (found["mask"].minimum, found["mask"].maximum) == (0, 0)
