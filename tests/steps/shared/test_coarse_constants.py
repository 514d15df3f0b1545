"""Constants that int8 would round more coarsely than what is computed from them."""

from __future__ import annotations

import numpy as np

from edgekit.steps.shared.coarse_constants import is_coarse

BIAS = np.array([0.01, -0.02, 0.03, -40.0], np.float32)


def test_a_bias_with_one_large_value_for_a_small_output_is_coarse() -> None:
    assert is_coarse(BIAS, (0, 3))
    assert not is_coarse(BIAS, (-40, 3)), "the output is no finer"
    assert not is_coarse(BIAS[:3], (0, 3))


def test_a_scalar_and_zeros_are_exact() -> None:
    assert not is_coarse(np.array(-40.0, np.float32), (0, 0.1))
    assert not is_coarse(np.zeros(4, np.float32), (0, 1e-6))


def test_a_factor_counts_by_what_it_is_multiplied_with() -> None:
    scales = np.array([0.01, 0.02, 100.0], np.float32)
    assert is_coarse(scales, (0, 1), factor=(-5, 5))
    assert not is_coarse(scales, (0, 500), factor=(-5, 5))
