"""An int8 file that its runtime cannot load is a failed attempt, said in one line; another method is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest

from edgekit.steps.onnx_dynamic import OnnxDynamic
from edgekit.steps.onnx_int8 import OnnxInt8
from edgekit.workflows.quantize import quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("brief_search")


def model(folder: Path) -> tuple[str, str]:
    """A multilayer perceptron, and its samples."""
    rng, node = np.random.default_rng(1), onnx.helper.make_node
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "v"], ["y"])]
    constants = {n: (rng.normal(size=s) / 8).astype(np.float32) for n, s in (("w", (64, 64)), ("v", (64, 10)))}
    path = onnx_files.save(folder / "m.onnx", nodes, [("x", 1, ["N", 64])], [("y", 1, ["N", 10])], constants)
    np.savez(folder / "x.npz", x=rng.normal(size=(64, 64)).astype(np.float32))
    return str(path), str(folder / "x.npz")


def break_files(monkeypatch: pytest.MonkeyPatch, step: type, *methods: str) -> None:
    """What the step writes with these methods (none: any) holds an operator that no runtime has."""
    apply = step.apply

    def broken(self: Any, inputs: Any, out: Path, ctx: Any) -> Any:
        result = apply(self, inputs, out, ctx)
        if not methods or self.method in methods:
            made = onnx.load(str(out / "model.onnx"))
            made.graph.node[-1].domain = "acme"
            made.opset_import.append(onnx.helper.make_opsetid("acme", 1))
            onnx.save(made, str(out / "model.onnx"))
        return result

    monkeypatch.setattr(step, "apply", broken)


def test_the_next_method_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = model(tmp_path)
    break_files(monkeypatch, OnnxInt8, "min-max")
    outcome = quantize(path, methods=("min-max", "mse"), calibration=data, val=data, out=tmp_path / "run")
    first, second = outcome.searches[0].attempts
    assert first.failed.startswith("onnx_int8 made a file that does not run: cannot load onnx-int8~min-max in onnxr")
    assert "\n" not in first.failed and not first.usable
    assert outcome.searches[0].best is not None and outcome.searches[0].best.method == second.method == "mse"
    assert second.latency is not None, "the attempt that cannot be loaded does not end the timing of the others"
    assert not outcome.failures


def test_without_any_static_file_dynamic_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = model(tmp_path)
    break_files(monkeypatch, OnnxInt8)
    methods = ("dynamic", "min-max", "mse")
    outcome = quantize(path, methods=methods, calibration=data, val=data, out=tmp_path / "run")
    assert outcome.searches[0].best is not None and outcome.searches[0].best.method == "dynamic"


def test_if_nothing_can_be_used_the_error_names_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = model(tmp_path)
    break_files(monkeypatch, OnnxInt8)
    break_files(monkeypatch, OnnxDynamic)
    outcome = quantize(path, methods=("dynamic", "mse"), calibration=data, val=data, out=tmp_path / "run")
    (error,) = outcome.failures
    assert "onnx_dynamic made a file that does not run" in str(error) and error.code == 1 and error.next
    assert not any(artifact.name == "onnx-int8" for artifact in outcome.artifacts)
