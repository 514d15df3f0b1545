"""How ranges follow from histograms: properties over any values, and what each method is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.compression.calibration.ranges import METHODS, choose, ranges
from edgekit.core.errors import InputError
from edgekit.formats.ranges import Histogram, Statistics

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-(2.0**40), 2.0**40, width=32)
arrays = hnp.arrays(np.float32, st.integers(1, 300), elements=finite)
methods = st.sampled_from(METHODS)


def histogram(values: np.ndarray) -> Histogram:
    """Of all values: the choice is tested here, not the sampling."""
    made = Histogram()
    made.add(np.asarray(values, np.float32), stride=1)
    return made


def squared_error(values: np.ndarray, low: float, high: float, levels: int = 256) -> float:
    """What int8 with an integer zero point over this range does to the values."""
    values = values.astype(np.float64)
    if high == low:
        return float(np.square(values - low).sum())
    step = (high - low) / (levels - 1)
    zero = np.round(-low / step)
    stored = np.clip(np.round(values / step) + zero, 0, levels - 1)
    return float(np.square((stored - zero) * step - values).sum())


@given(arrays, methods, st.booleans())
def test_a_range_lies_within_what_was_seen_and_holds_zero(values: np.ndarray, method: str, symmetric: bool) -> None:
    low, high = choose(histogram(values), method, symmetric=symmetric)
    assert low <= 0 <= high
    assert np.isfinite((low, high)).all()
    if symmetric:
        assert low == -high
        assert high <= np.abs(values.astype(float)).max()
    else:
        assert min(values.min(), 0) <= low and high <= max(values.max(), 0)


@given(arrays)
def test_min_max_is_exact(values: np.ndarray) -> None:
    assert choose(histogram(values), "min-max") == (min(values.min(), 0), max(values.max(), 0))


@settings(max_examples=300)
@given(hnp.arrays(np.float32, st.integers(1, 2000), elements=moderate))
def test_mse_is_no_worse_than_min_max(values: np.ndarray) -> None:
    """Beyond what rounding of single values and the width of a bin can do."""
    made = histogram(values)
    least, full = (squared_error(values, *choose(made, method)) for method in ("mse", "min-max"))
    low, high = choose(made, "min-max")
    step = (high - low) / 255
    assert least <= full + len(values) * step**2 / 6 + 1e-30


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("one_sided", [False, True])
def test_mse_finds_about_the_best_range_for_long_tails(seed: int, one_sided: bool) -> None:
    values = np.random.default_rng(seed).standard_t(3, 200_000).astype(np.float32)
    values = np.maximum(values, 0) if one_sided else values
    found = choose(histogram(values), "mse")
    tried = [squared_error(values, values.min() * share, values.max() * share) for share in np.geomspace(0.02, 1, 60)]
    assert squared_error(values, *found) <= 1.02 * min(tried)
    assert squared_error(values, *found) < 0.98 * tried[-1], "nothing was gained"
    assert (found[0] == 0) == one_sided


def test_sampling_changes_the_choice_little() -> None:
    rng, sampled, whole = np.random.default_rng(0), Histogram(), Histogram()
    for _ in range(50):
        values = rng.laplace(size=100_000).astype(np.float32)
        sampled.add(values)
        whole.add(values, stride=1)
    for method in METHODS:
        assert choose(sampled, method) == pytest.approx(choose(whole, method), rel=0.1)


def test_mse_leaves_exact_zeros_out() -> None:
    """Zeros are exact in any range: that most values are zero is no reason to clip the others."""
    rest = np.random.default_rng(0).exponential(size=4000).astype(np.float32)
    made = histogram(rest).merge(histogram(np.zeros(4000, np.float32)))
    many = made
    for _ in range(6):
        many = many.merge(many)
    assert choose(many, "mse") == choose(made, "mse") == choose(histogram(rest), "mse")


def test_mse_keeps_both_ends_of_what_is_flat() -> None:
    values = np.random.default_rng(0).uniform(-1, 3, 100_000).astype(np.float32)
    low, high = choose(histogram(values), "mse")
    assert low == pytest.approx(-1, rel=0.05) and high == pytest.approx(3, rel=0.05)


def test_symmetric_mse_and_levels() -> None:
    made = histogram(np.random.default_rng(0).standard_t(3, 100_000).astype(np.float32))
    low, high = choose(made, "mse", symmetric=True)
    assert low == -high
    coarse = choose(made, "mse", symmetric=True, levels=16)
    assert coarse[1] < high, "fewer levels want a narrower range"


def test_percentile_cuts_off_the_tails() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    low, high = choose(histogram(values), "percentile")
    assert low == pytest.approx(np.percentile(values, 0.001), rel=0.02)
    assert high == pytest.approx(np.percentile(values, 99.999), rel=0.02)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0.0, (0, 0)), (-0.0, (0, 0)), (3.5, (0, 3.5)), (-2.0, (-2, 0)), (3e38, (0, 3e38)), (-3e38, (-3e38, 0))],
)
def test_constant_tensors(method: str, value: float, wanted: tuple[float, float]) -> None:
    assert choose(histogram(np.full(50, value)), method) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_extremes_of_float32(method: str) -> None:
    assert choose(Histogram(), method) == (0, 0)
    smallest = float(np.float32(1e-45))
    low, high = choose(histogram(np.array([smallest, -smallest])), method)
    assert -smallest <= low <= 0 <= high <= smallest
    largest = float(np.finfo(np.float32).max)
    low, high = choose(histogram(np.array([largest, -largest])), method)
    assert low == pytest.approx(-largest, rel=0.05) and high == pytest.approx(largest, rel=0.05)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="no range method 'msr'") as caught:
        ranges({"a": Histogram()}, "msr")
    assert "did you mean mse?" in caught.value.next


def test_ranges_of_everything_that_was_seen() -> None:
    statistics = Statistics()
    statistics.add({"a": np.array([-1, 2], np.float32), "b": np.array([3], np.float32)})
    assert ranges(statistics, "min-max") == {"a": (-1, 2), "b": (0, 3)}
    assert ranges(statistics, "min-max", symmetric=True) == {"a": (-2, 2), "b": (-3, 3)}
