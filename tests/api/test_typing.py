"""`mypy --strict` on a script that uses every public function: users get the types, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgekit

SCRIPT = """
from pathlib import Path

import numpy as np

import edgekit
from edgekit import Model, Optimized, Results

x, y = np.zeros((8, 3), np.float32), np.zeros(8, np.int64)
model: Model = edgekit.train((x, y), out="runs/a", epochs=3, batch=4)
brought: Model = edgekit.import_model("net.onnx", shape=(1, 3), out=Path("runs/b"))
again: Model = edgekit.load(model.path)
pruned: Model = edgekit.prune(model, ratio=0.5, epochs=1)
pruned_again: Model = pruned.prune(macs=0.5)
one: Model = edgekit.export(model, "onnx", opset=20)
two: list[Model] = edgekit.export(model, ["onnx", "tflite"])
small: Model = edgekit.quantize(one, calibration=x, val=(x, y), max_drop=0.5, effort="fast")
both: list[Model] = edgekit.quantize(model, "fp16", to=["onnx", "openvino"])
checked: list[str] = [finding.artifact for finding in edgekit.verify(small)]
results: Results = edgekit.bench([model, small], (x, y), quick=True, threads=[1, 2]) + edgekit.compare("runs/a")
p50: list[float] = [m.latency_ms.p50 for m in results.pareto if m.latency_ms]
advice: list[str] = results.advice
results.plot("A title").save("a.svg")
results.summary("summary.pdf", title="A title")
shares = small.predict(x) + edgekit.predict(small.path, x)
facts: dict[str, object] = edgekit.inspect(small, shape={"input": (1, 3)})
release: str = small.deploy("host", path="deployed").id + edgekit.deploy(small, "host").id
found: Optimized = edgekit.optimize(model, max_latency=5.0, trials=4)
best: Model = found.model
packages: dict[str, object] = edgekit.doctor()
verdicts = edgekit.gate(["runs/a"], "baseline", ["p50>+5%"])
outcome = edgekit.run("mnist")
try:
    small.quantize(max_drop=0.1)
except (edgekit.BudgetMissed, edgekit.InputError, edgekit.Missing) as error:
    print(error.what, error.why, error.next)
"""


@pytest.mark.slow
def test_a_script_that_uses_all_of_it(tmp_path: Path) -> None:
    unused = [name for name in edgekit.__all__ if f"edgekit.{name}" not in SCRIPT and name[0].islower()]
    assert not unused
    (tmp_path / "script.py").write_text(SCRIPT)
    words = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "script.py"]
    done = subprocess.run([sys.executable, "-m", "mypy", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
