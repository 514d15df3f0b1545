"""The reader against files written by hand, where every number is known, and against everything that is not one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.formats.tflite import Tflite

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from tflite_files import Written  # noqa: E402

FLOAT, HALF, INT8, INT32 = 0, 1, 9, 2


def _network(weight: int = FLOAT, activation: int = FLOAT) -> Written:
    """conv 3 → 8, 3 x 3 on 10 x 10; depthwise 3 x 3; fully connected 8 → 4; a shape that is no parameter."""
    written, ops = Written(), schema.BuiltinOperator
    numpy_type = {FLOAT: np.float32, HALF: np.float16, INT8: np.int8}[weight]
    scale = (0.5, -3) if activation == INT8 else None
    fixed = (0.01, 0) if weight == INT8 else None

    def constant(name: str, *shape: int) -> int:
        return written.tensor(name, shape, weight, np.ones(shape, numpy_type), fixed)

    image = written.tensor("image", (1, 10, 10, 3), activation, scale=scale)
    convolved = written.tensor("convolved", (1, 8, 8, 8), activation, scale=scale)
    bias = written.tensor("bias", (1, 8), FLOAT, np.zeros((1, 8), np.float32))
    written.operator(ops.CONV_2D, (image, constant("w1", 8, 3, 3, 3), bias), (convolved,))
    spread = written.tensor("spread", (1, 6, 6, 8), activation, scale=scale)
    written.operator(ops.DEPTHWISE_CONV_2D, (convolved, constant("w2", 1, 3, 3, 8), -1), (spread,))
    flat = written.tensor("flat", (1, 288), activation, scale=scale)
    shape = written.tensor("shape", (1, 2), INT32, np.array([[1, 288]], np.int32))
    written.operator(ops.RESHAPE, (spread, shape), (flat,))
    logits = written.tensor("logits", (1, 4), activation, scale=scale)
    written.operator(ops.FULLY_CONNECTED, (flat, constant("w3", 4, 288), -1), (logits,))
    return written


def test_every_number_of_a_known_network(tmp_path: Path) -> None:
    written = _network()
    written.metadata("min_runtime_version", b"1.5.0".ljust(16, b"\0"))
    path = written.write(tmp_path / "model.tflite")
    facts = Tflite.describe(path)
    assert facts.inputs == (TensorSpec("image", "float32", (1, 10, 10, 3)),)
    assert facts.outputs == (TensorSpec("logits", "float32", (1, 4)),)
    found = [(o.type, o.name, o.parameters, o.macs) for o in facts.operators]
    assert found == [
        ("CONV_2D", "convolved", 8 * 27 + 8, 512 * 27),
        ("DEPTHWISE_CONV_2D", "spread", 72, 288 * 9),
        ("RESHAPE", "flat", 0, 0),
        ("FULLY_CONNECTED", "logits", 4 * 288, 4 * 288),
    ]
    weights, metadata = 4 * (216 + 72 + 1152), len("min_runtime_version") + 16 + len("by hand")
    assert (facts.sizes.weights, facts.sizes.metadata) == (weights, metadata), "no bias and no shape is a weight"
    assert facts.sizes.total == path.stat().st_size == weights + metadata + facts.sizes.graph
    assert facts.parameters == 216 + 72 + 1152 + 8
    assert facts.traits == frozenset()
    assert facts.details["runtime"] == "1.5.0"


@pytest.mark.parametrize(
    ("weight", "activation", "trait"),
    [(FLOAT, FLOAT, set()), (HALF, FLOAT, {"fp16"}), (INT8, FLOAT, {"dynamic"}), (INT8, INT8, {"int8"})],
)
def test_traits_are_those_of_the_tensors(weight: int, activation: int, trait: set[str], tmp_path: Path) -> None:
    facts = Tflite.describe(_network(weight, activation).write(tmp_path / "model.tflite"))
    assert facts.traits == trait
    assert facts.inputs[0].quantization == ((0.5, -3) if activation == INT8 else None)
    assert facts.sizes.weights == {FLOAT: 4, HALF: 2, INT8: 1}[weight] * (216 + 72 + 1152)


def test_a_dynamic_batch_is_none_and_counts_as_one(tmp_path: Path) -> None:
    written = Written()
    written.tensor("x", (1, 6), signature=(-1, 6))
    weights = written.tensor("w", (5, 6), data=np.ones((5, 6), np.float32))
    y = written.tensor("y", (1, 5), signature=(-1, 5))
    written.operator(schema.BuiltinOperator.FULLY_CONNECTED, (0, weights, -1), (y,))
    facts = Tflite.describe(written.write(tmp_path / "model.tflite"))
    assert (facts.inputs[0].shape, facts.outputs[0].shape) == ((None, 6), (None, 5))
    assert facts.operators[0].macs == 30


def test_macs_are_those_of_one_sample_of_a_fixed_batch(tmp_path: Path) -> None:
    written = Written()
    written.tensor("x", (8, 6))
    weights = written.tensor("w", (5, 6), data=np.ones((5, 6), np.float32))
    y = written.tensor("y", (8, 5))
    written.operator(schema.BuiltinOperator.FULLY_CONNECTED, (0, weights, -1), (y,))
    assert Tflite.describe(written.write(tmp_path / "model.tflite")).operators[0].macs == 30


def test_a_shared_constant_counts_once(tmp_path: Path) -> None:
    written = Written()
    written.tensor("x", (1, 6))
    first = written.tensor("w", (6, 6), data=np.ones((6, 6), np.float32))
    again = written.tensor("v", (6, 6))
    written.graph.tensors[again].buffer = written.graph.tensors[first].buffer
    for weights in (first, again):
        y = written.tensor("y", (1, 6))
        written.operator(schema.BuiltinOperator.FULLY_CONNECTED, (0, weights, -1), (y,))
    facts = Tflite.describe(written.write(tmp_path / "model.tflite"))
    assert (facts.sizes.weights, facts.parameters) == (144, 36)


def test_a_custom_operator_is_named_and_its_macs_are_not_guessed(tmp_path: Path) -> None:
    written = Written()
    written.tensor("x", (1, 6))
    y = written.tensor("y", (1, 6))
    written.operator(schema.BuiltinOperator.CUSTOM, (0,), (y,), custom="FlexErf")
    (operator,) = Tflite.describe(written.write(tmp_path / "model.tflite")).operators
    assert (operator.type, operator.macs) == ("CUSTOM:FlexErf", None)


def test_a_custom_operator_of_xnnpack_is_counted(tmp_path: Path) -> None:
    written = Written()
    written.tensor("x", (1, 8, 8, 4))
    weights = written.tensor("w", (2, 2, 2, 4), data=np.ones((2, 2, 2, 4), np.float32))
    y = written.tensor("y", (1, 16, 16, 2))
    written.operator(schema.BuiltinOperator.CUSTOM, (0, weights), (y,), custom="Convolution2DTransposeBias")
    facts = Tflite.describe(written.write(tmp_path / "model.tflite"))
    assert facts.operators[0].macs == 8 * 8 * 4 * 2 * 2 * 2
    assert not any("XNNPACK" in hint for hint in facts.slow)


def _refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        Tflite.describe(path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.next
    return message


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 9, b"\x1c\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 500])
def test_what_is_no_model_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert "model.tflite" in _refusal(path)


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    assert "no such file" in _refusal(tmp_path / "model.tflite")
    assert "folder" in _refusal(tmp_path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = _network().write(tmp_path / "whole.tflite").read_bytes()
    path = tmp_path / "model.tflite"
    rng = random.Random(0)
    for length in [*range(0, 40), *rng.sample(range(40, len(whole)), 60), *range(len(whole) - 40, len(whole))]:
        path.write_bytes(whole[:length])
        _refusal(path)


def test_a_damaged_file_is_described_or_refused_but_never_crashes(tmp_path: Path) -> None:
    whole = _network().write(tmp_path / "whole.tflite").read_bytes()
    path = tmp_path / "model.tflite"
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rng.randrange(8, 2000)] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            Tflite.describe(path)
        except InputError:
            refused += 1
    assert refused > 30


def test_another_schema_version_is_named(tmp_path: Path) -> None:
    written = _network()
    written.model.version = 4
    assert "schema version 4" in _refusal(written.write(tmp_path / "model.tflite"))


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    written = _network()
    written.model.operatorCodes[0].builtinCode = 4321
    assert "unknown builtin operator 4321" in _refusal(written.write(tmp_path / "model.tflite"))


def test_an_index_out_of_bounds_is_named(tmp_path: Path) -> None:
    written = _network()
    written.graph.operators[1].inputs = [99, 1, -1]
    assert "tensor 99" in _refusal(written.write(tmp_path / "model.tflite"))


def test_a_constant_that_does_not_fill_its_shape_is_named(tmp_path: Path) -> None:
    written = _network()
    next(t for t in written.graph.tensors if t.name == b"w2").shape = [1, 3, 3, 9]
    assert "'w2'" in _refusal(written.write(tmp_path / "model.tflite"))


def test_a_model_without_operators_is_refused(tmp_path: Path) -> None:
    written = Written()
    written.tensor("x", (1, 6))
    assert "no graph" in _refusal(written.write(tmp_path / "model.tflite"))
