"""A torch artifact as a graph: BatchNorm folded exactly, layers as matrices, and written back as it was called."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

torch = pytest.importorskip("torch")
from compression import nets  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgekit import networks  # noqa: E402
from edgekit.compression import program  # noqa: E402
from edgekit.compression.program import BatchedInterpreter  # noqa: E402
from edgekit.compression.simulation import operator  # noqa: E402
from edgekit.compression.weighted_layers import find  # noqa: E402
from edgekit.core import registry  # noqa: E402
from edgekit.core.artifact import TensorSpec  # noqa: E402
from edgekit.core.target import Plan  # noqa: E402
from edgekit.measure import targets  # noqa: E402
from edgekit.measure.execute import execute  # noqa: E402
from edgekit.networks.tracing import trace  # noqa: E402
from edgekit.runs.store import Store  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_code")

FOLDED = {"Mixed": 6, "Sequence1d": 1, "Branched": 0, "Mobile": 17}
LAYERS = {"Mixed": 7, "Sequence1d": 4, "Branched": 1, "Mobile": 28}


def operators(module: Any) -> set[str]:
    return {operator(node) for node in module.graph.nodes}


@pytest.mark.parametrize("model", ["Mixed", "Sequence1d", "Mobile"])
def test_what_only_costs_is_gone_and_the_answers_stay(model: str, tmp_path: Path) -> None:
    loaded = program.load(nets.artifact(model, tmp_path), nets.LOG)
    x = nets.samples(model, 3, seed=1)
    with torch.no_grad():
        expected = nets.seeded(model)(x)
    expected = list(expected.values()) if isinstance(expected, dict) else [expected]
    assert program.sqnr(expected, loaded.answers([x])) >= 100
    assert loaded.folded == FOLDED[model]
    assert not {"batch_norm", "dropout", "feature_dropout"} & operators(loaded.module)
    assert not any(name.endswith("_") for name in operators(loaded.module)), "an operator works in place"
    assert len(loaded.layers()) == LAYERS[model]
    kept = {name for name, _ in loaded.module.named_parameters()} | {n for n, _ in loaded.module.named_buffers()}
    assert not any("running" in name for name in kept), "what nobody reads is kept"


def test_a_network_that_is_loaded_again_is_not_traced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, x = nets.artifact("Mixed", tmp_path), nets.samples("Mixed", 3, seed=1)
    first = program.load(artifact, nets.LOG)
    answers = first.answers([x])
    monkeypatch.setattr(program, "trace", None)
    for layer in first.layers():
        layer.values(layer.weight).data.zero_()
    again = program.load(artifact, nets.LOG)
    assert program.sqnr(answers, again.answers([x])) >= 100, "what one step does to it, the next does not see"
    assert (again.folded, len(again.layers())) == (FOLDED["Mixed"], LAYERS["Mixed"])
    monkeypatch.setattr(program, "trace", trace)
    other = dataclasses.replace(artifact, id="another")
    monkeypatch.setattr(program, "KEPT_BYTES", 0)
    program.load(other, nets.LOG)
    assert not program._last, "a large network is not kept"


def test_nothing_is_folded_where_someone_else_reads_it(tmp_path: Path) -> None:
    loaded = program.load(nets.artifact("Branched", tmp_path), nets.LOG)
    x = nets.samples("Branched", 3, seed=1)
    with torch.no_grad():
        assert program.sqnr([nets.seeded("Branched")(x)], loaded.answers([x])) >= 100
    assert loaded.folded == 0
    assert [layer.name.rpartition(".")[0] for layer in loaded.layers()] == ["conv"], "a shared weight is nobody's own"


@pytest.mark.parametrize("model", ["Mixed", "Sequence1d"])
def test_written_back_it_is_called_as_before(model: str, tmp_path: Path) -> None:
    parent = nets.artifact(model, tmp_path)
    loaded = program.load(parent, nets.LOG)
    out = tmp_path / "out"
    out.mkdir()
    program.write(loaded, parent, out, nets.LOG)
    before, after = networks.reference(parent.path), networks.reference(out)
    for side in ("inputs", "outputs"):
        assert list(map(TensorSpec.from_json, after[side])) == list(map(TensorSpec.from_json, before[side]))
    assert after["loader"] == "pt2" and after["axes"] == {"x": {"0": "batch"}}
    again = networks.load(out)  # through every check of edgekit/networks/pt2.py
    for count in (1, 2, 7):
        x = nets.samples(model, count, seed=2)
        with torch.no_grad():
            assert program.sqnr(loaded.answers([x]), program.listed(again(x))) >= 100
    assert json.loads((out / "model.json").read_text())["tensors"]


@pytest.mark.parametrize("model", ["Mixed", "Sequence1d"])
@pytest.mark.parametrize("format", ["onnx", "tflite", "openvino"])
def test_every_exporter_takes_it(model: str, format: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "tflite": "litert_torch"}.get(format, format))
    parent, store = nets.artifact(model, tmp_path), Store(tmp_path / "run")
    with store.lock():
        context = nets.context(model, 8)
        folded = store.make("folded", nets.Fold(), {"parent": parent}, context)
        made = store.make(format, registry.load("steps", f"to_{format}")(), {"parent": folded}, context)
    data = nets.sample_set(model, 16, seed=3)
    with torch.no_grad():
        expected = networks.load(parent.path)(torch.from_numpy(data.inputs["x"]))
    run = execute(made, targets.load("host"), data, Plan(processes=1), latency=False)
    assert list(run.outputs) == [spec.name for spec in parent.outputs]
    got = [torch.from_numpy(value) for value in run.outputs.values()]
    assert program.sqnr(program.listed(expected), got) >= 60
    if format != "tflite":
        assert made.inputs[0].shape[0] is None, "the batch was fixed"


@st.composite
def convolutions(draw: st.DrawFn) -> nn.Module:
    rank, transposed = draw(st.integers(1, 3)), draw(st.booleans())
    groups, ins, outs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilation, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
    more: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        more["output_padding"] = draw(st.integers(0, max(stride, dilation) - 1))
    elif stride == 1 and draw(st.booleans()):
        more["padding"] = draw(st.sampled_from(["same", "valid"]))
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    layer: nn.Module = kind(groups * ins, groups * outs, kernel, bias=draw(st.booleans()), **more)
    return layer


@settings(max_examples=40, deadline=None)
@given(convolutions(), st.integers(0, 1000))
def test_a_layer_is_its_matrix_times_its_columns(layer: nn.Module, seed: int) -> None:
    """Whatever the kernel, stride, padding, dilation and groups: the same products, up to the order of places."""
    torch.manual_seed(seed)
    x = torch.randn(2, layer.in_channels, *[6] * len(layer.kernel_size))
    with torch.no_grad():
        expected = layer(x)
    assume(expected.numel() > 0)
    module = program.flat(torch.export.export(layer.eval(), (x,)))
    (found,) = find(module)
    columns = found.im2col(x, 10**6, torch.Generator())
    products = (found.matrix() @ columns).flatten(0, 1)
    if layer.bias is not None:
        products = products + layer.bias.detach()[:, None]
    wanted = expected.transpose(0, 1).flatten(1)
    assert torch.allclose(products.reshape(wanted.shape), wanted, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(convolutions(), st.integers(0, 1000))
def test_scaling_channels_scales_what_they_are(layer: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(2, layer.in_channels, *[6] * len(layer.kernel_size))
    per_channel = (1, -1, *[1] * len(layer.kernel_size))
    module = program.flat(torch.export.export(layer.eval(), (x,)))
    (found,) = find(module)
    into, out = torch.rand(layer.in_channels) + 0.5, torch.rand(layer.out_channels) + 0.5
    ranges = found.output_ranges() * out, found.input_ranges() * into
    with torch.no_grad():
        bias = 0 if layer.bias is None else layer.bias.reshape(per_channel)
        wanted = (layer(x * into.reshape(per_channel)) - bias) * out.reshape(per_channel) + bias
        found.scale_inputs(into)
        assert torch.allclose(found.input_ranges(), ranges[1], atol=1e-6)
        found.scale_inputs(1 / into)
        found.scale_outputs(out)
        assert torch.allclose(found.output_ranges(), ranges[0], atol=1e-6)
        found.scale_inputs(into)
        got = module(x)
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("decomposed", [False, True])
def test_linear_layers_in_any_form(decomposed: bool) -> None:
    """`aten.linear`, and what it becomes when a program was decomposed before it was saved."""
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4, bias=False)).eval(), torch.randn(7, 6)
    exported = torch.export.export(network, (x,))
    module = program.prepared(exported.run_decompositions() if decomposed else exported)
    layers = find(module)
    assert [layer.matrix().shape for layer in layers] == [(1, 5, 6), (1, 4, 5)]
    columns = layers[0].im2col(x, 100, torch.Generator())
    with torch.no_grad():
        assert torch.allclose((layers[0].matrix() @ columns)[0].T + network[0].bias, network[0](x), atol=1e-6)
        assert torch.allclose(F.linear(network[0](x).relu(), layers[1].matrix()[0]), module(x), atol=1e-6)


@pytest.mark.parametrize("decomposed", [False, True])
def test_the_norm_of_a_decomposed_program_folds_too(decomposed: bool) -> None:
    network = nets.seeded("Mixed")
    x = nets.samples("Mixed", 2)
    with torch.no_grad():
        expected = network(x)
    exported = torch.export.export(network, (x,))
    module = program.prepared(exported.run_decompositions() if decomposed else exported)
    assert program.fold(module) == FOLDED["Mixed"] - decomposed  # the linear one is a product then
    with torch.no_grad():
        assert program.sqnr([expected], [module(x)]) >= 100


def test_lockstep_sees_what_changed_and_lets_go(tmp_path: Path) -> None:
    """Every sample is carried as by a run of its own; a weight changed on the way counts from there on."""
    loaded = program.load(nets.artifact("Mixed", tmp_path), nets.LOG)
    feeds = [(nets.samples("Mixed", 1, seed),) for seed in range(3)]
    lockstep = BatchedInterpreter(loaded.module, feeds)
    layers = loaded.layers()
    alive = []
    for layer in layers:
        lockstep.until(layer.node)
        layer.assign(layer.matrix() * 0.5)
        alive.append(len(lockstep))
    last = layers[-1]
    expected = []
    for feed in feeds:
        watched = BatchedInterpreter(loaded.module, [feed])
        watched.until(last.node)
        expected.append(watched[last.input][0])
    assert all(torch.equal(a, b) for a, b in zip(lockstep[last.input], expected, strict=True))
    assert max(alive) < len(loaded.module.graph.nodes) / 2, "values are kept after their last reader"
