"""The public Python API: these names, and a short script that uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment

COMMANDS = {
    *("train", "prune", "quantize", "export", "verify", "bench", "predict", "compare", "inspect", "deploy", "optimize"),
    *("import_model", "doctor", "load", "run", "gate"),
}
OBJECTS = {"Model", "Results", "Optimized", "RunResult", "EdgekitError", "InputError", "BudgetMissed", "__version__"}

SCRIPT = """
import edgekit

done = edgekit.run("bars.toml", out="run", settings=["plan.seconds=0.01"])
assert list(done.models) == ["torch", "onnx", "onnx-int8"] == [m.artifact for m in done.results]
assert done.models["onnx"] == edgekit.load("run/onnx") and done.path.is_absolute()

network = edgekit.load("run")
assert (network.name, network.format, network.precision, network.task) == ("torch", "torch", "float", "bars")

half = edgekit.quantize(edgekit.load("run/onnx"), "fp16")
assert (half.name, half.precision) == ("onnx-fp16", "fp16") and half.file.is_file()

results = half.bench(processes=1, quick=True)
assert results[0].metric.value > 0.8

found = edgekit.compare("run")
assert {m.artifact for m in found} >= {"torch", "onnx", "onnx-int8", "onnx-fp16"}
assert [m.artifact for m in edgekit.compare(half)] == ["onnx-fp16"]
assert all(m.latency_ms.p50 > 0 for m in found)

try:
    edgekit.load("nothing")
except edgekit.InputError as error:
    print("refused:", error)
"""


def test_the_public_names() -> None:
    import edgekit

    assert set(edgekit.__all__) >= COMMANDS | OBJECTS
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        edgekit.nonsense  # noqa: B018
    assert set(dir(edgekit)) >= {"__version__"}


def test_importing_is_light() -> None:
    code = "import edgekit, sys; print([m for m in ('numpy', 'torch', 'onnx', 'click') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_a_script(bars_run: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: 'nothing' is neither")
    assert not done.stderr, "a library prints nothing of its own"
