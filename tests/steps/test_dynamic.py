"""Dynamic int8 of every format: recurrent nets, attention, embeddings and dense layers, in the real runtimes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import CannotConvert
from edgekit.core.progress import quiet
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Target
from edgekit.formats.tflite import read
from edgekit.measure import targets
from edgekit.networks import named
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps.onnx_dynamic import OnnxDynamic
from edgekit.steps.onnx_int8 import OnnxInt8
from edgekit.steps.openvino_dynamic import OpenvinoDynamic

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("litert_torch")
openvino = pytest.importorskip("openvino")
nn = torch.nn

LOG = logging.getLogger("edgekit.tests.dynamic")
CONTEXT = Context(None, {}, quiet, LOG)
FORMATS = {"onnx": "onnxruntime", "tflite": "litert", "openvino": "openvino"}
SAMPLES = 16


class Recurrent(nn.Module):  # type: ignore[misc]
    """The last state of a recurrent layer, and a linear one."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.head = layer(24, 64, batch_first=True), nn.Linear(64, 32)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x)[0][:, -1])


class Both(nn.Module):  # type: ignore[misc]
    """A GRU that reads both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(24, 48, batch_first=True, bidirectional=True)

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0].mean(1)


class Attention(nn.Module):  # type: ignore[misc]
    """Tokens: an embedding, what each place adds, one layer of attention, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(200, 64), nn.Parameter(torch.randn(200, 64))
        self.layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(64, 32)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.layer(self.table(tokens) + self.places[: tokens.shape[1]]).mean(1))


def dense() -> Any:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32))


def convolutions() -> Any:
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


#: network → how it is built, and one sample of its input
NETWORKS: Mapping[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "lstm": (lambda: Recurrent(nn.LSTM), (12, 24)),
    "gru": (lambda: Recurrent(nn.GRU), (12, 24)),
    "both": (Both, (12, 24)),
    "attention": (Attention, (24,)),
    "dense": (dense, (64,)),
    "convolutions": (convolutions, (1, 12, 12)),
    "exponential": (lambda: Exponential(), (8,)),
}


class Exponential(nn.Module):  # type: ignore[misc]
    """It has no weights."""

    def forward(self, x: Any) -> Any:
        return torch.exp(x)


@dataclass(frozen=True)
class Random(Step):
    """A network with random weights."""

    produces: ClassVar[Kind] = Kind("torch")

    model: str = ""

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        torch.manual_seed(0)
        network, shape = NETWORKS[self.model][0]().eval(), NETWORKS[self.model][1]
        example = torch.from_numpy(samples(self.model)[:2])
        dtype = str(example.dtype).removeprefix("torch.")
        specs = {
            "inputs": [{"name": "x", "dtype": dtype, "shape": [None, *shape]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [None, *network(example).shape[1:]]}],
        }
        named.save(network, f"dynamic-{self.model}", {}, specs, out)
        return StepResult()


def samples(model: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    shape = (SAMPLES, *NETWORKS[model][1])
    return rng.integers(0, 200, shape) if model == "attention" else rng.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    for name, (build, _) in NETWORKS.items():
        registry.add("models", f"dynamic-{name}", build)
    yield
    for name in NETWORKS:
        del registry._added["models", f"dynamic-{name}"]


class Made:
    """Artifacts in one run folder, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)

    def get(self, name: str, step: Step, parent: Artifact | None = None) -> Artifact:
        if name in self.store.names():
            return self.store.get(name)
        with self.store.lock():
            return self.store.make(name, step, {"parent": parent} if parent else {}, CONTEXT)

    def float(self, model: str, format: str) -> Artifact:
        root = self.get(f"{model}.torch", Random(model))
        return self.get(f"{model}.{format}", registry.load("steps", f"to_{format}")(), root)

    def dynamic(self, model: str, format: str) -> Artifact:
        step = registry.load("steps", f"{format}_dynamic")().resolve(targets.load("host"))
        return self.get(f"{model}.{format}-dynamic", step, self.float(model, format))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("dynamic"))


def answers(artifact: Artifact, data: np.ndarray) -> np.ndarray:
    """What the runtime gives for one sample after the other."""
    format = artifact.kind.format
    file = registry.load("formats", format).file
    session = registry.load("runtimes", FORMATS[format])(str(artifact.path / file), 1, "fp32", {})
    (spec,) = session.inputs
    feeds = [{spec["name"]: np.ascontiguousarray(data[i : i + 1], dtype=spec["dtype"])} for i in range(len(data))]
    return np.concatenate([np.asarray(session.bind(feed)()[0]) for feed in feeds])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("model", ["lstm", "gru", "both", "attention", "dense"])
def test_a_third_of_the_weights_and_close(made: Made, model: str, format: str) -> None:
    plain, smaller = made.float(model, format), made.dynamic(model, format)
    assert smaller.kind == Kind(format, frozenset({"dynamic"}))
    assert plain.sizes.weights >= 3 * smaller.sizes.weights > 0
    assert plain.sizes.total > smaller.sizes.total
    assert smaller.inputs == plain.inputs and smaller.outputs == plain.outputs
    facts = registry.load("formats", format).describe(smaller.path / registry.load("formats", format).file)
    assert facts.traits == {"dynamic"}, "a file from elsewhere would be taken for another kind"
    data = samples(model)
    expected, found = ({"y": answers(artifact, data)} for artifact in (plain, smaller))
    assert 30 < statistics.parity("float", expected, found).sqnr_db < 80


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("model", ["lstm", "gru", "attention", "dense", "convolutions"])
def test_weights_only_are_as_small_and_closer(made: Made, model: str, format: str) -> None:
    """Only the weights are rounded, so that what is computed from them in float is at least as near."""
    plain, dynamic = made.float(model, format), made.dynamic(model, format)
    fields = {"group_size": 0} if format == "openvino" else {"weight_only": True}
    step = registry.load("steps", f"{format}_dynamic")(**fields)
    smaller = made.get(f"{model}.{format}-weights", step, plain)
    assert "float32" in smaller.scheme and "as they come" not in smaller.scheme
    assert smaller.kind == Kind(format, frozenset({"dynamic"}))
    assert smaller.sizes.total < plain.sizes.total
    assert smaller.sizes.weights <= 1.05 * dynamic.sizes.weights
    data = samples(model)
    expected, found, quantized = ({"y": answers(artifact, data)} for artifact in (plain, smaller, dynamic))
    near = statistics.parity("float", expected, found).sqnr_db
    assert 30 < near < 80
    assert near > statistics.parity("float", expected, quantized).sqnr_db - 1
    if format == "onnx":
        types = {node.op_type for node in onnx.load(str(smaller.path / "model.onnx")).graph.node}
        assert not types & {"MatMulInteger", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "QLinearConv"}


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_the_batch_stays_open(made: Made, format: str) -> None:
    smaller = made.dynamic("dense", format)
    session = registry.load("runtimes", FORMATS[format])(
        str(smaller.path / registry.load("formats", format).file), 1, "fp32", {}
    )
    data = samples("dense")
    assert np.asarray(session.bind({"x": data[:5]})()[0]).shape == (5, 32)


def test_activations_are_quantized_where_there_are_kernels(made: Made) -> None:
    types = {
        model: {node.op_type for node in onnx.load(str(made.dynamic(model, "onnx").path / "model.onnx")).graph.node}
        for model in ("lstm", "gru", "attention")
    }
    assert {"DynamicQuantizeLSTM", "MatMulInteger"} <= types["lstm"]
    assert {"GRU", "Cast", "Mul", "MatMulInteger"} <= types["gru"]
    assert {"Gather", "MatMulInteger", "DynamicQuantizeLinear"} <= types["attention"]
    assert "weights of 1 operator stored only" in made.dynamic("gru", "onnx").scheme
    assert "recurrent" not in made.dynamic("lstm", "onnx").scheme


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_tables_that_are_added_are_float16(made: Made, format: str) -> None:
    path = made.dynamic("attention", format).path
    if format == "onnx":
        found = [onnx.numpy_helper.to_array(t) for t in onnx.load(str(path / "model.onnx")).graph.initializer]
    else:
        nodes = openvino.Core().read_model(path / "model.xml").get_ops()
        found = [node.data for node in nodes if node.get_type_name() == "Constant"]
    halves = [array.size for array in found if array.dtype == np.float16]
    assert halves == [24 * 64] or halves == [200 * 64]
    assert not any(array.size >= 24 * 64 for array in found if array.dtype == np.float32)


@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_static_int8_stores_recurrent_weights_too(made: Made, model: str) -> None:
    plain, data = made.float(model, "onnx"), samples(model)
    step = OnnxInt8(calibration="x").resolve(targets.load("host"))
    context = replace(CONTEXT, sets={"calibration": reading.sample_set("x", {"x": data}, None)})
    found = {}
    for name, kept in (("static", ()), ("kept", tuple(_named(plain, model.upper())))):
        with made.store.lock():
            found[name] = made.store.make(f"{model}.{name}", replace(step, keep_float=kept), {"parent": plain}, context)
    static = found["static"]
    assert static.scheme.endswith(", weights of 1 operator stored only")
    assert plain.sizes.weights >= 3 * static.sizes.weights and found["kept"].sizes.weights > 2 * static.sizes.weights
    outputs = ({"y": answers(artifact, data)} for artifact in (plain, static))
    assert statistics.parity("float", *outputs).sqnr_db > 25


def _named(artifact: Artifact, type: str) -> list[str]:
    return [node.name for node in onnx.load(str(artifact.path / "model.onnx")).graph.node if node.op_type == type]


def test_openvino_quantizes_activations_where_the_file_asks_for_it(made: Made) -> None:
    """On a CPU that has the instructions; without being asked the runtime computes in float."""
    plain = made.float("dense", "openvino")
    asked = made.dynamic("dense", "openvino")
    stored = made.get("stored", OpenvinoDynamic(group_size=0), plain)
    assert asked.scheme == "int8 weights per channel, activations quantized as they come, in groups of 32"
    assert stored.scheme == "int8 weights per channel, activations in float32"
    data = samples("dense")
    found = {"asked": answers(asked, data), "stored": answers(stored, data)}
    weights_only = statistics.parity("float", {"y": answers(plain, data)}, {"y": found["stored"]}).sqnr_db
    assert weights_only > 35
    if targets.load("host").isa_class == "x86-vnni":
        assert not np.array_equal(found["asked"], found["stored"])
        assert statistics.parity("stored", {"y": found["stored"]}, {"y": found["asked"]}).sqnr_db > 30
    assert list(OpenvinoDynamic(group_size=20).check(None)) == ["group_size must be 0 or a multiple of 16"]
    assert not list(OpenvinoDynamic(group_size=0).check(None))


def test_seven_bit_weights_where_sums_would_saturate(made: Made) -> None:
    step = OnnxDynamic()
    x86 = Target("old", "an old one", "local", arch="x86_64", isa=("avx2",))
    assert step.resolve(x86).scheme == "u8s8-reduced"
    vnni = Target("new", "", "local", arch="x86_64", isa=("avx512_vnni",))
    assert step.resolve(vnni).scheme == "u8s8"
    assert step.resolve(Target("pi", "", "local", arch="aarch64")).scheme == "u8s8"
    whole = made.get("whole", step.resolve(vnni), made.float("dense", "onnx"))
    reduced = made.get("reduced", step.resolve(x86), made.float("dense", "onnx"))
    assert _largest_weight(reduced.path) <= 64 < _largest_weight(whole.path) <= 127
    assert reduced.scheme.startswith("u8s8-reduced ")


def _largest_weight(folder: Path) -> int:
    tensors = onnx.load(str(folder / "model.onnx")).graph.initializer
    weights = [onnx.numpy_helper.to_array(t) for t in tensors if len(t.dims) == 2]
    return max(int(np.abs(w.astype(int)).max()) for w in weights if w.dtype == np.int8)


def test_weights_of_convolutions_are_stored_only_in_onnx(made: Made) -> None:
    """Computed on integers they would be several times slower than in float."""
    plain, smaller = made.float("convolutions", "onnx"), made.dynamic("convolutions", "onnx")
    graph = onnx.load(str(smaller.path / "model.onnx")).graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions and "ConvInteger" not in {node.op_type for node in graph.node}
    assert "weights of 1 operator stored only" in smaller.scheme, "the other's are too few"
    assert smaller.sizes.total < 0.4 * plain.sizes.total
    data = samples("convolutions")
    expected, found = ({"y": answers(artifact, data)} for artifact in (plain, smaller))
    assert statistics.parity("float", expected, found).sqnr_db > 30


@pytest.mark.parametrize("format", ["tflite", "openvino"])
def test_convolutions_elsewhere(made: Made, format: str) -> None:
    plain, smaller = made.float("convolutions", format), made.dynamic("convolutions", format)
    assert plain.sizes.weights >= 3 * smaller.sizes.weights
    data = samples("convolutions")
    expected, found = ({"y": answers(artifact, data)} for artifact in (plain, smaller))
    assert statistics.parity("float", expected, found).sqnr_db > 30


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_to_quantize_is_said(made: Made, format: str) -> None:
    with pytest.raises(CannotConvert, match=r"nothing of exponential\.\w+ was quantized"):
        made.dynamic("exponential", format)
    assert f"exponential.{format}-dynamic" not in made.store.names()


@pytest.mark.parametrize("format", FORMATS)
def test_the_steps_say_nothing(made: Made, format: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain = made.float("dense", format)
    capfd.readouterr()
    registry.load("steps", f"{format}_dynamic")().apply({"parent": plain}, tmp_path, CONTEXT)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.usefixtures("members")
def test_from_the_command_line(bars_run: Path, cli: Callable[..., Any]) -> None:
    """A small network of convolutions with a linear head: in ONNX the head is quantized, in OpenVINO nothing."""
    ended = cli("quantize", "run", "--dynamic", "--to", "onnx,openvino", "--json", "--max-drop", "5")
    assert ended.code == 1, ended.err
    found = {artifact["name"]: artifact for artifact in ended.json["artifacts"]}
    assert "onnx-dynamic" in found and "openvino-dynamic" not in found
    assert "nothing of openvino was quantized: it has no weights of 1,024 values or more" in ended.line
    assert (bars_run / "onnx-dynamic" / "model.onnx").is_file()
    again = cli("quantize", "run/onnx-dynamic", "--dynamic")
    assert again.code == 2 and "onnx-dynamic is dynamic already" in again.line


def test_a_table_has_one_scale_in_tflite(made: Made) -> None:
    """The interpreter before LiteRT reads no more than the first of many, and says nothing."""
    nodes = read(made.dynamic("attention", "tflite").path / "model.tflite").subgraphs[0].nodes
    (table,) = (node.inputs[1] for node in nodes if node.type == "EMBEDDING_LOOKUP")
    assert table and (table.dtype, len(table.scales)) == ("int8", 1)
