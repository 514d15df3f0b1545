"""Colours that can be read."""

from __future__ import annotations

import pytest

from edgekit.report.style import COLOURS, FORMATS, SPARE


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_reach_wcag_aa(scheme: int) -> None:
    for ground in ("paper", "panel"):
        for text in ("ink", "soft", "good", "bad", "unsure"):
            assert contrast(COLOURS[text][scheme], COLOURS[ground][scheme]) >= 4.5, (text, ground)
        for drawn in ("front", "focus", *FORMATS.values(), *SPARE):
            assert contrast(COLOURS[drawn][scheme], COLOURS[ground][scheme]) >= 3, (drawn, ground)
