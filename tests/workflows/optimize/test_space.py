"""Points of the search space."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("optuna")
from workflows.optimize.made_up import SPACE

from edgekit.core.artifact import Kind
from edgekit.core.target import Target
from edgekit.workflows.optimize.space import Dimension, Space, key


def test_what_does_not_matter_makes_no_other_point() -> None:
    points = SPACE.points()
    assert len(points) == 4 * 3 * 3 * 2, "a method means nothing for float and fp16"
    assert len({key(point) for point in points}) == len(points)


def test_what_only_measures_the_artifact_comes_first() -> None:
    dimensions = (
        Dimension("precision", ("float", "int8"), "float"),
        Dimension("method", ("mse",), "mse"),
        Dimension("runtime", ("litert", "openvino", "onnxruntime"), "litert"),
    )
    start: Any = SimpleNamespace(kind=Kind("onnx"))
    starts = Space(dimensions, Target("host", "", "local"), None, start).starts()
    assert [(p["runtime"], p["precision"]) for p in starts] == [
        ("onnxruntime", "float"),
        ("litert", "float"),
        ("litert", "int8"),
        ("openvino", "float"),
        ("openvino", "int8"),
        ("onnxruntime", "int8"),
    ]
    trained = Space(dimensions, Target("host", "", "local"), None).starts()
    assert trained[0]["runtime"] == "litert", "a network to be trained has no such point"
