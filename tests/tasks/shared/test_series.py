"""Series: the .ts format, gaps and uneven lengths."""

from __future__ import annotations

import numpy as np

from edgekit.tasks.shared.series import equal_length, parse_ts

HEAD = "# a comment\n@problemName x\n@classLabel true up down\n@data\n"


def test_the_format() -> None:
    series, labels, classes = parse_ts(HEAD + "1,2:3,?:up\n", "x")
    assert classes == ("up", "down") and labels == ["up"]
    np.testing.assert_array_equal(series[0], [[1, 3], [2, np.nan]])


def test_gaps_and_lengths() -> None:
    series = [np.array([[1.0], [np.nan]], np.float32), np.array([[5.0], [6], [7], [8]], np.float32)]
    assert equal_length(series, 3)[..., 0].tolist() == [[1, 1, 1], [5, 6, 7]]
