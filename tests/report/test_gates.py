"""Gates as JUnit XML: a test case each, nothing green that did not pass, and names that stay text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from outside import outside
from report.made_up import HOSTILE, STEERING, latency, measurement, names

from edgekit.core.measurement import Ratio
from edgekit.report import junit, markdown
from edgekit.report.gates import summary
from edgekit.workflows.compare.limits import Gate, Limit, evaluate, not_measured
from edgekit.workflows.compare.verdicts import verdicts

OLD, NEW = measurement(), measurement(p50=1.1, value=0.88)


def gate(text: str, ratio: Ratio | str | None = None) -> Gate:
    made = evaluate(Limit.parse(text), (OLD, NEW), ratio)
    assert made
    return made


SLOWER = gate("p50>+5%", Ratio(1.10, (1.02, 1.18)))
UNKNOWN = gate("p50>+5%", "it was not measured again")
SAME_SIZE = gate("size>+2%")
WORSE = gate("accuracy<-0.5pp")
GATES = [SAME_SIZE, SLOWER, UNKNOWN, WORSE]


def cases(text: str) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites" and [suite.tag for suite in root] == ["testsuite"]
    return {case.get("name", ""): case for case in root[0]}


def test_the_summary_counts_what_did_not_pass() -> None:
    assert summary([SAME_SIZE] * 28) == "28 of 28 gates passed"
    assert summary(GATES) == "1 of 4 gates passed, 2 failed, 1 undecided"
    assert markdown([NEW], GATES).startswith(f"**{summary(GATES)}**\n\n| gate |")


def test_a_case_has_limit_value_and_interval() -> None:
    case = cases(junit([SLOWER]))["onnx: p50>+5%"]
    assert case.get("classname") == "host.onnxruntime"
    text = case.findtext("system-out", "")
    assert "limit: p50>+5%\nbefore: 1.00 ms\nnow: 1.10 ms (95 % CI 1.09 to 1.11 ms)" in text
    assert "change: +10.00 % (99 % CI +2.00 to +18.00)\nverdict: failed" in text
    assert "now: 88.00% (95 % CI 87.00% to 89.00%)" in cases(junit([WORSE]))["onnx: accuracy<-0.5pp"][-1].text  # type: ignore[operator]
    ms = evaluate(Limit.parse("p50>+0.05ms"), (OLD, NEW), Ratio(1.10, (1.02, 1.18)))
    assert ms and ms.interval == pytest.approx((0.02, 0.18))
    for unknown in (float("nan"), 0.0):
        few = evaluate(Limit.parse("p50>+50%"), (OLD, NEW), Ratio(1.10, (unknown, 1e6)))
        assert few and few.interval is None and "99 % CI" not in junit([few])


@pytest.mark.parametrize(("strict", "failed", "skipped"), [(False, 2, 1), (True, 3, 0)])
def test_what_is_undecided_is_never_green(strict: bool, failed: int, skipped: int) -> None:
    gone = not_measured(Limit.parse("size>+2%"), measurement("gone"))
    assert gone and gone.after == "-" and gone.why.endswith("was not measured now")
    suite = ElementTree.fromstring(junit([*GATES, gone], strict).encode())[0]
    assert (suite.get("tests"), suite.get("errors")) == ("5", "0")
    assert suite.get("failures") == str(failed + strict) and suite.get("skipped") == str(skipped + (not strict))
    green = [case.get("name") for case in suite if {child.tag for child in case} == {"system-out"}]
    assert green == ["onnx: size>+2%"]
    assert {child.get("type") for case in suite for child in case.findall("failure")} <= {"failed", "undecided"}


def test_rows_of_several_plans_are_told_apart() -> None:
    two = measurement(latency_ms=latency(threads=2))
    made = evaluate(Limit.parse("size>+2%"), (two, two), None)
    assert made and len(cases(junit([SAME_SIZE, made]))) == 2


def test_rows_of_several_runtimes_and_plans_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """In the table of the terminal, in its reasons, and in Markdown."""
    rows = [OLD, measurement(runtime="openvino"), measurement(latency_ms=latency(threads=2))]
    gates = [made for m in rows if (made := evaluate(Limit.parse("p50>+5%"), (m, m), "it was busy"))]
    verdicts(gates)
    said = " ".join("".join(capsys.readouterr()).split())
    assert len({(gate.runtime, gate.plan) for gate in gates}) == 3
    for gate in gates:
        name = f"onnx ({gate.runtime}, {gate.plan})"
        assert f"{name}, p50>+5%: it was busy" in said and f"| {name} |" in markdown([NEW], gates)
    assert "| onnx |" in markdown([NEW], gates[:1])


@given(names, names)
@settings(max_examples=15, deadline=None)
def test_any_name_is_text(artifact: str, why: str) -> None:
    m = measurement(artifact, target=HOSTILE, runtime=why)
    made = evaluate(Limit.parse("p50>+5%"), (m, m), why)
    assert made
    for strict in (False, True):
        text = junit([made], strict)
        assert not STEERING.search(text)
        (case,) = ElementTree.fromstring(text.encode())[0]
        assert case[0].tag == ("failure" if strict else "skipped")


def test_another_parser_reads_it() -> None:
    parser = outside("junitparser")
    (suite,) = parser.JUnitXml.fromstring(junit(GATES).encode())
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (4, 2, 1, 0)
    results = {case.name: [type(result).__name__ for result in case.result] for case in suite}
    assert results["onnx: accuracy<-0.5pp"] == ["Failure"] and results["onnx: size>+2%"] == []
    before = [suite.tests, suite.failures, suite.skipped]
    suite.update_statistics()
    assert before == [suite.tests, suite.failures, suite.skipped]
