"""Which outputs a model can have, and how large their files may be; results that lie are in test_hostile.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from devices.hostile import RESULT

from edgekit.core.artifact import Artifact, Kind, Sizes, State, TensorSpec
from edgekit.core.device import Job
from edgekit.core.errors import DeviceError
from edgekit.core.target import Plan
from edgekit.devices.shared.results import HEADER_BYTES, OPEN_BYTES, OPEN_ROWS, _fits, _most_bytes, result_of

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


def test_requests_tell_when_the_first_token_was_known(tmp_path: Path) -> None:
    """They are fewer than inferences, and their tokens are no output of the model's."""
    specs = [TensorSpec(name, "float32", (None, 4)) for name in ("tokens", "logits", "past", "present")]
    state, kind, sizes = State(specs[2], specs[3]), Kind("onnx"), Sizes(1, 1, 0, 0)
    model = Artifact("m", "1", kind, "s", {}, (), "", (specs[0],), (specs[1],), sizes, {}, tmp_path, states=(state,))
    np.save(tmp_path / "in.npy", np.zeros((3, 4)))
    np.save(tmp_path / "output0.npy", np.zeros((3, 7), np.int64))
    job = Job(model, "onnxruntime", {"tokens": tmp_path / "in.npy"}, Plan(), outputs=True, latency=True, new_tokens=7)

    def answered(**fields: object) -> None:
        result = {**RESULT, "times_ns": [9] * 3, "cpu_ns": [9] * 3, "first_token_ns": [4] * 3, **fields}
        (tmp_path / "result.json").write_text(json.dumps({**result, "outputs": {"tokens": "output0.npy"}}))
        result_of(tmp_path, "board", job)

    answered()
    for fields, why in (
        ({"first_token_ns": []}, "no first_token_ns"),
        ({"first_token_ns": [4] * 2}, "3 times_ns and 2 first"),
        ({"first_token_ns": [4, 10, 4]}, "within their request"),
        ({"times_ns": [9] * 2, "cpu_ns": [9] * 2, "first_token_ns": [4] * 2}, "it has 2 times; 3 were"),
    ):
        with pytest.raises(DeviceError) as error:
            answered(**fields)
        assert why in error.value.why
    np.save(tmp_path / "output0.npy", np.zeros((3, 8), np.int64))
    with pytest.raises(DeviceError, match="invalid result") as error:
        answered()
    assert "[3, 8]" in error.value.why
