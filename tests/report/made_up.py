"""Measurements nobody made, for the tests of reports."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from hypothesis import strategies as st

from edgekit.core.measurement import Latency, Measurement, Metric, Parity, Verdict

HOSTILE = "<script>alert('x')</script>\"&|\n\x1b[31m\x00\x9b2J\x7f\u202e\x1b]8;;file:///x\x07[x](javascript:y)`@me"
#: what no report may hold: control characters (C0, C1, DEL), line separators, bidirectional overrides
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def metric(value: float = 0.9, **changes: Any) -> Metric:
    made = Metric(
        "accuracy", "fraction", True, value, (value - 0.01, value + 0.01), 10_000, "5e7" * 20, 0.1, (-0.1, 0.3)
    )
    return dataclasses.replace(made, **changes)


def latency(p50: float = 1.0, **changes: Any) -> Latency:
    made = Latency(p50, p50 * 1.1, p50 * 1.5, (p50 * 0.99, p50 * 1.01), 5, 1000, 1, 1, (p50,) * 5)
    return dataclasses.replace(made, **changes)


def measurement(artifact: str = "onnx", value: float = 0.9, p50: float = 1.0, **changes: Any) -> Measurement:
    made = Measurement(
        artifact=artifact,
        id="0123456789abcdef",
        parents=(),
        format="onnx",
        precision="fp32",
        scheme="float32",
        target="host",
        runtime="onnxruntime",
        provenance="measured",
        size_bytes=100_000,
        weight_bytes=90_000,
        graph_bytes=9_000,
        metadata_bytes=1_000,
        metric=metric(value),
        latency_ms=latency(p50),
        verdict=None,
        load_ms=5.0,
        peak_rss_bytes=60_000_000,
        floor_rss_bytes=48_000_000,
        parity=None,
        facts={"cpu": "Cortex-A76", "cores": 4},
        session="s",
    )
    return dataclasses.replace(made, **changes)


def many(count: int = 40) -> list[Measurement]:
    """A crowded picture: every format and precision, some invalid, some emulated."""
    found = []
    for i in range(count):
        format, precision = (
            ("torch", "onnx", "tflite", "openvino")[i % 4],
            ("fp32", "int8", "fp16", "dynamic")[i // 4 % 4],
        )
        found.append(
            measurement(
                f"prune{20 + i}.{format}-{precision}",
                0.88 + 0.06 * math.sin(i * 1.7) ** 2,
                10 ** (1.1 * math.sin(i * 2.3)),
                format=format,
                precision=precision,
                size_bytes=20_000 + 15_000 * i,
                invalid=("throttled",) if i % 13 == 5 else (),
                provenance="emulated" if i % 11 == 3 else "measured",
            )
        )
    return found


#: Names people may meet in someone else's results file, unprintable characters and all.
names = st.one_of(st.sampled_from(["onnx", "torch", "ds.onnx-int8", HOSTILE, ""]), st.text(max_size=60))
numbers = st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 1.0, math.inf, -math.inf, math.nan, 1e300, 5e-324]))
intervals = st.tuples(numbers, numbers)
counts = st.integers(0, 2**40)
metrics = st.builds(
    Metric,
    names,
    st.sampled_from(["fraction", "dB", "<b>"]),
    st.booleans(),
    numbers,
    intervals,
    counts,
    st.just("abc"),
    st.none() | numbers,
    st.none() | intervals,
)
latencies = st.builds(
    Latency, numbers, numbers, numbers, intervals, st.just(5), counts, st.integers(1, 2), st.just(1), st.just(())
)
verdicts = st.builds(
    Verdict, st.sampled_from(["met", "missed", "undecided"]), st.floats(0, 100), names, st.none() | counts
)
parities = st.builds(Parity, names, numbers, numbers, st.none() | numbers)
measurements = st.builds(
    Measurement,
    artifact=names,
    id=names,
    parents=st.tuples(names) | st.just(()),
    format=st.sampled_from(["torch", "onnx", "tflite", "another", "<i>"]),
    precision=st.sampled_from(["", "fp32", "int8", "fp16", "dynamic", "int4"]),
    scheme=names,
    target=st.sampled_from(["host", "raspberry-pi-5", HOSTILE]),
    runtime=names,
    provenance=st.sampled_from(["measured", "emulated", "estimated"]),
    size_bytes=counts,
    weight_bytes=counts,
    graph_bytes=counts,
    metadata_bytes=counts,
    metric=st.none() | metrics,
    latency_ms=st.none() | latencies,
    verdict=st.none() | verdicts,
    load_ms=st.none() | numbers,
    peak_rss_bytes=st.none() | counts,
    floor_rss_bytes=st.none() | counts,
    parity=st.none() | parities,
    facts=st.dictionaries(st.sampled_from(["cpu", "cores"]), names),
    session=names,
    invalid=st.just(()) | st.tuples(names),
)
