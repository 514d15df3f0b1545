"""torch → tflite → int8 and fp16, made by the store and run through the one door to devices, on small networks."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit.compression.calibration.ranges import ranges
from edgekit.compression.calibration.tflite import observe
from edgekit.core import mute, registry, statistics
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, InputError, ParityFailed
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Plan, Target
from edgekit.formats.tflite import Tflite, read, unpack
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.measure.verify import Verifier
from edgekit.networks import named
from edgekit.networks.tracing import Example
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps import tflite_int8, to_tflite
from edgekit.steps.calibrate import Calibrate
from edgekit.steps.tflite_fp16 import TfliteFp16
from edgekit.steps.tflite_int8 import TfliteInt8
from edgekit.steps.to_tflite import ToTflite
from edgekit.workflows.inspect.mixed_precision import tflite

pytest.importorskip("litert_torch")
torch = pytest.importorskip("torch")

SIDE = 20
PLAN = Plan(processes=1, seconds=0.02, warmup_seconds=0.01, min_runs=5)
LOG = logging.getLogger("edgekit.tests.tflite")


def _images(count: int, seed: int, name: str) -> SampleSet:
    images = np.random.default_rng(seed).integers(0, 256, (count, 1, SIDE, SIDE)).astype(np.uint8)
    return reading.sample_set(name, {"input": images}, None)


CALIBRATION, HELD_OUT = _images(48, 1, "calibration"), _images(64, 2, "held out")


def _scaled(data: SampleSet) -> SampleSet:
    """The same images between 0 and 1."""
    return reading.sample_set(f"{data.name} scaled", {"input": data.inputs["input"].astype(np.float32) / 255}, None)


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
    tflite: Artifact
    int8: Artifact
    fp16: Artifact


@pytest.fixture(scope="module")
def host() -> Target:
    return dataclasses.replace(targets.load("host"), runtimes={"torch": "", "litert": ""})


@pytest.fixture(scope="module", params=["cnn", "ds-cnn"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = Store(tmp_path_factory.mktemp("tflite"))
    with store.lock():
        root = store.make("torch", Untrained(request.param), {}, _context())
        converted = store.make("tflite", ToTflite(), {"parent": root}, _context())
        steps = {"tflite-int8": TfliteInt8(samples=32), "tflite-fp16": TfliteFp16()}
        smaller = [store.make(name, step, {"parent": converted}, _context()) for name, step in steps.items()]
    return Made(store, root, converted, *smaller)


def _outputs(artifact: Artifact, host: Target) -> Mapping[str, Any]:
    return execute(artifact, host, HELD_OUT, PLAN, latency=False).outputs


def _verifier(store: Store, host: Target, data: SampleSet = HELD_OUT, min_sqnr_db: float = 60.0) -> Verifier:
    return Verifier(store, host, data, None, Gates(min_sqnr_db=min_sqnr_db), PLAN)


def test_the_float_export_keeps_the_outputs(made: Made, host: Target) -> None:
    finding = _verifier(made.store, host).check(made.tflite, ToTflite.preserves)
    assert finding.error() is None
    assert finding.parity is not None
    assert finding.parity.sqnr_db > 100
    assert finding.parity.samples == len(HELD_OUT)


def test_names_order_and_layout_are_the_sources(made: Made) -> None:
    assert [str(spec) for spec in made.tflite.inputs] == [f"input: float32[1, 1, {SIDE}, {SIDE}]"]
    assert [str(spec) for spec in made.tflite.outputs] == ["logits: float32[1, 10]"]
    assert made.tflite.tensors == {"input": "input", "logits": "logits"}
    types = [operator.type for operator in Tflite.describe(made.tflite.path / "model.tflite").operators]
    assert made.tflite.details["transposes"] == types.count("TRANSPOSE")


def test_the_float_export_holds_the_networks_weights_once(made: Made) -> None:
    assert made.tflite.sizes.weights == made.torch.sizes.weights
    raw = (made.tflite.path / "model.tflite").read_bytes()
    assert b"edgekit" not in raw, "module names of the source are no business of a device"


def test_int8_is_int8_from_end_to_end(made: Made, host: Target) -> None:
    ends = (*made.int8.inputs, *made.int8.outputs)
    assert [spec.dtype for spec in ends] == ["int8", "int8"]
    assert all(spec.quantization for spec in ends)
    assert made.int8.details["float_operators"] == []
    assert made.int8.scheme.startswith("s8s8 per-channel")
    assert "32 samples" in made.int8.scheme
    assert made.tflite.sizes.weights >= 3.7 * made.int8.sizes.weights
    parity = statistics.parity("tflite", _outputs(made.tflite, host), _outputs(made.int8, host))
    assert parity.sqnr_db > 22


def test_int8_weights_have_a_scale_for_each_channel(made: Made) -> None:
    nodes = read(made.int8.path / "model.tflite").subgraphs[0].nodes
    for node in nodes:
        if node.type in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weight = node.inputs[1]
            assert weight is not None
            channels = weight.shape[-1] if node.type == "DEPTHWISE_CONV_2D" else weight.shape[0]
            assert (weight.dtype, len(weight.scales), set(weight.zero_points)) == ("int8", channels, {0})


def test_fp16_halves_the_weights_and_keeps_the_answers(made: Made, host: Target) -> None:
    assert made.fp16.sizes.weights == made.tflite.sizes.weights / 2
    assert Tflite.describe(made.fp16.path / "model.tflite").traits == {"fp16"}
    assert {spec.dtype for spec in (*made.fp16.inputs, *made.fp16.outputs)} == {"float32"}
    assert statistics.parity("tflite", _outputs(made.tflite, host), _outputs(made.fp16, host)).sqnr_db > 50


def test_it_can_be_timed_in_its_runtime(made: Made, host: Target) -> None:
    run = execute(made.int8, host, HELD_OUT, PLAN)
    assert run.runtime == "litert"
    assert len(run.processes[0].times_ns) >= PLAN.min_runs
    assert run.facts["delegate"] == "XNNPACK"
    assert run.outputs["logits"].shape == (len(HELD_OUT), 10)


@pytest.mark.parametrize("name", ["tflite", "int8", "fp16"])
def test_constants_lie_where_the_schema_wants_them(made: Made, name: str) -> None:
    raw = (getattr(made, name).path / "model.tflite").read_bytes()
    start = np.frombuffer(raw, np.uint8).__array_interface__["data"][0]
    held = [buffer.data for buffer in unpack(raw, name).buffers if buffer.data is not None]
    assert held
    assert all((data.__array_interface__["data"][0] - start) % 16 == 0 for data in held)


def test_making_it_again_gives_the_same_bytes(made: Made) -> None:
    with made.store.lock():
        again = made.store.make("again", TfliteInt8(samples=32), {"parent": made.tflite}, _context())
    assert again.files == made.int8.files


def test_ranges_are_the_true_extremes(made: Made) -> None:
    images = CALIBRATION.inputs["input"][:20].astype(np.float32)
    feeds = [{"input": image[None]} for image in images]
    path = made.tflite.path / "model.tflite"
    found = observe(path, iter(feeds), _context())
    assert (found["input"].minimum, found["input"].maximum) == (images.min(), images.max())
    assert found.samples == 20
    halves = [observe(path, part, _context()) for part in (feeds[:10], feeds[10:])]
    for name, histogram in found.items():
        merged = halves[0][name].merge(halves[1][name])
        assert (merged.minimum, merged.maximum, merged.count) == (histogram.minimum, histogram.maximum, histogram.count)


def test_a_sample_with_nan_is_refused(made: Made) -> None:
    feeds = [{"input": np.full((1, 1, SIDE, SIDE), np.nan, np.float32)}]
    with pytest.raises(InputError, match=r"calibrated: tensor 'input' holds NaN or infinity on calibration sample 0"):
        observe(made.tflite.path / "model.tflite", feeds, _context())


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse"])
def test_int8_from_ranges_is_int8_from_samples(made: Made, host: Target, method: Any) -> None:
    with made.store.lock():
        ranges = made.store.make("ranges", Calibrate(samples=32), {"parent": made.tflite}, _context())
        own = made.store.make("own", TfliteInt8(samples=32, method=method), {"parent": made.tflite}, _context())
        step, nothing = TfliteInt8(ranges="ranges", method=method), dataclasses.replace(_context(), sets={})
        shared = made.store.make("shared", step, {"parent": made.tflite, "ranges": ranges}, nothing)
    assert shared.files == own.files
    assert shared.scheme == own.scheme == f"s8s8 per-channel, {method} over 32 samples"
    assert statistics.parity("tflite", _outputs(made.tflite, host), _outputs(shared, host)).sqnr_db > 22


def test_named_operators_stay_in_float(made: Made, host: Target) -> None:
    nodes = read(made.tflite.path / "model.tflite").subgraphs[0].nodes
    weighted = [node.name for node in nodes if node.type in ("CONV_2D", "FULLY_CONNECTED")]
    for kept in ((weighted[0],), (weighted[1], weighted[-1])):
        step = TfliteInt8(samples=32, keep_float=kept)
        with made.store.lock():
            artifact = made.store.make("kept", step, {"parent": made.tflite}, _context())
        floats = tflite_int8.float_operators(read(artifact.path / "model.tflite"))
        assert [name.partition(" ")[2].partition("_dequant")[0] for name in floats] == list(kept)
        assert artifact.details["float_operators"] == floats, "a device may round them in another way"
        assert artifact.scheme.endswith(f", {len(kept)} operator{'s' * (len(kept) > 1)} in float")
        assert artifact.sizes.weights > made.int8.sizes.weights
        assert statistics.parity("tflite", _outputs(made.tflite, host), _outputs(artifact, host)).sqnr_db > 20


def test_unknown_operators_are_refused(made: Made) -> None:
    with made.store.lock(), pytest.raises(InputError, match="no operator 'logit' to keep in float") as caught:
        made.store.make("unknown", TfliteInt8(keep_float=("logit",)), {"parent": made.tflite}, _context())
    assert "did you mean logits" in caught.value.next


def test_activations_that_are_always_zero_do_no_harm(tmp_path: Path, host: Target) -> None:
    """A scale of zero for them would make the bias of whatever reads them overflow."""
    store = Store(tmp_path)
    with store.lock():
        parent = store.make("tflite", FloatHead(dead=True), {}, _context())
        artifact = store.make("tflite-int8", TfliteInt8(calibration="images"), {"parent": parent}, _context())
        parity = _verifier(store, host).check(artifact, "accuracy").parity
    assert parity is not None
    assert parity.sqnr_db > 35


def test_missing_ranges_are_the_quantizers_refusal(made: Made) -> None:
    with pytest.raises(InputError, match="cannot quantize tflite"):
        tflite_int8.quantize(made.tflite.path / "model.tflite", {}, "tflite")


def test_calibration_samples_must_fit(made: Made) -> None:
    other = reading.sample_set("wide", {"input": np.zeros((4, 1, SIDE, 9), np.float32)}, None)
    context = dataclasses.replace(_context(), sets={"calibration": other})
    with made.store.lock(), pytest.raises(InputError, match="wide does not fit"):
        made.store.make("unfit", TfliteInt8(), {"parent": made.tflite}, context)


def test_int8_options_are_checked() -> None:
    assert list(TfliteInt8(samples=0, calibration="c.npz").check(None)) == ["samples must be at least 1"]
    assert "no task" in next(iter(TfliteInt8().check(None)))
    assert TfliteInt8().sets(None) == {}
    assert TfliteInt8(calibration="c.npz").sets(None) == {"calibration": "c.npz"}
    task = registry.load("tasks", "mnist")()
    assert TfliteInt8().sets(task) == {"calibration": "mnist:train"}


class Several(torch.nn.Module):  # type: ignore[misc]
    """Inputs of several types, one of them unused, and more outputs than one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = torch.nn.Embedding(50, 8), torch.nn.Linear(12, 3)

    def forward(self, ids: Any, features: Any, unused: Any) -> Any:
        return torch.relu(features), self.head(torch.cat([self.table(ids).mean(1), features], 1))


def _example(*inputs: tuple[str, str, int]) -> Example:
    tensors = {name: torch.zeros(2, size, dtype=getattr(torch, dtype)) for name, dtype, size in inputs}
    return Example(tensors, {name: {0: "batch"} for name in tensors})


def test_several_inputs_and_outputs_keep_names_and_order_and_int64_becomes_int32(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    example = _example(("ids", "int64", 5), ("features", "float32", 4), ("unused", "float32", 2))
    with mute.muted(LOG, native=True):
        to_tflite.convert(Several().eval(), example, path, "several")
    model = unpack(path.read_bytes(), "several")
    to_tflite.rename(model, ["ids", "features", "unused"], ["kept", "answer"])
    path.write_bytes(to_tflite.packed(model))
    facts = Tflite.describe(path)
    assert [str(spec) for spec in facts.inputs] == [
        "ids: int32[1, 5]",
        "features: float32[1, 4]",
        "unused: float32[1, 2]",
    ]
    assert [str(spec) for spec in facts.outputs] == ["kept: float32[1, 4]", "answer: float32[1, 3]"]
    signature = model.signatureDefs[0]
    assert {entry.name.decode() for entry in [*signature.inputs, *signature.outputs]} == {
        *("ids", "features", "unused"),
        *("kept", "answer"),
    }


class Undecided(torch.nn.Module):  # type: ignore[misc]
    """Its path depends on the data: no export can follow both."""

    def forward(self, x: Any) -> Any:
        return x * 2 if x.sum() > 0 else x - 1


def test_what_cannot_be_converted_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CannotConvert) as caught, mute.muted(LOG, native=True):
        to_tflite.convert(Undecided(), _example(("x", "float32", 4)), tmp_path / "model.tflite", "undecided")
    assert "cannot convert undecided" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_converters_print_goes_to_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger=LOG.name):
        with mute.muted(LOG, native=True):
            print("from python")
            os.write(1, b"from C to stdout\n")
            os.write(2, b"from C to stderr\n")
        os.write(2, b"after\n")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "after\n")
    for line in ("from python", "from C to stdout", "from C to stderr"):
        assert line in caplog.text


class Head(torch.nn.Module):  # type: ignore[misc]
    """conv - relu - mean - dropout - linear: in eval mode the dropout does nothing."""

    def __init__(self, dropout: bool) -> None:
        super().__init__()
        self.conv, self.linear = torch.nn.Conv2d(1, 8, 3), torch.nn.Linear(8, 4)
        self.between = torch.nn.Dropout(0.2) if dropout else torch.nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.linear(self.between(torch.relu(self.conv(x)).mean((2, 3))))

    @classmethod
    def example(cls, dropout: bool) -> tuple[Head, tuple[Any]]:
        torch.manual_seed(0)
        return cls(dropout).eval(), (torch.rand(1, 1, SIDE, SIDE),)


@dataclass(frozen=True)
class FloatHead(Step):
    """The head as a float model; `dead`: no activation ever passes its ReLU."""

    produces: ClassVar[Kind] = Kind("tflite")

    dropout: bool = False
    dead: bool = False

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import litert_torch

        network, example = Head.example(self.dropout)
        if self.dead:
            torch.nn.init.zeros_(network.conv.weight)
            torch.nn.init.constant_(network.conv.bias, -1)
        with mute.muted(ctx.log, native=True):
            litert_torch.convert(network, example).export(str(out / "model.tflite"))
        return StepResult()


@dataclass(frozen=True)
class Pt2eInt8(Step):
    """The head through PyTorch's own int8 and then litert-torch; a dropout before the linear goes wrong silently."""

    accepts: ClassVar = kinds("tflite")
    produces: ClassVar[Kind] = Kind("tflite", frozenset({"int8"}))
    preserves: ClassVar = "outputs"

    dropout: bool = False

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        with mute.muted(ctx.log, native=True):
            import litert_torch
            from litert_torch.quantize import pt2e_quantizer, quant_config
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

            network, example = Head.example(self.dropout)
            quantizer = pt2e_quantizer.PT2EQuantizer().set_global(
                pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
            )
            prepared = prepare_pt2e(torch.export.export(network, example).module(), quantizer)
            for image in ctx.sets["calibration"].inputs["input"]:
                prepared(torch.from_numpy(image[None]))
            converted = convert_pt2e(prepared, fold_quantize=False)
            config = quant_config.QuantConfig(pt2e_quantizer=quantizer)
            litert_torch.convert(converted, example, quant_config=config).export(str(out / "model.tflite"))
        return StepResult(scheme="s8s8 PT2E")


@contextmanager
def _pt2e(folder: Path, dropout: bool) -> Iterator[tuple[Store, Artifact]]:
    pytest.importorskip("torchao")
    store = Store(folder)
    with store.lock():
        context = _context(_scaled(CALIBRATION))
        parent = store.make("tflite", FloatHead(dropout), {}, context)
        yield store, store.make("tflite-int8", Pt2eInt8(dropout), {"parent": parent}, context)


def test_a_silently_wrong_export_is_caught_and_its_step_named(tmp_path: Path, host: Target) -> None:
    with _pt2e(tmp_path, dropout=True) as (store, artifact):
        finding = _verifier(store, host, _scaled(HELD_OUT), min_sqnr_db=20).check(artifact, Pt2eInt8.preserves)
    assert (finding.failed, finding.step) == ("parity", "Pt2eInt8")
    assert finding.parity is not None
    assert finding.parity.sqnr_db < 12
    error = finding.error()
    assert isinstance(error, ParityFailed)
    assert "tflite-int8 failed its check after Pt2eInt8" in str(error)
    assert (artifact.path / "evidence.npz").is_file()


def test_the_same_export_without_the_dropout_passes(tmp_path: Path, host: Target) -> None:
    with _pt2e(tmp_path, dropout=False) as (store, artifact):
        finding = _verifier(store, host, _scaled(HELD_OUT), min_sqnr_db=20).check(artifact, Pt2eInt8.preserves)
    assert finding.error() is None
    assert finding.parity is not None
    assert finding.parity.sqnr_db > 35


class Tokens(torch.nn.Module):  # type: ignore[misc]
    """A table of embeddings, their mean, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = torch.nn.Embedding(500, 32), torch.nn.Linear(32, 32)

    def forward(self, ids: Any) -> Any:
        return self.layer(self.table(ids).mean(1))


def test_a_table_of_embeddings_is_int8_too(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    torch.manual_seed(0)
    path, smaller = tmp_path / "model.tflite", tmp_path / "int8.tflite"
    with mute.muted(LOG, native=True):
        to_tflite.convert(Tokens().eval(), _example(("ids", "int64", 5)), path, "tokens")
    name = read(path).subgraphs[0].inputs[0].name
    feeds = [{name: ids} for ids in np.random.default_rng(0).integers(0, 500, (32, 1, 5)).astype(np.int32)]
    with mute.muted(LOG, native=True):
        raw = tflite_int8.quantize(path, ranges(observe(path, feeds, _context()), "min-max"), "tokens")
    smaller.write_bytes(raw)
    found = read(smaller)
    assert [name.split()[0] for name in tflite_int8.float_operators(found)] == ["EMBEDDING_LOOKUP"]
    assert "EMBEDDING_LOOKUP" not in str(tflite.execution(smaller).operators), "it gives float from int8"
    assert Tflite.describe(smaller).traits == {"int8"}
    (table,) = (node.inputs[1] for node in found.subgraphs[0].nodes if node.type == "EMBEDDING_LOOKUP")
    assert table and (table.dtype, len(table.scales)) == ("int8", 1), "older interpreters know one scale only"
    answers = []
    for file in (path, smaller):
        session = Interpreter(str(file))
        session.allocate_tensors()
        (given,), (asked,) = session.get_input_details(), session.get_output_details()
        scale, zero = asked["quantization"]
        for feed in feeds:
            session.set_tensor(given["index"], feed[name])
            session.invoke()
            value = session.get_tensor(asked["index"]).astype(np.float32)
            answers.append((value - zero) * scale if scale else value)
    assert statistics.sqnr_db(np.concatenate(answers[:32]), np.concatenate(answers[32:])) > 20
