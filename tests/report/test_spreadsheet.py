"""CSV: what spreadsheets read is what was measured, and never a formula."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st
from report.made_up import many, measurement, measurements

from edgekit.core.measurement import Measurement
from edgekit.report import spreadsheet


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_figures_in_full_precision() -> None:
    found = many()
    for row, m in zip(rows(spreadsheet.csv(found)), found, strict=True):
        assert m.latency_ms and m.metric
        assert float(row["p50_ms"]) == m.latency_ms.p50 and float(row["value"]) == m.metric.value
        assert int(row["size_bytes"]) == m.size_bytes and row["invalid"] == "; ".join(m.invalid)
    assert spreadsheet.csv([]) == ""


def test_no_cell_is_a_formula() -> None:
    (row,) = rows(spreadsheet.csv([measurement("=1+1", scheme="@SUM(A1)")]))
    assert (row["artifact"], row["scheme"]) == ("'=1+1", "'@SUM(A1)")
    (row,) = rows(spreadsheet.csv([measurement(" =1+1", scheme="\uff1d1+1", target="\t=1+1")]))
    assert (row["artifact"], row["scheme"], row["target"]) == ("' =1+1", "'\uff1d1+1", "\ufffd=1+1")


@given(st.lists(measurements, max_size=4))
def test_any_measurements_are_as_many_rows(found: list[Measurement]) -> None:
    assert len(rows(spreadsheet.csv(found))) == len(found)
