"""The importer of ONNX graphs: every operator on ONNX's own node tests, open batches under torch.export, refusals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.core.errors import CannotConvert

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
loader = pytest.importorskip("onnx.backend.test.loader")

from edgekit.networks.onnx import graph as graphs  # noqa: E402
from edgekit.networks.onnx.network import OnnxNetwork  # noqa: E402
from edgekit.networks.onnx.operators import (  # noqa: E402
    DTYPES,
    TABLE,
)

helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
#: what the table's operators refuse among ONNX's own tests, by what stands in the test's name
REFUSED = re.compile(
    r"averagepool_.*dilations|training|argmax|blocked|gru_(?!.*linear)|peepholes|precomputed|constant_pad|empty_set"
    r"|antialias|cubic|tf_crop|linear_align_corners|not_(larger|smaller)|scatternd_(multiply|max|min)"
    # bodies of functions with an If, random numbers, or sizes that depend on the data
    r"|attention_.*(past|present|qk_matmul|padded|nonpad|window)|affine_grid|bernoulli|window|center_crop|range_.*expanded|_expanded"
)


@cache
def node_cases() -> dict[str, list[Any]]:
    """Operator → the cases whose model begins with it, of types that torch computes with."""
    found: dict[str, list[Any]] = {}
    for case in loader.load_model_tests(kind="node"):
        values = [*case.model.graph.input, *case.model.graph.output]
        types = {v.type.tensor_type.elem_type if v.type.HasField("tensor_type") else 0 for v in values}
        if types <= DTYPES.keys() - {onnx.TensorProto.BFLOAT16}:  # numpy has no bfloat16
            for operator in {node.op_type for node in case.model.graph.node} & TABLE.keys():
                found.setdefault(operator, []).append(case)
    return found


def network(model: Any, constants: Sequence[Any] = ()) -> Any:
    """The model, with the named inputs made constant, as a torch network."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.initializer.extend(constants)
    types = [helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name for v in made.graph.output]
    return OnnxNetwork(graphs(made, "model"), [getattr(torch, name) for name in types]).eval()


def check(model: Any, inputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    control = {
        node.input[index]
        for node in model.graph.node
        for index in getattr(TABLE.get(node.op_type), "shape_inputs", ())
        if index < len(node.input)
    }
    named = [(value.name, array) for value, array in zip(model.graph.input, inputs, strict=False)]
    fixed = [numpy_helper.from_array(array, name) for name, array in named if name in control]
    found = network(model, fixed)(*(torch.from_numpy(np.array(a)) for name, a in named if name not in control))
    for got, wanted in zip(found if isinstance(found, tuple) else (found,), expected, strict=False):
        half = wanted.dtype == np.float16
        assert got.numpy().dtype == wanted.dtype and got.shape == wanted.shape
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-2 if half else 1e-3, atol=1e-2 if half else 1e-5)


@pytest.mark.parametrize("operator", sorted(TABLE))
def test_onnx_s_own_tests_of_an_operator(operator: str) -> None:
    cases = node_cases().get(operator, [])
    refused = []
    for case in cases:
        for inputs, outputs in case.data_sets:
            given, wanted = (
                [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in side]
                for side in (inputs, outputs)
            )
            try:
                check(case.model, given, wanted)
            except CannotConvert as error:
                assert REFUSED.search(case.name), f"{case.name}: {error}"
                refused.append(case.name)
    assert len(cases) > len(refused) or operator == "GRU", "nothing was computed"


@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator", "simple"])
def test_onnx_s_recorded_models(kind: str) -> None:
    """Older opsets, with attributes where later ones have inputs; inputs and outputs lie beside the models."""
    done = 0
    for case in loader.load_model_tests(kind=kind):
        model = onnx.load(str(Path(case.model_dir, "model.onnx")))
        if any(node.op_type not in TABLE or node.domain for node in model.graph.node):
            continue
        for folder in Path(case.model_dir).glob("test_data_set_*"):
            sides = [sorted(folder.glob(f"{side}_*.pb")) for side in ("input", "output")]
            inputs, outputs = ([numpy_helper.to_array(onnx.load_tensor(str(p))) for p in side] for side in sides)
            try:
                check(model, inputs, outputs)
            except CannotConvert as error:
                assert "training mode" in str(error) or "second output" in str(error), f"{folder}: {error}"
            else:
                done += 1
    assert done > (2 if kind == "simple" else 15)


def model(nodes: list[Any], inputs: Any, outputs: Any, constants: dict[str, np.ndarray] | None = None) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def node(type: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(type, inputs.split(), outputs.split(), f"the_{type}", **attributes)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_gru_that_resets_after_the_linear_layer(direction: str) -> None:
    """Every gate in its place, against ONNX Runtime; ONNX's own tests reset before it."""
    rng = np.random.default_rng(0)
    ways, units, features = (2 if direction == "bidirectional" else 1), 3, 2
    constants = {
        "w": rng.normal(size=(ways, 3 * units, features)).astype(np.float32),
        "r": rng.normal(size=(ways, 3 * units, units)).astype(np.float32),
        "b": rng.normal(size=(ways, 6 * units)).astype(np.float32),
    }
    gru = node("GRU", "x w r b", "y h", hidden_size=units, direction=direction, linear_before_reset=1)
    outputs = [("y", FLOAT, [5, ways, 4, units]), ("h", FLOAT, [ways, 4, units])]
    made = model([gru], [("x", FLOAT, [5, 4, features])], outputs, constants)
    x = rng.normal(size=(5, 4, features)).astype(np.float32)
    check(made, [x], ort.InferenceSession(made.SerializeToString()).run(None, {"x": x}))


def test_an_open_batch_stays_open() -> None:
    """Shape → Gather → Unsqueeze → Concat → Reshape, as exporters write it, and an Expand to the input's own shape."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Unsqueeze", "batch zeros", "batch1"),
        node("Mul", "batch1 two", "twice"),
        node("Concat", "twice minus", "target", axis=0),
        node("Reshape", "x target", "halves"),
        node("Concat", "batch1 four", "whole", axis=0),
        node("Expand", "column whole", "bias"),
        node("Reshape", "halves whole", "back"),
        node("Add", "back bias", "y"),
    ]
    constants = {
        "zero": np.array(0),
        "zeros": np.array([0]),
        "two": np.array([2]),
        "minus": np.array([-1]),
        "four": np.array([4]),
        "column": np.ones((1, 4), np.float32),
    }
    made = network(model(nodes, [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 4])], constants))
    dims = (({0: torch.export.Dim("n", min=1)},),)
    program = torch.export.export(made, (torch.zeros(2, 4),), dynamic_shapes=dims).module()
    for count in (1, 2, 7):
        x = torch.rand(count, 4)
        assert torch.equal(program(x), x + 1) and torch.equal(made(x), x + 1)


def test_weights_wherever_they_are() -> None:
    """In a Constant node, computed from constants, or in an initializer that is an input as well (older files)."""
    nodes = [
        node("Constant", "", "c", value=numpy_helper.from_array(np.full((2, 2), 3, np.float32))),
        node("ConstantOfShape", "size", "ones", value=numpy_helper.from_array(np.ones(1, np.float32))),
        node("MatMul", "x c", "xc"),
        node("Add", "ones bias", "sum"),
        node("Add", "xc sum", "y"),
    ]
    constants = {"size": np.array([2]), "bias": np.array([1, 2], np.float32)}
    inputs = [("x", FLOAT, ["n", 2]), ("bias", FLOAT, [2])]
    made = network(model(nodes, inputs, [("y", FLOAT, ["n", 2])], constants))
    assert torch.equal(made(torch.ones(1, 2)), torch.tensor([[8.0, 9.0]]))
    assert {name for name, _ in made.named_parameters()} == {"weights.c", "weights.sum"}


def test_half_precision_is_computed_in_float32_and_keeps_its_ends() -> None:
    half = onnx.TensorProto.FLOAT16
    constants = {"w": np.full((1000, 1), 0.1, np.float16)}
    made = network(model([node("MatMul", "x w", "y")], [("x", half, [1, 1000])], [("y", half, [1, 1])], constants))
    found = made(torch.ones(1, 1000, dtype=torch.float16))
    assert found.dtype == torch.float16 and made.weights.w.dtype == torch.float32
    assert found.item() == pytest.approx(1000 * float(np.float16(0.1)), abs=0.05)


def test_everything_without_a_way_is_listed_at_once() -> None:
    nodes = [
        node("NonZero", "x", "a"),
        helper.make_node("Fancy", ["x"], ["b"], "fancy", domain="my.domain"),
        node("NonZero", "x", "c"),
    ]
    made = model(nodes, [("x", FLOAT, [2])], [(name, INT64, None) for name in "abc"])
    with pytest.raises(CannotConvert, match=r"NonZero \(2, first 'the_NonZero'\), my\.domain\.Fancy \(1") as caught:
        network(made)
    assert "\n" not in str(caught.value)


def test_shapes_computed_from_the_data_are_refused() -> None:
    nodes = [node("Cast", "x", "n", to=INT64), node("Expand", "one n", "y")]
    made = model(nodes, [("x", FLOAT, [1])], [("y", FLOAT, [None])], {"one": np.ones(1, np.float32)})
    with pytest.raises(CannotConvert, match=r"data-dependent shapes, axes or sizes: Expand \(1, first 'the_Expand'\)"):
        network(made)


def test_what_an_operator_cannot_do_is_said_with_its_name() -> None:
    pool = node("AveragePool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2])
    made = network(model([pool], [("x", FLOAT, [1, 1, 8, 8])], [("y", FLOAT, [1, 1, 6, 6])]))
    with pytest.raises(CannotConvert, match=r"AveragePool 'the_AveragePool'.*no average pooling with dilation"):
        made(torch.zeros(1, 1, 8, 8))
