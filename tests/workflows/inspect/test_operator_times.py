"""What a runtime executes, and how long each operator takes: read from real profiles, and `inspect --times`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Ended

pytest.importorskip("torch")
from compression import nets

from edgekit import sets
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.measure import targets
from edgekit.report.tables import lines
from edgekit.runs.store import Store
from edgekit.steps.shared.calibrated import model_file
from edgekit.workflows.inspect.operator_times import by_type, costliest, operator_times
from edgekit.workflows.inspect.operator_times_table import facts, table
from edgekit.workflows.inspect.profiles import Kernel, Profile, profile
from edgekit.workflows.inspect.profiles.onnx import plain, precision
from edgekit.workflows.inspect.profiles.openvino import precision as openvino_precision

Cli = Callable[..., Ended]
Make = Callable[..., Artifact]
DATA = nets.sample_set("Mobile", 48)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    root = nets.artifact("Mobile", tmp_path_factory.mktemp("times"))
    store = Store(root.path.parent)
    context = Context(None, {"calibration": DATA}, quiet, nets.LOG)

    def call(format: str, precision: str = "", name: str = "", **fields: Any) -> Artifact:
        name = name or f"{format}-{precision}".removesuffix("-")
        if name in store.names():
            return store.get(name)
        parent = call(format) if precision else root
        step = registry.load("steps", f"{format}_{precision}" if precision else f"to_{format}")(**fields)
        with store.lock():
            return store.make(name, step, {"parent": parent}, context)

    return call


def profiled(model: Artifact) -> Profile:
    return profile(model, targets.load("host"), sets.take(DATA, 4))


# --- by hand -----------------------------------------------------------------------------------------------------


def test_words_for_what_is_fused() -> None:
    words = {
        "QLinearConv": "Conv",
        "FusedConv": "Conv",
        "ConvInteger": "Conv",
        "com.microsoft:QGemm": "Gemm",
        "FusedGemm": "Gemm",
        "QLinearMatMul": "MatMul",
        "MatMulInteger": "MatMul",
        "MatMulIntegerToFloat": "MatMul",
        "DynamicQuantizeMatMul": "MatMul",
        "DynamicQuantizeLSTM": "LSTM",
        "QLinearGlobalAveragePool": "GlobalAveragePool",
        "QuantizeLinear": "QuantizeLinear",
        "DynamicQuantizeLinear": "DynamicQuantizeLinear",
        "Quantile": "Quantile",
    }
    assert {op: plain(op) for op in words} == words


def test_precision_from_a_profile() -> None:
    assert precision("QLinearConv", ["uint8", "float", "uint8", "int8"]) == "int8"
    assert precision("MatMulIntegerToFloat", ["float", "int8"]) == "int8"
    assert precision("Conv", ["float", "float"]) == "float32"
    assert precision("DequantizeLinear", ["uint8", "float"]) == "conversion"
    assert precision("Gather", ["int64", "int64"]) == "int64"
    assert precision("Constant", []) == ""


def test_precision_from_a_kernels_name() -> None:
    assert openvino_precision("Convolution", "brgconv_avx512_I8") == "int8"
    assert openvino_precision("Convolution", "jit_avx2_FP32") == "float32"
    assert openvino_precision("FullyConnected", "brgemm_avx512_amx_BF16") == "bfloat16"
    assert openvino_precision("Reorder", "jit_uni_I8") == "conversion"
    assert openvino_precision("Eltwise", "odd") == ""


def test_totals_by_type() -> None:
    own = [
        Kernel("a", "Conv", "int8", 10),
        Kernel("b", "Conv", "float32", 30),
        Kernel("q", "QuantizeLinear", "conversion", 5),
    ]
    other = [Kernel("a", "Conv", "float32", 60), Kernel("r", "Relu", "float32", 45)]
    conv, relu, quantize = by_type(own, other)
    assert (conv["type"], conv["count"], conv["us"], conv["against_us"]) == ("Conv", 2, 40, 60)
    assert conv["precisions"] == {"int8": 1, "float32": 1}
    assert (relu["count"], relu["us"], relu["against_count"]) == (0, 0, 1)
    assert (quantize["us"], quantize["against_us"]) == (5, 0)
    assert by_type(own, None)[0]["against_us"] is None
    assert [kernel.name for kernel in costliest(own)] == ["b", "q"], "what is int8 is as it should be"
    assert [kernel.name for kernel in costliest(other)] == ["a", "r"]


# --- real profiles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_float_model_has_no_integer_kernels(make: Make, format: str) -> None:
    pytest.importorskip(registry.load("runtimes", {"onnx": "onnxruntime"}.get(format, format)).package)
    model = make(format)
    found = profiled(model)
    assert found.runs >= 10 and not found.why
    assert {kernel.precision for kernel in found.kernels} <= {"float32", "conversion", "int64", "int32", ""}
    assert sum("Conv" in kernel.type or "Deconv" in kernel.type for kernel in found.kernels) >= 5
    assert sum(kernel.us for kernel in found.kernels) > 0


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_int8_model_has(make: Make, format: str) -> None:
    model = make(format, "int8")
    found = profiled(model)
    heavy = [kernel for kernel in found.kernels if kernel.type in ("Conv", "Convolution")]
    assert sum(kernel.precision == "int8" for kernel in heavy) >= 12, "all but the squeeze-and-excitation's"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_operators_left_in_float_are_named(make: Make, format: str) -> None:
    """Also what they cost: the values before them go back to float, those after to int8."""
    types = {"onnx": "Conv", "openvino": "Convolution"}
    operators = registry.load("formats", format).describe(model_file(make(format))).operators
    names = [operator.name for operator in operators if operator.type == types[format]][-2:]
    model = make(format, "int8", f"{format}-kept", keep_float=tuple(names))
    before, reasons = (" ".join(profiled(m).reasons) for m in (make(format, "int8"), model))
    assert "compute in float32" in reasons
    assert reasons != before
    words = {"onnx": "DequantizeLinear", "openvino": "left in the compiled graph"}
    assert words[format] in reasons


def test_litert_says_that_it_gives_no_times(make: Make) -> None:
    found = operator_times(str(make("tflite", "int8").path))
    assert "no times per operator" in found["why"] and "benchmark_model" in found["why"]
    assert found["types"] == [] and found["total_us"] is None
    assert "no times per operator" in dict(facts(found))["times"] and not lines(table(found))


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8_beside_float(make: Make, format: str) -> None:
    found = operator_times(str(make(format, "int8").path))
    assert found["against"] == format
    assert found["total_us"] == pytest.approx(sum(entry["us"] for entry in found["types"]))
    assert found["against_us"] == pytest.approx(sum(entry["against_us"] for entry in found["types"]))
    assert any(entry["us"] and entry["against_us"] and "int8" in entry["precisions"] for entry in found["types"])
    assert all(kernel["precision"] != "int8" for kernel in found["costliest"])
    assert max(map(len, lines(table(found)))) <= 80
    alone = operator_times(str(make(format).path))
    assert alone["against"] is None and alone["against_us"] is None and alone["reasons"] == []
    assert max(map(len, lines(table(alone)))) <= 80


def test_a_file_from_elsewhere(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported into a folder that is thrown away."""
    (tmp_path / "m.onnx").write_bytes(model_file(make("onnx", "int8")).read_bytes())
    monkeypatch.chdir(tmp_path)
    found = operator_times("m.onnx")
    assert found["against"] is None and found["total_us"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_network_has_none(make: Make) -> None:
    with pytest.raises(InputError, match="no times per operator"):
        operator_times(str(make("onnx").path.parent / "torch"))
    for format in ("onnx", "tflite"):
        with pytest.raises(InputError, match="null computes nothing"):
            operator_times(str(make(format).path), "null")


def test_the_command(cli: Cli, bars_run: Path, check_document: Any) -> None:
    shown = cli("inspect", bars_run / "onnx-int8", "--times")
    assert shown.code == 0, shown.err
    assert "float us" in shown.out and " Conv " in shown.out
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in shown.out.splitlines()), "a path is not cut"
    ended = cli("inspect", bars_run / "onnx-int8", "--times", "--json")
    check_document(ended.json)
    assert ended.json["result"]["times"]["against"] == "onnx"
    assert np.isfinite(ended.json["result"]["times"]["total_us"])
    assert "times" not in cli("inspect", bars_run / "onnx-int8", "--json").json["result"]
