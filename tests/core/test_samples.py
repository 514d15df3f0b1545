"""How many samples a set has."""

from __future__ import annotations

import numpy as np

from edgekit.core.samples import SampleSet


def test_the_first_axis_counts() -> None:
    assert len(SampleSet("s", {"x": np.zeros((3, 2)), "y": np.zeros((3, 9))}, None, "0")) == 3
    assert len(SampleSet("s", {}, None, "0")) == 0
    assert not SampleSet("s", {"x": np.zeros((0, 2))}, None, "0")
