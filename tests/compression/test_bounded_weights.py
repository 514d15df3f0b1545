"""No sum of two neighbouring products leaves 16 bits, and most of the eighth bit is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.compression.bounded_weights import BLOCK, bound, neighbours

SHAPES = st.sampled_from([(6, 4, 3, 3), (3, 5, 2, 3), (2, 1, 5, 5), (4, 13), (2, 262), (2, 3, 7), (2, 3, 2, 2, 2)])
WEIGHTS = SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-3, 3, width=32)))


def codes(weights: Any, scales: Any) -> Any:
    return np.rint(weights.reshape(len(weights), -1) / scales[:, None]).astype(int)


def row_sums(rows: Any) -> Any:
    """What two by two along each row add up to, of the activations that make it most."""
    pairs = rows[:, : rows.shape[1] // 2 * 2].reshape(len(rows), -1, 2)
    return np.maximum(np.maximum(pairs, 0).sum(-1), np.maximum(-pairs, 0).sum(-1)) * 255


@given(WEIGHTS)
@settings(deadline=None, max_examples=60)
def test_no_order_of_the_kernels_leaves_16_bits(weights: Any) -> None:
    rounded, scales = bound(weights)
    found = codes(rounded, scales).reshape(weights.shape)
    last = np.moveaxis(found, 1, -1)  # [out, *taps, in]
    inputs = weights.shape[1]
    flat = [
        last.reshape(-1, inputs),
        last.reshape(len(found), -1),
        last.transpose(0, *reversed(range(1, last.ndim - 1)), last.ndim - 1).reshape(len(found), -1),
        last.reshape(-1, inputs * (weights.shape[-1] if weights.ndim > 2 else 1)),
    ]
    if found[0].size > BLOCK:
        flat.append(last.reshape(len(found), -1)[:, 1:])
    for rows in flat:
        assert row_sums(rows).max(initial=0) < 2**15
    assert np.abs(found).max() <= 127


@given(WEIGHTS)
@settings(deadline=None, max_examples=30)
def test_bounded_weights_do_not_change(weights: Any) -> None:
    once, _ = bound(weights)
    np.testing.assert_allclose(bound(once)[0], once, atol=1e-6 * np.abs(weights).max(initial=0))


def test_pairs_are_those_of_each_tap() -> None:
    """An even number of inputs has one order: two by two, at each tap."""
    (pairs,) = neighbours(4, 3, 3)
    taps, inputs = pairs % 9, pairs // 9
    assert (taps[:, 0] == taps[:, 1]).all() and (inputs[:, 0] % 2 == 0).all()
    assert (inputs[:, 1] == inputs[:, 0] + 1).all() and len(pairs) == 18
    assert len(list(neighbours(1))) == 0


def test_it_is_finer_than_seven_bits() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 96, 1, 1)).astype(np.float32)
    seven = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 63
    error = np.square(np.rint(weights / seven) * seven - weights).mean()
    assert np.square(bound(weights)[0] - weights).mean() < 0.5 * error


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_channel_of_one_value(value: float) -> None:
    weights = np.full((1, 4, 1, 1), value, np.float32)
    np.testing.assert_allclose(bound(weights)[0], weights, rtol=1e-6)
