"""Which steps lead from one format to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.measure import targets
from edgekit.runs import references
from edgekit.steps.onnx_int8 import OnnxInt8
from edgekit.workflows import routes
from edgekit.workflows.routes import check_options, fields_of


@pytest.mark.parametrize(
    ("source", "format", "steps"),
    [
        ("torch", "torch", []),
        ("torch", "onnx", ["to_onnx"]),
        ("onnx", "onnx", []),
        ("onnx", "openvino", ["to_openvino"]),
        ("onnx", "tflite", ["to_torch", "to_tflite"]),
        ("tflite", "onnx", ["to_onnx"]),
    ],
)
def test_from_here_to_there(source: str, format: str, steps: list[str]) -> None:
    assert routes.route(source, format) == steps


def test_the_format_of_a_word(bars_made: Path) -> None:
    assert routes.format_of(references.resolve(f"{bars_made}/onnx-int8")) == "onnx"
    assert routes.format_of(references.resolve(str(bars_made))) == "torch"
    assert routes.format_of(references.resolve("some/model.tflite")) == "tflite"


def test_a_step_takes_the_options_it_has() -> None:
    step = routes.step_named("onnx_int8", {"method": "mse", "epochs": 3}, None)
    assert step == OnnxInt8(method="mse")


@pytest.mark.parametrize(
    ("name", "words"), [("onnx_int5", "no int5 for onnx"), ("to_coreml", "cannot export to coreml")]
)
def test_a_step_that_is_not_there(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        routes.step_named(name, {}, None)
    assert "to_onnx" in caught.value.next and "import_onnx" not in caught.value.next


def test_the_name_says_which_instructions() -> None:
    host = targets.load("host")
    other = replace(host, name="board", arch="aarch64" if host.arch != "aarch64" else "riscv64")
    assert routes.suffix_of(host) == "" and routes.suffix_of(replace(host, name="twin")) == ""
    assert routes.suffix_of(other) == f"@{other.isa_class}"


def test_exporters_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "onnx" in routes.installed_exporters()
    monkeypatch.setattr(routes, "tools", lambda step: {"something": ""})
    with pytest.raises(InputError, match="no exporter is installed"):
        routes.installed_exporters()


def test_an_option_that_no_step_on_the_way_has_is_refused() -> None:
    chains = {"onnx": ["to_onnx"], "tflite": ["to_tflite"]}
    check_options({"layout", "embed_preprocessing", "batch"}, chains)
    check_options({"opset"}, {"onnx": ["to_torch", "to_onnx"]})
    with pytest.raises(InputError, match="the conversion to tflite has no option opset: only to_onnx has it"):
        check_options({"opset"}, chains)
    with pytest.raises(InputError, match="to onnx has no option input-type"):
        check_options({"input_type"}, {"onnx": ["to_onnx", "onnx_int8"]})


def test_the_fields_of_no_step_are_none() -> None:
    assert not fields_of("to_nothing")
