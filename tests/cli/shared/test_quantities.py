"""Numbers with units: what is accepted and what is refused."""

from __future__ import annotations

import click
import pytest

from edgekit.cli.shared.quantities import DURATION, FACTOR, LATENCY, POINTS, SHARE, SIZE, Quantity


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (POINTS, "0.5", 0.5),
        (POINTS, "0.5pp", 0.5),
        (POINTS, " .5 PP ", 0.5),
        (POINTS, 2, 2.0),
        (DURATION, "10m", 600),
        (DURATION, "1.5 min", 90),
        (DURATION, "30", 30),
        (DURATION, "2000ms", 2),
        (DURATION, "24h", 86_400),
        (LATENCY, "5ms", 5),
        (LATENCY, "200us", 0.2),
        (LATENCY, "200 µs", 0.2),
        (LATENCY, "1s", 1000),
        (SIZE, "500kB", 500_000),
        (SIZE, "1MB", 1_000_000),
        (SIZE, "64KiB", 65_536),
        (SHARE, "0.5", 0.5),
        (SHARE, "50%", 0.5),
        (FACTOR, "1.5x", 1.5),
    ],
)
def test_accepted(kind: Quantity, text: object, value: float) -> None:
    assert kind.convert(text, None, None) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kind", "texts", "form"),
    [
        (POINTS, ("0.5%", "-1", "101", "half", "", "nan", "inf", "1e-3", "0,5", "0.5 p p"), "0.5pp"),
        (DURATION, ("0.5s", "25h", "10 parsecs", "9" * 400, "m"), "10m"),
        (LATENCY, ("5", "0ms", "5 m", "5mb"), "5ms"),
        (SIZE, ("200", "0kB", "1 TB", "kB"), "500kB"),
        (SHARE, ("0", "1", "100%", "50 %%", "2"), "50%"),
        (FACTOR, ("1", "0.5x", "fast"), "1.5x"),
    ],
)
def test_nonsense_is_refused_with_what_is_accepted(kind: Quantity, texts: tuple[str, ...], form: str) -> None:
    for text in texts:
        with pytest.raises(click.BadParameter) as caught:
            kind.convert(text, None, None)
        assert form in caught.value.message and len(caught.value.message) < 160
