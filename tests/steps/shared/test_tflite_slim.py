"""The rewrite rules for TFLite on random little graphs: the same outputs to the bit, or a reason why none applies."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.formats.tflite import packed, read, unpack
from edgekit.steps.shared.tflite_slim import slim

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: E402

SCALE, ZERO = 0.05, -7
DTYPES = {"float32": 0, "int32": 2, "int8": 9}


class Built:
    """A little TFLite model, an operator at a time; values are float32, or int8 with one scale."""

    def __init__(self, shape: Sequence[int], dtype: str, seed: int) -> None:
        self.rng, self.dtype = np.random.default_rng(seed), dtype
        self.model = schema.ModelT(version=3, operatorCodes=[], subgraphs=[], description=b"", metadata=[])
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT(tensors=[], operators=[], name=b"main")
        self.model.subgraphs = [self.graph]
        self.last = self.tensor(shape)
        self.graph.inputs = np.array([self.last], np.int32)

    def tensor(self, shape: Sequence[int], array: Any = None, scale: float = SCALE, zero: int | None = ZERO) -> int:
        dtype = self.dtype if array is None else str(array.dtype)
        tensor = schema.TensorT(
            np.array(shape, np.int32), DTYPES[dtype], 0, f"t{len(self.graph.tensors)}".encode(), hasRank=True
        )
        if array is not None:
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(schema.BufferT(np.frombuffer(array.tobytes(), np.uint8)))
        if self.dtype == "int8" and (array is None or array.dtype == np.int8 or zero is None):
            tensor.quantization = schema.QuantizationParametersT(
                scale=np.array([scale], np.float32), zeroPoint=np.array([zero or 0], np.int64)
            )
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add(self, type: str, shape: Sequence[int], inputs: Sequence[int] = (), options: Any = None) -> Built:
        self.model.operatorCodes.append(
            schema.OperatorCodeT(
                deprecatedBuiltinCode=getattr(schema.BuiltinOperator, type),
                builtinCode=getattr(schema.BuiltinOperator, type),
                version=1 if type == "RESHAPE" else 3 if self.dtype == "int8" and "CONV" in type else 2,
            )
        )
        operator = schema.OperatorT(len(self.model.operatorCodes) - 1)
        operator.inputs = np.array([self.last, *inputs], np.int32)
        if options is not None:
            operator.builtinOptions = options
            name = type_name = options.__class__.__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name, type_name)
        self.last = self.tensor(shape)
        operator.outputs = np.array([self.last], np.int32)
        self.graph.operators.append(operator)
        return self

    def constant(self, values: Any, dtype: str = "int32") -> int:
        array = np.asarray(values, dtype)
        return self.tensor(array.shape, array)

    def weights(self, shape: Sequence[int]) -> int:
        array = self.rng.integers(-9, 10, shape).astype(self.dtype)
        return self.tensor(shape, array, 0.02, 0)

    def bias(self, count: int) -> int:
        dtype = "float32" if self.dtype == "float32" else "int32"
        array = self.rng.integers(-50, 50, count).astype(dtype)
        return self.tensor((count,), array, SCALE * 0.02, None)

    def shape(self) -> tuple[int, ...]:
        return tuple(map(int, self.graph.tensors[self.last].shape))

    def pad(self, top: int, bottom: int, left: int, right: int) -> Built:
        n, h, w, c = self.shape()
        pads = self.constant([[0, 0], [top, bottom], [left, right], [0, 0]])
        return self.add("PAD", (n, h + top + bottom, w + left + right, c), [pads], schema.PadOptionsT())

    def conv(self, kernel: tuple[int, int], stride: int, depthwise: bool, channels: int = 8) -> Built:
        n, h, w, c = self.shape()
        out = c if depthwise else channels
        weights = self.weights((1, *kernel, c) if depthwise else (out, *kernel, c))
        common = {"padding": 1, "strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
        options = (
            schema.DepthwiseConv2DOptionsT(**common, depthMultiplier=1)
            if depthwise
            else schema.Conv2DOptionsT(**common)
        )
        sizes = [(size - side) // stride + 1 for size, side in zip((h, w), kernel, strict=True)]
        type = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        return self.add(type, (n, *sizes, out), [weights, self.bias(out)], options)

    def transpose(self, *order: int) -> Built:
        shape = [self.shape()[axis] for axis in order]
        return self.add("TRANSPOSE", shape, [self.constant(order)], schema.TransposeOptionsT())

    def reshape(self, *shape: int) -> Built:
        options = schema.ReshapeOptionsT(np.array(shape, np.int32))
        return self.add("RESHAPE", shape, [self.constant(shape)], options)

    def mean(self, *axes: int) -> Built:
        shape = [size for axis, size in enumerate(self.shape()) if axis not in axes]
        return self.add("MEAN", shape, [self.constant(axes)], schema.ReducerOptionsT(False))

    def multiply(self, values: Any) -> Built:
        return self.add("MUL", self.shape(), [self.constant(values, self.dtype)], schema.MulOptionsT())

    def dense(self, out: int) -> Built:
        rows, count = self.shape()
        weights, bias = self.weights((out, count)), self.bias(out)
        return self.add("FULLY_CONNECTED", (rows, out), [weights, bias], schema.FullyConnectedOptionsT())


def _outputs(path: Path, seed: int, *, delegate: bool) -> Any:
    kinds = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=kinds, num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    # small integers, so that sums of floats are exact in any order
    values = np.random.default_rng(seed).integers(-128, 128, given["shape"]).astype(given["dtype"])
    interpreter.set_tensor(given["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _slimmed(built: Built, tmp_path: Path, **options: bool) -> tuple[list[str], Mapping[str, str], Any]:
    """The operators after the rewrite, rule → why it refused, the file; its outputs are compared."""
    built.graph.outputs = np.array([built.last], np.int32)
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    before.write_bytes(packed(built.model))
    model = unpack(before.read_bytes(), "model")
    decisions = slim(model, **options)
    after.write_bytes(packed(model))
    for delegate in (True, False):
        for seed in range(2):
            expected = _outputs(before, seed, delegate=delegate)
            np.testing.assert_array_equal(_outputs(after, seed, delegate=delegate), expected)
    graph = read(after).subgraphs[0]
    assert len({tensor.name for tensor in graph.tensors}) == len(graph.tensors)
    refused = {decision.rule: decision.refused for decision in decisions if decision.refused}
    return [node.type for node in graph.nodes], refused, graph


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("fold_padding", [False, True])
def test_padding_of_any_size_before_a_convolution(
    dtype: str, depthwise: bool, fold_padding: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng([dtype == "int8", depthwise])
    for seed in range(40):
        kernel = (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
        height, width, stride = (int(rng.integers(low, high)) for low, high in ((4, 12), (4, 12), (1, 4)))
        pads = [int(rng.integers(0, 4)) for _ in range(4)]
        built = Built((1, height, width, 3), dtype, seed).pad(*pads).conv(kernel, stride, depthwise)
        types, _, _ = _slimmed(built, tmp_path, fold_padding=fold_padding)
        outs = built.shape()[1:3]
        same = all(
            -(-size // stride) == out and max((out - 1) * stride + side - size, 0) // 2 == first
            for size, out, side, first in zip((height, width), outs, kernel, pads[::2], strict=True)
        )
        if same:
            assert "PAD" not in types
        elif not (fold_padding and depthwise):
            assert "PAD" in types


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_torchs_padding_of_strided_depthwise_convolutions_needs_a_larger_kernel(dtype: str, tmp_path: Path) -> None:
    def built() -> Built:
        return Built((1, 28, 28, 4), dtype, 1).pad(1, 1, 1, 1).conv((3, 3), 2, depthwise=True)

    types, refused, trimmed = _slimmed(built(), tmp_path)
    assert types == ["PAD", "DEPTHWISE_CONV_2D"]
    assert refused["FoldPad"] == "SAME padding would begin at another row or column"
    assert trimmed.nodes[0].outputs[0].shape == (1, 29, 29, 4)
    types, _, folded = _slimmed(built(), tmp_path, fold_padding=True)
    assert types == ["DEPTHWISE_CONV_2D"]
    assert folded.nodes[0].inputs[1].shape == (1, 4, 4, 4)
    assert folded.peak_bytes < trimmed.peak_bytes


def test_a_padded_tensor_that_something_else_reads_stays(tmp_path: Path) -> None:
    built = Built((1, 5, 5, 4), "float32", 1).pad(1, 1, 1, 1)
    padded = built.last
    built.conv((3, 3), 1, depthwise=True)
    built.add("ADD", built.shape(), [built.last], schema.AddOptionsT())
    built.last = padded
    built.mean(1, 2)
    types, refused, _ = _slimmed(built, tmp_path)
    assert "PAD" in types
    assert refused["FoldPad"] == "something else reads the padded tensor"


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_transposes_merge_and_cancel(dtype: str, tmp_path: Path) -> None:
    orders = [(0, 3, 1, 2), (0, 2, 3, 1), (0, 2, 1, 3), (0, 1, 3, 2), (0, 3, 2, 1)]
    rng = np.random.default_rng(0)
    for seed in range(20):
        first, second = (orders[int(rng.integers(len(orders)))] for _ in range(2))
        built = Built((1, 3, 4, 5), dtype, seed).conv((1, 1), 1, depthwise=True)
        built.transpose(*first).transpose(*second).conv((1, 1), 1, depthwise=True)
        types, _, _ = _slimmed(built, tmp_path)
        joined = [first[axis] for axis in second]
        assert types.count("TRANSPOSE") == (joined != sorted(joined))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("values", [[3], [[[[1]], [[2]], [[4]]]]], ids=["scalar", "per channel"])
def test_a_transpose_sinks_through_operators_on_elements(dtype: str, values: Any, tmp_path: Path) -> None:
    built = Built((1, 6, 5, 3), dtype, 1).transpose(0, 3, 1, 2).multiply(values).transpose(0, 2, 3, 1)
    types, _, _ = _slimmed(built.conv((3, 3), 1, depthwise=False), tmp_path)
    assert types == ["MUL", "CONV_2D"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_mean_over_height_and_width_needs_no_transpose(dtype: str, tmp_path: Path) -> None:
    for seed, (height, width) in enumerate([(7, 7), (3, 5), (1, 8)]):
        built = Built((1, height, width, 16), dtype, seed).conv((1, 1), 1, depthwise=True)
        types, _, _ = _slimmed(built.transpose(0, 3, 1, 2).mean(2, 3).dense(5), tmp_path)
        assert types == ["DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_reduced_axes_are_kept_rather_than_reshaped(dtype: str, tmp_path: Path) -> None:
    built = Built((1, 8, 16), dtype, 1).mean(0, 2).multiply([2]).reshape(1, 8, 1)
    types, _, graph = _slimmed(built.multiply([3]), tmp_path)
    assert types == ["MEAN", "MUL", "MUL"]
    assert graph.outputs[0].shape == (1, 8, 1)


def test_a_dense_layer_in_int8_takes_the_layout_of_its_input(tmp_path: Path) -> None:
    def built(dtype: str) -> Built:
        return Built((1, 3, 4, 5), dtype, 1).transpose(0, 3, 1, 2).reshape(1, 60).dense(7)

    assert _slimmed(built("int8"), tmp_path)[0] == ["RESHAPE", "FULLY_CONNECTED"]
    types, refused, _ = _slimmed(built("float32"), tmp_path)
    assert types == ["TRANSPOSE", "RESHAPE", "FULLY_CONNECTED"]
    assert refused["DenseInPlace"] == "a sum of floats depends on its order"


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_transpose_of_one_pixel_and_chains_of_reshapes_go(dtype: str, tmp_path: Path) -> None:
    built = Built((1, 1, 1, 12), dtype, 1).transpose(0, 3, 1, 2).reshape(1, 3, 4).reshape(1, 12).dense(3)
    assert _slimmed(built, tmp_path)[0] == ["RESHAPE", "FULLY_CONNECTED"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_tokens_of_a_vision_transformer_are_not_transposed(dtype: str, tmp_path: Path) -> None:
    built = Built((1, 8, 8, 6), dtype, 1).conv((2, 2), 2, depthwise=False).transpose(0, 3, 1, 2).reshape(1, 8, 16)
    positions = np.arange(128).reshape(1, 8, 16) % 5
    types, _, _ = _slimmed(built.multiply(positions).transpose(0, 2, 1).mean(1), tmp_path)
    assert types == ["CONV_2D", "RESHAPE", "MUL", "MEAN"]


def test_what_has_no_effect_at_the_models_output_stays(tmp_path: Path) -> None:
    built = Built((1, 3, 4, 5), "float32", 1).transpose(0, 3, 1, 2).transpose(0, 2, 3, 1)
    types, refused, _ = _slimmed(copy.deepcopy(built), tmp_path)
    assert types == ["TRANSPOSE", "TRANSPOSE"]
    assert refused["MergeTransposes"] == "its output is the model's"
