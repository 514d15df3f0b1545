"""The Markdown table has one line per measurement, and no name ends its cell."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import HOSTILE, STEERING, many, measurement, measurements

from edgekit.core.measurement import Measurement
from edgekit.report import markdown
from edgekit.report.markdown import inert


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _table(text: str) -> list[list[str]]:
    return [_cells(line) for line in text.split("\n\n")[0].splitlines()]


@pytest.mark.parametrize("count", [0, 1, 40])
def test_one_line_per_measurement(count: int) -> None:
    head, _, *lines = _table(markdown(many(count)))
    assert [line[0] for line in lines] == [m.artifact for m in many(count)]
    assert {len(line) for line in lines} <= {len(head)}


def test_names_stay_in_their_cells() -> None:
    text = markdown([measurement(HOSTILE, runtime="a|b"), measurement(metric=None, latency_ms=None)])
    assert "<script" not in text and not STEERING.search(text)
    assert len({len(line) for line in _table(text)}) == 1


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("[x](javascript:alert(1))", "\\[x\\](javascript:alert(1))"),
        ("![x](//host/x.png)", "!\\[x\\](//host/x.png)"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("https://host www.host @me", "https:<!-- -->//host www<!-- -->.host @<!-- -->me"),
        ("a\\|b", "a\\\\\\|b"),
        ("`*_x_*`", "\\`\\*\\_x\\_\\*\\`"),
        ("my_net.onnx-int8", "my_net.onnx-int8"),
    ],
)
def test_a_name_is_shown_as_it_is(name: str, written: str) -> None:
    assert inert(name) == written
    assert f"| {written} | host |" in markdown([measurement(name)])


def test_a_name_begins_no_block_of_its_own() -> None:
    text = markdown([measurement("# a", invalid=("x",)), measurement("1. b", invalid=("y",)), measurement()])
    assert "- \\# a: invalid" in text and "- 1\\. b: invalid" in text


@given(st.lists(measurements, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_measurements_give_a_table(shown: list[Measurement]) -> None:
    lines = markdown(shown).split("\n")
    assert lines[len(shown) + 2] == ""
    assert {len(_cells(line)) for line in lines[: len(shown) + 2]} == {11}
