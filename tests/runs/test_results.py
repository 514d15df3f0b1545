"""Results files: older and newer ones are read, others refused by name, damaged ones in a line; sets are not mixed."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import TESTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report.made_up import measurement, metric
from report.test_files import write_results

from edgekit.core.artifact import SCHEMA
from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement
from edgekit.report import html, markdown, spreadsheet, terminal
from edgekit.runs import results
from edgekit.runs.results import read as read_results
from edgekit.workflows.compare.rows import disambiguated

#: written by edgekit as it first was, before rows had a p-value
FIRST = TESTS / "report" / "first-results.json"


def document(*rows: Measurement) -> dict[str, Any]:
    return {"schema": SCHEMA, "measurements": [json.loads(json.dumps(dataclasses.asdict(m))) for m in rows]}


def test_the_first_files_are_still_read() -> None:
    raw = json.loads(FIRST.read_text())
    assert all("drop_p" not in row["metric"] for row in raw["measurements"])
    rows = read_results(FIRST)
    assert [m.artifact for m in rows] == [row["artifact"] for row in raw["measurements"]]
    assert all(m.metric and m.metric.drop_p is None for m in rows)
    assert markdown(rows) and spreadsheet.csv(rows) and html(rows, "t")


def test_what_a_later_edgekit_adds_is_left_out() -> None:
    made = document(measurement())
    made["measurements"][0] |= {"carbon": 1}
    made["measurements"][0]["metric"]["luck"] = 2
    made["measurements"][0]["latency_ms"]["p999"] = 3.0
    assert results.parse(made, "r.json") == results.parse(document(measurement()), "r.json")


@pytest.mark.parametrize("schema", ["edgekit/0", "edgekit/2", 7, None])
def test_another_schema_is_refused_naming_both(tmp_path: Path, schema: Any) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**document(measurement()), "schema": schema}))
    with pytest.raises(InputError, match=f"has the schema '{schema}': this edgekit reads {SCHEMA}"):
        read_results(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("measurements"), "no schema and measurements"),
        (lambda d: d["measurements"].append(3), r"measurements\[1\] is not a JSON object"),
        (lambda d: d["measurements"][0].pop("id"), r"measurements\[0\]: 'id' is missing"),
        (
            lambda d: d["measurements"][0].update(size_bytes="big"),
            r"measurements\[0\].size_bytes: must be an integer, not string 'big'",
        ),
        (
            lambda d: d["measurements"][0].update(metric="good"),
            r"measurements\[0\].metric: must be a table, not string 'good'",
        ),
        (
            lambda d: d["measurements"][0]["latency_ms"].update(p50=None),
            r"latency_ms.p50: must be a number, not nothing",
        ),
        (
            lambda d: d["measurements"][0]["metric"].update(ci95=[0.1]),
            r"metric.ci95: must be a list of 2 values, not of 1",
        ),
        (
            lambda d: d["measurements"][0].update(provenance="dreamt"),
            "provenance: must be one of 'measured', .*, not string 'dreamt'",
        ),
    ],
)
def test_what_is_damaged_is_said(tmp_path: Path, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    made = document(measurement())
    change(made)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(made))
    with pytest.raises(InputError, match=said):
        read_results(path)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, child in items for leaf in _leaves(child, (*path, key)))]


json_values = st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=4)
json_values |= st.just([]) | st.just({})


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_read_or_refused(data: st.DataObject, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever one value is replaced by: the reports take it, or the file is refused in a line."""
    made = copy.deepcopy(document(measurement("onnx"), measurement("onnx-int8", precision="int8", parents=("onnx",))))
    place = data.draw(st.sampled_from([leaf for leaf in _leaves(made) if leaf]))
    inner: Any = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(json_values)
    try:
        rows = results.parse(json.loads(json.dumps(made)), "r.json")
    except InputError:
        return
    assert markdown(rows) is not None and spreadsheet.csv(rows) is not None and html(rows, "t")
    terminal(rows, advise=True)
    capsys.readouterr()


OTHER = "f" * 64


def test_different_test_sets_are_refused_and_both_are_named(cli: Callable[..., Any], tmp_path: Path) -> None:
    mine = write_results(tmp_path, [measurement("onnx")], "mine")
    other = write_results(tmp_path, [measurement("onnx", metric=metric(samples=7, set_sha256=OTHER))], "other")
    ended = cli("compare", mine, other)
    assert ended.code == 2
    line = ended.line
    assert "over different test sets: 10,000 samples of set 5e75e75e75e7 in" in line
    assert "; 7 samples of set ffffffffffff in" in line
    assert f"Next: edgekit compare {mine}, or choose one set: --set 5e75e75e75e7" in line
    chosen = cli("compare", mine, other, "--set", "ffff")
    assert chosen.code == 0 and "10,000" not in chosen.out
    wrong = cli("compare", mine, other, "--set", "abc")
    assert wrong.code == 2 and "the sets are 5e75e75e75e7, ffffffffffff" in wrong.line
    without = write_results(tmp_path, [measurement("onnx", metric=None)], "timed")
    assert cli("compare", mine, without).code == 0


def test_one_name_in_two_runs_is_told_apart() -> None:
    int8 = {"precision": "int8", "parents": ("onnx",)}
    rows = [
        ("runs/a", measurement("onnx", id="1" * 16)),
        ("runs/a", measurement("onnx-int8", id="2" * 16, **int8)),
        ("runs/b/results.json", measurement("onnx", id="3" * 16)),
        ("pi.json", measurement("onnx", id="1" * 16, target="pi")),
    ]
    told = disambiguated(rows)
    assert [m.artifact for m in told] == ["a/onnx", "onnx-int8", "b/onnx", "a/onnx"]
    assert told[1].parents == ("a/onnx",)
    assert disambiguated(rows[:2]) == [m for _, m in rows[:2]]


def test_a_parent_of_another_run_is_no_parent() -> None:
    int8 = {"precision": "int8", "parents": ("onnx",), "metric": metric(against="onnx")}
    rows = [
        ("runs/a", measurement("onnx", id="1" * 16)),
        ("runs/a", measurement("onnx-int8", id="2" * 16, **int8)),
        ("runs/b", measurement("onnx-int8", id="3" * 16, **int8)),
        ("pi.json", measurement("onnx-int8", id="2" * 16, target="pi", **int8)),
    ]
    told = disambiguated(rows)
    assert [m.artifact for m in told] == ["onnx", "a/onnx-int8", "b/onnx-int8", "a/onnx-int8"]
    assert [m.parents for m in told[1:]] == [("onnx",), ("b/onnx",), ("onnx",)]
    assert [m.metric and m.metric.against for m in told[1:]] == ["onnx", "b/onnx", "onnx"]


def test_a_parent_has_the_name_of_its_row() -> None:
    """ "pi/onnx" would be none of the rows."""
    rows = [
        ("runs/a", measurement("onnx", id="1" * 16)),
        ("runs/b", measurement("onnx", id="3" * 16)),
        ("pi.json", measurement("onnx", id="1" * 16, target="pi")),
        ("pi.json", measurement("onnx-int8", id="2" * 16, target="pi", parents=("onnx",))),
    ]
    assert disambiguated(rows)[3].parents == ("a/onnx",)
