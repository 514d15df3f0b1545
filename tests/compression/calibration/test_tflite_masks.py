"""A mask in int8: finite, and so far below the scores that nothing of it is left after a softmax."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.compression.calibration.tflite_masks import MARGIN, Mask, widened
from edgekit.formats.ranges import Histogram


def histogram(*values: float) -> Histogram:
    made = Histogram()
    made.add(np.array(values, "f4"))
    return made


def test_ranges_are_as_wide_as_the_mask() -> None:
    statistics = {"scores": histogram(-2, 3), "mask": histogram(0.0), "other": histogram(1, 2)}
    mask = Mask(SimpleNamespace(), np.array([-np.inf, 0], "f4"), ("mask", "scores"), ())
    assert mask.negative and not mask.positive
    low, _ = mask.ends(statistics)
    assert low + 3 <= -2 - MARGIN, "a sum with the largest score is below every score"
    ranges = widened({"scores": (-2.0, 3.0), "mask": (0.0, 0.0), "other": (0.0, 2.0)}, [mask], statistics)
    assert ranges == {"scores": (-2 - MARGIN, 3.0), "mask": (pytest.approx(low), 0.0), "other": (0.0, 2.0)}
