"""Parity, metrics with intervals, paired tests and latency from runs. Pure functions: no files, no devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.measurement import Latency, Metric, Parity, Process, Ratio, Verdict
from edgekit.core.task import Scores

#: two-sided 95 % normal quantile
Z95 = 1.959963984540054

#: SQNR of identical outputs; JSON has no infinity
MAX_DB = 300.0

#: the least agreement with the float model of what was compressed without labels to judge it by
MIN_AGREEMENT, MIN_SQNR_DB = 0.9, 10.0
#: and its largest KL divergence from the float model, in nats
MAX_KL = 0.1

RESAMPLES = 500

#: for a metric that is not a mean over samples
METRIC_RESAMPLES = 200

BLOCKS = 20

MAX_RATIO = 1e6

#: number of values of an output that are compared at a time
PART_VALUES = 1 << 22

#: samples whose nearest neighbours are compared, and rows of their similarities that are computed at once
NEIGHBOURS, BLOCK = 2000, 512

Array = NDArray[Any]


def sqnr_db(reference: Array, other: Array) -> float:
    """Signal-to-quantization-noise ratio, 10 log10(sum r² / sum (r - o)²), at most MAX_DB; NaN gives -MAX_DB."""
    signal, noise, _ = _energies(reference, other)
    return decibels(signal, noise)


def shape_difference(reference: Mapping[str, Array], other: Mapping[str, Array]) -> str:
    """The first output whose shape differs, without the sample axis ("output y is 8x3 and 8x4"); "" if none does."""
    if len(reference) != len(other):
        return f"there are {len(reference)} and {len(other)} outputs"
    for (name, a), b in zip(reference.items(), other.values(), strict=True):
        if a.shape != b.shape:
            shapes = ("x".join(map(str, array.shape[1:])) or "one value" for array in (a, b))
            return f"output {name} is {' and '.join(shapes)}"
    return ""


def parity(
    against: str,
    reference: Mapping[str, Array],
    other: Mapping[str, Array],
    per_position: bool = False,
    embedding: str = "",
) -> Parity:
    """Compare outputs in order (names may differ between formats); the SQNR is that of the worst output.

    For integers and booleans, noise / signal is the share of elements that differ. Different shapes give -MAX_DB.
    `top1_agreement` is set if the first output is (samples, classes) or integers, and KL divergence for the former;
    both are means over positions if it is (samples, …, classes), which `per_position` says of more than two axes.
    `embedding`: the output of `reference`, if any, that is one; its neighbours are compared, and no classes.
    """
    per_output: dict[str, float] = {}
    max_abs = 0.0
    for (name, a), b in zip(reference.items(), other.values(), strict=False):
        if a.shape != b.shape:
            per_output[name], max_abs = -MAX_DB, math.inf
            continue
        signal, noise, largest = _energies(a, b)
        if _is_integer(a) and _is_integer(b):
            signal, noise = float(a.size), float(np.count_nonzero(a != b))
        per_output[name] = decibels(signal, noise)
        max_abs = max(max_abs, largest)
    if len(reference) != len(other):
        per_output["number of outputs"], max_abs = -MAX_DB, math.inf
    first, second = next(iter(reference.values())), next(iter(other.values()))
    vectors = dict(zip(reference, other.values(), strict=False)).get(embedding)
    are_classes = next(iter(reference)) != embedding
    return Parity(
        against,
        min(per_output.values()),
        min(max_abs, 1e300),
        _agreement(first, second, per_position) if are_classes else None,
        len(first),
        per_output if len(per_output) > 1 else {},
        _divergence(first, second, per_position) if are_classes else None,
        next(
            (n for (n, a), b in zip(reference.items(), other.values(), strict=False) if _stuck(a, b, per_output[n])), ""
        ),
        neighbour_agreement(reference[embedding], vectors) if vectors is not None else None,
    )


def below_floor(parity: Parity, labelled: bool, max_kl: float = 0.0) -> str:
    """Why a compressed model's outputs are too far from the float model's to be of use; "" if they are not.

    A constant output is always too far, and so is a KL divergence above `max_kl`, if that is not 0. Without labels,
    which decide by the accuracy, so are an agreement of the top classes or nearest neighbours below `MIN_AGREEMENT`, an
    SQNR below `MIN_SQNR_DB` in any output, and a KL divergence above `MAX_KL`.
    """
    if parity.constant:
        return f"output {parity.constant!r} is the same for all samples, unlike in {parity.against}"
    if max_kl and parity.kl is None:
        return "its first output gives no class probabilities, so that a largest KL divergence says nothing of it"
    if max_kl and parity.kl is not None and parity.kl > max_kl:
        return _divergent(parity, max_kl)
    if labelled:
        return ""
    if parity.top1_agreement is not None and parity.top1_agreement < MIN_AGREEMENT:
        share = f"{parity.top1_agreement:.1%} of the samples have the top class of {parity.against}"
        return f"only {share}, and {MIN_AGREEMENT:.0%} is the least"
    if parity.neighbour_agreement is not None and parity.neighbour_agreement < MIN_AGREEMENT:
        share = f"{parity.neighbour_agreement:.1%} of the samples have the nearest neighbour of {parity.against}"
        return f"only {share}, and {MIN_AGREEMENT:.0%} is the least"
    if parity.sqnr_db < MIN_SQNR_DB:
        worst = min(parity.per_output, key=lambda name: parity.per_output[name], default="")
        where = f" of output {worst!r}" if worst else ""
        return (
            f"the SQNR{where} against {parity.against} is {parity.sqnr_db:.1f} dB, and {MIN_SQNR_DB:g} dB is the least"
        )
    return _divergent(parity, MAX_KL) if not max_kl and parity.kl is not None and parity.kl > MAX_KL else ""


def _divergent(parity: Parity, most: float) -> str:
    return f"the KL divergence from {parity.against} is {parity.kl:.4f} nats, and {most:g} is the most"


def _is_integer(values: Array) -> bool:
    return values.dtype.kind in "biu"


def _energies(reference: Array, other: Array) -> tuple[float, float, float]:
    """Sum of r², sum of (r - o)² and the largest |r - o|, in chunks: outputs may be larger than memory.

    NaN or infinity on either side makes the last two infinite.
    """
    r, o = np.atleast_1d(reference), np.atleast_1d(other)
    rows = max(1, PART_VALUES * len(r) // max(1, r.size))
    signal = noise = largest = 0.0
    for first in range(0, len(r), rows):
        a, b = (np.asarray(side[first : first + rows], np.float64) for side in (r, o))
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return signal, math.inf, math.inf
        difference = np.abs(a - b)
        signal, noise = signal + float(np.sum(a * a)), noise + float(np.sum(difference**2))
        largest = max(largest, float(np.max(difference, initial=0.0)))
    return signal, noise, largest


def decibels(signal: float, noise: float) -> float:
    """10 log10 of the ratio of two energies, between -MAX_DB and MAX_DB; -MAX_DB if either is not finite."""
    if not math.isfinite(noise) or not math.isfinite(signal):
        return -MAX_DB
    if noise == 0:
        return MAX_DB
    return max(-MAX_DB, min(MAX_DB, 10 * math.log10(signal / noise))) if signal > 0 else -MAX_DB


def _agreement(first: Array, second: Array, per_position: bool = False) -> float | None:
    """The share of samples or positions with the same top class, or of equal integers. None for other outputs."""
    if first.shape != second.shape or not first.size:
        return None
    if _is_integer(first) and _is_integer(second):
        return float(np.mean(first == second))
    if _has_classes(first, per_position):
        return float(np.mean(first.argmax(axis=-1) == second.argmax(axis=-1)))
    return None


def neighbour_agreement(first: Array, second: Array) -> float | None:
    """The share of samples whose nearest other sample, by cosine similarity, is the same; of the first NEIGHBOURS.

    Both are (samples, values). None for other shapes, fewer than three samples, and NaN or infinity.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 3:
        return None
    nearest = [_nearest(np.asarray(side[:NEIGHBOURS], np.float64)) for side in (first, second)]
    return None if nearest[0] is None or nearest[1] is None else float(np.mean(nearest[0] == nearest[1]))


def _nearest(vectors: Array) -> Array | None:
    """The index of each vector's nearest other; None for vectors that are not finite."""
    if not np.isfinite(vectors).all():
        return None
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    nearest = []
    for start in range(0, len(unit), BLOCK):
        similar = unit[start : start + BLOCK] @ unit.T
        similar[np.arange(len(similar)), np.arange(start, start + len(similar))] = -np.inf
        nearest.append(similar.argmax(axis=1))
    return np.concatenate(nearest)


def _has_classes(values: Array, per_position: bool) -> bool:
    return (values.ndim == 2 or (per_position and values.ndim > 2)) and values.shape[-1] > 1


def _divergence(first: Array, second: Array, per_position: bool = False) -> float | None:
    """The mean of KL(first || second) over samples or positions, in nats; None unless both are floats whose last axis
    is the classes."""
    if first.shape != second.shape or not first.size or not _has_classes(first, per_position):
        return None
    if first.dtype.kind != "f" or second.dtype.kind != "f":
        return None
    classes = first.shape[-1]
    a, b = first.reshape(-1, classes), second.reshape(-1, classes)
    rows = max(1, PART_VALUES // classes)
    parts = [slice(row, row + rows) for row in range(0, len(a), rows)]
    normalized = all(bool(np.all(a[part] >= 0) and np.allclose(a[part].sum(axis=1), 1, atol=0.05)) for part in parts)
    total = 0.0
    for part in parts:
        p, q = (_log_probabilities(np.asarray(side[part], np.float64), normalized) for side in (a, b))
        total += float(np.sum(np.exp(p) * (p - q)))
    divergence = total / len(a)
    return divergence if math.isfinite(divergence) else None


def _log_probabilities(scores: Array, normalized: bool) -> Array:
    """Of scores (samples, classes), which are logits, or `normalized` to probabilities already."""
    if normalized:
        scores = np.log(np.maximum(scores, 1e-9))
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _stuck(reference: Array, other: Array, sqnr_db: float) -> bool:
    """Is the second the same for all samples, and the first not, by more than is lost in rounding?"""
    if sqnr_db >= MIN_SQNR_DB:
        return False
    if len(reference) < 2 or reference.shape != other.shape or not other.size:
        return False
    return bool((other == other[:1]).all() and not (reference == reference[:1]).all())


def wilson(successes: float, count: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927)."""
    p = successes / count
    centre, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mean_interval(values: Array, z: float = Z95) -> tuple[float, float]:
    """Confidence interval of a mean: Wilson's if all values are 0 or 1, else the normal interval."""
    if np.isin(values, (0, 1)).all():
        return wilson(float(values.sum()), len(values), z)
    half = z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()) - half, float(values.mean()) + half


def paired_drop(reference: Array, other: Array, z: float = Z95) -> tuple[float, tuple[float, float], float]:
    """Mean of reference - other over the same samples, its interval, and the variance of one pair.

    For 0/1 values the interval is Bonett and Price's adjusted Wald for paired proportions (2012,
    https://doi.org/10.3102/1076998611411915): one pair is added to each of the two discordant counts.
    """
    difference = np.asarray(reference, np.float64) - np.asarray(other, np.float64)
    n = len(difference)
    drop = float(difference.mean())
    if np.isin(difference, (-1, 0, 1)).all():
        lost, won = float((difference > 0).sum()), float((difference < 0).sum())
        p, q = (lost + 1) / (n + 2), (won + 1) / (n + 2)
        variance = p + q - (p - q) ** 2
        half = z * math.sqrt(variance / (n + 2))
        return drop, (max(-1.0, (p - q) - half), min(1.0, (p - q) + half)), variance
    variance = float(difference.var(ddof=1)) if n > 1 else 0.0
    half = z * math.sqrt(variance / n)
    return drop, (drop - half, drop + half), variance


def mcnemar(reference: Array, other: Array) -> float:
    """Two-sided exact p-value of McNemar's test for paired 0/1 values: a binomial test on the discordant pairs."""
    lost = int(np.sum(reference > other))
    won = int(np.sum(reference < other))
    n, k = lost + won, min(lost, won)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return float(min(1.0, 2 * tail))


def metric(scores: Scores, set_sha256: str, reference: Scores | None = None, against: str | None = None) -> Metric:
    """The value over all samples with its 95 % interval; paired with `reference` (same samples), if given."""
    values = np.asarray(scores.per_sample, np.float64)
    drop = interval = p = None
    if reference is not None:
        drop, interval, _ = _drop(reference, scores)
        before = np.asarray(reference.per_sample, np.float64)
        counted = scores.reduce is None and np.isin(values, (0, 1)).all() and np.isin(before, (0, 1)).all()
        p = mcnemar(before, values) if counted else None
    return Metric(
        name=scores.name,
        unit=scores.unit,
        higher_is_better=scores.higher_is_better,
        value=float(values.mean()) if scores.reduce is None else scores.value,
        ci95=mean_interval(values) if scores.reduce is None else _bootstrap_interval(scores),
        samples=len(values),
        set_sha256=set_sha256,
        drop_pp=drop,
        drop_ci95=interval,
        drop_p=p,
        against=against,
    )


def chance(scores: Scores, labels: Array) -> str:
    """Why a model is no better than chance, "" if it is better, or if that cannot be told from its scores.

    A classifier is no better if its 95 % interval does not lie above both 1 / classes and the share of the most
    frequent class, which constant predictions reach; `labels` are the classes of its samples. Other metrics say what
    luck reaches.
    """
    values = np.asarray(scores.per_sample, np.float64)
    if scores.luck is not None:
        least = scores.value if scores.reduce else mean_interval(values)[0]
        guessing = f"its {scores.name} is {scores.value:.2%}, and guessing reaches {scores.luck:.2%}"
        return guessing if least <= scores.luck else ""
    is_accuracy = scores.reduce is None and scores.unit == "fraction" and np.isin(values, (0, 1)).all()
    if not is_accuracy or labels.dtype.kind not in "iu" or labels.shape != values.shape:
        return ""
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or wilson(float(values.sum()), len(values))[0] > max(
        counts.max() / len(values), 1 / len(counts)
    ):
        return ""
    frequent = f", of which the most frequent has {counts.max() / len(values):.1%} of the samples"
    return f"{values.mean():.1%} of {len(counts)} classes" + (frequent if counts.max() > counts.min() else "")


def verdict(reference: Scores, scores: Scores, budget_pp: float, set_name: str, labels: Array | None = None) -> Verdict:
    """Is the drop against `reference` within `budget_pp`, by the paired 95 % interval?

    The budget is in percentage points, or in per cent of the reference if the metric is not a fraction. With the
    `labels` of the samples it is undecided if the reference is no better than chance.
    """
    if labels is not None and (guessing := chance(reference, labels)):
        reason = f"the float model is no better than chance: {guessing}"
        return Verdict("undecided", budget_pp, set_name, reason=reason)
    drop, (low, high), variance = _drop(reference, scores)
    if high <= budget_pp:
        return Verdict("met", budget_pp, set_name)
    if low > budget_pp:
        return Verdict("missed", budget_pp, set_name)
    gap = (budget_pp - drop) / 100
    # the n at which the half-width of the interval equals the gap, if drop and discordance stay the same
    needed = math.ceil(Z95**2 * variance / gap**2) if abs(gap) > 1e-4 else None
    return Verdict("undecided", budget_pp, set_name, needed)


def _drop(reference: Scores, scores: Scores) -> tuple[float, tuple[float, float], float]:
    """The drop in points (see `Metric`), its interval, and the variance of one pair as a fraction, not in points."""
    scale = 100.0 if scores.higher_is_better else -100.0
    if scores.unit != "fraction":
        scale /= abs(reference.value) or 1.0
    if scores.reduce is None:
        drop, ends, variance = paired_drop(reference.per_sample, scores.per_sample)
    else:
        drop, ends, variance = bootstrap_drop(reference, scores)
    low, high = sorted((scale * ends[0], scale * ends[1]))
    return scale * drop, (low, high), variance * (scale / 100) ** 2


def bootstrap_drop(reference: Scores, other: Scores) -> tuple[float, tuple[float, float], float]:
    """Like `paired_drop`, for a metric that is no mean: both sides are reduced over the same resampled samples.

    The paired bootstrap (Efron and Tibshirani 1993, chapter 10); the interval is the normal one around the difference,
    with the bootstrap's standard error.
    """
    before, after = np.asarray(reference.per_sample), np.asarray(other.per_sample)
    reduce = _reduction(other)
    drop = reduce(before) - reduce(after)
    resampled = np.array([reduce(before[drawn]) - reduce(after[drawn]) for drawn in _draws(len(after))])
    error = float(np.nanstd(resampled, ddof=1))
    return drop, (drop - Z95 * error, drop + Z95 * error), error**2 * len(after)


def _bootstrap_interval(scores: Scores) -> tuple[float, float]:
    rows, reduce, value = np.asarray(scores.per_sample), _reduction(scores), scores.value
    error = float(np.nanstd([reduce(rows[drawn]) for drawn in _draws(len(rows))], ddof=1))
    low, high = value - Z95 * error, value + Z95 * error
    return (max(0.0, low), min(1.0, high)) if scores.unit == "fraction" and value >= 0 else (low, high)


def _reduction(scores: Scores) -> Callable[[Array], float]:
    assert scores.reduce is not None
    return scores.reduce


def _draws(count: int, seed: int = 0) -> Iterator[Array]:
    """Sample indices drawn with replacement; the same draws on every call, so that comparisons are paired."""
    rng = np.random.default_rng(seed)
    return (rng.integers(count, size=count) for _ in range(METRIC_RESAMPLES))


def latency(processes: Sequence[Process], threads: int, batch: int, clock: Literal["wall", "cpu"] = "wall") -> Latency:
    """Percentiles in ms over all timed inferences, with the 95 % interval of p50, by that clock.

    The interval comes from a two-level bootstrap (processes with replacement, then blocks within each: consecutive
    times are correlated, so single times must not be drawn). Its width is scaled by Student's t because the processes
    are few: resampling n of n underestimates a variance by (n - 1) / n, and n - 1 degrees of freedom remain.
    """
    cpu = [np.asarray(process.cpu_ns, np.float64) / 1e6 for process in processes if process.cpu_ns]
    times = [np.asarray(process.times_ns, np.float64) / 1e6 for process in processes] if clock == "wall" else cpu
    pooled = np.concatenate(times)
    p50, p90, p99 = (float(q) for q in np.percentile(pooled, (50, 90, 99)))
    n = len(times)
    widen = t_quantile(0.975, n - 1) * math.sqrt(n / (n - 1)) if n > 1 else Z95
    half = widen * float(np.std(bootstrap_medians(times)))
    per_process, per_process_cpu = (tuple(float(np.median(values)) for values in each) for each in (times, cpu))
    interval = max(0.0, p50 - half), p50 + half
    return Latency(p50, p90, p99, interval, n, len(pooled), threads, batch, per_process, clock, per_process_cpu)


def bootstrap_medians(times: Sequence[Array], seed: int = 0) -> Array:
    """Medians of resampled data: processes drawn with replacement, then blocks within each.

    A block is represented by its median, so the cost of a resample does not depend on the number of inferences.
    """
    rng = np.random.default_rng(seed)
    blocks = [np.array([np.median(b) for b in np.array_split(t, min(BLOCKS, len(t)))]) for t in times]
    medians = np.empty(RESAMPLES)
    for index, row in enumerate(rng.integers(len(blocks), size=(RESAMPLES, len(blocks)))):
        drawn = [blocks[process][rng.integers(len(blocks[process]), size=len(blocks[process]))] for process in row]
        medians[index] = np.median(np.concatenate(drawn))
    return medians


def latency_ratio(a: Latency, b: Latency, paired: bool) -> Ratio:
    """p50 of `a` over p50 of `b`, with its 99 % interval from the processes' own p50s, in logarithms.

    `paired`: the i-th processes ran next to each other in one session, so a disturbance affects both. The means are
    trimmed by a fifth at each end: a burst of load makes a few processes much slower, and would otherwise hide a
    difference that all the others show. With fewer than two processes on a side the interval is (0, MAX_RATIO). If the
    clocks differ, the CPU times are compared, if both are known; else the interval is (0, MAX_RATIO), too.
    """
    mine, theirs = a.per_process_p50, b.per_process_p50
    comparable = a.clock == b.clock or bool(a.per_process_cpu and b.per_process_cpu)
    if a.clock != b.clock and comparable:
        mine, theirs = a.per_process_cpu, b.per_process_cpu
    if min([*mine, *theirs, 1]) <= 0:
        return Ratio(1.0, (0.0, MAX_RATIO))
    x, y = np.log(mine), np.log(theirs)
    if min(len(x), len(y)) < 2 or not comparable:
        return Ratio(math.exp(float(x.mean() - y.mean())), (0.0, MAX_RATIO))
    if paired and len(x) == len(y):
        mean, variance, dof = trimmed_mean(x - y)
    else:
        (first, u, n), (second, v, m) = trimmed_mean(x), trimmed_mean(y)
        mean, variance = first - second, u + v
        dof = variance**2 / (u**2 / n + v**2 / m) if variance else 1.0
    half = t_quantile(0.995, dof) * math.sqrt(variance)
    return Ratio(math.exp(mean), (math.exp(mean - half), math.exp(min(mean + half, math.log(MAX_RATIO)))))


def trimmed_mean(values: Array) -> tuple[float, float, float]:
    """The mean without the largest and smallest fifth (a trimmed mean), its variance, and its degrees of freedom.

    Tukey and McLaughlin's (1963), from the winsorized variance; Yuen (1974, https://doi.org/10.1093/biomet/61.1.165)
    for two samples. Fewer than five values are not trimmed.
    """
    n, cut = len(values), len(values) // 5
    ordered = np.sort(values)
    winsorized = np.clip(ordered, ordered[cut], ordered[n - 1 - cut])
    kept = n - 2 * cut
    variance = float(winsorized.var(ddof=1)) * (n - 1) / (kept * (kept - 1))
    return float(ordered[cut : n - cut].mean()), variance, kept - 1.0


@cache
def t_quantile(p: float, dof: float) -> float:
    """Quantile of Student's t, by bisection of its distribution function; numpy and the standard library have none.

    F(t) = 1 - I_x(dof/2, 1/2)/2 with x = dof/(dof + t²); the integral is computed numerically (Simpson's rule).
    """
    low, high = 0.0, 1000.0
    grid = np.linspace(0.0, 1.0, 2001)
    weights = np.ones(2001)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    scale = math.exp(math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2)) / math.sqrt(dof * math.pi)
    for _ in range(60):
        middle = (low + high) / 2
        density = (1 + (middle * grid) ** 2 / dof) ** (-(dof + 1) / 2)
        below = 0.5 + scale * middle * float(np.dot(weights, density)) / 6000
        low, high = (middle, high) if below < p else (low, middle)
    return (low + high) / 2
