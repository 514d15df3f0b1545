"""Histograms by bfloat16 bits: exact extremes, addition, files that come back whole or are refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import InputError
from edgekit.formats.ranges import FULL_COUNT_SIZE, Histogram, Statistics

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=15), elements=finite)


def histogram(*parts: np.ndarray) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part)
    return made


@given(arrays)
def test_every_value_is_in_a_bin_that_holds_it(values: np.ndarray) -> None:
    made = histogram(values)
    assert (made.minimum, made.maximum, made.count) == (values.min(), values.max(), values.size)
    lower, upper, counts = made.values()
    assert counts.sum() == values.size
    assert (lower <= upper).all() and (np.diff(lower) >= 0).all() and (np.diff(upper) >= 0).all()
    for value in values.reshape(-1).astype(float):
        near = np.abs(value) < 2.0**-133  # counted as zero
        assert near or ((lower <= value) & (value <= upper)).any()


@given(arrays.filter(lambda values: (np.abs(values) > 1e-30).all()))
def test_bins_are_narrow(values: np.ndarray) -> None:
    lower, upper, _ = histogram(values).values()
    assert (upper - lower <= np.minimum(np.abs(lower), np.abs(upper)) / 127).all()


@given(arrays, arrays)
def test_merging_is_adding_all_at_once(first: np.ndarray, second: np.ndarray) -> None:
    merged = histogram(first).merge(histogram(second))
    assert merged == histogram(first, second)
    assert merged == histogram(second).merge(histogram(first))
    assert merged.merge(Histogram()) == merged


def test_large_tensors_are_sampled_evenly_but_their_extremes_are_exact() -> None:
    values = np.random.default_rng(0).normal(size=(64, 80, 32)).astype(np.float32)
    values[13, 17, 19], values[60, 3, 2] = -100, 200
    made = histogram(values)
    assert (made.minimum, made.maximum, made.count) == (-100, 200, values.size)
    assert made.counts.sum() == pytest.approx(values.size / 17, abs=1)
    lower, upper, counts = made.values()
    middle = (lower + upper) / 2
    assert np.average(middle, weights=counts) == pytest.approx(0, abs=0.03)
    assert np.sqrt(np.average(middle**2, weights=counts)) == pytest.approx(1, abs=0.4)


def test_every_channel_is_seen_whatever_their_number_and_place() -> None:
    """A stride that divides the number of channels would look at some of them only."""
    for channels in (16, 17, 32, 34):
        values = np.broadcast_to(np.arange(1, channels + 1, dtype=np.float32), (FULL_COUNT_SIZE, channels))
        made = Histogram()
        for _ in range(40):
            made.add(np.ascontiguousarray(values))
        assert len(made.values()[0]) == channels


def test_the_same_samples_give_the_same_counts() -> None:
    values = np.random.default_rng(1).normal(size=(3, 50_000)).astype(np.float32)
    assert histogram(*values) == histogram(*values)
    assert histogram(*values) != histogram(*values[::-1]), "the stride starts at the same place each time"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [7, 100_000])
def test_what_is_not_finite_is_refused_and_nothing_added(bad: float, size: int) -> None:
    values = np.ones(size, np.float32)
    values[-3] = bad
    made = histogram(np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="NaN or infinity"):
        made.add(values)
    assert made == histogram(np.zeros(5, np.float32))


def test_empty_strided_and_half_precision_arrays() -> None:
    made = histogram(np.empty((0, 4), np.float32))
    assert (made.count, made.minimum, made.maximum) == (0, np.inf, -np.inf)
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert histogram(grid.T[::2]) == histogram(np.ascontiguousarray(grid.T[::2]))
    assert histogram(grid.astype(np.float16)) == histogram(grid)


def test_the_tensor_and_the_sample_are_named() -> None:
    statistics = Statistics()
    statistics.add({"a": np.ones(3, np.float32)})
    with pytest.raises(InputError, match=r"calibrated: tensor 'b' holds NaN or infinity on calibration sample 1$"):
        statistics.add({"b": np.array([np.nan], np.float32)})
    with pytest.raises(InputError, match="on calibration samples 1 to 4"):
        statistics.add({"b": np.array([np.inf], np.float32)}, samples=4)


@pytest.fixture
def statistics() -> Statistics:
    made = Statistics(origin="über/模型")
    rng = np.random.default_rng(2)
    for _ in range(5):
        made.add({"a": rng.normal(size=(8, 9)).astype(np.float32), "none": np.empty(0, np.float32)})
        made.add({'b;"\n': rng.random((1, 70_000), np.float32) * 1e38}, samples=0)
    made.alias({"c": "a"})
    return made


def test_a_file_brings_back_the_same(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "ranges.npz"
    statistics.save(path)
    found = Statistics.load(path)
    assert list(found) == list(statistics) == ["a", "none", 'b;"\n', "c"]
    assert dict(found) == dict(statistics)
    assert (found.samples, found.origin) == (5, statistics.origin)
    assert found["c"] == found["a"]
    first = path.read_bytes()
    found.save(path)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["ranges.npz"]


def test_what_was_gathered_can_be_gone_on_with(statistics: Statistics, tmp_path: Path) -> None:
    statistics = Statistics({name: histogram for name, histogram in statistics.items() if name != "c"}, 5)
    statistics.save(tmp_path / "s.npz")
    found = Statistics.load(tmp_path / "s.npz")
    more = np.random.default_rng(3).normal(size=90_000).astype(np.float32)
    for each in (found, statistics):
        each.add({"a": more, "new": more})
    assert dict(found) == dict(statistics) and found.samples == 6


def test_nothing_at_all_can_be_saved(tmp_path: Path) -> None:
    Statistics().save(tmp_path / "s.npz")
    assert len(Statistics.load(tmp_path / "s.npz")) == 0


def test_damaged_files_are_refused(statistics: Statistics, tmp_path: Path) -> None:
    path, rng = tmp_path / "s.npz", random.Random(0)
    statistics.save(path)
    whole, refused = path.read_bytes(), 0
    for attempt in range(150):
        raw = bytearray(whole)
        if attempt % 3:
            for _ in range(3):
                raw[rng.randrange(len(raw))] ^= rng.randrange(1, 256)
        else:
            del raw[rng.randrange(len(raw)) :]
        path.write_bytes(raw)
        try:
            Statistics.load(path)
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("array", "value"),
    [
        ("names", np.frombuffer(b'["a"]', np.uint8)),
        ("names", np.frombuffer(b'["a", "a"]', np.uint8)),
        ("names", np.frombuffer(b"[1, 2]", np.uint8)),
        ("names", np.frombuffer(b'{"a": 1, "b": 2}', np.uint8)),
        ("names", np.frombuffer(b"\xff", np.uint8)),
        ("samples", np.array(-1)),
        ("samples", np.array([1, 2])),
        ("extremes", np.array([[0.0, 1.0], [2.0, 1.0]])),
        ("extremes", np.array([[0.0, 1.0], [np.nan, 1.0]])),
        ("extremes", np.array([[0.0, 1.0]])),
        ("count", np.array([1, -1])),
        ("first", np.array([0, 2, 1])),
        ("first", np.array([1, 1, 2])),
        ("bins", np.array([0x7F80, 1], np.uint16)),
        ("bins", np.array([1, 2, 3], np.uint16)),
        ("bins", np.array([1, 2], np.int64)),
        ("counts", np.array([1, -1])),
        ("counts", np.array([object()], object)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(array: str, value: np.ndarray, tmp_path: Path) -> None:
    statistics = Statistics()
    statistics.add({name: np.ones(3, np.float32) for name in ("a", "b")})
    statistics.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as archive:
        arrays = {**archive}
    np.savez(tmp_path / "s.npz", **{**arrays, array: value})
    with pytest.raises(InputError, match="does not hold activation statistics"):
        Statistics.load(tmp_path / "s.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", input=np.ones(3))
    (tmp_path / "text.npz").write_text("ranges")
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("other.npz", "text.npz", "array.npy", "missing.npz", "."):
        with pytest.raises(InputError):
            Statistics.load(tmp_path / name)
