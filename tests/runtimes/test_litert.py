"""The LiteRT runtime by itself, as a device loads it, on models written by hand."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core import registry
from edgekit.ondevice import runner
from edgekit.runtimes import litert

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

FILE = registry.source("runtimes", "litert")
#: x · WEIGHTSᵀ, over a batch of any size
WEIGHTS = np.array([[1, 2, 3], [0, -1, 0]], np.float32)


def _tensor(name: str, shape: tuple[int, ...], dtype: int = 0, buffer: int = 0, **more: Any) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), dtype, buffer
    for key, value in more.items():
        setattr(tensor, key, value)
    return tensor


def _write(path: Path, tensors: list[Any], builtin: int, inputs: list[int], options: Any = None) -> Path:
    """A model of one operator; the first tensor is its input, the last its output."""
    from ai_edge_litert.tools import flatbuffer_utils

    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, builtin, 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = inputs, [len(tensors) - 1]
    if options is not None:
        operator.builtinOptionsType, operator.builtinOptions = options
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [operator], [0], [len(tensors) - 1]
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [schema.BufferT(), schema.BufferT(np.frombuffer(WEIGHTS.tobytes(), np.uint8))]
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    tensors = [
        _tensor("x", (1, 3), shapeSignature=[-1, 3]),
        _tensor("w", (2, 3), buffer=1),
        _tensor("y", (1, 2), shapeSignature=[-1, 2]),
    ]
    options = schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT()
    builtin = schema.BuiltinOperator.FULLY_CONNECTED
    return _write(tmp_path / "model.tflite", tensors, builtin, [0, 1, -1], options)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """int8 in, float out: 0.5 * (stored - 3)."""
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [0.5], [3]
    tensors = [_tensor("x", (1, 4), 9, quantization=quantization), _tensor("y", (1, 4))]
    return _write(tmp_path / "model.tflite", tensors, schema.BuiltinOperator.DEQUANTIZE, [0])


def _session(model: Path, threads: int = 1) -> Any:
    session = runner.load_class(str(FILE), "Litert")
    session.prepare_imports()
    return session(str(model), threads, "fp32", {"inputs": [], "outputs": []})


def test_its_specs_are_the_files_own(linear: Path, stored: Path) -> None:
    # both fixtures write to one path: the last one is there
    session = _session(stored)
    assert session.inputs == [{"name": "x", "dtype": "int8", "shape": [1, 4], "quantization": [0.5, 3]}]
    assert session.outputs == [{"name": "y", "dtype": "float32", "shape": [1, 4], "quantization": None}]


def test_a_dynamic_batch_is_resized_back_and_forth(linear: Path) -> None:
    session = _session(linear)
    assert session.inputs[0]["shape"] == [None, 3]
    feeds = [np.arange(size * 3, dtype=np.float32).reshape(size, 3) for size in (5, 1, 3)]
    calls = [session.bind({"x": feed}) for feed in feeds]
    for index in (0, 1, 2, 1, 0):
        np.testing.assert_allclose(calls[index]()[0], feeds[index] @ WEIGHTS.T)


def test_outputs_are_the_callers_to_keep(linear: Path) -> None:
    session = _session(linear)
    first = session.bind({"x": np.ones((1, 3), np.float32)})
    kept = first()[0]
    session.bind({"x": np.zeros((1, 3), np.float32)})()
    np.testing.assert_array_equal(kept, [[6, -1]])
    np.testing.assert_array_equal(first()[0], kept)


def test_integers_go_in_as_they_are_stored(stored: Path) -> None:
    session = _session(stored)
    real = np.array([[0, 1, -2, 100]], np.float32)
    feed = runner.as_input(real, session.inputs[0])
    assert feed.dtype == np.int8
    np.testing.assert_array_equal(session.bind({"x": feed})()[0], [[0, 1, -2, 62]])  # 100 is beyond 127


@pytest.mark.parametrize("threads", [1, 2])
def test_its_facts_say_what_ran(linear: Path, threads: int) -> None:
    facts = _session(linear, threads).facts()
    assert facts["implementation"] == "ai-edge-litert"
    assert facts["runtime_version"][0].isdigit()
    assert facts["delegate"] == "XNNPACK"
    assert facts["delegate_partitions"] == 1


def test_the_older_distribution_serves_where_the_newer_is_missing(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    older = types.ModuleType("tflite_runtime.interpreter")
    older.__dict__["Interpreter"] = Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", older)
    session = _session(linear)
    assert session.facts()["implementation"] == "tflite-runtime"
    np.testing.assert_array_equal(session.bind({"x": np.ones((1, 3), np.float32)})()[0], [[6, -1]])


def test_without_either_the_newer_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="ai_edge_litert"):
        runner.load_class(str(FILE), "Litert").prepare_imports()


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 300)
    with pytest.raises(ValueError, match=r"."):
        _session(tmp_path / "model.tflite")


@pytest.mark.parametrize("name", ["FlexErf", "Mine"])
def test_a_custom_operator_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    _write(path, [_tensor("x", (1, 3)), _tensor("y", (1, 3))], schema.BuiltinOperator.CUSTOM, [0])
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    model.operatorCodes[0].customCode = name.encode()
    from ai_edge_litert.tools import flatbuffer_utils

    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    with pytest.raises(ValueError, match=rf"\({name}\) failed to prepare") as error:
        _session(path)
    assert "http" not in str(error.value)


def _custom(path: Path, name: str, inputs: list[int]) -> Path:
    tensors = [_tensor("x", (1, 4, 4, 3)), _tensor("w", (2, 1, 1, 3), buffer=1), _tensor("b", (2,), buffer=2)]
    tensors.append(_tensor("y", (1, 4, 4, 2)))
    _write(path, tensors, schema.BuiltinOperator.CUSTOM, inputs)
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    model.buffers.append(schema.BufferT(np.zeros(8, np.uint8)))
    model.operatorCodes[0].customCode = name.encode()
    same_padding, stride = 1, 1
    model.subgraphs[0].operators[0].customOptions = np.array([same_padding, stride, stride], np.int32).view(np.uint8)
    from ai_edge_litert.tools import flatbuffer_utils

    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


def test_custom_operators_of_the_delegate(tmp_path: Path) -> None:
    name = "Convolution2DTransposeBias"
    path = _custom(tmp_path / "model.tflite", name, [0, 1, 2])
    assert litert.Litert.problems(path, {f"CUSTOM:{name}": 1}, 1000) == []
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32)
    (y,) = _session(path).bind({"x": x})()
    np.testing.assert_allclose(y, x @ WEIGHTS.T, rtol=1e-5)


def test_a_form_that_the_delegate_does_not_take(tmp_path: Path) -> None:
    path = _custom(tmp_path / "model.tflite", "MaxUnpooling2D", [0])
    (problem,) = litert.Litert.problems(path, {"CUSTOM:MaxUnpooling2D": 1}, 1000)
    assert "MaxUnpooling2D" in problem


@pytest.mark.parametrize(("code", "dtype"), [(4, "int64"), (2, "int32"), (6, "bool"), (0, "float32")])
def test_types_and_scalars(code: int, dtype: str, tmp_path: Path) -> None:
    for shape in ((1, 3), ()):
        tensors = [_tensor("x", shape, code), _tensor("y", shape, code)]
        options = schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()
        options[1].newShape = list(shape)
        path = _write(tmp_path / "m.tflite", tensors, schema.BuiltinOperator.RESHAPE, [0], options)
        session = _session(path)
        assert (session.inputs[0]["dtype"], session.inputs[0]["shape"]) == (dtype, list(shape))
        x = np.ones(shape, dtype)
        got = np.asarray(session.bind({"x": x})()[0])
        assert got.dtype == dtype and np.array_equal(got, x)


def test_a_device_with_python_3_8_and_nothing_of_edgekit_can_load_it() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 8))
    imported: Mapping[str, None] = {
        name: None
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert not [name for name in imported if name.startswith("edgekit")]
    assert set(imported) <= {"__future__", "importlib", "re", "ai_edge_litert.interpreter", "numpy"}
