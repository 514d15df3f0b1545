"""Points of the search space."""

from __future__ import annotations

import pytest

pytest.importorskip("optuna")
from edgekit.core.target import Target
from edgekit.workflows.optimize.space import Dimension, Space, key

SPACE = Space(
    (
        Dimension("precision", ("float", "fp16", "int8"), "float"),
        Dimension("method", ("min-max", "mse"), "min-max"),
        Dimension("runtime", ("onnxruntime", "litert", "openvino"), "onnxruntime"),
        Dimension("threads", (1, 2, 4), 1),
        Dimension("batch", (1, 8), 1),
    ),
    Target("made-up", "", "null"),
    None,
)


def test_what_does_not_matter_makes_no_other_point() -> None:
    points = SPACE.points()
    assert len(points) == 4 * 3 * 3 * 2, "a method means nothing for float and fp16"
    assert len({key(point) for point in points}) == len(points)
