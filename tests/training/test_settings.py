"""Training options that cannot work."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.training.settings import Settings, as_json, parse_lr_factor


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


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert list(Settings().problems()) == []


@given(st.from_regex(r"[a-z.0-9]{1,9}", fullmatch=True), st.floats(1e-6, 1e6))
def test_a_factor_is_read_as_it_is_written(prefix: str, factor: float) -> None:
    assert parse_lr_factor(f"{prefix}={factor!r}") == (prefix, factor)


@pytest.mark.parametrize("text", ["", "a", "=1", "a=", "a=b", "a=0", "a=-1", "a=inf", "a=nan"])
def test_no_factor(text: str) -> None:
    with pytest.raises(ValueError):
        parse_lr_factor(text)


def test_the_options_of_a_step_are_those_of_the_training_alone() -> None:
    @dataclass(frozen=True)
    class More(Settings):
        model: str = "cnn"

    plain = as_json(More(freeze=("head",)))
    assert plain["freeze"] == ["head"] and "model" not in plain
    assert json.loads(json.dumps(plain)) == plain
