"""`quantize --weights`: judged by KL divergence and agreement without labels, mixed with int8 under a budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_transformer import WORDS, network

from edgekit.core.artifact import Kind
from edgekit.core.errors import BudgetMissed, CannotConvert, InputError
from edgekit.workflows.quantize import quantize

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    network(folder / "m.onnx")
    rng = np.random.default_rng(1)
    for name in ("train", "val"):
        np.savez(folder / f"{name}.npz", ids=rng.integers(0, WORDS, (40, 12)))
    return folder


def test_int8_of_a_foreign_file(folder: Path) -> None:
    outcome = quantize(str(folder / "m.onnx"), precision="w8", val=str(folder / "val.npz"), out=folder / "w8")
    (small,), finding = outcome.artifacts[-1:], outcome.findings[-1]
    assert small.name == "onnx-w8" and small.kind == Kind("onnx", frozenset({"w8"})) and not finding.failed
    assert finding.parity and finding.parity.kl is not None and finding.parity.kl < 0.01, "of logits per token"
    assert "scale" in small.scheme, "without calibration samples"
    again = quantize(str(folder / "w8" / "onnx"), precision="w8", val=str(folder / "val.npz"))
    assert again.reused
    with pytest.raises(InputError, match="is w8 already"):
        quantize(str(folder / "w8" / "onnx-w8"), precision="w4", val=str(folder / "val.npz"))


def test_a_poor_result_is_no_success(folder: Path) -> None:
    options = {"embeddings": "4", "head": "4", "weight_method": "rtn", "block": 0}
    said: list[str] = []
    outcome = quantize(
        str(folder / "m.onnx"),
        precision="w4",
        val=str(folder / "val.npz"),
        out=folder / "poor",
        options=options,
        say=said.append,
    )
    assert isinstance(outcome.failures[-1], BudgetMissed) and outcome.findings[-1].failed == "floor"
    assert "is the least" in str(outcome.failures[-1]) or "is the most" in str(outcome.failures[-1])
    lines = "\n".join(said)
    assert "int4 weights per channel, asymmetric, rtn" in lines and "KL divergence" in lines and "top class" in lines


def test_a_budget_raises_products(folder: Path) -> None:
    made = {}
    for limit in (1.0, 0.0005):
        outcome = quantize(
            str(folder / "m.onnx"),
            precision="w4",
            calibration=str(folder / "train.npz"),
            val=str(folder / "val.npz"),
            max_kl=limit,
            out=folder / f"budget{limit}",
        )
        made[limit] = outcome.artifacts[-1].details["weight_only"]["raised"], outcome
    assert made[1.0][0] == [] and made[0.0005][0], "the limit of 1 nat is kept by 4 bits"
    last = made[0.0005][1].findings[-1]
    assert last.parity.kl <= 0.0005 or last.failed == "floor"


def test_a_network_without_products(folder: Path, tmp_path: Path) -> None:
    from onnx import TensorProto, helper
    from onnx_files import save

    ends = [("x", TensorProto.FLOAT, ["N", 8, 8, 8])], [("y", TensorProto.FLOAT, ["N", 16, 6, 6])]
    constants = {"w": np.ones((16, 8, 3, 3), np.float32)}
    path = save(tmp_path / "conv.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], *ends, constants)
    outcome = quantize(str(path), precision="w4", out=tmp_path / "run")
    (error,) = outcome.failures
    assert isinstance(error, CannotConvert) and "convolutions stay float" in error.why and "--int8" in error.next


def test_a_file_in_half_precision(folder: Path, tmp_path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(onnx.load(str(folder / "m.onnx")), keep_io_types=True)
    onnx.save(half, str(tmp_path / "half.onnx"))
    outcome = quantize(str(tmp_path / "half.onnx"), precision="w8", val=str(folder / "val.npz"), out=tmp_path / "run")
    assert [a.name for a in outcome.artifacts][-1] == "onnx-w8" and not outcome.findings[-1].failed
