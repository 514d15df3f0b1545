"""Which constants float16 holds."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.steps.shared.fp16_constants import LARGE, is_table, misfit


@pytest.mark.parametrize(
    ("shape", "answer"),
    [((32, 32), True), ((1, 32, 32), True), ((LARGE,), False), ((1, LARGE), False), ((31, 33), False)],
)
def test_tables_are_large_and_more_than_a_row(shape: tuple[int, ...], answer: bool) -> None:
    assert is_table(np.zeros(shape, np.float32)) is answer


@pytest.mark.parametrize("values", [[1.0, 0.1], [65_504.0], [1e-6, 1.0], [0.0, 0.0]])
def test_values_that_fit(values: list[float]) -> None:
    assert misfit(np.array(values, np.float32)) == ""


@pytest.mark.parametrize("values", [[1e6, 1.0], [1e-12], [np.nan, 1.0]])
def test_values_that_do_not_fit(values: list[float]) -> None:
    assert "float16 does not hold its values" in misfit(np.array(values, np.float32))
