"""GPTQ: on the grid, the largest weight in its place, and better than rounding to nearest where inputs correlate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
from compression import nets  # noqa: E402

from edgekit.compression import bounded_weights, gptq, program, simulation, weighted_layers  # noqa: E402
from edgekit.compression.gptq import DAMPING  # noqa: E402
from edgekit.core.progress import quiet  # noqa: E402


def problem(groups: int, outs: int, size: int, seed: int, places: int = 400) -> tuple[Any, Any]:
    """A weight matrix, and the curvature of inputs that correlate."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(groups, outs, size, generator=generator)
    mixing = torch.randn(groups, size, size, generator=generator)
    columns = mixing @ torch.randn(groups, size, places, generator=generator).relu()
    return matrix, columns @ columns.transpose(1, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 40), st.integers(0, 10**6))
def test_every_backend_finds_the_same_weights(groups: int, outs: int, size: int, seed: int) -> None:
    """The step that anyone derives from the largest weight is the one used: rounding again changes nothing."""
    matrix, curvature = problem(groups, outs, size, seed)
    made = gptq.gptq(matrix, curvature)
    scale = simulation.scales(matrix)
    codes = made / scale
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert torch.equal(codes.round().abs().amax(-1), torch.full((groups, outs), 127.0))
    assert torch.allclose(simulation.nearest(made), made, rtol=1e-5, atol=0)
    largest = matrix.abs().argmax(-1, keepdim=True)
    assert torch.allclose(made.gather(2, largest), matrix.gather(2, largest), rtol=1e-5)


@pytest.mark.parametrize("inputs", [(16, 1, 1), (4, 3, 3), (5, 3), (3, 3, 3), (24,)])
def test_bounded_weights_are_kept_by_the_int8_steps(inputs: tuple[int, ...]) -> None:
    """No neighbours add up to too much, though GPTQ moves codes, and bounding again changes nothing."""
    size = math.prod(inputs)
    matrix, curvature = problem(2, 8, size, 3)
    made = gptq.gptq(matrix, curvature, inputs)
    rows = made.reshape(-1, *inputs).numpy()
    again, scales = bounded_weights.bound(rows)
    assert np.allclose(again, rows, atol=1e-5)
    codes = np.rint(rows.reshape(len(rows), -1) / scales[:, None])
    for pairs in bounded_weights.neighbours(*inputs):
        assert np.abs(codes[:, pairs].sum(-1))[codes[:, pairs].prod(-1) > 0].max() <= bounded_weights.LARGEST_SUM
    plain, _ = bounded_weights.bound(matrix.reshape(-1, *inputs).numpy())
    assert not np.allclose(plain, rows, atol=1e-3)
    nearest = matrix - torch.from_numpy(plain).reshape(matrix.shape)
    assert gptq.output_energy(matrix - made, curvature) < gptq.output_energy(nearest, curvature)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(8, 12), st.integers(32, 200), st.integers(0, 10**6))
def test_it_beats_rounding_to_nearest(groups: int, outs: int, size: int, seed: int) -> None:
    """It is greedy, so one row may be unlucky; eight together are not."""
    matrix, curvature = problem(groups, outs, size, seed, places=4 * size)
    made = gptq.gptq(matrix, curvature)
    plain = gptq.output_energy(matrix - simulation.nearest(matrix), curvature)
    assert gptq.output_energy(matrix - made, curvature) < plain


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, curvature = problem(2, 5, 70, 3)
    whole = gptq.gptq(matrix, curvature)
    monkeypatch.setattr(gptq, "BLOCK", 16)
    assert torch.allclose(gptq.gptq(matrix, curvature), whole, atol=1e-6)


def test_it_is_the_textbook_s_update() -> None:
    """Against the definition: quantize one weight, move the rest to the optimum, go on with what is left."""
    matrix, curvature = problem(1, 3, 12, 5)
    curvature = curvature.double()
    damped = curvature[0] + DAMPING * curvature[0].diagonal().mean() * torch.eye(12)
    order = curvature[0].diagonal().argsort(descending=True)
    expected = torch.zeros(3, 12, dtype=torch.float64)
    for row in range(3):
        weights, scale = matrix[0, row].double().clone(), simulation.scales(matrix)[0, row, 0].double()
        largest, left = int(matrix[0, row].abs().argmax()), order.tolist()
        while left:
            now = left[0]
            code = (weights[now] / scale).round().clamp(-127, 127)
            code = 127 * matrix[0, row, now].sign() if now == largest else code
            inverse = torch.linalg.inv(damped[left][:, left])
            moved = (weights[now] - code * scale) / inverse[0, 0] * inverse[0]
            for place, index in enumerate(left):
                weights[index] -= moved[place]
            expected[row, now] = code * scale
            left = left[1:]
    assert torch.allclose(gptq.gptq(matrix, curvature.float())[0].double(), expected, atol=1e-5)


def test_inputs_that_never_vary_do_no_harm() -> None:
    matrix = torch.randn(2, 4, 9)
    matrix[0, 1] = 0
    curvature = torch.zeros(2, 9, 9)
    curvature[0, 3, 3] = 5.0
    made = gptq.gptq(matrix, curvature)
    assert torch.isfinite(made).all() and (made[0, 1] == 0).all()
    assert torch.allclose(made, matrix, atol=float(simulation.scales(matrix).max()))


@pytest.mark.parametrize("model", ["Mixed", "Sequence1d"])
def test_a_network(model: str, tmp_path: Path) -> None:
    """Every layer ends on its grid, and the outputs are nearer to the float ones than rounding to nearest leaves them.

    The weights of these networks are random, the inputs are noise: little correlates, and still it gains.
    """
    parent = nets.artifact(model, tmp_path)
    feeds = [(x[None],) for x in nets.samples(model, 24)]
    test = [(x[None],) for x in nets.samples(model, 64, seed=9)]
    loaded, plain = program.load(parent, nets.LOG), program.load(parent, nets.LOG)
    references = [loaded.answers(feed) for feed in test]
    found = simulation.observed_ranges(loaded.module, feeds, "mse")
    report = gptq.quantize(loaded, feeds, found, 0, quiet, nets.LOG)
    assert [entry.layer for entry in report] == [layer.name for layer in plain.layers()]
    for layer in loaded.layers():
        made, scale = layer.matrix(), simulation.scales(layer.matrix())
        assert torch.allclose(made / scale, (made / scale).round(), atol=1e-3)
        assert torch.allclose(simulation.nearest(made), made, rtol=1e-5)
    for layer in plain.layers():
        layer.assign(simulation.nearest(layer.matrix()))
    db = [
        program.sqnr(simulation.joined(references), simulation.joined([one.answers(feed) for feed in test]))
        for one in (plain, loaded)
    ]
    assert db[1] > db[0] + 0.5, db
    assert all(entry.error <= entry.nearest_error for entry in report)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    parent = nets.artifact("Mixed", tmp_path)
    feeds = [(x[None],) for x in nets.samples("Mixed", 6)]
    made = []
    for _ in range(2):
        loaded = program.load(parent, nets.LOG)
        found = simulation.observed_ranges(loaded.module, feeds, "mse")
        gptq.quantize(loaded, feeds, found, 3, quiet, nets.LOG)
        made.append([layer.matrix() for layer in loaded.layers()])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_a_layer_that_does_worse_is_rounded_to_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out samples judge: what fits those it was made on alone is not kept."""
    loaded = program.load(nets.artifact("Mixed", tmp_path), nets.LOG)
    feeds = [(x[None],) for x in nets.samples("Mixed", 8)]
    monkeypatch.setattr(gptq, "gptq", lambda matrix, *_: matrix * 0.9)
    before = [layer.matrix() for layer in loaded.layers()]
    monkeypatch.setattr(gptq, "corrected", lambda matrix, found: matrix)
    report = gptq.quantize(loaded, feeds, {}, 0, quiet, nets.LOG)
    assert {entry.method for entry in report} == {"nearest"}
    for layer, matrix in zip(loaded.layers(), before, strict=True):
        assert torch.equal(layer.matrix(), simulation.nearest(matrix))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_what_a_bias_lacks(noise: float) -> None:
    """The mean error of each channel where inputs in int8 are off by a constant; little where they are off by luck."""
    torch.manual_seed(0)
    network = torch.nn.Linear(12, 5).eval()
    exported = torch.export.export(network, (torch.randn(2, 12),))
    (layer,) = weighted_layers.find(exported.module())
    wanted = [torch.randn(1, 12) for _ in range(400)]
    offset = 0.0 if noise else 0.3
    values = [(value - offset + noise * torch.randn_like(value), value) for value in wanted]
    matrix, shift, made = gptq.choose(layer, values, torch.Generator().manual_seed(0))
    lacking = (torch.cat(wanted) @ layer.matrix()[0].T - torch.cat([v for v, _ in values]) @ matrix[0].T).mean(0)
    if noise:
        assert shift.abs().max() < 0.2 and (shift == 0).any()
    else:
        assert lacking.abs().max() > 0.01
        assert torch.allclose(shift, lacking, atol=0.03)
    assert made.shifted == 0
