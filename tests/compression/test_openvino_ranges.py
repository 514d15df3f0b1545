"""Ranges put into an OpenVINO model: zero stays exact, weights that lie on a grid stay on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compression.openvino_ranges import quantizers, set_ranges, zero_aligned
from edgekit.core.errors import InputError
from edgekit.formats.ranges import Statistics

openvino = pytest.importorskip("openvino")
ops = pytest.importorskip("openvino.opset13")

ENDS = st.floats(-1e6, 1e6, width=32)


@given(ENDS, ENDS)
def test_zero_is_a_point_of_the_grid(a: float, b: float) -> None:
    wanted_low, wanted_high = min(a, b, 0.0), max(a, b, 0.0)
    low, high = zero_aligned(wanted_low, wanted_high)
    step = (high - low) / 255
    assert step > 0
    assert -low / step == pytest.approx(round(-low / step), abs=1e-6)
    assert low <= 0 <= high
    if wanted_high > wanted_low:
        assert abs(low - wanted_low) <= 0.5001 * step
        assert abs(high - wanted_high) <= 0.5001 * step


def quantized(x: Any, low: Any, high: Any, levels: int, name: str) -> Any:
    ends = [ops.constant(np.asarray(end, np.float32)) for end in (low, high, low, high)]
    return ops.fake_quantize(x, *ends, levels, name=name)


def values(node: Any, index: int) -> Any:
    return node.input_value(index).get_node().data


def dense(weights: Any, low: Any, high: Any) -> Any:
    """One layer with weights (outputs, inputs), its input and weights quantized to made-up ranges."""
    x = ops.parameter([-1, weights.shape[1]], np.float32, name="x")
    product = ops.matmul(
        quantized(x, -1, 1, 256, "x/fq"), quantized(ops.constant(weights), low, high, 255, "w/fq"), False, True
    )
    return openvino.Model([product], [x], "dense")


def seen(**tensors: Any) -> Statistics:
    statistics = Statistics()
    statistics.add({name: np.asarray(array, np.float32) for name, array in tensors.items()})
    return statistics


@given(st.floats(1e-4, 1.0), st.integers(0, 2**31))
def test_weights_on_a_grid_stay_on_it(smallest: float, seed: int) -> None:
    """A channel much smaller than another keeps the scale of its own largest weight."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(-127, 128, (3, 16))
    whole[:, 0] = 127
    largest = np.array([[1.0], [smallest], [0.3]], np.float32)
    weights = (whole * (largest / 127)).astype(np.float32)
    widened = np.maximum(np.abs(weights).max(1, keepdims=True), 0.01)  # as NNCF does to small channels
    model = dense(weights, -widened, widened)
    set_ranges(model, seen(x=[-1, 1]), "min-max")
    node = next(node for node in quantizers(model) if node.get_friendly_name() == "w/fq")
    low, high = values(node, 1), values(node, 2)
    assert np.array_equal(low, -high) and np.array_equal(values(node, 3), low) and np.array_equal(values(node, 4), high)
    assert np.array_equal(np.rint(weights / (high / 127)), whole)
    assert np.allclose(np.rint(weights / (high / 127)) * (high / 127), weights, rtol=1e-6)


def test_a_bit_that_is_left_unused_stays_so() -> None:
    """Seven-bit weights come as a range twice as wide."""
    weights = np.array([[1.0, -0.5], [0.001, 0.0005]], np.float32)
    model = dense(weights, np.array([[-2.03], [-0.02]]), np.array([[2.0], [0.02]]))
    set_ranges(model, seen(x=[0, 1]), "min-max")
    node = next(node for node in quantizers(model) if node.get_friendly_name() == "w/fq")
    assert values(node, 2).reshape(-1) == pytest.approx([2.0, 0.002])


def test_activations_take_the_range_of_the_method() -> None:
    """A far outlier among many values: least error clips it, min-max does not."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 20_000), [200.0]])
    tops = {}
    for method in ("min-max", "percentile", "mse"):
        model = dense(np.ones((2, 4), np.float32), np.full((2, 1), -1), np.full((2, 1), 1))
        set_ranges(model, seen(x=x), method)
        node = next(node for node in quantizers(model) if node.get_friendly_name() == "x/fq")
        low, high = float(values(node, 1)), float(values(node, 2))
        assert node.get_attributes()["levels"] == 256
        assert -low / ((high - low) / 255) == pytest.approx(round(-low / ((high - low) / 255)), abs=1e-3)
        tops[method] = high
    assert tops["min-max"] == pytest.approx(200, abs=0.5)
    assert tops["percentile"] < 10 and tops["mse"] < 100


@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_stays_in_the_middle_where_it_was_put_and_that_is_wanted(symmetric: bool) -> None:
    ends = {}
    for placed, low in (("middle", -128 / 127), ("anywhere", -0.5)):
        x = ops.parameter([1, 4], np.float32, name="x")
        model = openvino.Model([quantized(x, low, 1, 256, "x/fq")], [x], placed)
        set_ranges(model, seen(x=[-1.0, 3.0]), "min-max", symmetric)
        (node,) = quantizers(model)
        ends[placed] = float(values(node, 1)), float(values(node, 2))
    assert ends["anywhere"] == pytest.approx((-1, 3), abs=0.02)
    assert ends["middle"] == pytest.approx((-3 * 128 / 127, 3) if symmetric else (-1, 3), abs=0.02)


def test_ranges_of_another_model_are_refused() -> None:
    model = dense(np.ones((2, 4), np.float32), np.full((2, 1), -1), np.full((2, 1), 1))
    with pytest.raises(InputError, match="another model: they have none for 'x'"):
        set_ranges(model, seen(y=[1.0]), "min-max")


@pytest.mark.parametrize("same", [True, False])
def test_what_is_joined_keeps_one_range_where_it_had_one(same: bool) -> None:
    x, y = (ops.parameter([1, 2, 4, 4], np.float32, name=name) for name in "xy")
    pooled = ops.max_pool(quantized(x, -1, 1, 256, "x/fq"), [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    flat = ops.reshape(pooled, np.array([1, -1]), False)
    other = quantized(ops.reshape(y, np.array([1, -1]), False, name="flat"), -1, 1 if same else 2, 256, "y/fq")
    model = openvino.Model([ops.concat([flat, other], 1)], [x, y], "joined")
    set_ranges(model, seen(x=[-3.0, 1.0], flat=[0.0, 8.0]), "min-max")
    ends = [(float(values(node, 1)), float(values(node, 2))) for node in quantizers(model)]
    assert (len(set(ends)) == 1) == same
    if same:
        assert ends[0] == pytest.approx((-3, 8), abs=0.03)


def test_the_model_computes_what_the_ranges_say(tmp_path: Path) -> None:
    """Through a file and OpenVINO itself: within half a step of each value, exact at zero."""
    model = dense(np.eye(4, dtype=np.float32), np.full((4, 1), -1), np.full((4, 1), 1))
    set_ranges(model, seen(x=[-1.0, 3.0]), "min-max")
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    compiled = openvino.Core().compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = np.array([[0.0, -0.95, 1.234, 2.9]], np.float32)
    y = compiled([x])[0]
    assert np.abs(y - x).max() <= 0.51 * 4 / 255
    assert abs(y[0, 0]) < 1e-6


@pytest.mark.parametrize("weighed", [True, False])
def test_zero_is_in_the_middle_of_what_squeeze_and_excite_weighs(weighed: bool) -> None:
    """And only there: a hard-swish ends at -0.375, so that half of the levels would go to waste."""
    x = ops.parameter([-1, 4, 5, 5], np.float32, name="x")
    rounded = quantized(x, -0.4, 8, 256, "x/fq")
    factors = ops.reduce_mean(rounded, np.array([2, 3]), keep_dims=True)
    model = openvino.Model([ops.multiply(rounded, factors if weighed else ops.sigmoid(rounded))], [x], "weighs")
    set_ranges(model, seen(x=[-0.375, 8]), "min-max")
    low, high = (float(values(quantizers(model)[0], index)) for index in (1, 2))
    assert low == pytest.approx(-high * 128 / 127 if weighed else -0.375, abs=0.04)
    assert high == pytest.approx(8, abs=0.04)
