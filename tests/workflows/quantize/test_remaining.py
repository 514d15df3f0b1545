"""The estimate of what is left of a method search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.workflows import quantize
from edgekit.workflows.quantize.remaining import CALIBRATE, MEASURE, place_in_search, seconds_left


def test_nothing_seen_nothing_estimated() -> None:
    assert seconds_left(["min-max", "mse"], {}) is None
    assert seconds_left(["mse"], {MEASURE: 5.0}) is None
    assert seconds_left(["mse"], {CALIBRATE: 3.0, MEASURE: 5.0}) == 5.0 + 3.0 + 3.0, "evaluating takes about a pass"
    assert place_in_search(1, ["min-max", "percentile", "mse"], {}) == "1 of 3"


def test_range_methods_share_the_pass_and_networks_need_their_own() -> None:
    seen = {CALIBRATE: 10.0, MEASURE: 4.0, "min-max": 2.0}
    rest = 4.0 + 2.0  # the latencies and the confirmation
    assert seconds_left(["percentile", "mse"], seen) == rest + 2 * 2.0
    assert seconds_left(["mse", "equalize"], seen) == rest + 2.0 + (10.0 + 2.0)
    assert seconds_left(["gptq"], {**seen, "equalize": 30.0}) == rest + 30.0, "as dear as the dearest of its kind"
    assert seconds_left(["gptq"], {**seen, "gptq": 7.0}) == rest + 7.0, "seen with another format"
    assert seconds_left(["min-max"], {"dynamic": 3.0}) == 3.0 + 3.0


def test_training_is_not_guessed() -> None:
    seen = {CALIBRATE: 10.0, "mse": 2.0}
    assert seconds_left(["qat"], seen) == 2.0
    assert place_in_search(7, ["gptq", "qat"], seen) == "7 of 8, about 14 s and the training left"
    assert place_in_search(8, ["qat"], seen) == "8 of 8"
    assert place_in_search(8, ["qat"], {**seen, "qat": 600.0}) == "8 of 8, about 11 min left"


@pytest.mark.slow
@pytest.mark.usefixtures("members")
def test_a_search_says_its_place_and_what_is_left(bars_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on a second each time it is read; the times of one format serve the next."""
    now = iter(range(10**6))
    clock = SimpleNamespace(monotonic=lambda: float(next(now)))
    monkeypatch.setattr("edgekit.workflows.quantize.method_search.time", clock)
    said: list[str] = []

    def search(*formats: str) -> list[str]:
        said.clear()
        quantize.quantize(str(bars_run), to=formats, methods=("min-max", "mse", "gptq"), say=said.append)
        return [line for line in said if line.startswith("  method ")]

    first = search("onnx", "tflite")
    places = [line.partition(": ")[2].partition(", ")[0] for line in first]
    assert places == ["1 of 3", "2 of 3", "3 of 3"] * 2
    assert all("left" in line for line in first), "the placement took a pass"
    assert not any("\r" in line or "\x1b" in line for line in said)
    again = search("onnx")
    assert all("left" in line for line in again), "what is reused takes no time"
