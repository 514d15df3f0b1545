"""A confusion matrix on the page: its cells, its most frequent error in words, and no markup from names."""

from __future__ import annotations

from report.made_up import HOSTILE
from report.test_html import Page

from edgekit.report.confusion import Confusion, section


def test_the_most_frequent_error_is_said_and_marked() -> None:
    text = section([("onnx", Confusion(("cat", "dog"), ((97, 3), (20, 80))))])
    assert "20 of 100 dog taken for cat" in Page(text).texts[Page(text).texts.index("onnx") + 1]
    assert '<td class="n good"><b>97</b></td><td class="n">3</td>' in text
    assert '<td class="n bad"><b>20</b></td><td class="n good"><b>80</b></td>' in text


def test_no_errors_and_no_matrix() -> None:
    assert "no errors" in section([("onnx", Confusion(("cat", "dog"), ((5, 0), (0, 0))))])
    assert section([]) == ""


def test_damaged_counts_and_hostile_names_give_a_table() -> None:
    for counts in (((1,), (2, 3, 4), ()), ((-1, 2), (0, 0)), ((),)):
        text = section([(HOSTILE, Confusion((HOSTILE,), counts))])
        assert Page(text).count("script") == 0
