"""Points of the search space."""

from __future__ import annotations

import pytest

pytest.importorskip("optuna")
from workflows.optimize.made_up import SPACE

from edgekit.workflows.optimize.space import key


def test_what_does_not_matter_makes_no_other_point() -> None:
    points = SPACE.points()
    assert len(points) == 4 * 3 * 3 * 2, "a method means nothing for float and fp16"
    assert len({key(point) for point in points}) == len(points)
