"""Training: seeded, stopped early, best epoch kept, and refused where it cannot work."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import networks, sets, tasks
from edgekit.core import identity, registry
from edgekit.core.errors import Diverged, InputError, Missing
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, StepResult
from edgekit.networks.weights import load_weights, read_weights
from edgekit.runs import named_sets
from edgekit.sets import reading
from edgekit.steps.train import Train

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("members", "own_code")
QUICK = Train(model="cnn", epochs=2, batch=64, lr=0.01, accelerator="cpu")


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[StepResult, Path]]:
    """Apply a train step to the first samples of bars; returns its notes and its folder."""
    count = 0

    def call(step: Train, train: SampleSet | None = None, inputs: Any = None) -> tuple[StepResult, Path]:
        nonlocal count
        count += 1
        task = registry.load("tasks", "bars")()
        data = {"train": train or sets.take(named_sets.load("bars:train"), 256), "val": named_sets.load("bars:val")}
        out = tmp_path / f"out{count}"
        out.mkdir()
        assert not list(step.check(task))
        return step.apply(inputs or {}, out, Context(task, data, quiet, logging.getLogger("t"))), out

    return call


def weights(out: Path) -> dict[str, Any]:
    return read_weights(out / networks.WEIGHTS)


def test_the_seed_decides(train: Callable[..., tuple[StepResult, Path]]) -> None:
    first, second, other = (train(dataclasses.replace(QUICK, seed=seed))[1] for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))
    assert not torch.equal(weights(first)["head.0.weight"], weights(other)["head.0.weight"])


def test_the_best_epoch_is_kept(train: Callable[..., tuple[StepResult, Path]]) -> None:
    notes, out = train(dataclasses.replace(QUICK, epochs=6, lr=0.05))
    history = notes.details["history"]
    best = min(history, key=lambda entry: entry["val_loss"])
    assert notes.details["best_epoch"] == best["epoch"]
    val = named_sets.load("bars:val")
    with torch.inference_mode():
        outputs = networks.load(out)(torch.from_numpy(val.inputs["input"]).float())
    accuracy = float((outputs.numpy().argmax(1) == val.labels).mean())
    assert accuracy == pytest.approx(best["val_accuracy"], abs=0.005)


def test_it_stops_early(train: Callable[..., tuple[StepResult, Path]]) -> None:
    notes, _ = train(dataclasses.replace(QUICK, epochs=60, lr=1e-12, weight_decay=0.0, patience=2))
    assert len(notes.details["history"]) < 60


def test_what_is_written(train: Callable[..., tuple[StepResult, Path]]) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1))
    assert sorted(p.name for p in out.iterdir()) == ["model.json", "model.safetensors", "outputs.safetensors"]
    facts = registry.load("formats", "torch").describe(out / "model.json")
    assert str(facts.inputs[0]) == "input: float32[?, 1, 20, 20]"
    assert str(facts.outputs[0]) == "output: float32[?, 4]"


def test_normalisation_is_in_the_network(train: Callable[..., tuple[StepResult, Path]]) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1))
    network = networks.load(out)
    raw = torch.full((1, 1, 20, 20), 80.0)
    assert torch.allclose(network.normalize(raw), torch.zeros_like(raw), atol=1e-5)


def test_divergence_names_the_place(train: Callable[..., tuple[StepResult, Path]]) -> None:
    with pytest.raises(Diverged) as error:
        train(dataclasses.replace(QUICK, lr=1e30))
    assert "epoch" in error.value.why and "batch" in error.value.why
    bad = sets.take(named_sets.load("bars:train"), 64)
    broken = reading.sample_set("n", {"input": np.full(bad.inputs["input"].shape, np.nan, np.float32)}, bad.labels)
    with pytest.raises(Diverged, match="diverged"):
        train(QUICK, broken)


def test_divergence_in_the_last_batch_is_no_success(train: Callable[..., tuple[StepResult, Path]]) -> None:
    """The loss is found before a batch changes the weights, so only the validation can see this."""
    with pytest.raises(Diverged, match="diverged") as error:
        train(dataclasses.replace(QUICK, epochs=1, batch=256, lr=1e30))
    assert "validation loss" in error.value.why


def test_an_accelerator_that_is_not_here(train: Callable[..., tuple[StepResult, Path]]) -> None:
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(InputError) as error:
        train(dataclasses.replace(QUICK, accelerator=absent))
    assert "--accelerator auto" in error.value.next


def test_init_takes_weights(train: Callable[..., tuple[StepResult, Path]], tmp_path: Path) -> None:
    _, out = train(QUICK)
    barely = dataclasses.replace(QUICK, epochs=1, lr=1e-12, weight_decay=0.0, init=str(out / networks.WEIGHTS))
    _, again = train(barely)
    assert torch.allclose(weights(out)["head.0.weight"], weights(again)["head.0.weight"], atol=1e-6)
    torch.save({"state_dict": weights(out)}, tmp_path / "plain.pt")
    _, third = train(dataclasses.replace(barely, init=str(tmp_path / "plain.pt")))
    assert torch.allclose(weights(out)["head.0.weight"], weights(third)["head.0.weight"], atol=1e-6)


def test_weights_of_another_network_are_refused(train: Callable[..., tuple[StepResult, Path]]) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1, model="ds-cnn"))
    with pytest.raises(InputError) as error:
        train(dataclasses.replace(QUICK, init=str(out / networks.WEIGHTS)))
    assert "does not fit the network" in error.value.what


def test_files_that_are_no_weights(train: Callable[..., tuple[StepResult, Path]], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"head.weight": torch.zeros(3)}, tmp_path / "few.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "text.safetensors").write_text("weights")
    for name in ("few.safetensors", "list.pt", "text.pt", "text.safetensors", "absent.pt"):
        with pytest.raises(InputError) as error:
            train(dataclasses.replace(QUICK, init=str(tmp_path / name)))
        assert name in error.value.what


def test_a_network_that_computes_something_else_is_refused(
    train: Callable[..., tuple[StepResult, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = train(dataclasses.replace(QUICK, epochs=1))
    monkeypatch.setattr(identity, "of_member", lambda group, model: "0" * 64)
    networks.load(out)
    cnn = registry.load("models", "cnn")
    monkeypatch.setattr(cnn, "forward", lambda network, x: 2 * network.head(network.features(network.normalize(x))))
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
        ({"warmup": 1.0}, "one-cycle schedule has its own warm-up"),
        ({"fresh": ("head",)}, "fresh needs weights"),
    ],
)
def test_fields_that_cannot_work(fields: dict[str, Any], said: str) -> None:
    task = registry.load("tasks", "bars")()
    assert any(said in problem for problem in Train(**fields).check(task))
    assert list(Train().check(None))


OWN = '''
import numpy as np
import torch
from torch import nn

from edgekit.sets import sample_set
from edgekit.core.task import Scores, Task


class Ratings(Task):
    """Two numbers in, of a user and a thing, with an image between them; a real number out."""

    name = "ratings"
    models = ("net.py:Factors",)
    classes = ()
    licences = ()

    def load(self, split):
        rng = np.random.default_rng({"train": 0, "val": 1, "test": 2}[split])
        user, thing = rng.integers(0, 9, (2, 257)).astype(np.int32)
        picture = rng.integers(0, 256, (257, 1, 4, 4)).astype(np.uint8)
        inputs = {"thing": thing, "picture": picture, "user": user}
        return sample_set(split, inputs, (user * 0.1 - thing * 0.2 + picture.mean((1, 2, 3)) / 255).astype(np.float64))

    def arguments(self, model):
        return {"count": 9}

    def loss(self, outputs, labels):
        return nn.functional.mse_loss(outputs["rating"], labels)

    def score(self, outputs, labels):
        return Scores("error", "stars", False, np.abs(outputs["rating"] - labels))


class Factors(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.user, self.thing, self.norm = nn.Embedding(count, 1), nn.Embedding(count, 1), nn.BatchNorm1d(1)

    def forward(self, user, thing, picture):
        assert user.dtype == torch.int32 and picture.dtype == torch.float32
        x = self.user(user) + self.thing(thing) + picture.mean((1, 2, 3))[:, None] / 255
        return {"rating": x[:, 0], "normal": self.norm(x)}


class Strange(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))

    def forward(self, user, thing, picture):
        return {"rating": self.weight[user] + self.weight[99]}


class Whole(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))

    def forward(self, user, thing, picture):
        return {"rating": self.weight[user] * 0 + self.weight.mean(), "mean": self.weight.mean()}
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def ratings(own: Path, step: Train, **data: SampleSet) -> StepResult:
    task = tasks.load("net.py:Ratings")
    assert not list(step.check(task))
    (own / "out").mkdir(exist_ok=True)
    loaded = {split: task.load(split) for split in ("train", "val")}
    return step.apply({}, own / "out", Context(task, {**loaded, **data}, quiet, logging.getLogger("t")))


def test_a_network_and_a_task_of_ones_own(own: Path) -> None:
    """Inputs of several types and by name, a real label, two outputs, and a last batch of one sample."""
    notes = ratings(own, dataclasses.replace(QUICK, model="", epochs=12, lr=0.1, batch=32))
    first, last = notes.details["history"][0], notes.details["history"][-1]
    assert last["val_loss"] < 0.3 * first["val_loss"] and last["val_error"] < first["val_error"]
    facts = registry.load("formats", "torch").describe(own / "out" / "model.json")
    assert [str(s) for s in facts.inputs] == ["thing: int32[?]", "picture: float32[?, 1, 4, 4]", "user: int32[?]"]
    assert [str(s) for s in facts.outputs] == ["rating: float32[?]", "normal: float32[?, 1]"]
    thing, user = torch.tensor([3], dtype=torch.int32), torch.tensor([5], dtype=torch.int32)
    with torch.inference_mode():
        rating, _ = networks.load(own / "out")(thing, torch.zeros(1, 1, 4, 4), user)
    assert float(rating) == pytest.approx(0.5 - 0.6, abs=0.3)


def test_samples_on_disk_are_read_batch_by_batch(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tasks.load("net.py:Ratings").load("train")
    mapped = {}
    for name, array in whole.inputs.items():
        np.save(own / f"{name}.npy", array)
        mapped[name] = np.load(own / f"{name}.npy", mmap_mode="r")
    step = dataclasses.replace(QUICK, model="net.py:Factors")
    expected = ratings(own, step).details["history"]
    monkeypatch.setattr("edgekit.training.data.IN_MEMORY_BYTES", 0)
    found = ratings(own, step, train=reading.sample_set("mapped", mapped, whole.labels)).details["history"]
    assert [entry["loss"] for entry in found] == pytest.approx([entry["loss"] for entry in expected], rel=1e-5)


def test_what_ones_own_network_does_wrong(own: Path) -> None:
    with pytest.raises(InputError) as error:
        ratings(own, dataclasses.replace(QUICK, model="net.py:Strange"))
    assert "net.py:Strange cannot be trained: IndexError" in str(error.value) and "net.py, line" in str(error.value)
    with pytest.raises(InputError, match=r"output 'mean' has shape \[\] for two samples"):
        ratings(own, dataclasses.replace(QUICK, model="net.py:Whole"))
    with pytest.raises(InputError, match=r"net\.py:Ratings failed: TypeError"):
        ratings(own, dataclasses.replace(QUICK, model="net.py:Ratings"))
    unlabelled = reading.sample_set("bare", tasks.load("net.py:Ratings").load("train").inputs, None)
    with pytest.raises(InputError, match="bare has no labels"):
        ratings(own, dataclasses.replace(QUICK, model="net.py:Factors"), train=unlabelled)


class Evil:
    """A stranger's pickle: loading it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_a_strangers_pickle_is_never_executed(train: Callable[..., tuple[StepResult, Path]], tmp_path: Path) -> None:
    torch.save({"state_dict": {"head.0.weight": Evil(tmp_path / "ran")}}, tmp_path / "evil.pt")
    with pytest.raises(InputError) as error:
        train(dataclasses.replace(QUICK, init=str(tmp_path / "evil.pt")))
    assert "it was not executed" in error.value.why and "safetensors" in error.value.next
    assert not (tmp_path / "ran").exists()


def test_checkpoints_as_others_write_them(train: Callable[..., tuple[StepResult, Path]], tmp_path: Path) -> None:
    """Under a key of its own, with the names that several processes give."""
    _, out = train(dataclasses.replace(QUICK, epochs=1))
    torch.save({"model": {f"module.{k}": v for k, v in weights(out).items()}, "epoch": 3}, tmp_path / "ddp.pth")
    network = networks.load(out)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for tensor in network.state_dict().values():
        tensor.zero_()
    assert any("module." in note for note in load_weights(network, tmp_path / "ddp.pth"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_fresh_head(train: Callable[..., tuple[StepResult, Path]], tmp_path: Path) -> None:
    """Weights of a network for other classes: the first tensor that does not fit is named, and may stay as it was."""
    from safetensors.torch import save_file

    _, out = train(dataclasses.replace(QUICK, epochs=1))
    other = {name: torch.zeros(9, *t.shape[1:]) if name.startswith("head.0") else t for name, t in weights(out).items()}
    save_file(other, tmp_path / "other.safetensors")
    given = dataclasses.replace(QUICK, epochs=1, lr=1e-12, weight_decay=0.0, init=str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError) as error:
        train(given)
    assert "'head.0.weight' is [9," in error.value.why and "--fresh head.0" in error.value.next
    _, again = train(dataclasses.replace(given, fresh=("head.0",)))
    body = next(name for name, t in weights(out).items() if t.ndim == 4)
    assert torch.allclose(weights(again)[body], weights(out)[body], atol=1e-5)
    with pytest.raises(InputError, match="no part 'hat'"):
        train(dataclasses.replace(given, fresh=("hat",)))


def test_weights_of_timm(
    train: Callable[..., tuple[StepResult, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for timm, which cannot be installed beside this torch: what is asked of it, and what it may answer."""
    import types

    _, out = train(dataclasses.replace(QUICK, epochs=1))
    asked: list[Any] = []

    def create_model(name: str, pretrained: bool) -> Any:
        asked.append((name, pretrained, os.environ.get("HF_HUB_OFFLINE")))
        if name.endswith(".away"):
            raise OSError("cannot find it in the cache\nmore")
        return types.SimpleNamespace(state_dict=lambda: weights(out))

    timm = types.ModuleType("timm")
    timm.create_model, timm.list_models = create_model, lambda: ["bars_net"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.delenv("EDGEKIT_DOWNLOAD", raising=False)
    step = dataclasses.replace(QUICK, epochs=1, lr=1e-12, weight_decay=0.0, init="timm:bars_net.v1")
    _, again = train(step)
    assert asked == [("bars_net.v1", True, "1")] and "HF_HUB_OFFLINE" not in os.environ
    assert torch.allclose(weights(out)["head.0.weight"], weights(again)["head.0.weight"], atol=1e-6)
    with pytest.raises(InputError) as error:
        train(dataclasses.replace(step, init="timm:bars_net.away"))
    assert "EDGEKIT_DOWNLOAD=1" in error.value.next and "more" not in error.value.why
    with pytest.raises(InputError, match="timm has no network"):
        train(dataclasses.replace(step, init="timm:bar_net"))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Missing, match="needs timm"):
        train(step)


def test_folds(train: Callable[..., tuple[StepResult, Path]]) -> None:
    """Mean and spread over the folds; the network that is kept is the one that would have come without them."""
    step = dataclasses.replace(QUICK, epochs=1)
    plain, first = train(step)
    notes, second = train(dataclasses.replace(step, folds=3))
    found = notes.details["cross_validation"]
    values = [entry["val_accuracy"] for entry in found["folds"]]
    assert len(values) == 3 and found["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert found["accuracy"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert notes.details["history"] == plain.details["history"] and "cross_validation" not in plain.details
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))
    assert any("folds" in problem for problem in Train(folds=1).check(registry.load("tasks", "bars")()))


def test_every_sample_is_in_one_fold() -> None:
    from edgekit.training import folds

    labels = np.repeat([0, 1, 2], [20, 10, 5])
    data = reading.sample_set("d", {"input": np.arange(35, dtype=np.float32)[:, None]}, labels)
    parts = list(folds.split(data, 5, 0))
    judged = np.concatenate([part.inputs["input"][:][:, 0] for _, part in parts])
    assert sorted(judged.tolist()) == list(range(35))
    for learn, judge in parts:
        assert not set(learn.inputs["input"][:][:, 0]) & set(judge.inputs["input"][:][:, 0])
        assert np.bincount(judge.labels).tolist() == [4, 2, 1] and len(learn) == 28
    with pytest.raises(InputError, match="cannot be split"):
        list(folds.split(sets.take(data, 7), 5, 0))


def test_moved_images_stay_images(members: None) -> None:
    from edgekit.tasks.shared.images import random_shift

    x = torch.arange(2 * 3 * 20 * 30).reshape(2, 3, 20, 30).float()
    still = random_shift(x, torch.Generator().manual_seed(0), mirror=False)
    assert still.shape == x.shape and not torch.equal(still, x)
    assert torch.equal(still[0].diff(dim=1).clamp(0, 30)[0, 8], torch.full((30,), 30.0)), "rows keep their order"
    flipped = torch.cat([random_shift(x, torch.Generator().manual_seed(seed), mirror=True) for seed in range(8)])
    backwards = (flipped[:, 0, 0].diff(dim=1) < 0).any(dim=1)
    assert 0 < int(backwards.sum()) < 16, "about every other one is mirrored"
