"""Distillation: the losses as in their papers, layer pairs by resolution, and the train step's teacher."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from edgekit import networks
from edgekit.core import registry
from edgekit.core.artifact import Kind
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.steps.train import Train
from edgekit.training.distillation_settings import DistillationSettings

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("members")

from torch import Tensor, nn  # noqa: E402

from edgekit.training.distillation import (  # noqa: E402
    DistillationLoss,
    attention_map,
    distance,
)


def net(width: int, stride: int = 2) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, stride, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)),
    )


def loss_with_teacher(
    options: DistillationSettings, student: nn.Module, teacher: nn.Module, x: Tensor, base: float = 1.0
) -> float:
    distillation = DistillationLoss(options, teacher, True)
    with distillation.recording_features(student, {"input": x}):
        outputs = student(x)
        return float(distillation.loss({"input": x}, outputs, torch.zeros(len(x)), torch.tensor(base)))


def test_softened_logits_are_those_of_the_paper() -> None:
    a, b, t = torch.randn(5, 7), torch.randn(5, 7), 3.0
    p, q = (b / t).softmax(1), (a / t).softmax(1)
    expected = t**2 * float((p * (p.log() - q.log())).sum(1).mean())
    assert float(distance([a], [b], True, t)) == pytest.approx(expected, rel=1e-4)
    assert float(distance([a], [a], True, t)) == pytest.approx(0, abs=1e-6)


def test_the_gradient_keeps_its_size() -> None:
    """Section 2: at high temperatures the gradient becomes that of the logits' difference, over their number."""
    a, b = torch.randn(1, 4, requires_grad=True), torch.randn(1, 4)
    distance([a], [b], True, 1000.0).backward()
    centred = (a - a.mean()) - (b - b.mean())
    assert a.grad is not None
    assert torch.allclose(a.grad, centred.detach() / 4, rtol=0.02, atol=1e-3)


def test_attention_is_where_activations_are_large() -> None:
    x = torch.zeros(1, 4, 2, 2)
    x[0, :, 1, 0] = torch.tensor([3.0, -3.0, 3.0, -3.0])
    assert attention_map(x).tolist() == [[0, 0, 1, 0]]
    assert torch.allclose(attention_map(torch.randn(3, 8, 4, 4)).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("methods", ["logits", "attention", "logits, attention"])
def test_a_teacher_that_knows_no_more(methods: str) -> None:
    same = net(4)
    options = DistillationSettings(distil=methods, alpha=0.5)
    share = 0.5 if "logits" in methods else 1.0
    assert loss_with_teacher(options, same, same, torch.randn(2, 1, 8, 8)) == pytest.approx(share, abs=1e-5)


def test_alpha_shares_the_loss() -> None:
    student, teacher, x = net(4), net(8), torch.randn(2, 1, 8, 8)
    ends = [loss_with_teacher(DistillationSettings(alpha=alpha), student, teacher, x) for alpha in (0.0, 1.0)]
    assert ends[0] == pytest.approx(1.0)
    assert loss_with_teacher(DistillationSettings(alpha=0.3), student, teacher, x) == pytest.approx(
        0.7 * ends[0] + 0.3 * ends[1], rel=1e-5
    )


def test_features_are_mapped_by_what_learns_along() -> None:
    student, teacher, x = net(4), net(8), torch.randn(8, 1, 8, 8)
    distillation = DistillationLoss(DistillationSettings(distil="features"), teacher, True)
    with distillation.recording_features(student, {"input": x}):
        assert [(p.in_channels, p.out_channels) for p in distillation.projections] == [(4, 8), (4, 8)]  # type: ignore[union-attr]
        optimizer = torch.optim.Adam([*student.parameters(), *distillation.parameters()], 0.01)
        losses = []
        for _ in range(60):
            loss = distillation.loss({"input": x}, student(x), torch.zeros(8), torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert not any(layer._forward_hooks for layer in student), "nothing is left behind"
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_no_common_resolution() -> None:
    x = torch.randn(2, 1, 8, 8)
    coarse = nn.Sequential(nn.Conv2d(1, 4, 3, 4), nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(InputError, match="no layers whose outputs have the same resolution"):
        loss_with_teacher(DistillationSettings(distil="features"), coarse, net(4), x)


def test_a_teacher_of_something_else() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with pytest.raises(InputError, match=r"\[2, 3\], the teacher's \[2, 5\]"):
        loss_with_teacher(DistillationSettings(), net(4), other, torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DistillationSettings(distil="looks"), "no distillation method 'looks'"),
        (DistillationSettings(distil=""), "name a distillation method"),
        (DistillationSettings(temperature=0), "temperature"),
        (DistillationSettings(alpha=1.5), "alpha"),
        (DistillationSettings(weight=-1), "weight"),
    ],
)
def test_options_that_cannot_be(options: DistillationSettings, message: str) -> None:
    assert message in "; ".join(options.distillation_problems())


def test_a_student_of_an_artifact(tmp_path: Path, bars_run: Path) -> None:
    """A network distilled from the network of bars ends nearer to it than one trained on labels alone."""
    teacher = Store(bars_run).get("torch")
    task = registry.load("tasks", "bars")()
    context = Context(
        task, {split: named_sets.load(f"bars:{split}") for split in ("train", "val")}, quiet, logging.getLogger("t")
    )
    step = Train(model="ds-cnn", epochs=4, samples=512, batch=16, lr=0.01, accelerator="cpu", alpha=1.0)
    assert not list(dataclasses.replace(step, teacher="torch").check(task))
    x = torch.from_numpy(named_sets.load("bars:test").inputs["input"]).float()
    distances = []
    for name, distilled in (("distilled", dataclasses.replace(step, teacher="torch")), ("alone", step)):
        out = tmp_path / name
        out.mkdir()
        distilled.apply({"teacher": teacher} if distilled.teacher else {}, out, context)
        with torch.inference_mode():
            distances.append(float(distance([networks.load(out)(x)], [networks.load(teacher.path)(x)], True)))
    assert distances[0] < distances[1]


def test_a_teacher_that_is_no_network(tmp_path: Path, bars_run: Path) -> None:
    onnx = Store(bars_run).get("onnx")
    assert onnx.kind == Kind("onnx")
    context = Context(
        registry.load("tasks", "bars")(),
        {split: named_sets.load(f"bars:{split}") for split in ("train", "val")},
        quiet,
        logging.getLogger("t"),
    )
    with pytest.raises(InputError, match="onnx is onnx"):
        Train(model="ds-cnn", teacher="onnx").apply({"teacher": onnx}, tmp_path, context)
