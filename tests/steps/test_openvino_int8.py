"""torch → openvino → int8 and fp16, made by the store and run through the one door to devices, on small networks."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit import networks
from edgekit.core import statistics
from edgekit.core.artifact import Artifact, Kind, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Plan, Target
from edgekit.formats.openvino import Openvino
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.measure.verify import Verifier
from edgekit.networks import named
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps.calibrate import Calibrate
from edgekit.steps.openvino_fp16 import OpenvinoFp16
from edgekit.steps.openvino_int8 import OpenvinoInt8
from edgekit.steps.to_openvino import ToOpenvino

torch = pytest.importorskip("torch")
pytest.importorskip("nncf")

SIDE = 20
PLAN = Plan(processes=1, seconds=0.02, warmup_seconds=0.01, min_runs=5)
LOG = logging.getLogger("edgekit.tests.openvino")


def _images(count: int, seed: int, name: str) -> SampleSet:
    """Noise of different strength: of like strength, a network that averages would answer every one alike."""
    rng = np.random.default_rng(seed)
    images = rng.random((count, 1, SIDE, SIDE)) * rng.uniform(20, 256, (count, 1, 1, 1))
    return reading.sample_set(name, {"input": images.astype(np.uint8)}, None)


CALIBRATION, HELD_OUT = _images(48, 1, "calibration"), _images(64, 2, "held out")


def _plain(items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]:
    return iter(items)


def _context(calibration: SampleSet = CALIBRATION) -> Context:
    return Context(None, {"calibration": calibration}, _plain, LOG)


@dataclass(frozen=True)
class Untrained(Step):
    """A network with random weights."""

    produces: ClassVar[Kind] = Kind("torch")

    model: str = "cnn"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        torch.manual_seed(0)
        arguments = {"shape": [1, SIDE, SIDE], "classes": 10, "mean": [127.0], "std": [70.0]}
        network = named.build(self.model, arguments).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        specs = {
            "inputs": [{"name": "input", "dtype": "float32", "shape": [None, 1, SIDE, SIDE]}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": [None, 10]}],
        }
        named.save(network, self.model, arguments, specs, out)
        return StepResult()


@dataclass(frozen=True)
class Made:
    """One network in every kind, and where it lies."""

    store: Store
    torch: Artifact
    openvino: Artifact
    int8: Artifact
    fp16: Artifact


@pytest.fixture(scope="module")
def host() -> Target:
    return dataclasses.replace(targets.load("host"), runtimes={"torch": "", "openvino": ""})


@pytest.fixture(scope="module", params=["cnn", "ds-cnn"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = Store(tmp_path_factory.mktemp("openvino"))
    with store.lock():
        root = store.make("torch", Untrained(request.param), {}, _context())
        converted = store.make("openvino", ToOpenvino(), {"parent": root}, _context())
        steps = {"openvino-int8": OpenvinoInt8(samples=32), "openvino-fp16": OpenvinoFp16()}
        smaller = [store.make(name, step, {"parent": converted}, _context()) for name, step in steps.items()]
    return Made(store, root, converted, *smaller)


def _outputs(artifact: Artifact, host: Target) -> Mapping[str, Any]:
    return execute(artifact, host, HELD_OUT, PLAN, latency=False).outputs


@pytest.fixture(scope="module")
def expected(made: Made, host: Target) -> Mapping[str, Any]:
    return _outputs(made.torch, host)


def _sqnr(expected: Mapping[str, Any], host: Target, artifact: Artifact) -> float:
    return statistics.parity("torch", expected, _outputs(artifact, host)).sqnr_db


def test_the_float_export_keeps_the_outputs(made: Made, host: Target) -> None:
    finding = Verifier(made.store, host, HELD_OUT, None, Gates(), PLAN).check(made.openvino, ToOpenvino.preserves)
    assert finding.error() is None
    assert finding.parity is not None
    assert finding.parity.sqnr_db > 100


def test_names_and_dynamic_batch_are_kept(made: Made) -> None:
    for artifact in (made.openvino, made.int8, made.fp16):
        assert artifact.inputs == (TensorSpec("input", "float32", (None, 1, SIDE, SIDE)),)
        assert artifact.outputs == (TensorSpec("logits", "float32", (None, 10)),)
        assert artifact.tensors == {"input": "input", "logits": "logits"}
        assert set(artifact.files) == {"model.xml", "model.bin"}


def test_nothing_of_this_machine_is_in_the_file(made: Made) -> None:
    for artifact in (made.openvino, made.int8, made.fp16):
        text = (artifact.path / "model.xml").read_text()
        assert str(Path(torch.__file__).parents[1]) not in text
        assert str(made.store.path) not in text
        assert ".py" not in text


def test_bf16_is_another_answer_and_is_recorded(made: Made, host: Target) -> None:
    if not {"avx512_bf16", "amx_bf16", "bf16"} & set(host.isa):
        pytest.skip("this CPU has no bfloat16")
    plan = dataclasses.replace(PLAN, precision="bf16")
    run = execute(made.openvino, host, HELD_OUT, plan)
    assert run.facts["precision"] == "bf16"
    assert run.processes
    float32 = execute(made.openvino, host, HELD_OUT, PLAN, latency=False)
    assert float32.facts["precision"] == "f32"
    assert 20 < statistics.parity("f32", float32.outputs, run.outputs).sqnr_db < 80


def test_int8_is_a_quarter_of_the_weights_and_close(made: Made, host: Target, expected: Any) -> None:
    assert made.openvino.sizes.weights >= 3.7 * made.int8.sizes.weights
    assert made.int8.kind == Kind("openvino", frozenset({"int8"}))
    facts = Openvino.describe(made.int8.path / "model.xml")
    assert facts.traits == {"int8"}
    assert set(facts.details["weight_types"]) == {"i8"}
    assert facts.parameters == Openvino.describe(made.openvino.path / "model.xml").parameters
    assert made.int8.scheme == "u8s8 per-channel NNCF placement, min-max over 32 samples"
    assert 25 < _sqnr(expected, host, made.int8) < 70


def test_fp16_is_half_the_weights_and_closer(made: Made, host: Target, expected: Any) -> None:
    assert made.fp16.sizes.weights * 2 == made.openvino.sizes.weights
    assert Openvino.describe(made.fp16.path / "model.xml").traits == {"fp16"}
    assert 50 < _sqnr(expected, host, made.fp16) < 90


def test_bounded_weights_where_sums_would_saturate(made: Made) -> None:
    """The reduced scheme keeps most of the eighth bit."""
    x86 = Target("old", "an old one", "local", arch="x86_64", isa=("avx2",))
    step = OpenvinoInt8(samples=8)
    assert step.resolve(x86).scheme == "u8s8-reduced"
    assert step.resolve(dataclasses.replace(x86, isa=("avx512_vnni",))).scheme == "u8s8"
    assert step.resolve(dataclasses.replace(x86, arch="aarch64", isa=())).scheme == "u8s8"
    with made.store.lock():
        whole = made.store.make(
            "whole", dataclasses.replace(step, scheme="u8s8"), {"parent": made.openvino}, _context()
        )
        reduced = made.store.make("reduced", step.resolve(x86), {"parent": made.openvino}, _context())
    assert reduced.scheme == "u8s8-reduced per-channel NNCF placement, min-max over 8 samples"
    assert _largest_sum(reduced.path) <= 128 < _largest_sum(whole.path)
    assert _largest_weight(reduced.path) > 64


def _weights(folder: Path) -> list[Any]:
    """The int8 constants in the file; a depthwise convolution sums too little to saturate, and is left out."""
    import openvino

    model = openvino.Core().read_model(folder / "model.xml")
    constants = [node.data for node in model.get_ops() if node.get_type_name() == "Constant"]
    return [values.astype(int) for values in constants if values.dtype == np.int8 and values.ndim < 5]


def _largest_weight(folder: Path) -> int:
    return max(int(np.abs(values).max()) for values in _weights(folder))


def _largest_sum(folder: Path) -> int:
    """Of two inputs' weights of one sign, the inputs taken two by two, at each tap."""
    pairs = [
        values[:, : values.shape[1] // 2 * 2].reshape(len(values), -1, 2, *values.shape[2:])
        for values in _weights(folder)
    ]
    return max(int(np.abs(p.sum(2))[p.prod(2) >= 0].max(initial=0)) for p in pairs)


@pytest.mark.parametrize("made", ["cnn"], indirect=True)
def test_the_steps_say_nothing_and_log_what_the_library_says(
    made: Made, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.DEBUG, LOG.name):
        ToOpenvino().apply({"parent": made.torch}, tmp_path, _context())
        OpenvinoInt8(samples=4).apply({"parent": made.openvino}, tmp_path, _context())
        OpenvinoFp16().apply({"parent": made.openvino}, tmp_path, _context())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert any("Statistics collection" in record.message for record in caplog.records)
    assert logging.getLogger("nncf").handlers, "the library's own handlers are back"


@pytest.mark.parametrize("made", ["cnn"], indirect=True)
def test_a_set_that_does_not_fit_is_refused(made: Made, tmp_path: Path) -> None:
    wrong = reading.sample_set("wrong", {"input": np.zeros((4, 1, 8, 8), np.uint8)}, None)
    with pytest.raises(InputError, match="wrong does not fit openvino"):
        OpenvinoInt8().apply({"parent": made.openvino}, tmp_path, _context(wrong))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse"])
def test_ranges_taken_once_serve_every_method(made: Made, host: Target, expected: Any, method: Any) -> None:
    """And with no calibration set at hand the model is the same as with a pass of its own."""
    with made.store.lock():
        if "ranges" not in made.store.names():
            made.store.make("ranges", Calibrate(samples=32), {"parent": made.openvino}, _context())
        ranges = made.store.get("ranges")
        step = OpenvinoInt8(ranges="ranges", method=method)
        assert step.sets(None) == {} and not list(step.check(None))
        nothing = Context(None, {}, _plain, LOG)
        given = made.store.make("given", step, {"parent": made.openvino, "ranges": ranges}, nothing)
        own = made.store.make("own", OpenvinoInt8(samples=32, method=method), {"parent": made.openvino}, _context())
    assert given.scheme == own.scheme == f"u8s8 per-channel NNCF placement, {method} over 32 samples"
    assert np.array_equal(_outputs(given, host)["logits"], _outputs(own, host)["logits"])
    assert 25 < _sqnr(expected, host, given) < 70


@pytest.mark.parametrize("made", ["cnn"], indirect=True)
def test_ranges_of_another_model_are_refused(made: Made, tmp_path: Path) -> None:
    with made.store.lock():
        ranges = made.store.make("taken", Calibrate(samples=4), {"parent": made.openvino}, _context())
    parent = dataclasses.replace(made.openvino, files={"model.xml": "another sha256"})
    with pytest.raises(InputError, match="were not taken from openvino"):
        step = OpenvinoInt8(ranges="taken")
        step.apply({"parent": parent, "ranges": ranges}, tmp_path, Context(None, {}, _plain, LOG))


def test_operators_that_stay_float(made: Made, host: Target, expected: Any) -> None:
    operators = Openvino.describe(made.openvino.path / "model.xml").operators
    first = next(operator.name for operator in operators if "Convolution" in operator.type)
    with made.store.lock():
        step = OpenvinoInt8(samples=32, keep_float=(first,))
        kept = made.store.make("kept", step, {"parent": made.openvino}, _context())
    assert kept.scheme.endswith("min-max over 32 samples, 1 operator in float")
    facts = Openvino.describe(kept.path / "model.xml")
    assert facts.details["weight_types"]["f32"] == 1
    assert _quantizers(kept.path) < _quantizers(made.int8.path)
    assert _sqnr(expected, host, kept) > 25
    with pytest.raises(InputError, match="openvino has no operator") as caught:
        OpenvinoInt8(keep_float=(first[:-1] + "~",)).apply({"parent": made.openvino}, made.store.path, _context())
    assert first in caught.value.next


def _quantizers(folder: Path) -> int:
    return (folder / "model.xml").read_text().count('type="FakeQuantize"')


@pytest.mark.parametrize("made", ["cnn"], indirect=True)
def test_weights_that_lie_on_a_grid_are_stored_as_they_are(made: Made, tmp_path: Path) -> None:
    """Each output channel's largest weight is 127 steps; NNCF alone would widen small channels and move them."""
    import openvino
    from openvino import opset13 as ops

    model = openvino.Core().read_model(made.openvino.path / "model.xml")
    wanted = {}
    rng = np.random.default_rng(0)
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "MatMul"):
            whole = rng.integers(-127, 128, node.input_value(1).get_node().data.shape)
            whole.reshape(len(whole), -1)[:, 0] = 127
            steps = (10.0 ** rng.uniform(-4, 0, len(whole)) / 127).reshape(-1, *[1] * (whole.ndim - 1))
            weights = ops.constant((whole * steps).astype(np.float32))
            node.input(1).replace_source_output(weights.output(0))
            wanted[whole.shape] = whole
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    parent = dataclasses.replace(made.openvino, path=tmp_path)
    (tmp_path / "out").mkdir()
    OpenvinoInt8(samples=4).apply({"parent": parent}, tmp_path / "out", _context())
    stored = [
        node.data
        for node in openvino.Core().read_model(tmp_path / "out" / "model.xml").get_ops()
        if node.get_type_name() == "Constant" and node.data.dtype == np.int8
    ]
    assert len(stored) == len(wanted) > 2
    for values in stored:
        assert np.array_equal(values, wanted[values.shape])


@pytest.mark.parametrize("made", ["cnn"], indirect=True)
def test_biases_are_corrected_on_samples(made: Made, host: Target, expected: Any) -> None:
    step = OpenvinoInt8(samples=16, correct_biases=True)
    with made.store.lock():
        corrected = made.store.make("corrected", step, {"parent": made.openvino}, _context())
    assert corrected.scheme.endswith("min-max over 16 samples, biases corrected")
    assert _sqnr(expected, host, corrected) > 25
    assert "correct_biases runs the model on samples" in "".join(
        OpenvinoInt8(ranges="ranges", correct_biases=True).check(None)
    )


def test_int8_needs_samples_and_a_set() -> None:
    assert list(OpenvinoInt8(samples=0).check(None)) == [
        "samples must be at least 1",
        "there is no task to take calibration samples from: name a set in calibration",
    ]
    assert not list(OpenvinoInt8(calibration="a.npz").check(None))
    assert OpenvinoInt8(calibration="a.npz").sets(None) == {"calibration": "a.npz"}
    assert OpenvinoInt8().sets(None) == {}


def test_several_inputs_and_outputs_keep_names_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(torch.nn.Module):  # type: ignore[misc]
        def forward(self, b: Any, a: Any) -> Any:
            return a - b, (a + 1).flatten(1)

    specs = [TensorSpec("later", "float32", (None, 2, 3)), TensorSpec("early", "float32", (None, 2, 3))]
    results = [TensorSpec("z", "float32", (None, 2, 3)), TensorSpec("a", "float32", (None, 6))]
    names = {spec.name: spec.name for spec in (*specs, *results)}
    parts: dict[str, Any] = {"inputs": specs, "outputs": results, "identity_map": lambda: names}
    parts |= {"file_inputs": specs, "file_outputs": results}
    parent: Any = SimpleNamespace(name="torch", kind=Kind("torch"), path=tmp_path, **parts)
    (tmp_path / networks.NETWORK).write_text("{}")
    monkeypatch.setattr(networks, "load", lambda folder: Two().eval())
    notes = ToOpenvino().apply({"parent": parent}, tmp_path, _context())
    facts = Openvino.describe(tmp_path / "model.xml")
    assert facts.inputs == tuple(specs)
    assert facts.outputs == tuple(results)
    assert list(notes.tensors) == ["later", "early", "z", "a"]


@pytest.mark.parametrize("made", ["cnn"], indirect=True)
@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda folder: (folder / "model.bin").unlink(), "Empty weights data in bin file or bin file cannot be found"),
        (lambda folder: (folder / "model.bin").write_bytes(b"short"), "Incorrect weights in bin file"),
        (lambda folder: _edit(folder, 'type="ReLU"', 'type="Frobnicate"'), "Frobnicate"),
        (lambda folder: (folder / "model.xml").write_text("nonsense"), "Unable to read the model"),
    ],
)
def test_a_model_that_does_not_load_is_the_users_to_mend(
    made: Made, host: Target, tmp_path: Path, break_it: Any, why: str
) -> None:
    for name in made.openvino.files:
        (tmp_path / name).write_bytes((made.openvino.path / name).read_bytes())
    break_it(tmp_path)
    artifact = dataclasses.replace(made.openvino, path=tmp_path)
    with pytest.raises(InputError, match=why) as caught:
        _outputs(artifact, host)
    assert caught.value.what == "cannot load openvino in openvino"
    assert ".cpp" not in caught.value.why


def _edit(folder: Path, old: str, new: str) -> None:
    path = folder / "model.xml"
    path.write_text(path.read_text().replace(old, new))


class Attends(torch.nn.Module):  # type: ignore[misc]
    """Two products of activations with a softmax between them."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Any) -> Any:
        return torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1) @ self.value(x)


class Squeezes(torch.nn.Module):  # type: ignore[misc]
    """Squeeze-and-excite between two convolutions, a product of equals, and one with a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 8, 3)
        self.factors = torch.nn.Conv2d(8, 8, 1)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        squeezed = torch.sigmoid(self.factors(x.mean((2, 3), keepdim=True)))
        x = self.second(x * squeezed)
        return x * torch.tanh(x) * 0.3


def test_only_squeeze_and_excite_is_multiplied_in_int8() -> None:
    import openvino

    from edgekit.compression.openvino_ranges import weighs_channels

    model = openvino.convert_model(Squeezes().eval(), example_input=torch.randn(2, 1, 9, 9))
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "Multiply"]
    assert [weighs_channels(node) for node in products] == [True, False, False]


def test_activations_of_a_transformer_are_symmetric() -> None:
    """And those of another network without convolutions are not."""
    import openvino

    from edgekit.steps import openvino_int8

    torch.manual_seed(0)
    example = torch.randn(1, 8, 16)
    models = [openvino.convert_model(net.eval(), example_input=example) for net in (Attends(), torch.nn.Linear(16, 4))]
    assert [openvino_int8._symmetric(model) for model in models] == [True, False]
