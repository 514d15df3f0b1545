"""A long load: what is kept of it, its picture, and that it is not begun again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers import Ended

QUICK = ("--processes", 1, "--samples", 20)
COLUMNS = {"seconds", "p50_ms", "p90_ms", "inferences", "temperature_c", "frequency_mhz", "throttled", "power_w"}


def test_windows_of_a_long_load_are_kept(cli: Callable[..., Ended], bars_run: Path, members: None) -> None:
    ended = cli("bench", "run/onnx", "--sustained", "2s", *QUICK, "--json")
    assert ended.code == 0, ended.err
    (row,) = (m for m in ended.json["measurements"] if m["artifact"] == "onnx")
    found = row["facts"]["sustained"]
    assert set(found) == COLUMNS and len({len(values) for values in found.values()}) == 1
    assert len(found["seconds"]) == 4 and found["seconds"] == sorted(found["seconds"]), "half a second each"
    assert all(0 < low <= high for low, high in zip(found["p50_ms"], found["p90_ms"], strict=True))
    assert sum(found["inferences"]) > 100 and found["seconds"][-1] < 2.5
    picture = bars_run / "onnx" / "sustained-host-onnxruntime.svg"
    assert "<svg" in picture.read_text()


def test_no_time_is_no_load(cli: Callable[..., Ended], bars_run: Path, members: None) -> None:
    for word in ("-1s", "soon"):
        ended = cli("bench", "run/onnx", "--sustained", word, *QUICK)
        assert ended.code == 2 and "sustained" in ended.err
