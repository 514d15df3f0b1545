"""Results as a sequence, a table, a front; over made-up measurements."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.made_up import latency, measurement, measurements

from edgekit.api.results import Results
from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement


def three() -> Results:
    rows = [measurement("torch", 0.9, 2.0), measurement("onnx", 0.9, 1.0), measurement("slow", 0.8, 3.0)]
    return Results(rows, [Path("run")])


def test_a_sequence() -> None:
    found = three()
    assert [m.artifact for m in found] == ["torch", "onnx", "slow"] and len(found) == 3
    assert isinstance(found[0], Measurement) and isinstance(found[:2], Results) and len(found[:2]) == 2
    assert len(found + found[:1]) == 4
    assert repr(found) == "<Results: 3 measurements of torch, onnx, slow>"


def test_a_data_frame_of_flat_columns() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    table = three().to_pandas()
    assert list(table.artifact) == ["torch", "onnx", "slow"] and list(table.p50_ms) == [2.0, 1.0, 3.0]
    assert list(table.memory_bytes) == [12_000_000] * 3 and list(table.peak_memory_bytes) == [60_000_000] * 3
    assert table.size_bytes.dtype.kind == "i" and not any(
        table[c].map(lambda v: isinstance(v, dict)).any() for c in table
    )


def test_the_best_and_the_front() -> None:
    assert three().best.artifact == "onnx"  # type: ignore[union-attr]
    assert [m.artifact for m in three().pareto] == ["onnx"]
    assert "ship onnx" in three().advice[0]
    assert Results([]).best is None and not Results([]).pareto


def test_the_best_is_the_measurement_that_is_advised() -> None:
    """Not another of the same artifact: one that is invalid, or with other threads."""
    invalid = measurement("onnx", 0.9, 9.0, invalid=("throttled",))
    assert Results([invalid, valid := measurement("onnx", 0.9, 1.0)]).best is valid
    slow = measurement("small", 0.7, 0.5)
    rows = [slow, measurement("onnx", 0.9, 1.0), measurement("onnx", 0.9, 0.5, latency_ms=latency(0.5, threads=4))]
    assert Results(rows).best is rows[1] and Results(rows[::-1]).best is rows[2]


def test_pictures_and_pages(tmp_path: Path) -> None:
    assert three().plot("All")._repr_svg_().startswith("<svg")
    assert three().summary(tmp_path / "s.svg", title="All").svg == (tmp_path / "s.svg").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="jpg"):
        three().summary(tmp_path / "s.jpg")
    assert "onnx" in Results(list(three())).page(tmp_path / "page.html").read_text()


def test_the_table_says_which_rows_are_no_plain_measurements() -> None:
    rows = [
        measurement("a", invalid=("throttled",)),
        measurement("b", provenance="emulated"),
        measurement("c", latency_ms=latency(clock="cpu")),
        measurement("d"),
    ]
    shown = Results(rows)._repr_html_().split("<tr>")[1:]
    for row, said in zip(
        shown, ("notes</th>", "invalid: throttled</td>", "emulated</td>", "CPU time", "<td></td>"), strict=True
    ):
        assert said in row


@given(st.lists(measurements, max_size=3))
def test_anything_measured_can_be_shown(rows: list[Measurement]) -> None:
    shown = Results(rows)._repr_html_()
    assert shown.count("<tr>") == len(rows) + 1 and "<script" not in shown and "<img" not in shown
    assert isinstance(repr(Results(rows)), str)
