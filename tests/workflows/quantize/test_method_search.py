"""The method search: which attempt is chosen, that nothing finished is repeated, and its messages."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import Ended, run_cli, start

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import BudgetMissed, InputError
from edgekit.core.measurement import Latency, Metric, Parity, Process, Ratio, Run, Verdict
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.measure import targets
from edgekit.measure.verify import Finding
from edgekit.report.method_search import search_table
from edgekit.report.tables import lines
from edgekit.runs.attempts import METHODS_FILE
from edgekit.runs.store import Store
from edgekit.sets import halves
from edgekit.sets.reading import sample_set
from edgekit.steps.shared import onnx_weight_only
from edgekit.workflows import bench, export, quantize
from edgekit.workflows.quantize import attempt_times, methods, placement
from edgekit.workflows.quantize.attempts import Attempt
from edgekit.workflows.quantize.method_search import MethodSearch, calibration_warnings

pytestmark = pytest.mark.usefixtures("members")


def attempt(method: str, sqnr: float, state: Any = "", drop: float = 0.0) -> Attempt:
    metric = Metric("accuracy", "fraction", True, 0.9, (0.8, 1.0), 100, "", drop, (drop - 1, drop + 1))
    verdict = Verdict(state, 0.5, "val") if state else None
    finding = Finding("onnx-int8", "", "", "onnx_int8", "accuracy", parity=Parity("onnx", sqnr, 0.1, 1.0))
    return Attempt(method, None, dataclasses.replace(finding, metric=metric if state else None, verdict=verdict))


def best(*tried: Attempt) -> str:
    return max(tried, key=lambda a: a.rank_key).method


def test_among_those_within_the_budget_the_nearest_outputs_win() -> None:
    assert best(attempt("a", 20, "met", 0.1), attempt("b", 25, "undecided", 0.3)) == "b"
    assert best(attempt("a", 20), attempt("b", 19)) == "a"


def test_the_budget_comes_before_nearness() -> None:
    assert best(attempt("a", 20, "met"), attempt("b", 25, "missed", 3)) == "a"
    assert best(attempt("a", 20, "met"), attempt("b", 25, "undecided", 0.9)) == "a"
    assert best(attempt("a", 20, "missed", 2), attempt("b", 25, "missed", 3)) == "a", "then the smaller loss"


def test_labels_that_decide_nothing_do_not_excuse_what_is_far_off() -> None:
    """Eight samples, all right by chance, of outputs that are mostly noise."""
    far, near = attempt("mse", 5, "undecided"), attempt("weight-only", 60, "undecided", 0.4)
    assert not far.within_budget and near.within_budget
    assert best(far, near) == "weight-only"
    assert attempt("mse", 5, "met").within_budget, "enough labels decide"
    assert attempt("qat", 5, "undecided").within_budget, "its weights have been trained: its outputs may differ"


def test_halves_share_no_sample_and_keep_labels_with_inputs() -> None:
    data = sample_set("d", {"input": np.arange(7)[:, None]}, np.arange(7))
    first, second = halves(data)
    both = [*first.inputs["input"][:, 0], *second.inputs["input"][:, 0]]
    assert sorted(both) == list(range(7))
    for half in (first, second):
        assert half.labels is not None
        np.testing.assert_array_equal(half.inputs["input"][:, 0], half.labels)
    assert first.sha256 != second.sha256
    one = sample_set("one", {"input": np.zeros((1, 2))}, None)
    assert len(halves(one)[0]) == len(halves(one)[1]) == 1


def floats(values: Any) -> SampleSet:
    return sample_set("f", {"input": np.asarray(values, np.float32)}, None)


def test_warnings_about_the_calibration_samples() -> None:
    rng = np.random.default_rng(0)
    good = floats(rng.normal(size=(64, 5)))
    assert not list(calibration_warnings(good, 64, floats(rng.normal(size=(64, 5)))))
    assert "8 calibration samples" in next(calibration_warnings(good, 8, good))
    assert "unlike" in next(calibration_warnings(good, 64, floats(rng.normal(3, 1, size=(64, 5)))))
    assert "unlike" in next(calibration_warnings(good, 64, floats(rng.normal(0, 9, size=(64, 5)))))


@pytest.fixture
def searched(bars_run: Path) -> Any:
    """The cheap methods on the bars network, in ONNX."""
    return quantize.quantize(str(bars_run), to=["onnx"], methods=("min-max", "mse"))


def test_the_best_attempt_takes_the_plain_name(searched: Any, bars_run: Path) -> None:
    (search,) = searched.searches
    assert [a.method for a in search.attempts] == ["min-max", "mse"]
    store = Store(bars_run)
    chosen, tried = store.get("onnx-int8"), store.get(f"onnx-int8~{search.best.method}")
    assert chosen.id == tried.id
    assert search.best.finding.parity.sqnr_db == max(a.finding.parity.sqnr_db for a in search.attempts)
    assert search.confirmed.metric.samples == search.best.finding.metric.samples == 150
    assert search.confirmed.metric.set_sha256 != search.best.finding.metric.set_sha256
    assert search.best.finding.parity.against == "onnx"
    assert all(a.seconds > 0 for a in search.attempts)
    assert search.best.latency and search.best.ratio, "the best of its kernels is timed"


@pytest.mark.slow
def test_a_second_search_makes_nothing(searched: Any, bars_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bars_run.rglob("artifact.json")}
    said: list[str] = []
    again = quantize.quantize(str(bars_run), to=["onnx"], methods=("min-max", "mse"), say=said.append)
    assert {path: path.stat().st_mtime_ns for path in bars_run.rglob("artifact.json")} == before
    assert not [line for line in said if "made " in line]
    assert again.searches[0].to_json() == searched.searches[0].to_json()


@pytest.mark.slow
def test_tries_are_not_measured_with_the_run(searched: Any, bars_run: Path) -> None:
    outcome = bench.bench([str(bars_run)], plan={"processes": 1, "seconds": 0.02, "warmup_seconds": 0.01})
    assert {m.artifact for m in outcome.measurements} == {"torch", "onnx", "onnx-int8"}
    named = bench.bench([str(bars_run / "onnx-int8~mse")], plan={"processes": 1, "seconds": 0.02})
    assert [m.artifact for m in named.measurements] == ["onnx-int8~mse"]


def test_with_a_budget_the_first_method_that_keeps_it_ends_the_search(bars_run: Path) -> None:
    outcome = quantize.quantize(str(bars_run), to=["onnx"], max_drop_pp=20)
    tried = [a.method for a in outcome.searches[0].attempts]
    others = ["dynamic", "weight-only"]
    assert tried in (["min-max"], ["min-max", *others]), "and weights only, where int8 is not faster"
    assert not outcome.failures


def test_times_of_another_machine_are_measured_again(
    brief_search: None, bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run folder that was copied to another machine, or a target that is another device now."""
    measured = []
    latencies = attempt_times.latencies

    def counted(*words: Any, **settings: Any) -> list[Latency] | None:
        measured.append(words)
        return latencies(*words, **settings)

    monkeypatch.setattr(attempt_times, "latencies", counted)
    host = targets.device(targets.load("host"))
    for facts, again in ({}, True), ({}, False), ({"cpu": "another"}, True), ({"cpu": "another"}, False):
        machine = {**host.facts(), **facts}
        with monkeypatch.context() as patched:
            patched.setattr(type(host), "facts", lambda device, machine=machine: machine)
            quantize.quantize(str(bars_run), to=["onnx"], methods=("mse",))
        assert bool(measured) == again, facts
        measured.clear()


@pytest.mark.parametrize(("static", "chosen"), [(2.0, "onnx-dynamic"), (1.0, "onnx-dynamic"), (0.5, "onnx-int8")])
def test_int8_that_is_not_faster_than_float_gives_way_to_weights_only(
    static: float, chosen: str, bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is known to be faster is worth the noise of quantized activations."""

    def latencies(search: MethodSearch, models: Sequence[Artifact], processes: int = 0) -> list[Latency]:
        factors = [static if model.kind.precision == "int8" else 1.0 for model in models]
        rng = np.random.default_rng(0)
        processes = [
            [Process(tuple(int(t) for t in rng.normal(1e6 * f, 1e3, 50)), 1, 1, 1, 1, 1) for _ in range(5)]
            for f in factors
        ]
        return [statistics.latency(found, 1, 1) for found in processes]

    monkeypatch.setattr(attempt_times, "latencies", latencies)
    monkeypatch.setattr(onnx_weight_only, "SMALL", 64)  # this network has few weights
    outcome = quantize.quantize(str(bars_run), to=["onnx"], methods=("weight-only", "mse"))
    (search,) = outcome.searches
    assert search.chosen is not None and search.chosen.name == chosen
    assert search.to_json()["recommended"]
    assert Store(bars_run).get("onnx-int8").kind.precision == "int8", "what is not recommended is kept, too"
    assert [a.method for a in search.attempts] == (["mse"] if static < 0.9 else ["mse", "weight-only"])


def test_without_latency_nothing_is_timed_and_the_record_says_so(
    bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(*_: object, **__: object) -> None:
        raise AssertionError("it was timed")

    monkeypatch.setattr(attempt_times, "execute_all", timed)
    outcome = quantize.quantize(str(bars_run), to=["onnx"], methods=("weight-only", "min-max", "mse"), latency=False)
    record = outcome.searches[0].to_json()
    assert record["not_timed"] == "--no-latency" and record["against_latency_ms"] is None
    assert {a["method"] for a in record["attempts"]} == {"min-max", "mse"} and record["recommended"]
    assert not any(a["latency_ms"] or a["ratio"] for a in record["attempts"])
    shown = "\n".join(lines(search_table(record)))
    assert "not timed (--no-latency): accuracy and size decide" in shown and "faster" not in shown


def test_without_latency_the_times_of_an_earlier_search_are_kept(
    brief_search: None, bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = quantize.quantize(str(bars_run), to=["onnx"], methods=("mse",)).searches[0].to_json()
    assert earlier["against_latency_ms"]
    monkeypatch.setattr(attempt_times, "execute_all", None)  # nothing is timed again
    record = quantize.quantize(str(bars_run), to=["onnx"], methods=("mse",), latency=False).searches[0].to_json()
    assert record["against_latency_ms"] == earlier["against_latency_ms"] and not record["not_timed"]
    assert record["attempts"][0]["ratio"] == earlier["attempts"][0]["ratio"]


@pytest.mark.parametrize(
    ("static", "sessions"),
    [
        (0.5, [["onnx", "onnx-int8~mse"], ["onnx", "onnx-int8~min-max"]]),  # the first: is it clearly faster?
        (2.0, [*[["onnx", "onnx-int8~mse"]] * 2, ["onnx", "onnx-int8~min-max", "onnx-dynamic~weight-only"]]),
    ],
)
def test_what_the_placement_found_is_not_measured_twice(
    static: float, sessions: list[list[str]], brief_search: None, bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That int8 is not faster is known before the attempts are measured, so the others are measured with them."""
    measured: list[list[str]] = []

    def execute_all(pairs: Any, target: Target, data: SampleSet, plan: Plan, **_: object) -> list[Run]:
        measured.append([artifact.name for artifact, _ in pairs])
        runs = []
        for artifact, runtime in pairs:
            times = np.full(50, 1e5 * (static if artifact.kind.precision == "int8" else 1), int)
            process = Process(tuple(times.tolist()), 1, 1, 1, 1, 1, tuple(times.tolist()))
            runs.append(Run(artifact.name, target.name, runtime, "measured", {}, (process,), {"batch": 1}))
        return runs

    monkeypatch.setattr(attempt_times, "execute_all", execute_all)
    monkeypatch.setattr(onnx_weight_only, "SMALL", 64)  # this network has few weights
    monkeypatch.setattr(placement, "_slow", lambda *_, **__: placement.Candidate())
    outcome = quantize.quantize(str(bars_run), to=["onnx"], methods=("weight-only", "mse", "min-max"))
    assert measured == sessions
    assert all(a.latency for a in outcome.searches[0].attempts if a.method != "mse")


def test_a_session_over_the_same_models_serves_twice(
    brief_search: None, bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[list[str]] = []
    execute_all = attempt_times.execute_all

    def counted(pairs: Any, *words: Any, **settings: Any) -> list[Run]:
        sessions.append([artifact.name for artifact, _ in pairs])
        return execute_all(pairs, *words, **settings)

    monkeypatch.setattr(attempt_times, "execute_all", counted)
    monkeypatch.setattr(placement, "CLEARLY_FAST", 0.0)
    monkeypatch.setattr(placement, "LEAST_MS", 1e9)
    monkeypatch.setattr(placement, "_slow", lambda *_, **__: placement.Candidate())
    (search,) = quantize.quantize(str(bars_run), to=["onnx"], methods=("min-max",)).searches
    assert search.reference_latency and search.attempts[0].latency
    assert sessions == [["onnx", "onnx-int8~min-max"]] * 2, "a glance, and one session for the placement and the result"


@pytest.mark.slow
def test_where_no_method_keeps_the_budget_the_best_is_kept(bars_run: Path) -> None:
    outcome = quantize.quantize(str(bars_run), to=["onnx"], max_drop_pp=-30, methods=("min-max", "mse"))
    (failure,) = outcome.failures
    assert isinstance(failure, BudgetMissed)
    assert Store(bars_run).get("onnx-int8").id
    assert not outcome.searches[0].to_json()["recommended"]


@pytest.mark.slow
def test_the_network_behind_an_export_is_found(bars_run: Path) -> None:
    outcome = quantize.quantize(str(bars_run / "onnx"), methods=("mse", "gptq"))
    methods = {a.method: a for a in outcome.searches[0].attempts}
    assert not methods["gptq"].failed
    assert Store(bars_run).root(methods["gptq"].artifact).name == "torch"
    assert methods["gptq"].finding.parity.against == "onnx", "against the float model, not the rounded one"


@pytest.mark.slow
def test_a_method_that_fails_says_why_and_stops_nothing(bars_made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    export.export(str(_copy(bars_made, tmp_path / "bars")), to=["openvino"])
    file = tmp_path / "bars" / "openvino" / "model.xml"
    outcome = quantize.quantize(
        str(file), calibration="bars:train", val="bars:val", methods=("min-max", "gptq"), out=run
    )
    methods = {a.method: a for a in outcome.searches[0].attempts}
    assert "no torch network behind openvino" in methods["gptq"].failed
    assert Store(run).get("openvino-int8")


def _copy(source: Path, place: Path) -> Path:
    import shutil

    return Path(shutil.copytree(source, place))


def test_unknown_methods_and_int8_models_are_refused(bars_run: Path) -> None:
    with pytest.raises(InputError, match="no method 'mes'"):
        quantize.quantize(str(bars_run), to=["onnx"], methods=("mes",))
    with pytest.raises(InputError, match="int8 already"):
        quantize.quantize(str(bars_run / "onnx-int8"))


@pytest.mark.slow
def test_the_command_shows_the_search(
    bars_run: Path, cli: Callable[..., Ended], check_document: Callable[[dict[str, Any]], None]
) -> None:
    ended = cli("quantize", "run", "--to", "onnx", "--methods", "min-max,percentile")
    assert ended.code == 0, ended.err
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    assert "* " in ended.out
    assert "percentile" in ended.out
    document = cli("quantize", "run", "--thorough", "--to", "onnx", "--methods", "min-max,percentile", "--json").json
    check_document(document)
    (search,) = document["result"]["searches"]
    assert [a["method"] for a in search["attempts"]] == ["min-max", "percentile"]


@pytest.mark.slow
def test_a_killed_search_resumes_after_the_last_finished_attempt(bars_run: Path, tmp_path: Path) -> None:
    process = start("quantize", "run", "--thorough", "--to", "onnx", cwd=tmp_path, start_new_session=True)
    assert process.stderr is not None
    while "method    equalize" not in process.stderr.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {a["method"] for a in json.loads((bars_run / METHODS_FILE).read_text())["onnx-int8"]["attempts"]}
    assert before == {"min-max", "percentile", "mse"}
    again = run_cli("quantize", "run", "--thorough", "--to", "onnx", "--json", cwd=tmp_path)
    assert again.code == 0, again.err
    for method in before:
        assert f"reused    onnx-int8~{method}\n" in again.err
    methods = [a["method"] for a in again.json["result"]["searches"][0]["attempts"]]
    assert methods[:3] == ["min-max", "percentile", "mse"]
    assert {"equalize", "gptq", "bias"} <= {part for method in methods for part in method.split("-")}


@pytest.mark.parametrize("isa", [("avx2",), ("avx512_vnni",)])
@pytest.mark.parametrize("format", ["onnx", "openvino", "tflite"])
def test_gptq_rounds_to_what_the_format_needs_on_the_target(isa: tuple[str, ...], format: str) -> None:
    """A network with bounded weights is another artifact, so the formats that need none do not lose by it."""
    target = Target("t", "", "local", "x86_64", isa)

    class Search:
        def __init__(self) -> None:
            self.format = format

        def step(self, name: str, **fields: Any) -> Any:
            return registry.load("steps", name)(**fields).resolve(target)

        def chained(self, name: str) -> str:
            return name

        def make(self, name: str, step: Any, inputs: Any) -> Any:
            return name, step.bounded

    bounded = isa == ("avx2",) and format != "tflite"
    made: Any = methods._rounded(Search(), "gptq", None)  # type: ignore[arg-type]
    assert made == ("torch~gptq-bounded" if bounded else "torch~gptq", bounded)


def test_a_much_faster_attempt_is_named_unless_it_is_broken() -> None:
    def timed(p50: float) -> Latency:
        return Latency(p50, p50, p50, (p50 * 0.99, p50 * 1.01), 5, 1000, 1, 1, (p50 * 0.99, p50, p50, p50, p50 * 1.01))

    def attempt(p50: float, failed: str = "budget") -> Any:
        return SimpleNamespace(
            usable=True, latency=timed(p50), ratio=Ratio(p50, (p50, p50)), finding=SimpleNamespace(failed=failed)
        )

    best, quick, similar, broken = attempt(1.0), attempt(0.3), attempt(0.99), attempt(0.2, "floor")

    def named(*others: Any) -> Any:
        search: Any = SimpleNamespace(record=SimpleNamespace(attempts=[best, *others]))
        return MethodSearch._much_faster(search, best)

    assert named(quick, similar, broken) is quick
    assert named(similar) is None and named(broken) is None and named() is None
