"""The picture of a training holds what its history does, and nothing that could run."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from edgekit.report import curve

HISTORY = [
    {"epoch": 1, "loss": 1.4, "val_loss": 1.2, "val_accuracy": 0.3},
    {"epoch": 2, "loss": 0.9, "val_loss": 0.7, "val_accuracy": 0.7},
    {"epoch": 3, "loss": 0.5, "val_loss": 0.8, "val_accuracy": 0.72},
]


def drawn(history: list[dict[str, Any]], title: str = "") -> tuple[str, ElementTree.Element]:
    svg = curve.picture(history, title)
    return svg, ElementTree.fromstring(svg)


def lines(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The points of every line over epochs."""
    found = [
        path.get("d", "") for path in root.iter("{http://www.w3.org/2000/svg}path") if "ek-bar" in path.get("class", "")
    ]
    return [[(float(a), float(b)) for a, b in re.findall(r"[ML]([\d.]+) ([\d.]+)", d)] for d in found if "h14" not in d]


def test_both_losses_and_the_metric() -> None:
    svg, root = drawn(HISTORY, "torch <of> mnist")
    train, val, accuracy = lines(root)
    assert train[0][1] < train[1][1] < train[2][1], "a loss that falls goes down the page"
    assert val[0][1] < val[2][1] < val[1][1] and accuracy[0][1] > accuracy[1][1] > accuracy[2][1]
    assert [x for x, _ in train] == [x for x, _ in val] and train[0][0] < train[1][0] < train[2][0]
    assert "epoch 2, whose weights are kept" in svg and "<of>" not in svg
    assert curve.summary(HISTORY) == "3 epochs, epoch 2 kept: validation loss 0.7, accuracy 0.7"


def test_one_epoch_none_and_a_value_that_is_none() -> None:
    assert len(lines(drawn(HISTORY[:1])[1])) == 3
    assert "no epoch was finished" in drawn([])[0]
    gap = [{**entry, "val_accuracy": float("nan") if entry["epoch"] == 2 else 0.5} for entry in HISTORY]
    svg, root = drawn(gap)
    assert len(lines(root)[2]) == 2 and "nan" not in svg.lower()


def test_a_loss_that_falls_far_is_logarithmic() -> None:
    far = [{**entry, "loss": 10.0 ** -entry["epoch"] * 1e5, "val_loss": entry["val_loss"]} for entry in HISTORY]
    svg, root = drawn(far)
    assert svg.count("log scale") == 1 and "log scale" not in drawn(HISTORY)[0], "the metric keeps its scale"
    (_, first), (_, second), (_, third) = lines(root)[0]
    assert second - first == pytest.approx(third - second, abs=0.2)


def test_epochs_are_integers() -> None:
    _, root = drawn([{**HISTORY[0], "epoch": epoch} for epoch in range(1, 26)])
    words = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert {"5", "10", "25"} <= set(words) and "5.0" not in words
