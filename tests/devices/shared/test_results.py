"""Which outputs a model can have, and how large their files may be; results that lie are in test_hostile.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.artifact import Artifact, Kind, Sizes, State, TensorSpec
from edgekit.core.device import Job
from edgekit.core.target import Plan
from edgekit.devices.shared.job import least_runs
from edgekit.devices.shared.results import (
    HEADER_BYTES,
    OPEN_BYTES,
    OPEN_ROWS,
    Latency,
    _fits,
    _most_bytes,
    expected_outputs,
)

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


TIMES = {
    "first_ms": 1.0,
    "warmups": 3,
    "steady": True,
    "batch": 1,
    "times_ns": [50, 60, 70],
    "watch": {"cpu_share": 1.0, "steal_share": 0.0, "throttled": 0, "load_average": 0.0},
}


@pytest.mark.parametrize(
    "firsts", [[20, 20], [20, 20, 0], [20, 61, 20], [20.0, 20, 20], [20, "x", 20], [True, 20, 20]], ids=str
)
def test_a_first_token_is_a_part_of_its_request(firsts: list[Any]) -> None:
    assert not list(Latency(**TIMES, first_token_ns=[50, 10, 70]).problems())
    assert list(Latency(**TIMES, first_token_ns=firsts).problems()) == ["first_token_ns are not parts of times_ns"]


def test_requests() -> None:
    """Fewer of them than inferences will do, and their outputs are tokens."""
    spec = TensorSpec("h", "float32", (None, 4))
    model = Artifact("m", "1", Kind("onnx"), "s", {}, (), "", (), (spec,), Sizes(1, 1, 0, 0), {}, Path())
    stateful = replace(model, states=(State(spec, spec),))
    job = Job(stateful, "onnxruntime", {}, Plan(min_runs=10), True, True, new_tokens=5)
    assert [output.shape for output in expected_outputs(job)] == [(None, 5)]
    assert expected_outputs(replace(job, new_tokens=0)) == (spec,)
    assert least_runs(job) == 3 and least_runs(replace(job, artifact=model)) == 10
