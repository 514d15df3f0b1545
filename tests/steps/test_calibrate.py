"""The step calibrate, and int8 steps that take what it made: one pass, shared; samples that do not fit are refused."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import BARS, QUICK_PLAN, Ended

from edgekit import sets
from edgekit.compression import calibration
from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind, ModelFacts
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Target
from edgekit.formats.ranges import Ranges, Statistics
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps.calibrate import Calibrate
from edgekit.steps.onnx_int8 import OnnxInt8

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("members")
LOG = logging.getLogger("edgekit.tests.calibrate")


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


def context(data: SampleSet | None = None, **changes: Any) -> Context:
    return Context(None, {} if data is None else {"calibration": data}, quiet, LOG, **changes)


@pytest.fixture
def train() -> SampleSet:
    return sets.take(named_sets.load("bars:train"), 64)


Make = Callable[..., Artifact]


@pytest.fixture
def make(bars_run: Path) -> Iterator[Make]:
    store = Store(bars_run)

    def call(name: str, step: Step, ctx: Context, **inputs: Artifact) -> Artifact:
        return store.make(name, step, inputs or {"parent": store.get("onnx")}, ctx)

    with store.lock():
        yield call


@pytest.fixture
def parent(bars_run: Path) -> Artifact:
    return Store(bars_run).get("onnx")


def test_what_it_makes(make: Make, train: SampleSet, parent: Artifact) -> None:
    made = make("ranges", Calibrate(), context(train))
    assert (made.kind, made.files.keys()) == (Kind("ranges"), {"ranges.npz", "sample.npz"})
    assert made.scheme.endswith("tensors over 64 samples")
    assert made.details["runtime"].startswith("onnxruntime 1.")
    statistics = Statistics.load(made.path / "ranges.npz")
    images = train.inputs["input"]
    seen = statistics[parent.inputs[0].name]
    assert (seen.minimum, seen.maximum, seen.count) == (images.min(), images.max(), images.size)
    assert statistics.keys() >= {spec.name for spec in parent.outputs}
    facts = Ranges.describe(made.path / "ranges.npz")
    assert facts.details == {"tensors": len(statistics), "samples": 64}
    assert (facts.inputs, facts.outputs, facts.operators) == ((), (), ())
    assert facts.sizes.total == (made.path / "ranges.npz").stat().st_size
    assert made.sizes.total == sum((facts.sizes.weights, facts.sizes.graph, facts.sizes.metadata))


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse"])
def test_int8_from_ranges_is_int8_from_samples(make: Make, train: SampleSet, parent: Artifact, method: Any) -> None:
    step = OnnxInt8(method=method, scheme="u8s8", calibration="x")
    own = make("own", step, context(train))
    ranges = make("ranges", Calibrate(), context(train))
    given = dataclasses.replace(step, calibration="", ranges="ranges")
    assert given.sets(registry.load("tasks", "bars")()) == {}, "a calibration set is read for nothing"
    assert list(given.check(None)) == []
    shared = make("shared", given, context(), parent=parent, ranges=ranges)
    assert shared.files == own.files
    assert shared.scheme == own.scheme == f"u8s8 per-channel QDQ, {method} over 64 samples"
    by_path = dataclasses.replace(given, ranges=str(ranges.path / "ranges.npz"))
    assert make("by-path", by_path, context()).files == own.files


def test_the_methods_differ(make: Make, train: SampleSet) -> None:
    made = {make(method, OnnxInt8(method=method), context(train)).files["model.onnx"] for method in ("min-max", "mse")}  # type: ignore[arg-type]
    assert len(made) == 2


def test_ranges_of_another_model_are_refused(make: Make, train: SampleSet, parent: Artifact) -> None:
    ranges = make("ranges", Calibrate(), context(train))
    other = make("other", Edited(), context())
    with pytest.raises(InputError, match="the ranges ranges were not taken from other"):
        make("bad", OnnxInt8(ranges="ranges"), context(), parent=other, ranges=ranges)


@dataclasses.dataclass(frozen=True)
class Edited(Step):
    """onnx → onnx: the same graph under another name."""

    produces = Kind("onnx")

    def apply(self, inputs: Any, out: Path, ctx: Context) -> StepResult:
        model = onnx.load(str(inputs["parent"].path / "model.onnx"))
        model.graph.name = "another"
        onnx.save(model, str(out / "model.onnx"))
        return StepResult()


def test_damaged_ranges_are_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "r.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="does not hold activation statistics"):
        make("bad", OnnxInt8(ranges=str(tmp_path / "r.npz")), context())


def test_ranges_or_a_set_not_both() -> None:
    assert list(OnnxInt8(ranges="r", calibration="s").check(None)) == ["give either ranges or a set in calibration"]
    assert list(Calibrate(samples=0, calibration="s").check(None)) == ["samples must be at least 1"]
    assert "no task" in next(iter(Calibrate().check(None)))


def test_an_interrupted_pass_is_gone_on_with(
    make: Make, train: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SAVE_SECONDS", 0)
    whole = make("whole", Calibrate(), context(train))
    shown: list[int] = []

    def interrupted(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == 40:
                raise KeyboardInterrupt
            yield item

    def counted(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
        assert (what, total) == ("calibrating", 64)
        for item in items:
            shown.append(item)
            yield item

    step, parent = Calibrate(), Store(whole.path.parent).get("onnx")
    ctx = context(train, scratch=tmp_path / "scratch")
    with pytest.raises(KeyboardInterrupt):
        step.apply({"parent": parent}, tmp_path, dataclasses.replace(ctx, progress=interrupted))
    assert Statistics.load(tmp_path / "scratch" / "calibration.npz").samples == 40
    step.apply({"parent": parent}, tmp_path, dataclasses.replace(ctx, progress=counted))
    assert shown == list(range(64)), "progress counts what was done before"
    assert (tmp_path / "ranges.npz").read_bytes() == (whole.path / "ranges.npz").read_bytes()
    assert not list((tmp_path / "scratch").iterdir())


def test_few_samples_are_warned_of(make: Make, train: SampleSet, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make("enough", Calibrate(samples=32), context(train))
        assert not caplog.records
        make("few", Calibrate(samples=31), context(train))
    assert "only 31 calibration samples" in caplog.text


def bad(**arrays: Any) -> SampleSet:
    return reading.sample_set("mine", {name: np.asarray(array) for name, array in arrays.items()}, None)


IMAGES = np.random.default_rng(0).random((40, 1, 20, 20))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bad(input=IMAGES[:0]), "mine is empty: there is nothing to calibrate on"),
        (bad(input=IMAGES[:, :, :7]), "'input' takes [1, 20, 20] per sample; the set holds [1, 7, 20]"),
        (bad(input=IMAGES[:, 0]), "'input' takes [1, 20, 20] per sample; the set holds [20, 20]"),
        (bad(input=IMAGES.astype("S")), "'input' takes float32 [1, 20, 20]; the set holds |S32 [1, 20, 20]"),
        (bad(input=IMAGES + 1j), "'input' takes float32 [1, 20, 20]; the set holds complex128 [1, 20, 20]"),
        (bad(a=IMAGES, b=IMAGES), "the model takes input; the set holds a, b"),
    ],
)
@pytest.mark.parametrize("step", [Calibrate(), OnnxInt8()])
def test_samples_that_do_not_fit_are_refused(step: Step, data: SampleSet, said: str, make: Make) -> None:
    with pytest.raises(InputError) as caught:
        make("bad", step, context(data))
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_the_sample_that_is_not_finite_is_named(value: float, make: Make) -> None:
    images = IMAGES.copy()
    images[17, 0, 3, 3] = value
    data = dataclasses.replace(bad(input=IMAGES), inputs={"input": images})
    with pytest.raises(InputError, match=r"^sample 17 of mine .* its 'input' holds NaN or infinity$"):
        make("bad", Calibrate(), context(data))


@dataclasses.dataclass(frozen=True)
class Lookup(Step):
    """nothing → onnx: int64 tokens, an embedding of 50 rows, a sum, a MatMul."""

    produces = Kind("onnx")

    def apply(self, inputs: Any, out: Path, ctx: Context) -> StepResult:
        from onnx import TensorProto, helper, numpy_helper

        rng = np.random.default_rng(0)
        held = {"table": rng.normal(size=(50, 16)), "dense": rng.normal(size=(16, 4))}
        nodes = [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("ReduceSum", ["rows", "axes"], ["sum"], keepdims=0),
            helper.make_node("MatMul", ["sum", "dense"], ["y"]),
        ]
        ends = [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 6]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4]),
        ]
        constants = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in held.items()]
        constants.append(numpy_helper.from_array(np.array([1]), "axes"))
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, str(out / "model.onnx"))
        return StepResult()


def test_tokens(make: Make) -> None:
    parent = make("lookup", Lookup(), context())
    tokens = np.random.default_rng(0).integers(0, 50, (40, 6))
    made = make("int8", OnnxInt8(), context(bad(ids=tokens.astype(np.int32))), parent=parent)
    assert made.scheme.endswith("over 40 samples")
    with pytest.raises(InputError, match=r"'ids' takes int64 \[6\]; the set holds float64 \[6\]"):
        make("bad", OnnxInt8(), context(bad(ids=tokens + 0.5)), parent=parent)
    tokens[9, 2] = 70
    with pytest.raises(InputError, match=r"calibration sample 9: .*; 'ids' holds \d+ to 70$") as caught:
        make("bad", OnnxInt8(), context(bad(ids=tokens)), parent=parent)
    assert "Traceback" not in str(caught.value)


def test_activations_that_never_change_get_a_finite_scale(make: Make) -> None:
    """All samples equal, all zero even."""
    for name, images in (("ones", np.ones_like(IMAGES)), ("zeros", np.zeros_like(IMAGES))):
        for method in ("min-max", "percentile", "mse"):
            made = make(name, OnnxInt8(method=method), context(bad(input=images)))
            graph = onnx.load(str(made.path / "model.onnx")).graph
            read = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
            scales = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.name in read]
            assert scales
            assert all(np.isfinite(scale).all() and (scale > 0).all() for scale in scales)


CHAINS = """
[[chain]]
name = "seen"
steps = ["train", "to_onnx", {step = "calibrate", samples = 48}]

[[chain]]
steps = ["train", "to_onnx", {step = "onnx_int8", ranges = "seen.ranges", method = "mse"}]
"""


@pytest.mark.slow
def test_in_a_recipe(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(BARS.partition("[[chain]]")[0] + CHAINS + QUICK_PLAN)
    ended = cli("run", "r.toml", "--out", "run", "--json")
    assert ended.code == 0, ended.err
    artifacts = {a["name"]: a for a in ended.json["artifacts"]}
    measured = {m["artifact"] for m in ended.json["measurements"]}
    assert "seen.ranges" in artifacts and "seen.ranges" not in measured
    int8 = Store(tmp_path / "run").get("onnx-int8")
    assert "mse over 48 samples" in int8.scheme
    assert int8.parent("ranges") is not None
    again = cli("run", "r.toml", "--out", "run")
    assert again.code == 0 and "reused    seen.ranges" in again.err


def test_the_format_refuses_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ranges.npz"
    for raw in (b"", b"PK\3\4", b"\x93NUMPY"):
        path.write_bytes(raw)
        with pytest.raises(EdgekitError) as caught:
            Ranges.describe(path)
        assert caught.value.code == 2
    Statistics().save(path)
    assert isinstance(Ranges.describe(path), ModelFacts)


def test_the_device_does_not_matter() -> None:
    assert Calibrate().resolve(Target("t", "", "ssh", arch="aarch64")) == Calibrate()
