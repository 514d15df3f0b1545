"""The table of a method search: it fits 80 columns, marks what was chosen, and says why a method is missing."""

from __future__ import annotations

from typing import Any

from edgekit.report.method_search import search_table
from edgekit.report.tables import lines

METRIC = {"unit": "fraction", "value": 0.9123, "drop_pp": -12.34, "drop_ci95": [-13.21, -11.1]}
LATENCY = {"p50": 123.4567}


def attempt(method: str, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "method": method,
        "artifact": f"onnx-int8~{method}",
        "size_bytes": 12345678,
        "seconds": 1234.5,
        "failed": "",
        "metric": METRIC,
        "parity": {"sqnr_db": 31.5},
        "latency_ms": LATENCY,
        "ratio": {"value": 1.3, "ci99": [1.2, 1.4]},
    }
    return {**made, **changes}


def found(*attempts: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "onnx-int8",
        "target": "host",
        "runtime": "onnxruntime",
        "against": "onnx",
        "against_bytes": 99,
        "against_latency_ms": LATENCY,
        "not_timed": "",
        "chosen": "equalize-gptq",
        "confirmed": {"metric": METRIC, "verdict": {"state": "met"}},
        "recommended": False,
        "attempts": list(attempts),
    }


def test_it_fits_80_columns_and_marks_the_chosen_method() -> None:
    absent = attempt("qat", artifact=None, metric=None, parity=None, latency_ms=None, failed="no way " * 20)
    shown = lines(search_table(found(attempt("keep-float-8"), attempt("equalize-gptq"), absent)))
    assert max(map(len, shown)) <= 80
    assert [line[:15] for line in shown if line.startswith("*")] == ["* equalize-gptq"]
    assert "no way" in "".join(shown)


def test_a_slower_int8_is_not_recommended() -> None:
    text = "\n".join(lines(search_table(found(attempt("equalize-gptq")))))
    assert "1.30 times slower than onnx" in text
    assert "not recommended" in text
    same = attempt("equalize-gptq", ratio={"value": 0.98, "ci99": [0.9, 1.1]})
    assert "as fast as onnx" in "\n".join(lines(search_table({**found(same), "recommended": True})))


def test_a_wide_interval_is_no_equality() -> None:
    unknown = attempt("equalize-gptq", ratio={"value": 0.98, "ci99": [0.0, 263_159.0]})
    text = "\n".join(lines(search_table({**found(unknown), "recommended": True})))
    assert "not known to be faster or slower than onnx" in text and "as fast as" not in text


def test_an_error_is_not_printed_as_a_share() -> None:
    rmse = {"unit": "", "value": 13.5, "drop_pp": 2.0, "drop_ci95": [1.0, 3.0]}
    search = found(attempt("equalize-gptq", metric=rmse))
    text = "\n".join(lines(search_table({**search, "confirmed": {"metric": rmse, "verdict": {"state": "met"}}})))
    assert "13.5" in text and "1350" not in text
    assert "drop %, 95 %" in text and "pp" not in text


def test_without_labels_there_are_no_scores() -> None:
    bare = attempt("equalize-gptq", metric=None)
    text = "\n".join(lines(search_table({**found(bare), "confirmed": {"metric": None, "verdict": None}})))
    assert "31.5" in text
    assert "%" not in text.replace("95 %", "")
