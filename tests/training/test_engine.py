"""Each option of the training loop has its documented effect, and no other."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
from training.conftest import tiny

from edgekit.core import registry
from edgekit.core.errors import Diverged, InputError
from edgekit.core.history import best
from edgekit.core.task import Task
from edgekit.networks import weights
from edgekit.tasks.shared.base import Regression
from edgekit.training import engine
from edgekit.training.settings import Settings

torch = pytest.importorskip("torch")
BASE = Settings(epochs=2, batch=64, lr=0.01)


def state(network: Any) -> dict[str, Any]:
    return dict(network.state_dict())


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "schedule": "cosine", "warmup": 1.0, "lr": 0.1},
        {"optimizer": "sgd", "momentum": 0.0, "lr": 0.05},
        {"optimizer": "adam", "schedule": "step"},
        {"schedule": "constant", "ema": 0.8, "clip": 1.0, "decay": "weights"},
        {"label_smoothing": 0.1, "lr_decay": 0.8, "lr_factors": ("head=2",)},
        {"loss": "bce"},
        {"accumulate": 2, "channels_last": False},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_every_option_learns(bars_fit: Any, options: dict[str, Any]) -> None:
    _, history = bars_fit(replace(BASE, epochs=8, patience=8, batch=32, **options), samples=384)
    assert history[-1]["loss"] < 0.97 * history[0]["loss"], history


@pytest.mark.parametrize("monitor", ["loss", "metric"])
def test_the_best_epoch_is_chosen_by_the_monitored_value(bars_fit: Any, monitor: Any) -> None:
    """It is the first of the best; training ends after `patience` epochs that are no better."""
    _, history = bars_fit(replace(BASE, epochs=30, patience=3, monitor=monitor, lr=0.05), samples=384)
    values = [entry["val_accuracy"] if monitor == "metric" else -entry["val_loss"] for entry in history]
    best_epoch = values.index(max(values))
    assert best(history) is history[best_epoch]
    assert len(history) == min(30, best_epoch + 1 + 3)
    assert [bool(entry.get("kept")) for entry in history] == [
        value > max(values[:index], default=-math.inf) for index, value in enumerate(values)
    ]


def test_a_metric_that_has_no_value_yet_is_no_best(bars_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter((math.nan, math.nan, -0.5, math.nan, -0.4))
    metrics = ({"val_loss": 1.0, "val_accuracy": 0.0} for _ in range(5))
    monkeypatch.setattr(engine, "evaluate", lambda *_: (next(metrics), next(costs)))
    _, history = bars_fit(replace(BASE, epochs=5, monitor="metric"), samples=128)
    assert [bool(entry.get("kept")) for entry in history] == [True, False, True, False, False]


def test_accumulated_batches_are_one_large_batch(bars_fit: Any) -> None:
    """Without a normalisation over batches, two halves make the step of the whole."""
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(400, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    whole, _ = bars_fit(replace(BASE, lr=0.001), network=copy.deepcopy(plain), samples=160)
    halves, _ = bars_fit(replace(BASE, lr=0.001, batch=32, accumulate=2), network=plain, samples=160)
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_frozen_parts_stay_as_they_are_until_they_learn(bars_fit: Any) -> None:
    first = tiny()
    before = copy.deepcopy(state(first))
    part = "body"
    frozen, _ = bars_fit(replace(BASE, freeze=(part,)), network=first)
    frozen_before = {name: tensor for name, tensor in before.items() if name.startswith(f"{part}.")}
    assert frozen_before and same(frozen_before, state(frozen)), "weights, or statistics, of a frozen part changed"
    assert not same(before, state(frozen))
    assert all(parameter.requires_grad for parameter in frozen.parameters())
    later, _ = bars_fit(replace(BASE, freeze=(part,), unfreeze=2), network=tiny())
    assert not same(frozen_before, state(later))
    with pytest.raises(InputError, match="freeze names 'haed'"):
        bars_fit(replace(BASE, freeze=("haed",)), network=tiny())


def test_weights_are_the_running_mean_with_ema(bars_fit: Any) -> None:
    """With a decay of almost 1 nothing moves from the first step's weights; the loss still falls."""
    settings = replace(BASE, epochs=1, ema=0.5, schedule="constant", samples=64, batch=64)
    averaged, _ = bars_fit(settings, network=tiny())
    plain, _ = bars_fit(replace(settings, ema=0.0), network=tiny())
    assert same(state(averaged), state(plain)), "the mean after one step is that step"
    averaged, _ = bars_fit(replace(settings, samples=192), network=tiny())
    plain, _ = bars_fit(replace(settings, samples=192, ema=0.0), network=tiny())
    assert not same(state(averaged), state(plain))


def test_the_hooks_of_pruning_and_distillation(bars_fit: Any) -> None:
    seen: list[Any] = []

    def extra(inputs: Any, outputs: Any, labels: Any, base: Any) -> Any:
        seen.append((set(inputs), outputs.shape, labels.shape, base.ndim))
        return base * 0 + (outputs**2).mean() + adapter.sum() ** 2

    def after(network: Any) -> None:
        assert all(parameter.grad is not None for parameter in network.parameters())
        network.get_parameter("head.weight").grad.zero_()

    adapter = torch.nn.Parameter(torch.ones(3))
    settings = replace(BASE, weight_decay=0.0)
    network, history = bars_fit(settings, network=tiny(), extra_loss=extra, parameters=[adapter], after_backward=after)
    assert seen[0][0] == {"input"} and seen[0][1] == (64, 4) and seen[0][2:] == ((64,), 0)
    assert torch.equal(network.get_parameter("head.weight"), tiny().get_parameter("head.weight"))
    assert not torch.equal(adapter, torch.ones(3)) and history[-1]["loss"] < history[0]["loss"]


class WithAugmentation:
    """The task bars with an augmentation that can be seen."""

    def __init__(self, by_itself: bool | None) -> None:
        self._task, self.calls = registry.load("tasks", "bars")(), 0
        self.augments = Task.augments if by_itself is None else by_itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def augment(self, inputs: Any, labels: Any, generator: Any) -> Any:
        self.calls += 1
        torch.rand(3, generator=generator)
        return inputs, labels


@pytest.mark.parametrize(
    ("by_itself", "augment", "called"),
    [(None, "auto", True), (False, "auto", False), (False, "on", True), (None, "off", False)],
)
def test_augmentation(bars_fit: Any, by_itself: bool | None, augment: Any, called: bool) -> None:
    task = WithAugmentation(by_itself)
    bars_fit(replace(BASE, epochs=1, augment=augment), task=task)
    assert bool(task.calls) == called


def test_an_augmentation_that_is_not_there(bars_fit: Any) -> None:
    task = Regression()
    task.name = "plain"
    with pytest.raises(InputError, match="plain has no augmentation"):
        bars_fit(replace(BASE, augment="on"), task=task)


def test_divergence_keeps_the_last_good_weights(bars_fit: Any, tmp_path: Any) -> None:
    """The loss turns to NaN in the second epoch: the first one's weights are in the file that the message names."""
    batches = 0

    def failing(inputs: Any, outputs: Any, labels: Any, base: Any) -> Any:
        nonlocal batches
        batches += 1
        return base * float("nan") if batches == 5 else base

    with pytest.raises(Diverged) as error:
        bars_fit(replace(BASE, epochs=3), network=tiny(), extra_loss=failing, scratch=tmp_path / "s")
    assert "epoch 2, batch 2" in error.value.why
    assert "weights of epoch 1 are kept: --init" in error.value.next
    kept = weights.read_weights(tmp_path / "s" / "best.safetensors")
    again = tiny()
    weights.load_weights(again, tmp_path / "s" / "best.safetensors")
    assert same(kept, state(again)) and all(torch.isfinite(tensor).all() for tensor in kept.values())
    assert not same(kept, state(tiny()))
