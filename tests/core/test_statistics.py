"""The numbers, against identities, brute force and a second source."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgekit.core import metrics, statistics
from edgekit.core.measurement import Process
from edgekit.core.statistics import MAX_DB, Z95
from edgekit.core.task import Scores

finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)
tensors = arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=6), elements=finite)
bits = arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 1.0]))


def pairs_of_bits(low: int = 1, high: int = 200) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return st.integers(low, high).flatmap(
        lambda n: st.tuples(*[arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0])) for _ in range(2)])
    )


def scores(values: Any, higher: bool = True) -> Scores:
    return Scores("accuracy", "fraction", higher, np.asarray(values, np.float64))


# --- the floor of what was compressed -------------------------------------------------------------------------------


NOISE = np.random.default_rng(0)
SCORED = NOISE.normal(size=(200, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("other", "labelled", "why"),
    [
        (SCORED + 0.01, False, ""),
        (np.zeros_like(SCORED), True, "output 'y' is the same for all samples, unlike in onnx"),
        (NOISE.permuted(SCORED, axis=1), False, "of the samples have the top class of onnx, and 90% is the least"),
        (NOISE.permuted(SCORED, axis=1), True, ""),
        (5 * SCORED, False, "the SQNR against onnx is -12.0 dB, and 10 dB is the least"),
    ],
)
def test_the_floor(other: np.ndarray, labelled: bool, why: str) -> None:
    found = statistics.parity("onnx", {"y": SCORED}, {"y": other})
    said = statistics.below_floor(found, labelled)
    assert why in said and bool(why) == bool(said)


def test_an_embedding_is_compared_by_its_neighbours() -> None:
    turned = SCORED @ np.linalg.qr(NOISE.normal(size=(5, 5)))[0]
    found = statistics.parity("onnx", {"x": SCORED}, {"y": 3 * turned}, embedding="x")
    assert found.neighbour_agreement == 1 and found.top1_agreement is None and found.kl is None
    other = statistics.parity("onnx", {"x": SCORED}, {"y": NOISE.permuted(SCORED, axis=1)}, embedding="x")
    assert other.neighbour_agreement is not None and other.neighbour_agreement < 0.1
    why = statistics.below_floor(other, False)
    assert "of the samples have the nearest neighbour of onnx, and 90% is the least" in why
    assert not statistics.below_floor(other, True)


def test_neighbours_against_the_plain_loop() -> None:
    a, b = NOISE.normal(size=(700, 3)), NOISE.normal(size=(700, 3))
    b[::2] = a[::2]
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (a, b)]
    same = 0
    for row in range(700):
        nearest = [np.delete(np.arange(700), row)[np.argmax(np.delete(u @ u[row], row))] for u in unit]
        same += nearest[0] == nearest[1]
    assert statistics.neighbour_agreement(a, b) == same / 700


@pytest.mark.parametrize("shape", [(2, 4), (5,), (5, 2, 2), (0, 4)])
def test_no_neighbours(shape: tuple[int, ...]) -> None:
    assert statistics.neighbour_agreement(np.ones(shape), np.ones(shape)) is None
    assert statistics.neighbour_agreement(np.full((4, 2), np.nan), np.ones((4, 2))) is None


def test_the_floor_names_the_worst_output() -> None:
    good, bad = NOISE.normal(size=(9, 3, 3)), NOISE.normal(size=(9, 4, 4))
    found = statistics.parity("onnx", {"a": good, "b": bad}, {"a": good, "b": -bad})
    assert "of output 'b'" in statistics.below_floor(found, labelled=False)


def test_a_constant_float_model_has_no_stuck_output() -> None:
    constant = np.ones((9, 4), np.float32)
    assert not statistics.parity("onnx", {"y": constant}, {"y": constant}).constant
    assert not statistics.parity("onnx", {"y": SCORED[:1]}, {"y": SCORED[:1]}).constant


def test_divergence_against_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    a, b = (special.softmax(NOISE.normal(size=(50, 7)), axis=1) for _ in range(2))
    expected = special.rel_entr(a, b).sum(axis=1).mean()
    for first, second in ((a, b), (np.log(a) + 3, np.log(b))):
        assert statistics.parity("onnx", {"y": first}, {"y": second}).kl == pytest.approx(expected, rel=1e-4)
    assert statistics.parity("onnx", {"y": a[:, :1]}, {"y": b[:, :1]}).kl is None


# --- SQNR -----------------------------------------------------------------------------------------------------------


@given(tensors)
def test_sqnr_of_itself_is_the_most(x: np.ndarray) -> None:
    assert statistics.sqnr_db(x, x) == MAX_DB


@given(tensors, st.floats(1e-6, 0.5))
def test_sqnr_of_a_scaled_copy(x: np.ndarray, relative: float) -> None:
    """Noise that is a fixed share of the signal: -20 log10(share), whatever the signal."""
    x = x.astype(np.float64)
    assume(np.sum(x * x) > 1e-6)
    assert statistics.sqnr_db(x, x * (1 + relative)) == pytest.approx(-20 * math.log10(relative), abs=0.01)


@given(tensors, tensors.map(lambda a: a.ravel()[0]), st.floats(0.01, 100))
def test_sqnr_has_no_unit(x: np.ndarray, noise: float, unit: float) -> None:
    a = x.astype(np.float64)
    b = a + noise
    assume(np.sum(a * a) > 1e-3 and abs(noise) > 1e-3)
    assert statistics.sqnr_db(a, b) == pytest.approx(statistics.sqnr_db(a * unit, b * unit), abs=0.1)


@given(tensors, st.integers(0, 10**6))
def test_sqnr_ignores_the_order_of_samples(x: np.ndarray, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=x.size)
    order = np.random.default_rng(seed + 1).permutation(x.size)
    a = x.astype(np.float64).ravel()
    b = a + noise
    assert statistics.sqnr_db(a, b) == pytest.approx(statistics.sqnr_db(a[order], b[order]), abs=1e-6)


@given(arrays(np.float32, st.tuples(st.just(2), st.integers(1, 8)), elements=st.floats(width=32)))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_sqnr_is_always_a_number_json_can_hold(both: np.ndarray) -> None:
    x, y = both
    assert -MAX_DB <= statistics.sqnr_db(x, y) <= MAX_DB


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_sqnr_of_what_is_not_finite_is_the_least(bad: float) -> None:
    whole = np.ones(4)
    broken = np.array([1, 1, bad, 1])
    assert statistics.sqnr_db(whole, broken) == -MAX_DB
    assert statistics.sqnr_db(broken, whole) == -MAX_DB
    assert statistics.sqnr_db(broken, broken) == -MAX_DB


def test_sqnr_of_nothing_against_something() -> None:
    assert statistics.sqnr_db(np.zeros(3), np.ones(3)) == -MAX_DB
    assert statistics.sqnr_db(np.zeros(3), np.zeros(3)) == MAX_DB


def test_sqnr_known_value() -> None:
    """8-bit rounding of a full-scale sine: 6.02 bits + 1.76 dB."""
    t = np.linspace(0, 2 * np.pi * 997, 200_001)
    x = np.sin(t)
    assert statistics.sqnr_db(x, np.round(x * 128) / 128) == pytest.approx(6.02 * 8 + 1.76, abs=0.2)


# --- parity ---------------------------------------------------------------------------------------------------------


def test_parity_the_worst_output_counts() -> None:
    good, bad = np.random.default_rng(0).normal(size=(2, 10, 4))
    found = statistics.parity("torch", {"a": good, "b": good}, {"x": good, "y": good + 0.1 * bad})
    assert found.against == "torch"
    assert found.samples == 10
    assert found.per_output["a"] == MAX_DB
    assert found.sqnr_db == found.per_output["b"] == pytest.approx(statistics.sqnr_db(good, good + 0.1 * bad))
    assert found.max_abs == pytest.approx(np.abs(0.1 * bad).max())
    assert found.top1_agreement == 1


def test_parity_of_shapes_that_differ() -> None:
    found = statistics.parity("p", {"a": np.ones((4, 3))}, {"a": np.ones((4, 2))})
    assert (found.sqnr_db, found.top1_agreement) == (-MAX_DB, None)
    assert math.isfinite(found.max_abs) and found.max_abs > 1e100


def test_parity_of_outputs_that_are_missing() -> None:
    one = {"a": np.ones((4, 3))}
    for left, right in ((one, {**one, "b": np.ones(4)}), ({**one, "b": np.ones(4)}, one)):
        found = statistics.parity("p", left, right)
        assert found.sqnr_db == -MAX_DB
        assert found.per_output["a"] == MAX_DB


def test_parity_with_nan() -> None:
    found = statistics.parity("p", {"a": np.ones((2, 2))}, {"a": np.array([[1, np.nan], [1, 1]])})
    assert found.sqnr_db == -MAX_DB
    assert math.isfinite(found.max_abs), "JSON has no infinity"


@pytest.mark.parametrize(("shape", "expected"), [((5, 1), None), ((5,), None), ((5, 2, 2), None), ((5, 3), 1.0)])
def test_agreement_is_for_classes_only(shape: tuple[int, ...], expected: float | None) -> None:
    x = np.random.default_rng(1).normal(size=shape)
    assert statistics.parity("p", {"a": x}, {"a": x}).top1_agreement == expected


def test_parity_of_whole_numbers_is_how_many_agree() -> None:
    classes = np.arange(1000)
    shifted = classes + 1
    few = np.where(classes % 100 == 0, 7, classes)
    same, wrong, near = (statistics.parity("p", {"a": classes}, {"a": other}) for other in (classes, shifted, few))
    assert (same.sqnr_db, same.top1_agreement) == (MAX_DB, 1)
    assert (wrong.sqnr_db, wrong.top1_agreement) == (0, 0), "large numbers one beside each other are still wrong"
    assert near.sqnr_db == pytest.approx(20) and near.top1_agreement == pytest.approx(0.99)
    truths = np.array([[True, False], [True, True]])
    assert statistics.parity("p", {"a": truths}, {"a": truths}).sqnr_db == MAX_DB
    assert statistics.parity("p", {"a": truths}, {"a": ~truths}).sqnr_db == 0
    assert statistics.parity("p", {"a": classes.astype(np.int64)}, {"a": classes.astype(np.int32)}).sqnr_db == MAX_DB


def test_parity_of_nothing() -> None:
    for dtype in (np.float32, np.int64):
        found = statistics.parity("p", {"a": np.zeros((4, 0), dtype)}, {"a": np.zeros((4, 0), dtype)})
        assert (found.sqnr_db, found.max_abs, found.top1_agreement, found.samples) == (MAX_DB, 0, None, 4)


def test_parity_in_parts_is_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 37, 5))
    whole = statistics.parity("p", {"a": a}, {"a": b})
    monkeypatch.setattr(statistics, "PART_VALUES", 12)
    parts = statistics.parity("p", {"a": a}, {"a": b})
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db) and parts.max_abs == whole.max_abs


# --- intervals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, count: int, low: float, high: float) -> None:
    assert statistics.wilson(successes, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_solves_its_equation(case: tuple[int, int]) -> None:
    """Each end p satisfies |k/n - p| = z sqrt(p (1 - p) / n)."""
    k, n = case
    low, high = statistics.wilson(k, n)
    assert 0 <= low <= k / n + 1e-12 and k / n <= high + 1e-12 and high <= 1
    for p in (low, high):
        assert (k / n - p) ** 2 == pytest.approx(Z95**2 * p * (1 - p) / n, abs=1e-12)


@given(st.integers(0, 500))
def test_wilson_is_symmetric(k: int) -> None:
    low, high = statistics.wilson(k, 500)
    other_low, other_high = statistics.wilson(500 - k, 500)
    assert (low, high) == pytest.approx((1 - other_high, 1 - other_low))


def test_mean_interval_of_values_that_are_not_bits() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    low, high = statistics.mean_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std(ddof=1) / 20, rel=1e-3)
    assert statistics.mean_interval(np.array([0.5])) == (0.5, 0.5)


@given(pairs_of_bits())
def test_paired_drop_by_counting(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Bonett and Price's interval, worked out from the four counts."""
    reference, other = pair
    n = len(reference)
    lost = sum(1 for r, o in zip(reference, other, strict=True) if r > o)
    won = sum(1 for r, o in zip(reference, other, strict=True) if r < o)
    drop, (low, high), _ = statistics.paired_drop(reference, other)
    p, q = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = 1.959964 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    assert drop == pytest.approx((lost - won) / n)
    assert (low, high) == pytest.approx((max(-1, p - q - half), min(1, p - q + half)), abs=1e-6)
    assert -1 <= low <= high <= 1


@given(pairs_of_bits())
def test_paired_drop_mirrors(pair: tuple[np.ndarray, np.ndarray]) -> None:
    drop, (low, high), variance = statistics.paired_drop(*pair)
    mirrored, (other_low, other_high), other_variance = statistics.paired_drop(*pair[::-1])
    assert (drop, low, high, variance) == pytest.approx((-mirrored, -other_high, -other_low, other_variance))


def test_paired_interval_covers_the_truth() -> None:
    """2,000 simulated comparisons: the 95 % interval holds the true drop about 95 % of the time."""
    rng = np.random.default_rng(3)
    lost, won, n, trials = 0.04, 0.01, 400, 2000
    covered = 0
    for _ in range(trials):
        u = rng.random(n)
        reference = np.where(u < won, 0.0, 1.0)
        other = np.where((u >= won) & (u < won + lost), 0.0, 1.0)
        _, (low, high), _ = statistics.paired_drop(reference, other)
        covered += low <= lost - won <= high
    assert 0.935 <= covered / trials <= 0.985


@given(pairs_of_bits(1, 120))
@settings(deadline=None)
def test_mcnemar_against_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    stats = pytest.importorskip("scipy.stats")
    reference, other = pair
    lost, won = int((reference > other).sum()), int((reference < other).sum())
    expected = stats.binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert statistics.mcnemar(reference, other) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_many_pairs() -> None:
    """No overflow where the counts are in the thousands."""
    reference, other = np.ones(5000), np.zeros(5000)
    assert statistics.mcnemar(reference, other) == 0
    half = np.arange(5000) % 2
    assert statistics.mcnemar(half, 1 - half) == 1


# --- metric and verdict ---------------------------------------------------------------------------------------------


@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(2, 5)), elements=finite), st.integers(0, 99))
def test_top1_by_counting(values: np.ndarray, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(values.shape[1], size=len(values))
    found = metrics.top1({"output": values}, labels)
    right = [
        max(range(len(row)), key=lambda i: (row[i], -i)) == label for row, label in zip(values, labels, strict=True)
    ]
    assert found.per_sample.tolist() == [float(r) for r in right]


def test_metric_paired() -> None:
    reference, worse = np.ones(100), np.r_[np.zeros(5), np.ones(95)]
    found = statistics.metric(scores(worse), "sha", scores(reference), "torch")
    assert (found.value, found.samples, found.against, found.set_sha256) == (0.95, 100, "torch", "sha")
    assert found.drop_pp == pytest.approx(5)
    assert found.drop_ci95 is not None and found.drop_ci95[0] < 5 < found.drop_ci95[1]
    alone = statistics.metric(scores(worse), "sha")
    assert (alone.drop_pp, alone.drop_ci95, alone.against) == (None, None, None)


def test_where_lower_is_better_a_rise_is_a_drop() -> None:
    """An error that grows by 0.1 is 10 points worse."""
    rng = np.random.default_rng(0)
    before = rng.random(500)
    after = before + 0.1 + 0.01 * rng.normal(size=500)
    found = statistics.metric(scores(after, higher=False), "s", scores(before, higher=False), "torch")
    assert found.drop_pp == pytest.approx(10, abs=0.2)
    assert found.drop_ci95 is not None and found.drop_ci95[0] <= found.drop_pp <= found.drop_ci95[1]
    assert statistics.verdict(scores(before, False), scores(after, False), 1, "val").state == "missed"
    assert statistics.verdict(scores(after, False), scores(before, False), 1, "val").state == "met"


@given(pairs_of_bits(2, 300), st.floats(-20, 20))
def test_verdict_is_what_the_interval_says(pair: tuple[np.ndarray, np.ndarray], budget: float) -> None:
    _, (low, high), _ = statistics.paired_drop(*pair)
    found = statistics.verdict(scores(pair[0]), scores(pair[1]), budget, "val")
    expected = "met" if 100 * high <= budget else "missed" if 100 * low > budget else "undecided"
    assert (found.state, found.budget_pp, found.set) == (expected, budget, "val")
    if found.state != "undecided":
        assert found.samples_to_decide is None


@given(st.integers(0, 12), st.integers(0, 12), st.integers(200, 1500), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
@settings(deadline=None)
def test_samples_to_decide_would_decide(lost: int, won: int, n: int, budget: float) -> None:
    """With that many samples of the same mixture the verdict is met or missed, at most a few per cent later."""
    reference, other = np.ones(n), np.ones(n)
    other[:lost] = 0
    reference[lost : lost + won] = 0
    found = statistics.verdict(scores(reference), scores(other), budget, "val")
    assume(found.state == "undecided" and found.samples_to_decide is not None)
    needed = found.samples_to_decide
    assert needed is not None and needed > 0
    times = math.ceil(1.3 * max(needed, n) / n) + 1
    assume(times * n < 3_000_000)
    more = statistics.verdict(scores(np.tile(reference, times)), scores(np.tile(other, times)), budget, "val")
    assert more.state == ("met" if 100 * (lost - won) / n < budget else "missed")


def test_samples_to_decide_is_left_out_where_nothing_would() -> None:
    reference = np.ones(1000)
    other = np.r_[np.zeros(5), np.ones(995)]
    assert statistics.verdict(scores(reference), scores(other), 0.5, "val").samples_to_decide is None


def test_identical_answers_over_many_samples_meet_a_budget() -> None:
    ones = np.ones(1000)
    assert statistics.verdict(scores(ones), scores(ones), 0.5, "val").state == "met"


CLASSES = np.arange(120) % 6


@pytest.mark.parametrize(
    ("correct", "labels", "guesses"),
    [
        (CLASSES == 3, CLASSES, True),  # constant predictions
        (np.arange(120) < 25, CLASSES, True),
        (np.arange(120) < 60, CLASSES, False),
        (np.arange(120) < 100, np.arange(120) < 96, True),  # 83 %, and 80 % have the same class
        (np.arange(120) < 118, np.arange(120) < 96, False),
        (np.zeros(120), CLASSES, True),
    ],
)
def test_chance(correct: Any, labels: Any, guesses: bool) -> None:
    """No interval that includes the share of a class is better than naming that class."""
    reference, classes = scores(correct.astype(float)), labels.astype(np.int64)
    reason = statistics.chance(reference, classes)
    assert bool(reason) is guesses
    verdict = statistics.verdict(reference, reference, 50, "val", classes)
    assert verdict.state == ("undecided" if guesses else "met")
    assert ("no better than chance" in verdict.reason) is guesses
    assert statistics.verdict(reference, reference, 50, "val").state == "met", "without labels nothing is known"


def test_only_an_accuracy_over_classes_can_be_chance() -> None:
    half = scores(np.linspace(0, 1, 120))
    assert not statistics.chance(half, CLASSES), "no accuracy"
    wrong = scores(np.zeros(120))
    assert not statistics.chance(wrong, CLASSES.astype(float)), "no classes"
    assert not statistics.chance(wrong, np.zeros(120, np.int64)), "one class"
    assert not statistics.chance(wrong, np.zeros((120, 4), np.int64)), "boxes"


def test_a_shape_that_differs() -> None:
    y = np.zeros((5, 8, 3))
    assert statistics.shape_difference({"y": y}, {"z": y}) == ""
    assert statistics.shape_difference({"y": y}, {"y": np.zeros((5, 8, 4))}) == "output y is 8x3 and 8x4"
    assert statistics.shape_difference({"y": y}, {"y": np.zeros(5)}) == "output y is 8x3 and one value"
    assert statistics.shape_difference({"y": y}, {}) == "there are 1 and 0 outputs"


# --- latency --------------------------------------------------------------------------------------------------------


def processes(*times_ms: np.ndarray) -> list[Process]:
    return [Process(tuple(int(t * 1e6) for t in times), 1.0, 1.0, 3, 100, 50) for times in times_ms]


@given(
    st.lists(arrays(np.float64, st.integers(1, 40), elements=st.floats(0.001, 50)), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=40)
def test_latency_holds_together(times: list[np.ndarray]) -> None:
    made = processes(*times)
    found = statistics.latency(made, threads=2, batch=4)
    pooled = np.concatenate([np.array(p.times_ns) / 1e6 for p in made])
    assert (found.p50, found.p90, found.p99) == pytest.approx(tuple(np.percentile(pooled, (50, 90, 99))))
    assert found.p50 <= found.p90 <= found.p99
    assert found.ci95[0] <= found.p50 <= found.ci95[1]
    assert found.ci95[0] >= 0
    assert (found.processes, found.runs, found.threads, found.batch) == (len(times), len(pooled), 2, 4)
    assert found.per_process_p50 == pytest.approx(tuple(np.median(np.array(p.times_ns) / 1e6) for p in made))


def test_latency_says_the_same_twice() -> None:
    rng = np.random.default_rng(0)
    made = processes(*(rng.lognormal(size=100) for _ in range(5)))
    assert statistics.latency(made, 1, 1) == statistics.latency(made, 1, 1)


def test_processes_that_disagree_widen_the_interval() -> None:
    """What differs from process to process is what a run cannot average away."""
    rng = np.random.default_rng(0)
    alike = statistics.latency(processes(*(1 + 0.01 * rng.random(200) for _ in range(5))), 1, 1)
    apart = statistics.latency(processes(*(1 + 0.1 * k + 0.01 * rng.random(200) for k in range(5))), 1, 1)

    def width(latency: Any) -> float:
        return float(latency.ci95[1] - latency.ci95[0])

    assert width(apart) > 10 * width(alike)
    assert width(apart) > 0.1


def test_the_scale_of_time_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    times = [rng.lognormal(size=50) for _ in range(3)]
    one = statistics.latency(processes(*times), 1, 1)
    ten = statistics.latency(processes(*(10 * t for t in times)), 1, 1)
    assert ten.ci95 == pytest.approx(tuple(10 * end for end in one.ci95), rel=1e-3)
    assert replace(ten, p50=0).p90 == pytest.approx(10 * one.p90, rel=1e-3)


def test_t_quantile_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for p in (0.9, 0.975, 0.995):
        for dof in (1.0, 2.0, 3.7, 4.0, 14.0, 60.0):
            assert statistics.t_quantile(p, dof) == pytest.approx(stats.t.ppf(p, dof), rel=2e-3)


def test_a_ratio_of_two_latencies() -> None:
    rng = np.random.default_rng(0)
    drift = [1 + 0.3 * k for k in range(5)]
    slow = statistics.latency(processes(*(2 * d + 0.001 * rng.random(50) for d in drift)), 1, 1)
    fast = statistics.latency(processes(*(d + 0.001 * rng.random(50) for d in drift)), 1, 1)
    paired = statistics.latency_ratio(slow, fast, paired=True)
    assert paired.value == pytest.approx(2, rel=0.01)
    assert paired.differs
    assert paired.ci99[0] <= paired.value <= paired.ci99[1]
    apart = statistics.latency_ratio(slow, fast, paired=False)
    assert apart.ci99[1] - apart.ci99[0] > paired.ci99[1] - paired.ci99[0], "pairing did not take the drift out"
    same = statistics.latency_ratio(slow, slow, paired=False)
    assert not same.differs
    alone = statistics.latency_ratio(*(statistics.latency(processes(np.ones(9)), 1, 1),) * 2, paired=False)
    assert not alone.differs, "one process on each side proves nothing"


def test_latencies_by_different_clocks_are_compared_by_cpu_time() -> None:
    """One session found the machine busy, the other not."""
    rng = np.random.default_rng(0)

    def made(wall: float, cpu: float, clock: Any) -> Any:
        each = [rng.normal(1, 0.001, (2, 30)) for _ in range(5)]
        times = [replace(p, cpu_ns=tuple((cpu * e[1] * 1e6).astype(int))) for e in each for p in processes(wall * e[0])]
        return statistics.latency(times, 1, 1, clock)

    busy, calm = made(9.0, 2.0, "cpu"), made(1.05, 1.0, "wall")
    assert (busy.clock, busy.p50) == ("cpu", pytest.approx(2, rel=0.01)) and calm.p50 == pytest.approx(1.05, rel=0.01)
    assert statistics.latency_ratio(busy, calm, paired=False).value == pytest.approx(2, rel=0.01)
    old = replace(calm, per_process_cpu=())
    assert statistics.latency_ratio(busy, old, paired=False).value == pytest.approx(2 / 1.05, rel=0.01)


def test_a_burst_in_a_few_processes_hides_no_difference() -> None:
    """Three of fifteen pairs were disturbed; a plain t interval would have called nothing."""
    rng = np.random.default_rng(0)
    fast = np.exp(0.01 * rng.standard_normal(15)) * np.where(np.arange(15) % 5, 1, 1.4)
    slow = 1.05 * np.exp(0.01 * rng.standard_normal(15))
    plain = np.log(slow / fast)
    assert abs(plain.mean()) < statistics.t_quantile(0.995, 14) * plain.std(ddof=1) / math.sqrt(15)
    pair = [statistics.latency(processes(*(p * np.ones(20) for p in side)), 1, 1) for side in (slow, fast)]
    for paired in (True, False):
        ratio = statistics.latency_ratio(pair[0], pair[1], paired=paired)
        assert ratio.differs
        assert ratio.value == pytest.approx(1.05, rel=0.02)


def test_trimmed_mean_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).standard_t(2, 23)
    mean, variance, dof = statistics.trimmed_mean(values)
    assert mean == pytest.approx(stats.trim_mean(values, 0.2))
    assert variance == pytest.approx(stats.mstats.trimmed_stde(values, limits=(4 / 23, 4 / 23)) ** 2, rel=0.1)
    assert dof == 23 - 2 * 4 - 1
    assert statistics.trimmed_mean(np.ones(4))[:2] == (1.0, 0.0)


# --- metrics that are no mean over samples ---------------------------------------------------------------------------


def ratio(values: Any, unit: str = "fraction", higher: bool = True) -> Scores:
    """Sum of the first column over the sum of the second."""
    return Scores(
        "ratio", unit, higher, np.asarray(values, np.float64), lambda rows: rows[:, 0].sum() / rows[:, 1].sum()
    )


def test_a_reduced_metric_that_is_a_mean_agrees_with_the_mean() -> None:
    """With ones below the line the ratio is a mean, so that value, intervals and verdicts must be nearly its own."""
    rng = np.random.default_rng(1)
    before = rng.normal(0.8, 0.1, 2000)
    after = before - rng.normal(0.01, 0.05, 2000)
    ones = np.ones(2000)
    mean = statistics.metric(scores(after), "s", scores(before), "torch")
    reduced = statistics.metric(ratio(np.stack([after, ones], 1)), "s", ratio(np.stack([before, ones], 1)), "torch")
    assert reduced.value == pytest.approx(mean.value) and reduced.drop_pp == pytest.approx(mean.drop_pp)
    assert reduced.ci95 == pytest.approx(mean.ci95, abs=0.002)
    assert reduced.drop_ci95 == pytest.approx(mean.drop_ci95, abs=0.1)
    assert reduced.drop_p is None
    for budget in (0.2, 5.0):
        states = {
            statistics.verdict(made(before), made(after), budget, "val").state
            for made in (scores, lambda values: ratio(np.stack([values, ones], 1)))
        }
        assert len(states) == 1


def test_the_bootstrap_of_a_ratio_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(100):
        below = rng.integers(1, 9, 200)
        found = statistics.metric(ratio(np.stack([rng.binomial(below, 0.7), below], 1)), "s")
        covered += found.ci95[0] <= 0.7 <= found.ci95[1]
    assert covered >= 88


def test_the_same_scores_twice_drop_nothing() -> None:
    rows = ratio(np.random.default_rng(0).random((50, 2)))
    found = statistics.metric(rows, "s", rows, "torch")
    assert found.drop_pp == 0 and found.drop_ci95 == (0, 0)
    assert statistics.verdict(rows, rows, 0.0, "val").state == "met"


def test_the_drop_of_a_metric_with_a_unit_is_in_per_cent_of_it() -> None:
    """An error of 2 stars that grows by 0.02 is 1 % worse."""
    before = np.stack([np.full(40, 2.0), np.ones(40)], 1)
    after = np.stack([np.full(40, 2.02), np.ones(40)], 1)
    found = statistics.metric(ratio(after, "stars", False), "s", ratio(before, "stars", False), "torch")
    assert found.drop_pp == pytest.approx(1)
    assert statistics.verdict(ratio(before, "stars", False), ratio(after, "stars", False), 1.1, "val").state == "met"
    assert statistics.verdict(ratio(before, "stars", False), ratio(after, "stars", False), 0.9, "val").state == "missed"


def test_logits_of_tokens_are_compared_per_token() -> None:
    """(samples, tokens, words): means over all tokens; hidden states of that shape have no classes."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4, 6, 9)).astype(np.float32)
    second = first + rng.normal(0, 0.3, first.shape).astype(np.float32)
    flat = statistics.parity("onnx", {"y": first.reshape(24, 9)}, {"y": second.reshape(24, 9)})
    per_token = statistics.parity("onnx", {"y": first}, {"y": second}, per_position=True)
    assert per_token.kl == pytest.approx(flat.kl) and per_token.top1_agreement == flat.top1_agreement
    hidden = statistics.parity("onnx", {"y": first}, {"y": second})
    assert hidden.kl is None and hidden.top1_agreement is None and hidden.sqnr_db == per_token.sqnr_db


def test_a_limit_on_the_divergence() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(50, 9))
    near = statistics.parity("onnx", {"y": first}, {"y": first + rng.normal(0, 0.1, first.shape)})
    assert near.kl is not None and 0.001 < near.kl < 0.01
    assert not statistics.below_floor(near, labelled=True) and "nats" in statistics.below_floor(near, True, near.kl / 2)
    sharp = statistics.parity("onnx", {"y": 20 * first}, {"y": 10 * first})  # the same classes, other probabilities
    assert sharp.top1_agreement == 1 and "is the least" in statistics.below_floor(sharp, labelled=False)
    embedding = statistics.parity("onnx", {"y": first[:, None]}, {"y": first[:, None]})
    assert "no class probabilities" in statistics.below_floor(embedding, False, 0.1)
