"""Which outputs a model can have, and how large their files may be; results that lie are in test_hostile.py."""

from __future__ import annotations

import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.devices.shared.results import HEADER_BYTES, OPEN_BYTES, OPEN_ROWS, _fits, _most_bytes

SHAPES = [
    ((None, 10), (10,), True),
    ((1, 10), (10,), True),
    ((4, 10), (10,), True),
    ((20, 1, 64), (20, 1, 64), True),  # time is its first axis: a sample's output is the whole
    ((None, 3), (37, 3), True),  # boxes
    ((None, None, 21), (5, 21), True),
    ((), (), True),
    ((), (3, 4), True),  # an ONNX output whose number of axes is unknown
    ((None, 10), (11,), False),
    ((None, 10), (), False),
    ((None, 10), (1, 1, 10), False),
]


@pytest.mark.parametrize(("own", "sample", "fits"), SHAPES)
def test_the_shape_of_a_sample_s_output(own: tuple[int | None, ...], sample: tuple[int, ...], fits: bool) -> None:
    assert _fits(TensorSpec("y", "float32", own), sample) == fits


def test_the_largest_file_of_an_output() -> None:
    def most(*shape: int | None) -> int:
        return _most_bytes(TensorSpec("y", "float32", shape), 100) - HEADER_BYTES

    assert most(1, 10) == 10 * 100 * 8
    assert most(None, 10) == 10 * 100 * 8 * OPEN_ROWS
    assert most(None, 10_000_000) == 10_000_000 * 100 * 8, "what a model has by its shape, however large"
    assert most(None, None) == most() == OPEN_BYTES
