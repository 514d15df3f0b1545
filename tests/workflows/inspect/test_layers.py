"""Which operator lost what: counted by hand on a small graph, and found in real models that were broken on purpose."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
from compression import nets

from edgekit.compression import calibration
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.statistics import MAX_DB, parity, sqnr_db
from edgekit.core.step import Context
from edgekit.core.target import Plan
from edgekit.formats.ranges import Histogram, Statistics
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.report.tables import lines
from edgekit.runs.store import Store
from edgekit.steps.shared.calibrated import CalibratedStep, model_file
from edgekit.workflows.inspect import layers as by_layer
from edgekit.workflows.inspect.layers import (
    FINE_DB,
    LAYERS_FILE,
    LayerFinding,
    LayerReport,
    findings,
    first_diverging,
    layers,
    noisiest,
    rank,
)
from edgekit.workflows.inspect.layers_table import table
from edgekit.workflows.inspect.matched_tensors import Node, grouped

FORMATS = ("onnx", "tflite", "openvino")
LOG = logging.getLogger("edgekit.tests.layers")


# --- by hand -----------------------------------------------------------------------------------------------------


def chain(*ratios: float) -> list[LayerFinding]:
    """Operators one after the other, whose outputs have these ratios of noise to signal."""
    nodes = [Node(f"n{i}", "Conv", (f"t{i}",), (f"t{i + 1}",)) for i in range(len(ratios))]
    return findings(nodes, {f"t{i + 1}": ratio for i, ratio in enumerate(ratios)})


def test_counted_by_hand() -> None:
    """Noise of 1e-4, then 1e-4 more, then far more, then a branch that is better than the other."""
    nodes = [
        Node("conv", "Conv+Relu", ("x",), ("a",)),
        Node("pool", "MaxPool", ("a",), ("b",)),
        Node("worse", "Conv", ("b",), ("c",)),
        Node("sum", "Add", ("a", "c"), ("d",)),
        Node("unseen", "Reshape", ("d",), ("e",)),
        Node("head", "Gemm", ("e",), ("y",)),
    ]
    found = findings(nodes, {"a": 1e-4, "b": 1e-4, "c": 0.05, "d": 0.01, "y": 0.03})
    conv, pool, worse, total, head = found
    assert [f.name for f in found] == ["conv", "pool", "worse", "sum", "head"]
    assert (conv.sqnr_db, conv.inputs_db, conv.own_db) == (pytest.approx(40), MAX_DB, pytest.approx(40))
    assert conv.lost_db == pytest.approx(FINE_DB - 40), "an exact input counts as no better than int8 can be"
    assert (pool.lost_db, pool.own_db) == (0, MAX_DB), "it adds nothing"
    assert worse.lost_db == pytest.approx(40 - 10 * math.log10(1 / 0.05))
    assert total.lost_db == 0 and total.own_db == MAX_DB, "better than its worst input"
    assert head.inputs_db == pytest.approx(20), "through what was not compared"
    assert head.own_db == pytest.approx(-10 * math.log10(0.02))
    assert first_diverging(found) is worse
    assert [finding.name for finding in noisiest(found)] == ["worse", "head", "conv"]
    assert worse.beside == ("pool",) and total.beside == ("conv", "worse", "pool") and conv.beside == ()
    assert rank(found) == ("worse", "pool", "head", "unseen", "conv")


def test_where_it_begins() -> None:
    assert first_diverging(chain(1e-4, 3e-4, 1e-3, 3e-3)) is None, "26 dB at the end, nowhere much worse than before"
    late = first_diverging(chain(5e-4, 2e-3, 5e-3, 0.012, 0.02))
    assert late is not None and late.name == "n3", "the first below 20 dB, and half of that its own"
    slow = first_diverging(chain(5e-4, 2e-3, 5e-3, 9e-3, 0.012, 0.015))
    assert slow is not None and slow.name == "n4", "a little everywhere"
    assert first_diverging(chain(5e-4, 2e-3, 5e-3, 9e-3, 0.012, 1e-3)) is None, "a small tensor; all is well after it"
    jump = first_diverging(chain(1e-4, 2e-3, 0.9))
    assert jump is not None and jump.name == "n1", "13 dB at once, though 27 dB are left"
    assert first_diverging(chain(1e-12, 1e-9, 1e-7)) is None, "that is float rounding"
    assert first_diverging([]) is None and rank([]) == ()


def test_what_cannot_be_told() -> None:
    (finding,) = chain(math.inf)
    assert finding.sqnr_db == -MAX_DB and finding.diverges
    exact, after = chain(0.0, 0.01)
    assert exact.sqnr_db == MAX_DB and not exact.diverges
    assert after.own_db == pytest.approx(20)
    nameless = findings([Node("", "Conv", ("x",), ("y",))], {"y": 0.1})
    assert rank(nameless) == (), "what has no name cannot be kept in float"


@given(st.lists(st.floats(1e-9, 1e-2), min_size=1, max_size=20))
def test_own_noise_adds_up_to_all_of_it(added: list[float]) -> None:
    """Where every operator adds some, their own ratios sum to that of the last output."""
    found = chain(*np.cumsum(added).tolist())
    own = [10 ** (-finding.own_db / 10) for finding in found]
    assert sum(own) == pytest.approx(sum(added), rel=1e-6)
    assert own == pytest.approx(added, rel=1e-3, abs=1e-12)
    worst = found[int(np.argmax(own))]
    assert next(f for f in found if f.name == rank(found)[0]).own_db == worst.own_db


def test_activations_belong_to_the_operator_before() -> None:
    nodes = [
        Node("conv", "Conv", ("x",), ("a",)),
        Node("norm", "BatchNormalization", ("a",), ("b",)),
        Node("relu", "Relu", ("b",), ("c",)),
        Node("other", "Conv", ("c",), ("d",)),
        Node("shared", "Relu", ("d",), ("e",)),
        Node("sum", "Add", ("d", "e"), ("f",)),
        Node("end", "Conv", ("f",), ("g",)),
        Node("after", "Relu", ("g",), ("h",)),
    ]
    made = grouped(nodes, lambda _, node: node.type in ("Relu", "BatchNormalization"), ["g", "h"])
    shown = [(node.name, node.type, node.reads, node.writes) for node in made]
    assert shown == [
        ("conv", "Conv+BatchNormalization+Relu", ("x",), ("c",)),
        ("other", "Conv", ("c",), ("d",)),
        ("shared", "Relu", ("d",), ("e",)),
        ("sum", "Add", ("d", "e"), ("f",)),
        ("end", "Conv", ("f",), ("g",)),
        ("after", "Relu", ("g",), ("h",)),
    ]


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 10), st.floats(1e-6, 1))
def test_energies_are_those_of_the_definition(seed: int, scale: float, noise: float) -> None:
    rng = np.random.default_rng(seed)
    reference = (rng.normal(size=(3, 5, 4)) * scale).astype(np.float32)
    other = (reference + rng.normal(size=reference.shape) * scale * noise).astype(np.float32)
    signal, error = by_layer._energies(reference, other)
    assert 10 * math.log10(signal / error) == pytest.approx(sqnr_db(reference, other), abs=1e-6)
    reference[0, 0, 0] = -np.inf
    other[0, 0, 0] = 5
    assert math.isfinite(sum(by_layer._energies(reference, other))), "a mask's -inf is nothing to compare with"
    other[1, 0, 0] = np.nan
    assert by_layer._energies(reference, other)[1] == math.inf


# --- on real models ----------------------------------------------------------------------------------------------

Make = Callable[..., Artifact]
DATA = nets.sample_set("Mobile", 48)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return nets.artifact("Mobile", tmp_path_factory.mktemp("layers"))


@pytest.fixture(scope="module")
def make(run: Artifact) -> Make:
    return maker(run)


@pytest.fixture(scope="module")
def make_uneven(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The same function, but what the last convolution reads is scaled channel by channel, by up to e ** 5."""
    import torch

    seeded = nets.seeded

    def uneven(model: str) -> Any:
        network = seeded(model)
        norm, following = network.blocks[-1].project[1], network.last[0]
        factor = torch.exp(torch.linspace(-5, 5, norm.num_features))
        with torch.no_grad():
            norm.weight.mul_(factor)
            norm.bias.mul_(factor)
            following.weight.div_(factor[None, :, None, None])
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets, "seeded", uneven)
        return maker(nets.artifact("Mobile", tmp_path_factory.mktemp("uneven")))


def maker(run: Artifact) -> Make:
    """`make(format)`: the network as that format, `make(format, "int8", …fields)` quantized."""
    store = Store(run.path.parent)
    context = Context(None, {"calibration": DATA}, quiet, LOG)

    def call(format: str, precision: str = "", name: str = "", **fields: Any) -> Artifact:
        name = name or f"{format}-{precision}".removesuffix("-")
        if name in store.names():
            return store.get(name)
        parent = call(format) if precision else run
        step = registry.load("steps", f"{format}_{precision}" if precision else f"to_{format}")(**fields)
        step = step.resolve(targets.load("host"))  # what this machine computes exactly
        with store.lock():
            return store.make(name, step, {"parent": parent}, context)

    return call


@pytest.mark.parametrize("format", FORMATS)
def test_every_operator_down_to_the_output(make: Make, format: str) -> None:
    """The last finding is the whole model's SQNR, as measured through the one door to runtimes."""
    parent, int8 = make(format), make(format, "int8")
    found = layers(int8, parent, DATA)
    names = {operator.name for operator in registry.load("formats", format).describe(model_file(parent)).operators}
    assert {finding.name for finding in found} <= names, "keep_float would refuse them"
    assert set(rank(found)) <= names
    assert len(found) >= 8
    plan, host = Plan(), targets.load("host")
    answers = [execute(model, host, _few(32), plan, latency=False).outputs for model in (parent, int8)]
    measured = parity("", *answers).sqnr_db
    assert found[-1].sqnr_db == pytest.approx(measured, abs=1.0)
    assert first_diverging(found) is None
    assert all(finding.sqnr_db < 100 for finding in found), "it compared a tensor with itself"


def _few(count: int) -> Any:
    from edgekit import sets

    return sets.take(DATA, count)


@pytest.mark.parametrize("format", FORMATS)
def test_a_clipped_activation_is_found(make: Make, format: str, tmp_path: Path) -> None:
    """The range of one tensor in the middle is made a fiftieth of what it should be."""
    parent = make(format)
    sound = layers(make(format, "int8"), parent, DATA)
    victim = [f for f in sound if f.type.startswith(("Conv", "CONV_2D"))][-2]
    int8 = make(format, "int8", f"{format}-clipped", ranges=str(clipped(parent, victim.tensor, tmp_path)))
    found = layers(int8, parent, DATA)
    begins = first_diverging(found)
    assert begins is not None and begins.name == victim.name, lines(table(report(found)))
    assert begins.sqnr_db < 5 and begins.lost_db > 10
    assert rank(found)[0] == victim.name
    before = [f.name for f in found].index(victim.name)
    assert [f.sqnr_db for f in found[:before]] == pytest.approx([f.sqnr_db for f in sound[:before]], abs=1.0)


def clipped(model: Artifact, tensor: str, folder: Path) -> Path:
    """Statistics of the model with one tensor's values a fiftieth of what they are."""
    path, context = model_file(model), Context(None, {"calibration": DATA}, quiet, LOG)
    feeds = CalibratedStep().feeds(model, context)
    statistics = calibration.observe(model.kind.format, path, feeds, context, origin=calibration.origin(model, path))
    lower, upper, _ = statistics[tensor].values()
    small = Histogram()
    small.add((np.concatenate([lower, upper]) / 50).astype(np.float32))
    whole = statistics[tensor]
    changed = {name: small if found == whole else found for name, found in statistics.items()}
    Statistics(changed, statistics.samples, statistics.origin).save(folder / "ranges.npz")
    return folder / "ranges.npz"


def report(found: list[LayerFinding]) -> LayerReport:
    return LayerReport("", "float", 32, tuple(found))


@pytest.mark.parametrize("format", FORMATS)
def test_what_to_keep_in_float(make_uneven: Make, format: str) -> None:
    """The channels of one tensor differ by orders of magnitude: who reads it is named first, who writes it second.

    Those two in float bring back what was lost, which as many others do not.
    """
    parent, int8 = make_uneven(format), make_uneven(format, "int8")
    found = layers(int8, parent, DATA)
    best, others = rank(found)[:2], [f.name for f in noisiest(found)][-2:]
    kept = make_uneven(format, "int8", f"{format}-kept", keep_float=best)
    control = make_uneven(format, "int8", f"{format}-control", keep_float=tuple(others))
    assert found[-1].sqnr_db < 12
    assert layers(kept, parent, DATA)[-1].sqnr_db > found[-1].sqnr_db + 10
    assert layers(control, parent, DATA)[-1].sqnr_db < found[-1].sqnr_db + 3


@pytest.mark.parametrize(("format", "precision"), [("onnx", "fp16"), ("openvino", "fp16"), ("onnx", "dynamic")])
def test_other_precisions(make: Make, format: str, precision: str) -> None:
    found = layers(make(format, precision), make(format), DATA)
    assert len(found) >= 5
    last = found[-1].sqnr_db
    assert (50 < last < 100) if precision == "fp16" else (20 < last < 80)
    assert first_diverging(found) is None


def test_two_formats_are_refused(make: Make) -> None:
    with pytest.raises(InputError, match="operator by operator") as error:
        layers(make("onnx", "int8"), make("tflite"), DATA)
    assert "onnx[int8]" in error.value.why and "tflite" in error.value.why


def test_samples_that_do_not_fit(make: Make) -> None:
    with pytest.raises(InputError, match="does not fit"):
        layers(make("onnx", "int8"), make("onnx"), nets.sample_set("Sequence1d", 4))


def test_kept_beside_the_artifact(make: Make, run: Artifact) -> None:
    store, int8 = Store(run.path.parent), make("onnx", "int8")
    found = by_layer.compare_layers(store, int8, None, DATA)
    assert (found.against, found.samples, found.why) == ("onnx", 32, "")
    assert by_layer.read(int8) == found
    (int8.path / LAYERS_FILE).write_text("{")
    assert by_layer.read(int8) is None
    other = by_layer.compare_layers(store, make("onnx"), None, DATA)
    assert "their operators are not the same" in other.why and not other.layers
    assert max(map(len, lines([*table(found), *table(other)]))) <= 80
