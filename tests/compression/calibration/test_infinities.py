"""What stands for infinity is left out; NaN is not."""

from __future__ import annotations

import numpy as np

from edgekit.compression.calibration.infinities import finite, has_infinities


def test_masks_are_left_out_and_nan_is_not() -> None:
    values = np.array([1, -np.inf, np.finfo("f4").min, np.nan, 2], "f4")
    assert has_infinities(values) and not has_infinities(np.array([1, 2]))
    np.testing.assert_array_equal(finite(values), [1, np.nan, 2])
