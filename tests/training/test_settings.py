"""Training options that cannot work."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.training.settings import Settings

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warmup": 1.0}, "one-cycle schedule has its own warm-up"),
        ({"schedule": "cosine", "warmup": 10.0}, "shorter than the training"),
        ({"loss": "mse", "label_smoothing": 0.1}, "label_smoothing"),
        ({"unfreeze": 2}, "freeze"),
        ({"lr_decay": 0.0}, "lr_decay"),
        ({"lr_factors": ("head",)}, "PREFIX=NUMBER"),
        ({"ema": 1.0}, "ema"),
        ({"accumulate": 0}, "accumulate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"clip": float("nan")}, "clip"),
    ],
)
def test_settings_that_cannot_work(fields: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in Settings(**fields).problems())
    assert not list(Settings().problems())
