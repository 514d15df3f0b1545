"""Training: seeded, stopped early, best epoch kept, and refused where it cannot work."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import networks, registry, sets
from edgekit.errors import Diverged, InputError
from edgekit.steps.train import Train
from edgekit.types import Context, Notes, SampleSet

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("members")
QUICK = Train(model="cnn", epochs=2, batch=64, lr=0.01, accelerator="cpu")


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[Notes, Path]]:
    """Apply a train step to the first samples of bars; returns its notes and its folder."""
    count = 0

    def call(step: Train, train: SampleSet | None = None, inputs: Any = None) -> tuple[Notes, Path]:
        nonlocal count
        count += 1
        task = registry.load("tasks", "bars")()
        data = {"train": train or sets.take(sets.load("bars:train"), 256), "val": sets.load("bars:val")}
        out = tmp_path / f"out{count}"
        out.mkdir()
        assert not list(step.check(task))
        return step.apply(inputs or {}, out, Context(task, data, quiet, logging.getLogger("t"))), out

    return call


def weights(out: Path) -> dict[str, Any]:
    return networks.read_weights(out / networks.WEIGHTS)


def test_the_seed_decides(train: Callable[..., tuple[Notes, Path]]) -> None:
    first, second, other = (train(dataclasses.replace(QUICK, seed=seed))[1] for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))
    assert not torch.equal(weights(first)["head.0.weight"], weights(other)["head.0.weight"])


def test_the_best_epoch_is_kept(train: Callable[..., tuple[Notes, Path]]) -> None:
    notes, out = train(dataclasses.replace(QUICK, epochs=6, lr=0.05))
    history = notes.details["history"]
    best = min(history, key=lambda entry: entry["val_loss"])
    assert notes.details["best_epoch"] == best["epoch"]
    val = sets.load("bars:val")
    with torch.inference_mode():
        outputs = networks.load(out)(torch.from_numpy(val.inputs["input"]).float())
    accuracy = float((outputs.numpy().argmax(1) == val.labels).mean())
    assert accuracy == pytest.approx(best["val_accuracy"], abs=0.005)


def test_it_stops_early(train: Callable[..., tuple[Notes, Path]]) -> None:
    notes, _ = train(dataclasses.replace(QUICK, epochs=60, lr=1e-12, weight_decay=0.0, patience=2))
    assert len(notes.details["history"]) < 60


def test_what_is_written(train: Callable[..., tuple[Notes, Path]]) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1))
    assert sorted(p.name for p in out.iterdir()) == ["model.json", "model.safetensors"]
    facts = registry.load("formats", "torch").describe(out / "model.json")
    assert str(facts.inputs[0]) == "input: float32[?, 1, 20, 20]"
    assert str(facts.outputs[0]) == "output: float32[?, 4]"


def test_normalisation_is_in_the_network(train: Callable[..., tuple[Notes, Path]]) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1))
    network = networks.load(out)
    raw = torch.full((1, 1, 20, 20), 80.0)
    assert torch.allclose(network.normalize(raw), torch.zeros_like(raw), atol=1e-5)


def test_divergence_names_the_place(train: Callable[..., tuple[Notes, Path]]) -> None:
    with pytest.raises(Diverged) as error:
        train(dataclasses.replace(QUICK, lr=1e30))
    assert "epoch" in error.value.why and "batch" in error.value.why
    bad = sets.take(sets.load("bars:train"), 64)
    broken = sets.sample_set("n", {"input": np.full(bad.inputs["input"].shape, np.nan, np.float32)}, bad.labels)
    with pytest.raises(Diverged, match="diverged"):
        train(QUICK, broken)


def test_divergence_in_the_last_batch_is_no_success(train: Callable[..., tuple[Notes, Path]]) -> None:
    """The loss is found before a batch changes the weights, so only the validation can see this."""
    with pytest.raises(Diverged, match="diverged") as error:
        train(dataclasses.replace(QUICK, epochs=1, batch=256, lr=1e30))
    assert "validation loss" in error.value.why


def test_an_accelerator_that_is_not_here(train: Callable[..., tuple[Notes, Path]]) -> None:
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(InputError) as error:
        train(dataclasses.replace(QUICK, accelerator=absent))
    assert "--accelerator auto" in error.value.next


def test_init_takes_weights(train: Callable[..., tuple[Notes, Path]], tmp_path: Path) -> None:
    _, out = train(QUICK)
    barely = dataclasses.replace(QUICK, epochs=1, lr=1e-12, weight_decay=0.0, init=str(out / networks.WEIGHTS))
    _, again = train(barely)
    assert torch.allclose(weights(out)["head.0.weight"], weights(again)["head.0.weight"], atol=1e-6)
    torch.save({"state_dict": weights(out)}, tmp_path / "plain.pt")
    _, third = train(dataclasses.replace(barely, init=str(tmp_path / "plain.pt")))
    assert torch.allclose(weights(out)["head.0.weight"], weights(third)["head.0.weight"], atol=1e-6)


def test_weights_of_another_network_are_refused(train: Callable[..., tuple[Notes, Path]]) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1, model="ds-cnn"))
    with pytest.raises(InputError) as error:
        train(dataclasses.replace(QUICK, init=str(out / networks.WEIGHTS)))
    assert "does not fit the network" in error.value.what


def test_files_that_are_no_weights(train: Callable[..., tuple[Notes, Path]], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"head.weight": torch.zeros(3)}, tmp_path / "few.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "text.safetensors").write_text("weights")
    for name in ("few.safetensors", "list.pt", "text.pt", "text.safetensors", "absent.pt"):
        with pytest.raises(InputError) as error:
            train(dataclasses.replace(QUICK, init=str(tmp_path / name)))
        assert name in error.value.what


def test_a_network_whose_source_changed_is_refused(
    train: Callable[..., tuple[Notes, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1))
    monkeypatch.setattr(networks, "source_sha256", lambda model: "0" * 64)
    with pytest.raises(InputError, match="another version of the network"):
        networks.load(out)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "cmn"}, "no network 'cmn'"),
        ({"epochs": 0}, "epochs"),
        ({"batch": 0}, "batch"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"lr": float("nan")}, "lr"),
    ],
)
def test_fields_that_cannot_work(fields: dict[str, Any], said: str) -> None:
    task = registry.load("tasks", "bars")()
    assert any(said in problem for problem in Train(**fields).check(task))
    assert list(Train().check(None))
