"""Quantization-aware training: begins where rounding to nearest ended, gains, and never ends below."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from compression import nets  # noqa: E402

from edgekit.compression import program, qat, simulation  # noqa: E402
from edgekit.compression.program import Program  # noqa: E402
from edgekit.compression.qat import Batch, Student, TrainingPlan  # noqa: E402
from edgekit.core.errors import (  # noqa: E402
    Diverged,
    InputError,
)
from edgekit.core.progress import quiet  # noqa: E402
from edgekit.training import distillation  # noqa: E402

MODELS = ("Mobile", "Sequence1d")


def start(model: str, folder: Path) -> tuple[Program, dict[str, Any]]:
    loaded = program.load(nets.artifact(model, folder), nets.LOG)
    feeds = [(x[None],) for x in nets.samples(model, 32)]
    return loaded, simulation.observed_ranges(loaded.module, feeds, "min-max")


def lesson(model: str, epochs: int = 3, lr: float = 0.0001) -> TrainingPlan:
    def batches(epoch: int) -> Iterator[Batch]:
        for index in range(10):
            yield [nets.samples(model, 32, seed=1000 * epoch + index)], None

    return TrainingPlan(batches, 10, epochs, lr, None, False)


def judge(loaded: Program, model: str) -> Any:
    x = nets.samples(model, 64, seed=5)
    wanted = loaded.answers([x])
    return lambda answers: (program.sqnr(wanted, answers(x)),)


@pytest.mark.parametrize("model", MODELS)
def test_it_begins_where_rounding_to_nearest_ends(model: str, tmp_path: Path) -> None:
    loaded, found = start(model, tmp_path)
    student, x = Student(loaded, found), nets.samples(model, 8)
    with torch.no_grad(), simulation.nearest_weights(loaded.layers()):
        expected = simulation.simulate(loaded.module, [x], found)
    with torch.no_grad():
        assert program.sqnr(expected, program.listed(student(x))) >= 40
    before = [layer.matrix() for layer in loaded.layers()]
    student.finish()
    for layer, matrix in zip(loaded.layers(), before, strict=True):
        assert torch.allclose(layer.matrix(), simulation.nearest(matrix), atol=1e-6)


@pytest.mark.parametrize(("model", "spread", "gain"), [("Mobile", 2.0, 1.0), ("Sequence1d", 0.0, 0.05)])
def test_it_gains(model: str, spread: float, gain: float) -> None:
    network: Any = nets.seeded(model)
    if spread:
        nets.uneven(network, spread)
    loaded = nets.traced(network, nets.samples(model, 2))
    found = simulation.observed_ranges(loaded.module, [(x[None],) for x in nets.samples(model, 32)], "min-max")
    examiner = judge(loaded, model)
    history = qat.train(loaded, found, lesson(model), examiner, quiet)
    assert len(history) == 4
    assert max(history)[0] > history[0][0] + gain, history
    now = examiner(lambda x: simulation.simulate(loaded.module, [x], found))
    assert now[0] == pytest.approx(max(history)[0], abs=0.2), "what was kept is not what was best"
    for layer in loaded.layers():
        assert torch.allclose(simulation.nearest(layer.matrix()), layer.matrix(), rtol=1e-5), "off the grid"


def test_it_never_ends_below_its_start(tmp_path: Path) -> None:
    """A learning rate that wrecks everything: the start is kept."""
    loaded, found = start("Mixed", tmp_path)
    matrices = [layer.matrix() for layer in loaded.layers()]
    history = qat.train(loaded, found, lesson("Mixed", epochs=1, lr=0.5), judge(loaded, "Mixed"), quiet)
    assert history[1] < history[0], history
    for layer, matrix in zip(loaded.layers(), matrices, strict=True):
        assert torch.allclose(layer.matrix(), simulation.nearest(matrix), atol=1e-6)


def test_divergence_is_told(tmp_path: Path) -> None:
    loaded, found = start("Mixed", tmp_path)
    made = lesson("Mixed")
    broken = dataclasses.replace(
        made,
        batches=lambda epoch: ((inputs, 1) for inputs, _ in made.batches(epoch)),
        loss=lambda outputs, labels: outputs.sum() * float("nan"),
    )
    with pytest.raises(Diverged, match="the loss became nan in epoch 1") as caught:
        qat.train(loaded, found, broken, judge(loaded, "Mixed"), quiet)
    assert "qat.lr=1e-05" in caught.value.next


def test_rounding_lets_gradients_through_within_the_range_only(tmp_path: Path) -> None:
    value = torch.tensor([-3.0, -1.0, 0.3, 1.9, 2.5], requires_grad=True)
    simulation.fake_quantize(value, (-1.0, 2.0)).sum().backward()
    assert value.grad is not None and value.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_ranges_come_back(tmp_path: Path) -> None:
    found = {"conv2d": (-1.5, 2.25), "a name": (0.0, 0.0)}
    qat.save_ranges(tmp_path / "ranges.npz", found)
    assert qat.load_ranges(tmp_path / "ranges.npz") == found


@pytest.mark.parametrize("harm", ["cut", "text", "pickle", "shapes", "nan"])
def test_damaged_ranges_are_refused(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "ranges.npz"
    qat.save_ranges(path, {"a": (0.0, 1.0), "b": (-1.0, 1.0)})
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:80])
    elif harm == "text":
        path.write_text("no ranges")
    elif harm == "pickle":
        np.savez(path, names=np.array([object()], dtype=object), ends=np.zeros((1, 2)))
    else:
        ends = np.full((2, 2), np.nan) if harm == "nan" else np.zeros((1, 2))
        np.savez(path, names=np.frombuffer(b'["a", "b"]', np.uint8), ends=ends)
    with pytest.raises(InputError, match="does not contain trained ranges"):
        qat.load_ranges(path)


def test_the_distance_of_classes_is_a_divergence() -> None:
    wanted = torch.randn(6, 4)
    assert float(distillation.distance([wanted + 3.0], [wanted], True)) == pytest.approx(0, abs=1e-6), (
        "a shift changes nothing"
    )
    assert float(distillation.distance([wanted + 3.0], [wanted], False)) > 1
    assert float(distillation.distance([wanted], [wanted], False)) == 0
