"""`mypy --strict` on a script that uses every public name and member, and on one whose every line is a mistake."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit

RIGHT = """
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch

import edgekit
from edgekit import Deployment, Finding, Gate, Measurement, Model, Optimized, Picture, Results, RunResult, Trial

x, y = np.zeros((8, 3), np.float32), np.zeros(8, np.int64)
table = pd.DataFrame(x)
network = torch.nn.Sequential(torch.nn.Linear(3, 2))
pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
loader = torch.utils.data.DataLoader(pairs, batch_size=4)

model: Model = edgekit.train((x, y), out="runs/a", epochs=3, batch=4, optimizer="sgd", freeze=["features"])
model = edgekit.train(table, label="price", teacher=model, init=Path("weights.safetensors"), progress=False)
model = edgekit.train(pairs, augment="off", accelerator="cpu", distil="logits", alpha=0.5)
brought: Model = edgekit.import_model("net.onnx", shape=(1, 3), out=Path("runs/b"))
brought = edgekit.import_model(network, example=torch.zeros(1, 3), classes=Path("names.txt"))
again: Model = edgekit.load(model.path)
pruned: Model = edgekit.prune(model, ratio=0.5, epochs=1, importance="taylor")
pruned_again: Model = pruned.prune(macs=0.5, scope="global", val=(x, y))
one: Model = edgekit.export(model, "onnx", opset=20)
two: list[Model] = edgekit.export(model, ["onnx", "tflite"], layout="nhwc")
three: Model = edgekit.export(network, example=x[:1]).export("openvino", dynamic="batch")
small: Model = edgekit.quantize(one, calibration=x, val=(x, y), max_drop=0.5, effort="fast", methods=["mse", "gptq"])
both: list[Model] = edgekit.quantize(model, "fp16", to=["onnx", "openvino"])
tiny: Model = three.quantize("int8", to="tflite", calibration=loader, input_type="uint8", methods="min-max")
findings: list[Finding] = edgekit.verify(small, against=one, layers=True)
errors: list[edgekit.EdgekitError] = [error for error in (finding.error() for finding in findings) if error]
results: Results = edgekit.bench([model, small], (x, y), quick=True, threads=[1, 2]) + edgekit.compare("runs/a")
results = small.bench(loader, target=["host", "my-pi"]) + edgekit.compare([small, Path("runs/b")])
first: Measurement = results[0]
best: Measurement | None = results.best
p50: list[float] = [m.latency_ms.p50 for m in results.pareto if m.latency_ms and not m.mismatch_reason]
advice: list[str] = results.advice
columns = list(results.to_pandas().columns)
picture: Picture = results.plot("A title")
history: Picture = model.plot_training("A title")
losses: list[object] = [epoch["loss"] for epoch in model.history]
files: list[Path] = [picture.save("a.svg"), results.page("a.html", title="A title"), results.summary().save("a.pdf")]
shares = small.predict(x, top=3) + edgekit.predict(small.path, x)
facts: dict[str, object] = edgekit.inspect(small, shape={"input": (1, 3)})
shipped: Deployment = small.deploy("host", path="deployed")
shipped = edgekit.deploy(small, "host", runtime="onnxruntime", data=Path("photos"))
found: Optimized = edgekit.optimize(model, max_latency=5.0, trials=4, choices={"method": ["mse"]})
trials: list[Trial] = [trial for trial in found.front if trial.valid and trial.feasible and trial.objectives[0] > 0]
shown: tuple[Model, Results, Path | None] = (found.model, found.results, found.recipe)
packages: dict[str, object] = edgekit.doctor()
verdicts: list[Gate] = edgekit.gate("runs/a", Path("baseline"), ["p50>+5%"]) + edgekit.gate([small], model, "size>+2%")
sentences: list[str] = [verdict.sentence() for verdict in verdicts if verdict.error(strict=True)]
done: RunResult = edgekit.run("mnist", out="runs/c", settings=["train.epochs=1"], target="host")
made: dict[str, Model] = done.models
texts: list[str] = [model.name, model.format, model.precision, model.task, *model.classes, edgekit.__version__]
paths: list[Path] = [model.path, model.file, done.path]
sizes: list[int | None] = [model.size, *model.inputs[0].shape, *model.outputs[0].shape]
try:
    small.quantize(max_drop=0.1)
except (edgekit.BudgetMissed, edgekit.ParityFailed, edgekit.CannotConvert, edgekit.Diverged) as error:
    print(error.what, error.why, error.next, isinstance(error, edgekit.CheckFailed))
except (edgekit.InputError, edgekit.Missing, edgekit.DeviceError, edgekit.Interrupted) as stopped:
    print(stopped.code)
"""

WRONG = """
import edgekit
model = edgekit.load()
edgekit.train(3)
edgekit.train("mnist", epochs="3")
edgekit.train("mnist", optimizer="adamv")
edgekit.train("mnist", learning_rate=0.1)
edgekit.import_model(3)
edgekit.export(model, "onx")
edgekit.export(model, ["onnx", "tflit"])
edgekit.export(model, "onnx", layout="nchw")
edgekit.quantize(model, "int4")
edgekit.quantize(model, methods=["minmax"])
edgekit.quantize(model, effort="slow")
edgekit.quantize(model, max_drop="0.5")
edgekit.quantize(model, input_type="int16")
edgekit.prune(model, importance="random")
edgekit.bench(model, threads="2")
edgekit.bench(3)
edgekit.gate("runs/a", "runs/b", 5)
edgekit.optimize(model, max_size="1 MB")
model.export("onx")
model.quantize("int8", effort="slow")
model.bench(quick="yes")
model.prune(share=0.5)
model.deploy()
model.predict()
model.weights
"""


def members() -> set[str]:
    """The methods and properties of the public classes that are not for edgekit itself."""
    own = [
        getattr(edgekit, name) for name in ("Model", "Results", "Picture", "Gate", "Finding", "Measurement", "Trial")
    ]
    parts = [(name, part) for cls in own for name, part in vars(cls).items() if not name.startswith("_")]
    named = {name for name, part in parts if inspect.isfunction(part) or isinstance(part, property)}
    return named - {"problems"}


def test_the_script_uses_all_of_it() -> None:
    used = {name for name in edgekit.__all__ if re.search(rf"\b(edgekit\.)?{name}\b", RIGHT)}
    assert set(edgekit.__all__) == used
    assert not {name for name in members() if f".{name}" not in RIGHT}


@pytest.mark.slow
def test_the_types(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    words = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"]
    done = subprocess.run([sys.executable, "-m", "mypy", *words], cwd=tmp_path, capture_output=True, text=True)
    said = re.findall(r"^(\w+)\.py:(\d+): error: (.*)", done.stdout, re.MULTILINE)
    assert not [error for error in said if error[0] == "right"], done.stdout + done.stderr
    wrong = {int(line) for file, line, _ in said if file == "wrong"}
    assert wrong == set(range(4, len(WRONG.splitlines()) + 1)), done.stdout
