"""The OpenVINO runtime by itself, as a device loads it, on models of a few layers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core import registry
from edgekit.formats.openvino import Openvino as Format
from edgekit.ondevice import runner

FILE = registry.source("runtimes", "openvino")
RUNTIME = runner.load_class(str(FILE), "Openvino")
try:
    RUNTIME.prepare_imports()
    import openvino
    from openvino import opset13 as ops
except ImportError:
    pytest.skip("openvino is not installed", allow_module_level=True)

WEIGHTS = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
SAMPLES = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)


def _save(folder: Path, outputs: list[Any], parameters: list[Any]) -> Path:
    path = folder / "model.xml"
    openvino.save_model(openvino.Model(outputs, parameters, "m"), path, compress_to_fp16=False)
    return path


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """relu(x · WEIGHTSᵀ), over a batch of any size."""
    x = ops.parameter([-1, 64], np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    result = ops.result(ops.relu(ops.matmul(x, ops.constant(WEIGHTS), False, True)))
    result.output(0).get_tensor().set_names({"y"})
    return _save(tmp_path, [result], [x])


def _session(path: Path, precision: str = "fp32", threads: int = 1) -> Any:
    return RUNTIME(str(path), threads, precision, {"inputs": [], "outputs": []})


def test_the_file_is_for_old_pythons_and_needs_only_numpy_and_openvino() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"numpy", "openvino", "re", "sys"}
    parts = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert parts == {"__future__", "openvino", "openvino.passes"}


def test_float_outputs_are_exact(linear: Path) -> None:
    session = _session(linear)
    assert session.inputs == [{"name": "x", "dtype": "float32", "shape": [None, 64]}]
    assert session.outputs == [{"name": "y", "dtype": "float32", "shape": [None, 3]}]
    (got,) = session.bind({"x": SAMPLES})()
    np.testing.assert_allclose(got, np.maximum(SAMPLES @ WEIGHTS.T, 0), rtol=1e-4, atol=1e-5)
    facts = session.facts()
    assert facts["precision"] == "f32"
    assert facts["threads"] == 1
    assert facts["runtime_version"] == openvino.get_version().split("-")[0]


def test_bf16_is_a_choice_that_is_recorded_and_seen_in_the_outputs(linear: Path) -> None:
    try:
        session = _session(linear, "bf16")
    except ValueError as error:
        pytest.skip(str(error))
    expected = np.maximum(SAMPLES @ WEIGHTS.T, 0)
    error = np.abs(session.bind({"x": SAMPLES})()[0] - expected).max() / expected.max()
    assert session.facts()["precision"] == "bf16"
    assert 1e-4 < error < 0.05


def test_a_precision_that_the_cpu_lacks_is_refused(linear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn:
        def compile_model(self, *_: Any) -> Any:
            return types.SimpleNamespace(get_property=lambda name: openvino.Type.f32)

    monkeypatch.setattr(openvino, "Core", Stubborn)
    with pytest.raises(ValueError, match="computes in f32 where bf16 was asked for"):
        _session(linear, "bf16")


def test_outputs_stay_valid_and_calls_do_not_meet(linear: Path) -> None:
    session = _session(linear)
    first, second = session.bind({"x": SAMPLES[:2]}), session.bind({"x": SAMPLES[2:]})
    a, b = first()[0], second()[0]
    kept = a.copy(), b.copy()
    again = [first()[0], second()[0]]
    a[:] = -1
    np.testing.assert_array_equal(again[0], kept[0])
    np.testing.assert_array_equal(again[1], kept[1])
    assert [len(x) for x in again] == [2, 3]


def test_inputs_may_be_read_only_or_gone(linear: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SAMPLES)
    session = _session(linear)
    call = session.bind({"x": np.load(tmp_path / "x.npy", mmap_mode="r")})
    expected = session.bind({"x": SAMPLES})()[0]
    assert np.array_equal(call()[0], expected)
    assert np.array_equal(session.bind({"x": SAMPLES.copy()})()[0], expected)


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    b, a = (ops.parameter([-1, 2], np.float32, name=name) for name in "ba")
    ids = ops.parameter([-1, 2], np.int64, name="ids")
    for port, name in ((b, "b"), (a, "a"), (ids, "ids")):
        port.output(0).get_tensor().set_names({name})
    results = [ops.result(node) for node in (ops.subtract(b, a), ops.add(ids, ids))]
    for result, name in zip(results, ("second", "first"), strict=True):
        result.output(0).get_tensor().set_names({name})
    path = _save(tmp_path, results, [b, a, ids])
    session = _session(path)
    assert [spec["name"] for spec in session.inputs] == ["b", "a", "ids"]
    assert [(spec["name"], spec["dtype"]) for spec in session.outputs] == [("second", "float32"), ("first", "int64")]
    numbers = np.arange(4, dtype=np.float32).reshape(2, 2)
    feeds = {"a": numbers, "b": 10 * numbers, "ids": numbers.astype(np.int64)}
    difference, double = session.bind(feeds)()
    assert np.array_equal(difference, 9 * numbers)
    assert np.array_equal(double, 2 * feeds["ids"])


@pytest.mark.parametrize("named", [True, False])
def test_the_format_reads_the_names_that_the_runtime_uses(linear: Path, named: bool) -> None:
    if not named:
        text = linear.read_text().replace(' output_names="y"', "")
        linear.write_text(text.replace(' names="x"', "").replace(' names="y"', ""))
    session, facts = _session(linear), Format.describe(linear)
    for specs, found in ((session.inputs, facts.inputs), (session.outputs, facts.outputs)):
        assert [(s["name"], s["dtype"], tuple(s["shape"])) for s in specs] == [
            (s.name, s.dtype, s.shape) for s in found
        ]


def test_an_operator_it_lacks_is_named(linear: Path) -> None:
    linear.write_text(linear.read_text().replace('type="ReLU"', 'type="Frobnicate"'))
    assert "Frobnicate" in {operator.type for operator in Format.describe(linear).operators}
    with pytest.raises(Exception, match="Frobnicate"):
        _session(linear)


def test_nothing_reports_its_use(tmp_path: Path) -> None:
    """In a home of its own, where nobody has opted out and no variable says that this is a test."""
    script = f"""
import sys; sys.path.insert(0, {str(FILE.parents[2])!r})
from edgekit.runtimes.openvino import Openvino
Openvino.prepare_imports()
from openvino.tools.ovc.telemetry_utils import tm
assert tm.__name__.endswith("stub"), tm
assert sys.modules["openvino_telemetry"] is None
"""
    hidden = ("CI", "TF_BUILD", "JENKINS_URL")
    environment = {**{k: v for k, v in os.environ.items() if k not in hidden}, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
    assert not list(tmp_path.iterdir())


def test_a_sender_that_is_loaded_already_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.runtimes.openvino import no_telemetry

    sent: list[Any] = []
    sender = types.ModuleType("openvino_telemetry.utils.sender")
    sender.TelemetrySender = type("TelemetrySender", (), {"send": lambda self, message: sent.append(message)})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, sender.__name__, sender)
    no_telemetry()
    sender.TelemetrySender().send("hello")
    assert not sent
