"""A training says one aligned line per epoch, within 80 columns, and fewer when there are hundreds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.training import epoch_lines
from edgekit.training.epoch_lines import EpochLines
from edgekit.training.settings import Settings


def entry(epoch: int, kept: bool = True, **values: float) -> dict[str, Any]:
    values = {"loss": 0.5, "val_loss": 0.25, "val_accuracy": 0.9, "lr": 1e-3, **values}
    return {"epoch": epoch, **values, **({"kept": True} if kept else {})}


def said(settings: Settings, entries: list[dict[str, Any]], seconds: float = 2.0, done: int = 0) -> list[str]:
    """The lines of a training whose epochs take so many seconds each."""
    time = [0.0]
    lines: list[str] = []
    epochs = EpochLines(lines.append, settings, done, lambda: time[0])
    for each in entries:
        time[0] += seconds
        epochs.epoch(each)
    return lines


def test_a_line_per_epoch() -> None:
    lines = said(Settings(epochs=3), [entry(1), entry(2, kept=False, val_loss=123.456, lr=2e-9), entry(3)])
    assert lines == [
        "  epoch  train loss    val loss  val accuracy        lr     time    left",
        "    1/3      0.5000      0.2500        0.9000   1.0e-03   2.00 s     4 s  *",
        "    2/3      0.5000    123.4560        0.9000   2.0e-09   2.00 s     2 s",
        "    3/3      0.5000      0.2500        0.9000   1.0e-03   2.00 s          *",
    ]


def test_a_constant_rate_is_left_out() -> None:
    assert " lr " not in said(Settings(epochs=2, schedule="constant"), [entry(1)])[0]
    assert " lr " in said(Settings(epochs=2, schedule="constant", warmup=1.0), [entry(1)])[0]


def test_hundreds_of_epochs_are_tens_of_lines() -> None:
    settings = Settings(epochs=1000)
    lines = said(settings, [entry(i) for i in range(1, 1001)], seconds=0.001)
    assert len(lines) == 1 + 1 + 50 and lines[-1].split()[0] == "1000/1000"
    slow = said(settings, [entry(i) for i in range(1, 31)], seconds=11.0)
    assert len(slow) == 1 + 30, "an epoch that takes long is said at once"


def test_the_time_left_is_that_of_this_run() -> None:
    lines = said(Settings(epochs=100), [entry(91), entry(92)], seconds=60.0, done=90)
    assert lines[1].split()[-3:-1] == ["9", "min"] and lines[2].split()[-3:-1] == ["8", "min"]


def test_nothing_is_said_without_someone_to_say_it_to() -> None:
    EpochLines(None, Settings(epochs=1), 0).epoch(entry(1))


@given(
    st.integers(1, 9999),
    st.floats(),
    st.floats(0, 3e6),
    st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40),
)
def test_any_line_fits_80_columns(epochs: int, value: float, seconds: float, metric: str) -> None:
    values = {"loss": value, "val_loss": -value, f"val_{metric}": value, "lr": 1e-3}
    for line in said(Settings(epochs=epochs), [{"epoch": epochs, **values, "kept": True}], seconds):
        assert len(line) <= 80


def test_the_result() -> None:
    history = [entry(1), entry(2, val_loss=0.125), entry(3, kept=False)]
    assert epoch_lines.result(history) == "  best *    epoch 2 of 3: val loss 0.1250, val accuracy 0.9000"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.04123, "0.0412"),
        (2.31e-5, "2.31e-05"),
        (1.2e8, "1.20e+08"),
        (-3.0, "-3.0000"),
        (float("nan"), "nan"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert epoch_lines.number(value) == text
