"""Exports without data: what they are verified on, what is refused, and that one format's failure is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Ended

from edgekit.core import registry, statistics
from edgekit.core.errors import InputError
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.sets.reading import sample_set
from edgekit.workflows import export, import_, quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("openvino")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def save(path: Path, nodes: list[Any], shape: list[Any], **constants: Any) -> Path:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", *shape]), ("y", None))]
    held = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture
def prelu(tmp_path: Path) -> Path:
    """Its slopes differ by column. OpenVINO takes them for those of channels; only negative values tell."""
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    return save(tmp_path / "prelu.onnx", [node], [3, 2, 3], s=[0.5, 1.5, 2.5])


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    """Two branches that only meet where height and width are multiples of 16."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("AveragePool", ["p"], ["q"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Resize", ["q", "", "scales"], ["u"], mode="nearest"),
        helper.make_node("Concat", ["p", "u"], ["c"], axis=1),
        helper.make_node("Conv", ["c", "w"], ["y"]),
    ]
    weights = np.random.default_rng(0).normal(size=(4, 6, 1, 1))
    return save(tmp_path / "pyramid.onnx", nodes, [3, "h", "w"], scales=[1, 1, 4, 4], w=weights)


def test_a_conversion_that_is_wrong_below_0_is_not_verified(prelu: Path, tmp_path: Path) -> None:
    outcome = export.export(str(prelu), to=["openvino"], out=tmp_path / "run")
    (finding,) = outcome.findings
    assert finding.on == "64 random inputs" and finding.random
    root = import_.import_model(str(prelu), out=tmp_path / "again").artifacts[0]
    data = sample_set("real", {"x": np.random.default_rng(7).normal(size=(24, 3, 2, 3)).astype(np.float32)}, None)
    first, second = (
        execute(artifact, targets.load("host"), data, Plan(), latency=False).outputs
        for artifact in (root, outcome.artifacts[-1])
    )
    right = statistics.parity("onnx", first, second).sqnr_db > 60
    assert right or finding.failed == "parity", "it was verified, and is wrong on real samples"


def test_no_verdict_from_a_made_up_size(pyramid: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    outcome = export.export(str(pyramid), to=["openvino"], out=tmp_path / "run", say=lines.append)
    (finding,) = outcome.findings
    assert not outcome.failures and finding.parity is None
    reason = "not verified: the size of input x is open: pass --shape x=1x3x320x320"
    assert any(reason in line for line in lines)
    given = export.export(str(pyramid), to=["openvino"], out=tmp_path / "run", shapes={"x": (1, 3, 32, 48)})
    assert given.findings[0].parity is not None and given.findings[0].parity.sqnr_db > 100
    with pytest.raises(InputError, match="input x cannot be 1x4x32x32"):
        export.export(str(pyramid), to=["openvino"], out=tmp_path / "run", shapes={"": (1, 4, 32, 32)})


def test_the_sizes_of_an_import_are_used_later(pyramid: Path, tmp_path: Path) -> None:
    import_.import_model(str(pyramid), out=tmp_path / "run", shapes={"": (1, 3, 32, 32)})
    outcome = export.export(str(tmp_path / "run"), to=["openvino"])
    assert outcome.findings[0].parity is not None and not outcome.failures


def test_a_compressor_is_not_verified_on_random_inputs(prelu: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    outcome = quantize.quantize(str(prelu), precision="fp16", to=["onnx"], out=tmp_path / "run", say=lines.append)
    assert not outcome.failures
    assert "only random inputs (SQNR" in outcome.findings[-1].unverified
    assert outcome.findings[-1].random
    assert any("not verified: only random inputs" in line and "--val" in line for line in lines)
    assert not any("verified: " in line and "not verified" not in line for line in lines)


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("a bug"), 1), (InputError("it cannot be read", "why"), 2)], ids=["bug", "input"]
)
def test_the_failure_of_one_format_does_not_end_the_others(
    error: Exception, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])], [3])

    def fails(self: Any, inputs: Any, out: Path, ctx: Any) -> Any:
        raise error

    monkeypatch.delenv("EDGEKIT_TRACEBACK", raising=False)
    monkeypatch.setattr(registry.load("steps", "to_torch"), "apply", fails)
    outcome = export.export(str(path), to=["torch", "openvino"], out=tmp_path / "run")
    assert "openvino" in [artifact.name for artifact in outcome.artifacts]
    (failure,) = outcome.failures
    assert failure.code == code
    assert failure is error or ("to_torch cannot make torch" in failure.what and "ValueError: a bug" in failure.why)


def test_a_failure_that_is_all_there_is_to_say_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])], [3])

    def fails(self: Any, inputs: Any, out: Path, ctx: Any) -> Any:
        raise InputError("it cannot be read")

    monkeypatch.setattr(registry.load("steps", "to_openvino"), "apply", fails)
    with pytest.raises(InputError, match="it cannot be read"):
        export.export(str(path), to=["openvino"], out=tmp_path / "run")


LSTM = """
import torch

class Projected(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 8, proj_size=3, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]

def make():
    return Projected(), torch.randn(1, 7, 5)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_file_that_cannot_run_is_its_exporters_failure(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(LSTM)
    ended = cli("export", "net.py:make", "--to", "onnx,openvino", "--json")
    assert ended.code in (0, 1), ended.err
    assert "openvino" in [artifact["name"] for artifact in ended.json["artifacts"]]
    findings = {finding["artifact"]: finding for finding in ended.json["result"]["findings"]}
    assert findings["openvino"]["failed"] == "" and findings["openvino"]["on"] == "64 random inputs"
    if ended.code:
        assert "onnx" not in findings and "LSTM" in ended.err, "its exporter's file, which ONNX Runtime cannot load"
