"""Which runtimes and targets cannot run a model, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import trust

from edgekit.workflows.inspect import model as models

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402
from onnx_files import save  # noqa: E402

FLOAT = TensorProto.FLOAT


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("ConvTranspose", ["b", "v"], ["y"], "up", strides=[2, 2]),
    ]
    constants = {"w": np.ones((4, 3, 3, 3), np.float32), "v": np.ones((4, 2, 2, 2), np.float32)}
    ends = [("x", FLOAT, ["batch", 3, 8, 8])], [("y", FLOAT, ["batch", 2, 16, 16])]
    return save(tmp_path / "m.onnx", nodes, *ends, constants)


def problems(path: Path, target: str = "host") -> str:
    found = models.inspect(str(path))
    return "; ".join(text for answer in found["targets"] if answer["target"] == target for text in answer["problems"])


def test_what_a_runtime_does_not_know(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ends = [("x", FLOAT, [1, 2])], [("y", FLOAT, [1, 2])]
    custom = [helper.make_node("Frobnicate", ["x"], ["y"], domain="acme")]
    assert "acme:Frobnicate" in problems(save(tmp_path / "m.onnx", custom, *ends))
    assert "Opset 99" in problems(save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], *ends, opset=99))
    text = [("x", TensorProto.STRING, [2])], [("y", TensorProto.STRING, [2])]
    said = problems(save(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], *text))
    assert "'x' is a string" in said


def test_a_target_that_lacks_a_runtime_or_memory(
    convolution: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "targets").mkdir()
    board = 'title = "t"\ndevice = "ssh"\narch = "aarch64"\nmemory_mb = 1\n'
    (tmp_path / "targets" / "other.toml").write_text(f'name = "other"\n{board}runtimes = {{ litert = "" }}\n')
    (tmp_path / "targets" / "small.toml").write_text(f'name = "small"\n{board}runtimes = {{ onnxruntime = "" }}\n')
    trust(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert problems(convolution, "other") == "no runtime for onnx"
    assert problems(convolution, "small") == ""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    ends = [("x", FLOAT, ["n", 600])], [("y", FLOAT, ["n", 600])]
    big = save(tmp_path / "big.onnx", nodes, *ends, {"w": np.ones((600, 600), np.float32)})
    assert "it needs about 1 MB" in problems(big, "small")
