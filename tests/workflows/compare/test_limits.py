"""Gates: limits as they are typed, the verdicts, and `compare --against` on a real run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ended
from hypothesis import given
from hypothesis import strategies as st
from report.made_up import latency, measurement, metric
from report.test_files import write_results

from edgekit.core import statistics
from edgekit.core.errors import InputError
from edgekit.core.measurement import Ratio
from edgekit.workflows.compare.gate import gate
from edgekit.workflows.compare.limits import (
    METRIC_UNITS,
    Limit,
    check_applied,
    check_metrics,
    evaluate,
    missing_rows,
    pair_rows,
)


@pytest.mark.parametrize(
    ("text", "quantity", "direction", "amount", "unit"),
    [
        ("p50>+5%", "p50", 1, 5, "%"),
        (" P50 > +0.5 ms ", "p50", 1, 0.5, "ms"),
        ("accuracy<-0.5pp", "accuracy", -1, 0.5, "pp"),
        ("HR@10<-1pp", "HR@10", -1, 1, "pp"),
        ("R²<-1%", "R²", -1, 1, "%"),
        ("size>+2kB", "size", 1, 2, "kB"),
        ("memory>+10%", "memory", 1, 10, "%"),
        ("metric<-0.5pp", "metric", -1, 0.5, "pp"),
    ],
)
def test_limits(text: str, quantity: str, direction: int, amount: float, unit: str) -> None:
    assert Limit.parse(text) == Limit(text, quantity, direction, amount, unit)


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 1, "a quantity .*"),
        (">+5%", 1, "a quantity .*"),
        ("p50", 4, "> or <"),
        ("p50=+5%", 4, "> or <"),
        ("p50>5%", 5, r"\+ \(a change from the baseline\)"),
        ("p50>-5%", 5, r"\+ .*"),
        ("accuracy<+5pp", 10, "- .*"),
        ("p50>+x%", 6, "a number"),
        ("p50>+5", 7, r"a unit \(%, ms\)"),
        ("p50>+5pp", 7, r"a unit \(%, ms\)"),
        ("size>+5msx", 8, "a unit .*"),
        ("p50>+5% or so", 9, "the end"),
    ],
)
def test_limits_that_cannot_be_read_show_where(text: str, place: int, expected: str) -> None:
    with pytest.raises(InputError, match=f"syntax error at character {place}: {expected} is expected") as error:
        Limit.parse(text)
    assert "p50>+5%" in error.value.next


@given(st.text(alphabet="p50size>+-<%ms.0123 accuracyk@²pB", max_size=20) | st.text(max_size=20))
def test_any_text_is_a_limit_or_refused(text: str) -> None:
    try:
        limit = Limit.parse(text)
    except InputError:
        return
    assert limit.amount >= 0 and limit.unit in (*METRIC_UNITS, "ms", "kB", "MB")
    assert Limit.parse(limit.text) == limit


def state(text: str, old: Any, new: Any, ratio: Ratio | str | None = None) -> str:
    found = evaluate(Limit.parse(text), (old, new), ratio)
    return found.state if found else "not asked"


def test_what_a_device_computes_otherwise_passes_no_gate() -> None:
    right = measurement(value=0.9)
    wrong = replace(right, facts={"agreement": {"wrong": "11.0 dB, 30 are the least"}}, invalid=("11.0 dB",))
    same = Ratio(1.0, (0.99, 1.01))
    for text in ("metric<-1pp", "p50>+5%"):
        assert state(text, right, right, same) == "passed"
        assert state(text, right, wrong, same) == "failed"
        assert state(text, wrong, wrong, same) == "undecided"
        assert state(text, wrong, right, same) == "passed"
    worse = replace(wrong, metric=metric(0.45))
    verdict = evaluate(Limit.parse("p50>+5%"), (wrong, wrong), same)
    assert verdict and verdict.error() is None
    refusal = verdict.error(strict=True)
    assert refusal and "another runtime" in refusal.next
    assert state("metric<-1pp", wrong, worse) == "failed", "it was wrong before, and is worse now"
    assert state("p50>+5%", wrong, wrong, Ratio(3.0, (2.9, 3.1))) == "failed"
    assert state("size>+2%", right, wrong) == "passed", "a file is as large as it is"


def test_values_are_judged_by_what_they_are() -> None:
    old = measurement(value=0.9)
    for value, wanted in {0.8949: "failed", 0.895: "passed", 0.8951: "passed", 0.95: "passed"}.items():
        assert state("accuracy<-0.5pp", old, measurement(value=value)) == wanted
    assert state("accuracy<-1%", old, measurement(value=0.892)) == "passed"
    assert state("accuracy<-1%", old, measurement(value=0.890)) == "failed"
    error = replace(old, metric=metric(2.0, name="RMSE", unit="", higher_is_better=False))
    worse = replace(old, metric=metric(2.2, name="RMSE", unit="", higher_is_better=False))
    assert state("RMSE>+5%", error, worse) == "failed" and state("RMSE>+5%", worse, error) == "passed"
    with pytest.raises(InputError, match="RMSE is not a fraction"):
        state("RMSE<-1pp", error, worse)
    assert state("size>+2%", old, replace(old, size_bytes=102_000)) == "passed"
    assert state("size>+2%", old, replace(old, size_bytes=102_001)) == "failed"
    assert state("size>+2kB", old, replace(old, size_bytes=102_001)) == "failed"
    assert state("memory>+10%", old, replace(old, peak_rss_bytes=61_100_000)) == "passed"
    assert state("memory>+10%", old, replace(old, peak_rss_bytes=61_300_000)) == "failed"
    assert state("memory>+10%", old, replace(old, peak_rss_bytes=None)) == "undecided"
    assert state("accuracy<-1pp", old, replace(old, metric=None)) == "undecided"
    assert state("mIoU<-1pp", old, old) == "not asked"


def test_a_latency_fails_beyond_the_limit_and_beyond_noise() -> None:
    old, new = measurement(), measurement(p50=1.1)
    assert state("p50>+5%", old, new, Ratio(1.10, (1.02, 1.18))) == "failed"
    assert state("p50>+5%", old, new, Ratio(1.04, (1.02, 1.06))) == "passed"
    assert state("p50>+5%", old, new, Ratio(1.10, (0.98, 1.22))) == "undecided"
    assert state("p50>+5%", old, new, Ratio(0.50, (0.45, 0.55))) == "passed"
    assert state("p50>+0.05ms", old, new, Ratio(1.10, (1.02, 1.18))) == "failed"
    assert state("p50>+0.2ms", old, new, Ratio(1.10, (1.02, 1.18))) == "passed"
    assert state("p50>+5%", old, new, "the baseline's artifact is not available") == "undecided"
    assert state("p50>+5%", replace(old, latency_ms=None), replace(new, latency_ms=None)) == "not asked"


def test_rows_are_paired_by_what_they_are() -> None:
    old = [measurement("a"), measurement("a", latency_ms=latency(threads=2)), measurement("b"), measurement("gone")]
    new = [measurement("b"), measurement("a"), measurement("new")]
    assert [a.artifact for a, _ in pair_rows(old, new)] == ["b", "a"]
    assert [m.artifact for m in missing_rows(old, new)] == ["a", "gone"]
    with pytest.raises(InputError, match="no row of the baseline was measured again"):
        pair_rows([measurement("a")], [measurement("a", target="pi")])
    other = measurement("a", metric=metric(samples=7, set_sha256="f" * 64))
    with pytest.raises(InputError, match=r"a was measured on another test set: 10,000 .*, 7 samples"):
        pair_rows([measurement("a")], [other])
    with pytest.raises(InputError, match="a was measured in another metric"):
        pair_rows([measurement("a")], [measurement("a", metric=metric(name="top5"))])


def test_a_misspelt_metric_does_not_pass() -> None:
    found = [(measurement(), measurement())]
    with pytest.raises(InputError, match="no row has 'acuracy'") as error:
        check_metrics([Limit.parse("acuracy<-1pp")], found)
    assert "accuracy" in error.value.next


def test_a_limit_that_nothing_was_checked_against_does_not_pass() -> None:
    untimed = measurement(latency_ms=None)
    limits = [Limit.parse("size>+2%"), Limit.parse("p50>+5%")]
    gates = [found for limit in limits if (found := evaluate(limit, (untimed, untimed), None))]
    with pytest.raises(InputError, match=r"'p50>\+5%' was checked on nothing: no row has 'p50'"):
        check_applied(limits, gates)
    check_applied(limits[:1], gates)


def test_a_ratio_of_two_that_are_the_same_is_one() -> None:
    assert statistics.latency_ratio(latency(), latency(), paired=True).value == 1


def test_a_value_that_is_no_number_does_not_pass() -> None:
    good, broken = measurement(), measurement(value=float("nan"))
    assert state("accuracy<-1pp", good, broken) == "failed" and state("accuracy<-1pp", broken, good) == "undecided"


def test_a_limit_on_any_metric_has_the_direction_of_worse() -> None:
    error = replace(measurement(), metric=metric(1.0, name="RMSE", unit="", higher_is_better=False))
    for text, row, next in (
        ("metric<-5%", error, "write RMSE>+5%"),
        ("metric<-0.5pp", error, "write RMSE>+0.5%"),
        ("metric>+1pp", measurement(), "write accuracy<-1pp"),
    ):
        with pytest.raises(InputError, match="would pass what is worse") as refused:
            state(text, row, row)
        assert refused.value.next == next
    assert state("metric>+5%", error, replace(error, metric=replace(error.metric, value=2.0))) == "failed"


def test_a_good_source_does_not_hide_a_bad_one(tmp_path: Path) -> None:
    base, good, bad = (
        str(tmp_path / write_results(tmp_path, [measurement(value=value)], name))
        for name, value in (("base", 0.9), ("good", 0.9), ("bad", 0.5))
    )
    for sources in ((bad, good), (good, bad)):
        verdicts = {gate.artifact: gate.state for gate in gate(sources, base, ["accuracy<-1pp"])}
        assert verdicts == {"bad/onnx": "failed", "good/onnx": "passed"}


def test_only_rows_over_the_chosen_set(tmp_path: Path) -> None:
    first, other = metric(0.9), metric(0.1, set_sha256="f" * 64)
    base = str(tmp_path / write_results(tmp_path, [measurement(), measurement(metric=first, runtime="litert")], "base"))
    new = str(tmp_path / write_results(tmp_path, [measurement(), measurement(metric=other, runtime="litert")], "new"))
    with pytest.raises(InputError, match="another test set"):
        gate([new], base, ["accuracy<-1pp"])
    verdicts = gate([new], base, ["accuracy<-1pp"], set=first.set_sha256[:8])
    assert [(verdict.runtime, verdict.state) for verdict in verdicts] == [
        ("onnxruntime", "passed"),
        ("litert", "undecided"),
    ]


# --- on a real run ---------------------------------------------------------------------------------------------------

LIMITS = ("--fail-if", "accuracy<-0.5pp", "--fail-if", "size>+2%")


@pytest.fixture
def baseline(bars_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bars_run, tmp_path / "baseline"))


@pytest.mark.slow
def test_a_run_against_its_own_copy(cli: Callable[..., Ended], bars_run: Path, baseline: Path) -> None:
    """The copy's artifacts are the baseline: p50 is measured again, interleaved, unless both were in one session."""
    results = json.loads((baseline / "results.json").read_text())
    for row in results["measurements"]:
        row["session"] = "another"
    (baseline / "results.json").write_text(json.dumps(results))
    options = ("--fail-if", "p50>+400%", "--processes", "2", "--json")
    ended = cli("compare", bars_run, "--against", baseline, *LIMITS, *options)
    assert ended.code == 0, ended.err
    assert "before and now, interleaved" in ended.err
    gates = ended.json["result"]["gates"]
    assert {(g["limit"], g["artifact"]) for g in gates} >= {("size>+2%", "onnx-int8"), ("p50>+400%", "onnx")}
    assert {g["state"] for g in gates if g["limit"] != "p50>+400%"} == {"passed"}
    timed = [g for g in gates if g["limit"] == "p50>+400%"]
    assert all(g["state"] == "passed" or "disturbed" in g["why"] for g in timed)


def test_worse_than_the_baseline(cli: Callable[..., Ended], bars_run: Path, baseline: Path, tmp_path: Path) -> None:
    results = json.loads((baseline / "results.json").read_text())
    for row in results["measurements"]:
        row["session"] = "another"
        if row["artifact"] == "onnx-int8":
            row["size_bytes"] = row["size_bytes"] * 9 // 10
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(results))
    table = tmp_path / "gates.md"
    limits = (*LIMITS, "--fail-if", "p50>+5%")
    ended = cli("compare", bars_run, "--against", alone, *limits, "--markdown", table)
    assert ended.code == 1
    assert "edgekit: size>+2% failed: onnx-int8 on host in onnxruntime:" in ended.err
    assert "the baseline's artifact is not available, so it cannot be measured again" in " ".join(ended.out.split())
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "| `size\\>+2%` | onnx-int8 |" in table.read_text().replace("&gt;", ">").replace(">", "\\>")
    assert "❌ failed" in table.read_text() and "➖ undecided" in table.read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--against", "BASE"], "--against requires --fail-if"),
        (["--fail-if", "p50>+5%"], "--fail-if requires --against"),
        (["--against", "BASE", "--fail-if", "p50>5%"], "a syntax error at character 5"),
        (["--against", "nowhere.json", "--fail-if", "p50>+5%"], "nowhere.json"),
        (["--against", "BASE", "--fail-if", "mIoU<-1pp"], "no row has 'mIoU'"),
    ],
)
def test_bad_gates(cli: Callable[..., Ended], bars_run: Path, baseline: Path, words: list[str], what: str) -> None:
    ended = cli("compare", bars_run, *[str(baseline) if word == "BASE" else word for word in words])
    assert ended.code == 2 and what in ended.err and ended.err.count("\n") == 1


def test_strict_fails_what_is_undecided(cli: Callable[..., Ended], bars_run: Path, tmp_path: Path) -> None:
    results = json.loads((bars_run / "results.json").read_text())
    for row in results["measurements"]:
        row["session"] = "another"
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(results))
    words = ("compare", bars_run, "--against", alone, "--fail-if", "p50>+5%")
    assert cli(*words).code == 0
    ended = cli(*words, "--strict")
    assert ended.code == 1 and "edgekit: p50>+5% is undecided: " in ended.err


def test_another_schema_version(cli: Callable[..., Ended], bars_run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"schema": "edgekit/0", "measurements": []}))
    ended = cli("compare", bars_run, "--against", old, *LIMITS)
    assert ended.code == 2 and "has the schema 'edgekit/0': this edgekit reads edgekit/1" in ended.err
