"""The table in a terminal: 80 columns, every artifact, no escape sequences from names."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report.made_up import HOSTILE, STEERING, many, measurement, measurements, metric
from rich.cells import cell_len

from edgekit.core.measurement import Measurement
from edgekit.report import terminal


@pytest.fixture(autouse=True)
def _eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def _printed(capsys: pytest.CaptureFixture[str], shown: list[Measurement]) -> str:
    terminal(shown)
    return capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 40])
def test_no_line_is_wider_than_80_columns(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [*many(count), measurement("prune50.onnx-int8~onnx_int8@x86-vnni", target="raspberry-pi-5", p50=12_345.0)]
    out = _printed(capsys, shown)
    assert max(map(len, out.splitlines())) <= 80
    assert all(m.artifact in out for m in many(count))
    assert "12345" in out and "…" not in out


def test_nothing_measured_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no measurements" in _printed(capsys, [])


def test_targets_stand_apart(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _printed(capsys, [measurement("a"), measurement("b", target="pixel-8"), measurement("c")]).splitlines()
    order = [line.split()[0] for line in lines if line.strip()]
    assert order[:7] == ["host", "artifact", "a", "c", "pixel-8", "artifact", "b"]


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = _printed(
        capsys,
        [
            measurement(HOSTILE, target=HOSTILE, invalid=(HOSTILE,), facts={"cpu": HOSTILE}),
            measurement(metric=metric(name=HOSTILE)),
        ],
    )
    assert not STEERING.search(out)
    assert "[31m" in out


@given(shown=st.lists(measurements, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_measurements_fit(shown: list[Measurement], capsys: pytest.CaptureFixture[str]) -> None:
    out = _printed(capsys, shown)
    assert all(cell_len(line) <= 80 or len(line.split()) == 1 for line in out.split("\n"))
