"""What of an int8 model computes in float, and where values are converted: counted by hand, and by the runtime."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compression import nets

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.report.tables import lines
from edgekit.runs.attempts import METHODS_FILE
from edgekit.runs.store import Store
from edgekit.steps.shared.calibrated import model_file
from edgekit.workflows.inspect import model as models
from edgekit.workflows.inspect.mixed_precision import Execution, Tensor, conversions, mixed_precision
from edgekit.workflows.inspect.mixed_precision_table import rows

FLOAT, INT8, OTHER = (Tensor(precision, 4) for precision in ("float", "int8", None))


def counted(execution: Execution) -> dict[str, int]:
    """How often values are converted, in which direction, and how."""
    ways = (
        f"{conversion.to}{' at an end' * conversion.at_end}{'' if conversion.own_pass else ' in a kernel'}"
        for conversion in execution.conversions
    )
    return dict(Counter(ways))


def precisions(execution: Execution) -> dict[str, str]:
    return {operator.name or operator.type: operator.precision for operator in execution.operators}


def said(result: dict[str, Any], times: dict[str, Any] | None = None) -> str:
    return "\n".join(" ".join(filter(None, row)) for row in rows(result, times))


# --- one executed operator ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reads", "writes", "own_pass", "to"),
    [
        ([FLOAT], [INT8], True, ["int8"]),
        ([INT8], [FLOAT], True, ["float"]),
        ([INT8], [INT8], True, []),
        ([INT8, INT8], [INT8], False, []),
        ([FLOAT], [FLOAT], False, []),
        ([INT8], [FLOAT], False, ["float"]),
        ([FLOAT, INT8], [FLOAT], False, ["float"]),
        ([FLOAT, INT8], [INT8], False, ["float", "int8"]),
        ([FLOAT], [INT8, FLOAT], False, ["int8"]),
        ([OTHER], [FLOAT], False, []),
        ([INT8], [OTHER], False, []),
    ],
)
def test_what_one_operator_converts(
    reads: Sequence[Tensor], writes: Sequence[Tensor], own_pass: bool, to: list[str]
) -> None:
    assert [conversion.to for conversion in conversions(reads, writes, own_pass)] == to


# --- ONNX --------------------------------------------------------------------------------------------------------


class Graph:
    """An ONNX graph of (1, 3, 4, 4) tensors; each method adds an operator and gives the name of its output."""

    def __init__(self) -> None:
        self.helper = pytest.importorskip("onnx").helper
        self.nodes: list[Any] = []
        self.outputs: tuple[str, ...] = ()

    def add(self, type: str, *reads: str, **attributes: Any) -> str:
        name = f"{type.lower()}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(type, list(reads), [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def rounded(self, tensor: str, scale: str = "s") -> str:
        """A QuantizeLinear and a DequantizeLinear."""
        return self.add("DequantizeLinear", self.add("QuantizeLinear", tensor, scale, "z"), scale, "z")

    def conv(self, tensor: str) -> str:
        return self.add("Conv", tensor, self.add("DequantizeLinear", "wq", "s", "wz"))

    def flipped(self, tensor: str) -> str:
        return self.add("Transpose", tensor, perm=[0, 1, 3, 2])

    def save(self, path: Path, *outputs: str, size: Any = 1) -> Path:
        from onnx import TensorProto
        from onnx_files import save

        self.outputs = outputs
        constants = {
            **{"s": np.float32(0.1), "s2": np.float32(0.2), "z": np.uint8(128), "wz": np.int8(0)},
            **{"wq": np.ones((3, 3, 1, 1), np.int8), "wf": np.ones((3, 3, 1, 1), np.float32)},
            "rows": np.array([1, 3, 16], np.int64),
        }
        outs = [(name, TensorProto.FLOAT, None) for name in outputs]
        return save(path, self.nodes, [("x", TensorProto.FLOAT, [size, 3, 4, 4])], outs, constants)


def chain(g: Graph) -> list[str]:
    return [g.rounded(g.conv(g.rounded(g.conv(g.rounded("x")))))]


def island(g: Graph) -> list[str]:
    """HardSwish has no int8 kernel, though the file rounds what it reads and writes."""
    return [g.rounded(g.conv(g.rounded(g.add("HardSwish", g.rounded(g.conv(g.rounded("x")))))))]


def two_readers(g: Graph) -> list[str]:
    """One DequantizeLinear, two float operators: ONNX Runtime makes two of it."""
    c = g.rounded(g.conv(g.rounded("x")))
    return [g.add("Add", g.add("Erf", c), g.add("Tan", c))]


def int8_and_float_reader(g: Graph) -> list[str]:
    c = g.rounded(g.conv(g.rounded("x")))
    return [g.add("Add", g.add("Erf", c), g.rounded(g.conv(c)))]


def rounded_twice(g: Graph) -> list[str]:
    """The second pair is folded into the convolution, another scale too."""
    return [g.rounded(g.conv(g.rounded(g.rounded(g.conv(g.rounded("x"))), "s2")))]


def transposed(g: Graph) -> list[str]:
    return [g.rounded(g.conv(g.rounded(g.flipped(g.rounded(g.conv(g.rounded("x")))))))]


def rescaled(g: Graph) -> list[str]:
    """The scale changes at the Transpose, which then cannot stay in int8."""
    return [g.rounded(g.conv(g.rounded(g.flipped(g.rounded(g.conv(g.rounded("x")))), "s2")))]


def reshaped(g: Graph) -> list[str]:
    return [g.add("Erf", g.add("Reshape", g.rounded(g.conv(g.rounded("x"))), "rows"))]


def transposed_floats(g: Graph) -> list[str]:
    """What only moves values is in int8 on that side of it where they are rounded."""
    c = g.rounded(g.conv(g.rounded(g.flipped(g.add("Erf", "x")))))
    return [g.add("Tan", g.flipped(c))]


def between_floats(g: Graph) -> list[str]:
    return [g.add("Tan", g.rounded(g.add("Erf", "x")))]


def kept(g: Graph) -> list[str]:
    """A float convolution in the middle, from float weights."""
    c = g.rounded(g.conv(g.rounded("x")))
    return [g.rounded(g.conv(g.rounded(g.add("Erf", g.add("Conv", g.add("Erf", c), "wf")))))]


def float_weights_stored(g: Graph) -> list[str]:
    """Not rounded behind the convolution: it is float, and its weights are dequantized each time."""
    return [g.add("Erf", g.conv(g.rounded("x")))]


def limited(g: Graph) -> list[str]:
    """A Relu whose zero is in the middle of the range is not part of the rounding."""
    return [g.rounded(g.conv(g.rounded(g.add("Relu", g.conv(g.rounded("x"))))))]


ENDS = {"int8 at an end": 1, "float at an end": 1}
#: graph → what is converted, and what computes in float
ONNX: list[tuple[Callable[[Graph], list[str]], dict[str, int], list[str]]] = [
    (chain, ENDS, []),
    (island, {**ENDS, "int8": 1, "float": 1}, ["HardSwish"]),
    (two_readers, {"int8 at an end": 1, "float": 2}, ["Add", "Erf", "Tan"]),
    (int8_and_float_reader, {"int8 at an end": 1, "float": 2}, ["Add", "Erf"]),
    (rounded_twice, ENDS, []),
    (transposed, ENDS, []),
    (rescaled, {**ENDS, "int8": 1, "float": 1}, ["Transpose"]),
    (reshaped, {"int8 at an end": 1, "float": 1}, ["Erf"]),
    (transposed_floats, {"int8": 1, "float": 1}, ["Erf", "Tan"]),
    (between_floats, {"int8": 1, "float": 1}, ["Erf", "Tan"]),
    (kept, {**ENDS, "int8": 1, "float": 1}, ["Conv", "Erf", "Erf"]),
    (float_weights_stored, {"int8 at an end": 1, "float": 1}, ["Conv", "Erf"]),
    (limited, {**ENDS, "int8": 1, "float": 1}, ["Conv", "Relu"]),
]


@pytest.mark.parametrize(("build", "converted", "floats"), ONNX, ids=lambda value: getattr(value, "__name__", ""))
def test_onnx(
    build: Callable[[Graph], list[str]], converted: dict[str, int], floats: list[str], tmp_path: Path
) -> None:
    """As counted by hand, and as many as ONNX Runtime has with all of its optimizations."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from edgekit.workflows.inspect.mixed_precision.onnx import execution

    graph = Graph()
    path = graph.save(tmp_path / "m.onnx", *build(graph))
    found = execution(path)
    assert counted(found) == converted
    assert sorted(o.type for o in found.operators if o.precision == "float") == floats
    assert {conversion.values for conversion in found.conversions} == {48}
    for node in graph.nodes:
        node.name = ""
    unnamed = execution(graph.save(tmp_path / "unnamed.onnx", *graph.outputs))
    assert [(o.type, o.precision) for o in unnamed.operators] == [(o.type, o.precision) for o in found.operators]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "o.onnx"), 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    left = onnx.load(str(tmp_path / "o.onnx")).graph.node
    read = {name for node in left for name in node.input} | {value.name for value in onnx.load(str(path)).graph.output}
    passes = [node for node in left if node.op_type in ("QuantizeLinear", "DequantizeLinear") and read & {*node.output}]
    assert len(found.conversions) + found.weights == len(passes)


def test_onnx_reasons(tmp_path: Path) -> None:
    graph = Graph()
    (output,) = island(graph)
    result = mixed_precision("onnx", graph.save(tmp_path / "m.onnx", graph.add("Erf", graph.add("Mul", output, "s"))))
    assert result and {(e["type"], e["reason"]) for e in result["float"]} == {
        ("HardSwish", "not_fused"),
        ("Mul", "left"),
        ("Erf", "not_quantizable"),
    }
    assert result["placement"] is None and result["partitions"] is None


def test_onnx_operators_without_names_and_open_sizes(tmp_path: Path) -> None:
    from edgekit.workflows.inspect.mixed_precision.onnx import execution

    graph = Graph()
    outputs = kept(graph)
    for node in graph.nodes:
        node.name = ""
    found = execution(graph.save(tmp_path / "m.onnx", *outputs, size="n"))
    assert Counter((o.type, o.precision) for o in found.operators) == {
        ("Conv", "int8"): 2,
        ("Conv", "float"): 1,
        ("Erf", "float"): 2,
    }
    assert counted(found) == {**ENDS, "int8": 1, "float": 1}
    assert {conversion.values for conversion in found.conversions} == {48}, "of one sample"


def test_an_image_of_bytes_is_not_int8(tmp_path: Path) -> None:
    from onnx import TensorProto
    from onnx_files import save

    from edgekit.workflows.inspect.mixed_precision.onnx import execution

    graph = Graph()
    graph.nodes.append(graph.helper.make_node("Cast", ["x"], ["f"], "cast", to=TensorProto.FLOAT))
    output = graph.rounded(graph.add("MatMul", graph.rounded("f"), graph.add("DequantizeLinear", "wq", "s", "wz")))
    constants = {"s": np.float32(0.1), "z": np.uint8(128), "wz": np.int8(0), "wq": np.ones((4, 4), np.int8)}
    ends = [("x", TensorProto.UINT8, [1, 4])], [(output, TensorProto.FLOAT, None)]
    found = execution(save(tmp_path / "m.onnx", graph.nodes, *ends, constants))
    assert counted(found) == {"int8": 1, "float at an end": 1}


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_a_file_of_another_quantizer(form: str, tmp_path: Path) -> None:
    """Its weights and biases are large enough to be kept apart from the graph."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    from onnx import TensorProto
    from onnx_files import save

    from edgekit.workflows.inspect.mixed_precision.onnx import execution

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        left = [{"x": np.random.default_rng(seed).normal(size=(1, 300, 2, 2)).astype(np.float32)} for seed in range(3)]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    graph = Graph()
    first = graph.add("Conv", "x", "w", "b")
    last = graph.add("Conv", graph.add("HardSwish", first), "w", "b")
    weights = np.random.default_rng(0).normal(size=(300, 300, 1, 1)).astype(np.float32)
    ends = [("x", TensorProto.FLOAT, [1, 300, 2, 2])], [(last, TensorProto.FLOAT, [1, 300, 2, 2])]
    path = save(tmp_path / "f.onnx", graph.nodes, *ends, {"w": weights, "b": weights[0, :, 0, 0]})
    how = {"quant_format": quantization.QuantFormat[form], "per_channel": True}
    quantization.quantize_static(str(path), str(tmp_path / "q.onnx"), Samples(), **how)
    found = execution(tmp_path / "q.onnx")
    assert [o.precision for o in found.operators] == ["int8", "float", "int8"]
    assert counted(found) == {**ENDS, "int8": 1, "float": 1}
    assert {conversion.values for conversion in found.conversions} == {1200}


def test_a_product_that_gives_floats(tmp_path: Path) -> None:
    """MatMulIntegerToFloat: no pass of its own."""
    from onnx import TensorProto
    from onnx_files import save

    from edgekit.workflows.inspect.mixed_precision.onnx import execution

    graph = Graph()
    output = graph.add("MatMul", graph.rounded("x"), graph.add("DequantizeLinear", "wq", "s", "wz"))
    constants = {"s": np.float32(0.1), "z": np.uint8(128), "wz": np.int8(0), "wq": np.ones((64, 64), np.int8)}
    ends = [("x", TensorProto.FLOAT, [1, 64])], [(output, TensorProto.FLOAT, [1, 64])]
    found = execution(save(tmp_path / "m.onnx", graph.nodes, *ends, constants))
    assert [o.precision for o in found.operators] == ["int8"]
    assert counted(found) == {"int8 at an end": 1, "float at an end in a kernel": 1}


def test_a_model_that_the_runtime_cannot_load(tmp_path: Path) -> None:
    graph = Graph()
    rounded = graph.rounded("x")
    graph.nodes.append(graph.helper.make_node("Odd", [rounded], ["y"], "odd", domain="acme"))
    found = models.inspect(str(graph.save(tmp_path / "m.onnx", graph.rounded("y"))))["mixed_precision"]
    assert "Odd" in found["why"] and "int8" not in found
    assert "not known which operators" in said(found)


# --- TFLite ------------------------------------------------------------------------------------------------------


class Flat:
    """A TFLite graph of (1, 4, 4, 8) tensors; each method gives the index of its output."""

    def __init__(self) -> None:
        self.schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
        self.graph = self.schema.SubGraphT(tensors=[], operators=[], name=b"main")
        self.codes: list[Any] = []

    def tensor(self, dtype: str) -> int:
        number = {"float32": 0, "int8": 9}[dtype]
        tensor = self.schema.TensorT(
            np.array([1, 4, 4, 8], np.int32), number, 0, f"t{len(self.graph.tensors)}".encode(), hasRank=True
        )
        if dtype == "int8":
            tensor.quantization = self.schema.QuantizationParametersT(
                scale=np.array([0.05], np.float32), zeroPoint=np.array([0], np.int64)
            )
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add(self, type: str, *reads: int, dtype: str) -> int:
        code = getattr(self.schema.BuiltinOperator, type)
        version = 2 if type in ("QUANTIZE", "DEQUANTIZE", "ADD") else 1
        self.codes.append(self.schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=version))
        operator = self.schema.OperatorT(len(self.codes) - 1)
        operator.inputs, output = np.array(reads, np.int32), self.tensor(dtype)
        operator.outputs = np.array([output], np.int32)
        if type == "ADD":
            operator.builtinOptions, operator.builtinOptionsType = self.schema.AddOptionsT(), 11
        self.graph.operators.append(operator)
        return output

    def save(self, path: Path, source: int, *outputs: int) -> Path:
        from edgekit.formats.tflite import packed

        self.graph.inputs, self.graph.outputs = np.array([source], np.int32), np.array(outputs, np.int32)
        model = self.schema.ModelT(version=3, operatorCodes=self.codes, subgraphs=[self.graph], description=b"")
        model.buffers, model.metadata = [self.schema.BufferT()], []
        path.write_bytes(packed(model))
        return path


@pytest.mark.parametrize(
    ("in_float", "converted", "partitions"),
    [(False, {}, 2), (True, {"int8": 1, "float": 1}, 1)],
)
def test_a_tflite_operator_without_an_int8_kernel(
    in_float: bool, converted: dict[str, int], partitions: int, tmp_path: Path
) -> None:
    """XNNPACK has no HARD_SWISH in int8, and cuts the graph there."""
    from edgekit.workflows.inspect.mixed_precision.tflite import execution

    g = Flat()
    x = g.tensor("int8")
    a = g.add("ADD", x, x, dtype="int8")
    if in_float:
        swish = g.add("HARD_SWISH", g.add("DEQUANTIZE", a, dtype="float32"), dtype="float32")
        h = g.add("QUANTIZE", swish, dtype="int8")
    else:
        h = g.add("HARD_SWISH", a, dtype="int8")
    found = execution(g.save(tmp_path / "m.tflite", x, g.add("ADD", h, h, dtype="int8")))
    assert counted(found) == converted and found.partitions == partitions
    assert Counter(o.type for o in found.operators if o.precision == "float") == ({"HARD_SWISH": 1} if in_float else {})
    assert {conversion.values for conversion in found.conversions} <= {128}


def test_tflite_readers_of_one_dequantize(tmp_path: Path) -> None:
    """It converts once for two operators; a float input and output are converted at the ends."""
    g = Flat()
    x = g.tensor("float32")
    a = g.add("QUANTIZE", x, dtype="int8")
    b = g.add("ADD", a, a, dtype="int8")
    f = g.add("DEQUANTIZE", b, dtype="float32")
    c = g.add("ADD", g.add("EXP", f, dtype="float32"), g.add("ELU", f, dtype="float32"), dtype="float32")
    d = g.add("QUANTIZE", c, dtype="int8")
    e = g.add("ADD", g.add("QUANTIZE", d, dtype="int8"), b, dtype="int8")
    path = g.save(tmp_path / "m.tflite", x, g.add("DEQUANTIZE", e, dtype="float32"))
    result = models.inspect(str(path))["mixed_precision"]
    assert (result["int8"], result["rescaled"]) == (2, 1)
    assert {(entry["type"], entry["reason"]) for entry in result["float"]} == {
        ("EXP", "not_quantizable"),
        ("ELU", "not_quantizable"),
        ("ADD", "left"),
    }
    found = result["conversions"]
    assert (found["to_int8"], found["to_float"], found["at_ends"], found["own_pass"]) == (2, 2, 2, 4)
    assert found["values"] == 4 * 128 == sum(each["values"] for each in found["each"])


# --- OpenVINO ----------------------------------------------------------------------------------------------------


def openvino_model(path: Path, build: Callable[..., Sequence[Any]]) -> Path:
    """`build` gets (x, FakeQuantize, int8 convolution, the operators) and gives the outputs."""
    pytest.importorskip("openvino")
    from edgekit.runtimes.openvino import no_telemetry

    no_telemetry()
    import openvino
    from openvino import opset13 as ops

    def rounded(x: Any, name: str, top: float = 6.0) -> Any:
        ends = np.float32(0), np.float32(top)
        return ops.fake_quantize(x, *ends, *ends, 256, name=name)

    def conv(x: Any, name: str) -> Any:
        integers = np.random.default_rng(0).integers(-127, 127, (16, 16, 3, 3)).astype(np.int8)
        scale = ops.constant(np.full((16, 1, 1, 1), 0.01, np.float32))
        weights = ops.multiply(ops.convert(ops.constant(integers), "f32"), scale)
        return ops.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1], name=name)

    x = ops.parameter([-1, 16, 8, 8], np.float32, name="x")
    model = openvino.Model([ops.result(y) for y in build(x, rounded, conv, ops)], [x], "m")
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def test_openvino_float_between_int8(tmp_path: Path) -> None:
    """The convolutions write floats themselves; what is rounded again is a pass."""
    from edgekit.workflows.inspect.mixed_precision.openvino import execution

    def build(x: Any, rounded: Any, conv: Any, ops: Any) -> list[Any]:
        middle = ops.softmax(rounded(conv(rounded(x, "q0"), "c1"), "q1"), 1, name="soft")
        return [conv(rounded(middle, "q2", 1.0), "c2")]

    path = openvino_model(tmp_path / "m.xml", build)
    found = execution(path)
    assert precisions(found) == {"c1": "int8", "soft": "float", "c2": "int8"}
    assert counted(found) == {"int8 at an end": 1, "float in a kernel": 1, "int8": 1, "float at an end in a kernel": 1}
    assert {conversion.values for conversion in found.conversions} == {1024}
    result = mixed_precision("openvino", path)
    assert result and [(entry["count"], entry["reason"]) for entry in result["float"]] == [(1, "not_fused")]


def test_openvino_readers_of_one_tensor(tmp_path: Path) -> None:
    """One pass makes floats for two operators; an int8 convolution reads the integers."""
    from edgekit.workflows.inspect.mixed_precision.openvino import execution

    def build(x: Any, rounded: Any, conv: Any, ops: Any) -> list[Any]:
        a = rounded(conv(rounded(x, "q0"), "c1"), "q1")
        return [conv(a, "c2"), ops.softmax(a, 1, name="s1"), ops.softmax(a, 2, name="s2")]

    found = execution(openvino_model(tmp_path / "m.xml", build))
    assert precisions(found) == {"c1": "int8", "c2": "int8", "s1": "float", "s2": "float"}
    assert counted(found) == {"int8 at an end": 1, "float": 1, "float at an end in a kernel": 1}


def test_openvino_a_product_of_int8_and_float(tmp_path: Path) -> None:
    """It reads both, as a gate does: it computes in float, in a kernel that the plugin calls I8."""
    from edgekit.workflows.inspect.mixed_precision.openvino import execution

    def build(x: Any, rounded: Any, conv: Any, ops: Any) -> list[Any]:
        a = rounded(conv(rounded(x, "q0"), "c1"), "q1")
        gate = ops.softmax(conv(a, "c2"), 1, name="soft")
        return [conv(rounded(ops.multiply(a, gate, name="gated"), "q2"), "c3")]

    found = execution(openvino_model(tmp_path / "m.xml", build))
    assert precisions(found) == {"c1": "int8", "c2": "int8", "soft": "float", "gated": "float", "c3": "int8"}
    kernels = {"float in a kernel": 2, "int8 in a kernel": 1, "float at an end in a kernel": 1}
    assert counted(found) == {"int8 at an end": 1, **kernels}


@pytest.mark.parametrize("between", ["transpose", "rounding"])
def test_openvino_what_stays_in_int8(between: str, tmp_path: Path) -> None:
    """A Transpose, and a second FakeQuantize that is folded into the convolution."""
    from edgekit.workflows.inspect.mixed_precision.openvino import execution

    def build(x: Any, rounded: Any, conv: Any, ops: Any) -> list[Any]:
        a = rounded(conv(rounded(x, "q0"), "c1"), "q1")
        return [conv(ops.transpose(a, [0, 1, 3, 2], name="t") if between == "transpose" else rounded(a, "q", 3), "c2")]

    found = execution(openvino_model(tmp_path / "m.xml", build))
    assert set(precisions(found).values()) == {"int8"}
    assert counted(found) == {"int8 at an end": 1, "float at an end in a kernel": 1}


# --- artifacts of a run ------------------------------------------------------------------------------------------

DATA = nets.sample_set("Mobile", 48)
CONVOLUTIONS = {"onnx": "Conv", "openvino": "Convolution", "tflite": "CONV_2D"}
SWISH = {"onnx": "HardSwish", "openvino": "HSwish", "tflite": "HARD_SWISH"}
Make = Callable[..., Artifact]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    root = nets.artifact("Mobile", tmp_path_factory.mktemp("mixed"))
    store, context = Store(root.path.parent), Context(None, {"calibration": DATA}, quiet, nets.LOG)

    def call(step: str, name: str, parent: Artifact | None = None, **fields: Any) -> Artifact:
        if name in store.names():
            return store.get(name)
        with store.lock():
            return store.make(name, registry.load("steps", step)(**fields), {"parent": parent or root}, context)

    return call


SLOW = [pytest.param(format, marks=pytest.mark.slow) for format in ("openvino", "tflite")]


@pytest.mark.parametrize("format", ["onnx", *SLOW])
def test_why_operators_of_an_artifact_are_in_float(make: Make, format: str) -> None:
    model = make(f"to_{format}", format)
    operators = registry.load("formats", format).describe(model_file(model)).operators
    kept, *placed = [o.name for o in operators if o.type == CONVOLUTIONS[format]][:3]
    fields = {"keep_float": (kept,), "weights_only": tuple(placed)}
    mixed = make(f"{format}_int8", f"{format}-mixed", model, **fields)
    plain, found = (models.inspect(str(artifact.path))["mixed_precision"] for artifact in (
        make(f"{format}_int8", f"{format}-int8", model), mixed))  # fmt: skip
    reasons = {reason: sum(e["count"] for e in found["float"] if e["reason"] == reason) for reason in
               ("keep_float", "weights_only")}  # fmt: skip
    assert reasons == {"keep_float": 1, "weights_only": 2}
    assert all(e["reason"] not in reasons for e in plain["float"])
    assert found["int8"] < plain["int8"]
    assert found["conversions"]["to_float"] >= plain["conversions"]["to_float"]
    text = said(found)
    assert "kept in float (keep_float)" in text and "placed in float (weights_only)" in text
    assert "times int8's time" not in text, "no convolution is in the table of kernels"


def test_the_ratio_of_a_placed_operator_is_of_this_cpu(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the table for LiteRT on x86, with VNNI and without, and for no other."""
    from edgekit.workflows.inspect.mixed_precision import Operator, _grouped

    model = make("to_onnx", "onnx")
    placed = make("onnx_int8", "onnx-placed", model, weights_only=(model_names(model)[0],))
    operators = [Operator("HARD_SWISH", model_names(model)[0], "float")]
    for isa, ratio in (("x86-vnni", 0.246), ("x86", 0.466), ("arm64", None)):
        (entry,) = _grouped(operators, placed, (), "litert", isa)
        assert (entry["reason"], entry["float_over_int8"]) == ("weights_only", ratio)
        result = {**EMPTY, "float": [entry], "instruction_set": isa, "kernels_known": ratio is not None}
        assert (f"{ratio:.2f} times int8's time" if ratio else f"not known for this CPU ({isa})") in said(result)


def model_names(model: Artifact) -> list[str]:
    return [o.name for o in registry.load("formats", model.kind.format).describe(model_file(model)).operators]


#: a result of `mixed_precision` of a model without operators
EMPTY: dict[str, Any] = {
    **{"runtime": "litert 2", "why": "", "instruction_set": "x86", "kernels_known": False, "int8": 3, "float": []},
    "conversions": {"to_int8": 0, "to_float": 0, "at_ends": 0, "own_pass": 0, "values": 0, "each": []},
    **{"weights": 0, "rescaled": 0, "partitions": None, "placement": None},
}


def test_what_the_placement_gained(make: Make) -> None:
    """Only for the artifact that the search made."""
    model = make("to_onnx", "onnx")
    placed = make("onnx_int8", "onnx-placed", model, weights_only=(model_names(model)[0],))
    plain = make("onnx_int8", "onnx-int8", model)
    path = placed.path.parent / METHODS_FILE

    def gained(artifact: Artifact, **placement: Any) -> str:
        entry = {"of": model.id, "in_float": 1, "chosen": {}, "tried": [], **placement}
        record = {
            "target": "host",
            "attempts": [{"method": "mse", "id": placed.id, "seconds": 1.0}],
            "made": [],
            "placement": entry,
        }
        path.write_text(json.dumps({"onnx-int8": record}))
        return said(models.inspect(str(artifact.path))["mixed_precision"])

    all_int8 = {"types": [], "first": 0, "ratio": {"value": 2.12, "ci99": [2.1, 2.2]}}
    chosen = {"types": ["HardSwish"], "first": 0, "ratio": {"value": 0.57, "ci99": [0.5, 0.6]}}
    assert "0.57 times float's p50 on host, all in int8 2.12" in gained(placed, chosen=chosen, tried=[all_int8, chosen])
    untimed = gained(placed, chosen={**chosen, "ratio": None})
    assert "by the table of kernels, not timed" in untimed and "p50" not in untimed
    tail = {"operators": 4, "joins": ["p", "y"], "ratio": None, "in_float": True}
    both = gained(placed, chosen=chosen, tried=[all_int8, chosen], tail=tail)
    assert "where y joins tensors; 0.57 times float's p50 on host, all in int8 2.12" in both
    alone = gained(placed, chosen={**all_int8, "ratio": chosen["ratio"]}, tried=[all_int8], tail=tail)
    assert "where y joins tensors; 0.57 times float's p50 on host" in alone and "all in int8" not in alone
    assert "after the last layers" in alone
    untimed = gained(placed, chosen={**all_int8, "ratio": None}, tail=tail)
    assert "where y joins tensors; not timed" in untimed
    given_up = gained(placed, chosen=chosen, tried=[all_int8, chosen], tail={**tail, "in_float": False})
    assert "joins" not in given_up
    for other in (gained(plain, chosen=chosen, tried=[all_int8, chosen]), gained(placed, in_float=0, chosen=all_int8)):
        assert "placement" not in other
    path.unlink()


def test_what_conversions_cost(make: Make) -> None:
    from edgekit.workflows.inspect.operator_times import operator_times

    pytest.importorskip("onnxruntime")
    model = make("onnx_int8", "onnx-int8", make("to_onnx", "onnx"))
    times = operator_times(str(model.path))
    result = models.inspect(str(model.path))["mixed_precision"]
    converting = [e for e in times["types"] if e["type"] in ("QuantizeLinear", "DequantizeLinear")]
    assert times["conversions_us"] == pytest.approx(sum(e["us"] for e in converting)) and times["conversions_us"] > 0
    assert sum(e["count"] for e in converting) == result["conversions"]["own_pass"] + result["weights"]
    assert f"they take {times['conversions_us']:.1f} us" in said(result, times)
    assert "they take" not in said(result)
    assert "they take" not in said(result, {**times, "conversions_us": None})


@pytest.mark.parametrize("format", ["onnx", *SLOW])
def test_in_80_columns(make: Make, format: str) -> None:
    model = make(f"to_{format}", format)
    result = models.inspect(str(make(f"{format}_int8", f"{format}-int8", model).path))
    text = lines(models.shown(result, 5))
    assert not [line for line in text if len(line) > 80 and len(line.split()) > 1]  # a name is not cut
    assert any(line.startswith("conversions  ") for line in text) and "Q/DQ nodes" not in "\n".join(text)
    assert models.inspect(str(model.path))["mixed_precision"] is None
