"""Which axis runs over the samples: by the names of open axes, else by the shapes."""

from __future__ import annotations

import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.batch_axis import with_batch_axes

OPEN = None


def axes(shapes: dict[str, tuple[int | None, ...]], names: dict[str, dict[int, str]] | None = None) -> list[int | None]:
    inputs = [TensorSpec(name, "float32", shape) for name, shape in shapes.items() if name != "y"]
    outputs = [TensorSpec("y", "float32", shapes.get("y", (OPEN, 2)))]
    return [spec.batch_axis for spec in with_batch_axes(inputs, outputs, names or {}, {})]


@pytest.mark.parametrize(
    ("shapes", "names", "expected"),
    [
        ({"x": (OPEN, 3, 8, 8)}, {}, [0]),
        ({"x": (OPEN, 9), "h": (2, OPEN, 4), "sr": ()}, {"x": {0: "N"}, "h": {1: "N"}}, [0, 1, None]),
        ({"x": (OPEN, 9), "h": (1, OPEN, 4)}, {"x": {0: "batch"}, "h": {1: "batch"}}, [0, 1]),
        ({"x": (OPEN, 9), "h": (1, OPEN, 4)}, {}, [0, 1]),
        ({"x": (OPEN, 9), "h": (2, OPEN, 4)}, {}, [0, 1]),
        ({"x": (OPEN, 9), "mask": (1, OPEN, OPEN)}, {}, [0, 0]),
        ({"x": (OPEN, 9), "memory": (1, OPEN, 4)}, {"x": {0: "N"}, "memory": {1: "T"}}, [0, 0]),
        ({"x": (OPEN, OPEN, 80)}, {"x": {0: "time", 1: "batch_size"}}, [1]),
        ({"x": (OPEN, 9), "anchors": (OPEN, 4)}, {"x": {0: "batch"}, "anchors": {0: "count"}}, [0, None]),
        ({"x": (OPEN, 9), "z": (OPEN, 4)}, {"x": {0: "x_dynamic_axes_1"}, "z": {0: "z_dynamic_axes_1"}}, [0, 0]),
        ({"x": (OPEN, 9), "table": (7, 4)}, {}, [0, None]),
        ({"x": (1, 9), "h": (2, 1, 4), "sr": (1,), "y": (1, 2)}, {}, [0, 1, 0]),
        ({"x": (4, 9), "z": (4, 3), "y": (4, 2)}, {}, [0, 0]),
        ({"x": (4, 9), "h": (2, 4, 3), "y": (4, 2)}, {}, [None, None]),
        ({"x": (10, 9), "y": (5,)}, {}, [None]),
    ],
)
def test_the_batch_axis(
    shapes: dict[str, tuple[int | None, ...]], names: dict[str, dict[int, str]], expected: list[int | None]
) -> None:
    assert axes(shapes, names) == expected


def test_what_the_parent_knows_counts() -> None:
    (spec,) = with_batch_axes([TensorSpec("h", "float32", (2, 1, 4))], [], {}, {"h": 1})
    assert spec.batch_axis == 1
    assert spec.sample_shape == (2, 1, 4) and spec.open_axes == []
    assert TensorSpec.from_json(spec.to_json()) == spec
    assert "batch_axis" not in TensorSpec("x", "float32", (None, 4)).to_json()
